//! `lstore`.
fn main() {}
