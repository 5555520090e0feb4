//! Every exit code of the two commands, in one place.

use std::process::ExitCode;

/// The status with which a command leaves.
///
/// `lstore` uses [`Exit::SUCCESS`], [`Exit::FAILURE`] and [`Exit::USAGE`]. `lrun run` passes on the status of the
/// program it ran, so its own failures need codes that programs seldom use: the ones podman and docker chose
/// (podman-run(1), "EXIT STATUS").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// Everything asked for was done.
    pub const SUCCESS: Self = Self(0);
    /// `lstore`: something asked for was not done; standard error says what.
    pub const FAILURE: Self = Self(1);
    /// `lstore`: the command line was not understood, nothing was tried.
    pub const USAGE: Self = Self(2);
    /// `lrun`: the container could not be started, or its command line was not understood.
    pub const RUNNER: Self = Self(125);
    /// `lrun`: the command in the container exists but cannot be executed.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// `lrun`: the command was not found in the container.
    pub const NOT_FOUND: Self = Self(127);

    /// The status of a program that ended by itself.
    pub const fn code(code: u8) -> Self {
        Self(code)
    }

    /// The status of a program that signal `number` killed: 128 + number, as a shell reports it.
    ///
    /// Signal numbers end at 64 (signal(7)), so the sum always fits; a larger one gives 255.
    pub const fn signal(number: u8) -> Self {
        Self(number.saturating_add(128))
    }

    /// The number the parent process will see.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_killed_by_a_signal_reports_128_and_the_signal() {
        assert_eq!(Exit::signal(9).get(), 137);
        assert_eq!(Exit::signal(15).get(), 143);
        assert_eq!(Exit::signal(64).get(), 192);
        assert_eq!(Exit::signal(200).get(), 255);
    }

    #[test]
    fn the_runner_uses_the_codes_of_podman() {
        assert_eq!(Exit::RUNNER.get(), 125);
        assert_eq!(Exit::NOT_EXECUTABLE.get(), 126);
        assert_eq!(Exit::NOT_FOUND.get(), 127);
        assert_eq!(Exit::code(3).get(), 3);
    }
}
