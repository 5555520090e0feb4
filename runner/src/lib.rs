//! Rootless container runner: from a rootfs to a confined process in milliseconds.
//!
//! ```text
//! Spec (the wish) + Host (the facts) → Plan (ordered steps) → launch: clone3, id maps, release
//!   → child: overlay, mounts, pivot_root, masks, capabilities, seccomp, exec → Container: signals, exit status
//! ```
//!
//! Everything here is for a single-threaded process: between clone and exec the child is a plain copy of its parent.

pub mod amendment;
pub mod archive;
pub mod attendance;
pub mod cgroup;
pub mod changes;
pub mod container;
pub mod error;
pub mod exec;
pub mod health;
pub mod holder;
pub mod host;
pub mod idmap;
pub mod join;
pub mod launch;
pub mod limit;
pub mod logs;
pub mod lsm;
pub mod monitor;
pub mod oci;
pub mod own;
pub mod plan;
pub mod refusal;
pub mod root_ids;
pub mod rootfs;
pub mod seccomp;
pub mod secrets;
pub mod session;
pub mod size;
pub mod spec;
pub mod state;
pub mod transfer;
pub mod uplink;
pub mod userns;
pub mod visit;
pub mod volumes;

mod attach;
mod channel;
mod child;
mod command;
mod compare;
mod copy;
mod enter;
mod free_ids;
mod guard;
mod identity;
mod idmapped;
mod image_mount;
mod init;
mod keeper;
mod members;
mod netns;
mod node;
mod overlay;
mod owner;
mod power;
mod pty;
mod relabel;
mod rights;
mod streams;
pub mod survey;
mod sysctl;
mod target;
mod unpack;
mod upper;

pub mod sys;

pub use container::{Container, ExitStatus};
pub use error::{Error, Stage};
pub use exec::{FirstProcess, exec};
pub use host::Host;
pub use keeper::Aftermath;
pub use launch::launch;
pub use monitor::{Monitor, Streams};
pub use plan::Plan;
pub use rootfs::Rootfs;
pub use session::Session;
pub use spec::Spec;
