//! The parts that the commands `lstore` and `lrun` share.
//!
//! ```text
//! args (clap: what was said) -> env, volume, capability (what it means) -> command bodies -> output, report, exit
//! ```
//!
//! Nothing here stores or runs anything: that is the work of the libraries `lstore` and `lrun`.

#![forbid(unsafe_code)]

pub mod global;
pub mod lrun;
pub mod lstore;
pub mod oci;

pub mod bridge;
pub mod capability;
pub mod credentials;
pub mod env;
pub mod rate;
pub mod volume;

pub mod exit;
pub mod face;
pub mod manual;
pub mod output;
pub mod progress;
pub mod report;
pub mod template;
