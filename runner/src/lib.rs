//! Rootless container runner.

pub mod seccomp;
pub mod sys;
