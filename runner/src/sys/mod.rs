//! System calls that have no safe wrapper elsewhere: the only place where unsafe code is allowed.

pub mod seccomp;
