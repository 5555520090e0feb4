//! What can go wrong between a profile and its program.

use super::bpf::MAX_INSTRUCTIONS;

/// A profile that cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// The program would exceed [`MAX_INSTRUCTIONS`].
    #[error(
        "the seccomp profile needs more than {MAX_INSTRUCTIONS} instructions, the kernel's limit: merge its argument rules"
    )]
    TooLong,
    /// A condition looks at an argument that system calls do not have.
    #[error("a rule for {syscall} compares argument {argument}, but system calls have arguments 0 to 5")]
    Argument {
        /// The first system call of the rule.
        syscall: String,
        /// The index found.
        argument: u8,
    },
    /// A line of the text format that does not parse.
    #[error("line {line} of the seccomp profile: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
}
