//! The only doors to the file system: every call is relative to a directory file descriptor and takes one component.

pub mod dir;
pub mod filesystem;
pub mod flock;
pub mod kernel;
pub mod read;
pub mod walk;
