//! System calls that have no safe wrapper elsewhere: the only place where unsafe code is allowed.

pub(crate) mod bpf;
pub mod clone;
pub mod landlock;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod process;
pub mod schedule;
pub mod seccomp;
pub mod title;
