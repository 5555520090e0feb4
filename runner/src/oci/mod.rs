//! The runtime of the OCI: a bundle, which is a root and a `config.json`, made into a container step by step, for an engine
//! that calls one command for each (the Open Container Initiative's runtime specification, 1.2).
//!
//! ```text
//! create: config → mounts, namespaces → clone3 → child: mounts, hooks, pivot_root, ids … and waits at a socket
//! start:  connects to it → child: seccomp, exec       exec: joins the namespaces → exec
//! kill, pause, delete: by what create wrote down in the folder ROOT/ID
//! ```
//!
//! No process of ours stays: between the commands there is the folder alone, and the container is the child of whoever
//! adopts it. So there is neither keeper nor holder here, and what an engine asks for is done as it is written; what is not
//! known how to be done is refused.

pub mod config;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod signal;
pub mod start;
pub mod state;
pub mod template;
pub mod update;

mod become_process;
mod cgroup;
mod check;
mod child;
mod device_rules;
mod devices;
mod hooks;
mod mounts;
mod namespaces;
mod placement;
mod proc_mounts;
mod procfs;
mod seccomp;
