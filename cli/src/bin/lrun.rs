//! `lrun`.
fn main() {}
