//! Rootless container runner.
