//! The command `lstore`.

pub mod args;
pub mod change;
