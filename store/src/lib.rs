//! Rootless OCI image store.
