//! The parts that the commands `lstore` and `lrun` share.
