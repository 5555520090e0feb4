//! Rootless OCI image store.
pub mod digest;
