//! The command `lrun`.

pub mod args;
pub mod security;
