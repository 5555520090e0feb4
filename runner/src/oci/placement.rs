//! On which processors a command runs, and from which nodes its memory comes.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::config::MemoryPolicy;
use crate::error::Error;
use crate::sys::schedule::set_memory_policy;

/// More processors or nodes no kernel has.
const MOST: usize = 1024;

/// The numbers of a list such as `0-3,7`.
///
/// # Errors
/// [`Error::Refused`], which names what the list is for.
pub(super) fn numbers(list: &str, what: &str) -> Result<Vec<usize>, Error> {
    let refused = || Error::Refused(format!("{what}: {list:?} is no list of numbers below {MOST}, such as 0-3,7"));
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&number| number < MOST);
        let (first, last) =
            number(first).zip(number(last)).filter(|(first, last)| first <= last).ok_or_else(refused)?;
        all.extend(first..=last);
    }
    Ok(all)
}

/// Keeps this process to some processors; none are no wish.
///
/// # Errors
/// EINVAL where none of them is there.
pub(super) fn keep_to(processors: &[usize]) -> io::Result<()> {
    if processors.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &number in processors {
        set.set(number);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// From which nodes memory is taken, in the kernel's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    mode: u32,
    nodes: Vec<u64>,
}

impl Memory {
    /// As a bundle has it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) fn of(wish: &MemoryPolicy) -> Result<Self, Error> {
        // `linux/mempolicy.h`
        const MODES: [&str; 7] = [
            "MPOL_DEFAULT",
            "MPOL_PREFERRED",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_LOCAL",
            "MPOL_PREFERRED_MANY",
            "MPOL_WEIGHTED_INTERLEAVE",
        ];
        const FLAGS: [(&str, u32); 3] =
            [("MPOL_F_STATIC_NODES", 1 << 15), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_NUMA_BALANCING", 1 << 13)];
        let unknown = |what: &str| Error::Refused(format!("linux.memoryPolicy: {what:?} is not known"));
        let mode = (0..).zip(MODES).find(|(_, name)| *name == wish.mode).ok_or_else(|| unknown(&wish.mode))?.0;
        let flag = |flag: &String| FLAGS.into_iter().find(|(name, _)| name == flag).ok_or_else(|| unknown(flag));
        let mode = wish.flags.iter().try_fold(mode, |all, name| Ok::<u32, Error>(all | flag(name)?.1))?;
        let mut nodes = Vec::new();
        for number in numbers(&wish.nodes, "linux.memoryPolicy.nodes")? {
            if nodes.len() <= number / 64 {
                nodes.resize(number / 64 + 1, 0_u64);
            }
            nodes[number / 64] |= 1 << (number % 64);
        }
        Ok(Self { mode, nodes })
    }

    /// Has this process take its memory so.
    pub(super) fn apply(&self) -> io::Result<()> {
        set_memory_policy(self.mode, &self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_numbers_and_ranges() {
        assert_eq!(numbers("0-2, 7", "x").unwrap(), [0, 1, 2, 7]);
        assert!(numbers("", "x").unwrap().is_empty());
        for list in ["a", "3-1", "-1", "1024", "0-9999"] {
            assert!(numbers(list, "x").unwrap_err().to_string().starts_with("x: "), "{list}");
        }
    }

    #[test]
    fn a_memory_policy_is_a_mode_with_flags_and_a_bit_for_each_node() {
        let of = |text: &str| Memory::of(&serde_json::from_str(text).unwrap());
        let bound = of(r#"{"mode":"MPOL_BIND","nodes":"0,65","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
        assert_eq!(bound, Memory { mode: 2 | 1 << 15, nodes: vec![1, 2] });
        assert_eq!(of(r#"{"mode":"MPOL_DEFAULT"}"#).unwrap(), Memory { mode: 0, nodes: Vec::new() });
        assert!(of(r#"{"mode":"MPOL_LUCK"}"#).is_err() && of(r#"{"mode":"MPOL_BIND","flags":["X"]}"#).is_err());
    }
}
