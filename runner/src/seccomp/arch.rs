//! Architectures and their system call numbers.

use std::collections::HashMap;

/// Numbers from here on are the x32 ABI on x86_64 (`__X32_SYSCALL_BIT`): the same kernel functions under a second set of numbers.
const X32_NUMBERS: u32 = 0x4000_0000;

/// The table of names and numbers, one call per line; its head says where it comes from.
const TABLE: &str = include_str!("syscalls.txt");

/// An architecture a program can be compiled for. Its 32-bit sibling is never included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86, without i386 and x32.
    X86_64,
    /// 64-bit Arm, without the 32-bit ABI.
    Aarch64,
}

impl Arch {
    /// Every architecture of the table.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The architecture that Rust calls `target_arch`, if it is supported.
    pub fn from_target(target_arch: &str) -> Option<Self> {
        match target_arch {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The name profiles in the containers and moby format use, which is Go's.
    pub fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What the kernel reports as `seccomp_data.arch` (`AUDIT_ARCH_*`, linux/audit.h).
    pub fn audit_token(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The first number that belongs to another ABI under the same token, if there is such a range.
    pub fn foreign_numbers(self) -> Option<u32> {
        match self {
            Self::X86_64 => Some(X32_NUMBERS),
            Self::Aarch64 => None,
        }
    }

    /// The numbers of this architecture's system calls by name.
    pub fn syscalls(self) -> HashMap<&'static str, u32> {
        let column = match self {
            Self::X86_64 => 0,
            Self::Aarch64 => 1,
        };
        let number = |line: &'static str| {
            let mut words = line.split_ascii_whitespace();
            let name = words.next()?;
            Some((name, words.nth(column)?.parse().ok()?))
        };
        TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_name_and_two_numbers_or_dashes() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words.len(), 3, "{line}");
            assert!(words[1..].iter().all(|word| *word == "-" || word.parse::<u16>().is_ok()), "{line}");
            assert!(words[1..].iter().any(|word| *word != "-"), "{line}");
        }
    }

    #[test]
    fn no_number_has_two_names() {
        for arch in Arch::ALL {
            let numbers: std::collections::HashSet<_> = arch.syscalls().into_values().collect();
            assert_eq!(numbers.len(), arch.syscalls().len(), "{arch:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        use nix::libc;
        let table = super::super::NATIVE.syscalls();
        for (name, number) in [
            ("read", libc::SYS_read),
            ("ioctl", libc::SYS_ioctl),
            ("clone3", libc::SYS_clone3),
            ("keyctl", libc::SYS_keyctl),
            ("unshare", libc::SYS_unshare),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(i64::from(table[name]), number, "{name}");
        }
    }

    #[test]
    fn architectures_number_differently_below_424_and_alike_above() {
        let (x86, arm) = (Arch::X86_64.syscalls(), Arch::Aarch64.syscalls());
        assert_eq!((x86["openat"], arm["openat"]), (257, 56));
        assert!(!arm.contains_key("open"));
        assert!(x86.iter().filter(|(_, number)| **number >= 424).all(|(name, number)| arm[name] == *number));
    }
}
