//! System call filtering: which calls a container may make, as a program for the kernel.
//!
//! ```text
//!     profile.txt ─ text ─┐
//!                         ├─> Profile ─ compile ─> [BpfInstruction] ─ sys::seccomp::install ─> kernel
//!     FILE.json ─── oci ──┘
//! ```
//!
//! The default policy, `profile.txt`, refuses whatever it does not name. The build script compiles it for the default
//! capabilities with these same modules, so that a usual start neither parses nor compiles anything.

use std::borrow::Cow;

mod arch;
mod assemble;
mod bpf;
mod capability;
mod compile;
mod errno;
mod error;
pub mod oci;
mod profile;
mod text;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use bpf::{BpfInstruction, MAX_INSTRUCTIONS};
pub use built::NATIVE;
pub use capability::{DEFAULT_CAPABILITIES, NET_RAW};
pub(crate) use capability::{bit as capability_bit, names as capability_names};
pub use compile::compile;
pub use error::SeccompError;
pub use profile::{Action, Comparison, Condition, Profile, Rule};

/// What the build script compiled.
mod built {
    #![allow(clippy::unreadable_literal, reason = "generated")]

    use super::{Arch, BpfInstruction};

    include!(concat!(env!("OUT_DIR"), "/seccomp.rs"));
}

/// The default profile, for [`compile()`].
///
/// # Errors
/// None that the build script would not have met.
pub fn default_profile() -> Result<Profile, SeccompError> {
    text::parse(include_str!("profile.txt"))
}

/// The default profile's program for this machine and a container that keeps these capabilities (one bit each).
///
/// It costs nothing for [`DEFAULT_CAPABILITIES`], for these without [`NET_RAW`], and for every set that differs from one of
/// the two only in capabilities no rule asks for; other sets are compiled here, in well under a millisecond.
///
/// # Errors
/// None that the build script would not have met.
pub fn default_program(kept: u64) -> Result<Cow<'static, [BpfInstruction]>, SeccompError> {
    let is_like = |set: u64| (kept ^ set) & built::RELEVANT_CAPABILITIES == 0;
    if is_like(DEFAULT_CAPABILITIES) {
        return Ok(Cow::Borrowed(&built::DEFAULT_PROGRAM));
    }
    if is_like(DEFAULT_CAPABILITIES & !NET_RAW) {
        return Ok(Cow::Borrowed(&built::APART_PROGRAM));
    }
    compile(&default_profile()?, NATIVE, kept).map(Cow::Owned)
}
