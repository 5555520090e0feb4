//! From a profile to a program.
//!
//! ```text
//!     load arch ── another ABI ──> kill the process
//!     load number
//!     number >= k ?  ── balanced binary search over ranges of numbers that share a decision
//!       └─> verdict, or checks of the call's arguments and then a verdict
//! ```

use std::collections::BTreeMap;

use super::arch::Arch;
use super::assemble::{Assembler, Target};
use super::bpf::{ARCH_OFFSET, BpfInstruction, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, NUMBER_OFFSET};
use super::errno;
use super::error::SeccompError;
use super::profile::{Action, Condition, Profile, Rule};

/// Compiles the profile for one architecture and a container that kept these capabilities (one bit each).
///
/// A call through another ABI (i386 on x86_64, 32-bit Arm on aarch64) kills the process: there the numbers mean other
/// calls, and a 32-bit program whose every call failed, exit included, could only spin. A number with the x32 bit
/// returns ENOSYS, as from a kernel without x32, whatever the profile says.
///
/// # Errors
/// [`SeccompError::Argument`] for a condition on an argument beyond 5, [`SeccompError::TooLong`] for a profile whose
/// program the kernel would not load.
pub fn compile(profile: &Profile, arch: Arch, kept: u64) -> Result<Vec<BpfInstruction>, SeccompError> {
    let mut assembler = Assembler::default();
    let root = search(&mut assembler, &ranges(profile, arch, kept)?)?;
    let native = assembler.load(NUMBER_OFFSET, root)?;
    let foreign = Target::Verdict(Action::KillProcess.verdict());
    let check = assembler.branch(JUMP_EQUAL, arch.audit_token(), native, foreign)?;
    assembler.load(ARCH_OFFSET, check)?;
    Ok(assembler.finish())
}

/// What happens to one system call: the action of the first check whose conditions all hold, else `last`.
#[derive(Clone, PartialEq, Eq)]
struct Decision<'a> {
    checks: Vec<(&'a [Condition], Action)>,
    last: Action,
}

/// The numbers from `first` up to the next range.
struct Range<'a> {
    first: u32,
    decision: Decision<'a>,
}

/// Divides all 32-bit numbers into ranges in ascending order, neighbours always different. The first starts at 0.
fn ranges(profile: &Profile, arch: Arch, kept: u64) -> Result<Vec<Range<'_>>, SeccompError> {
    let numbers = arch.syscalls();
    let mut highest = None;
    let mut rules_of: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        check_arguments(rule)?;
        for number in rule.syscalls.iter().filter_map(|name| numbers.get(name.as_str()).copied()) {
            highest = highest.max(Some(number));
            if rule.applies(kept) {
                rules_of.entry(number).or_default().push(rule);
            }
        }
    }

    let always = |action| Decision { checks: Vec::new(), last: action };
    let mut ranges = Vec::new();
    let mut next = 0;
    for (number, rules) in rules_of {
        if next < number {
            extend(&mut ranges, next, always(profile.default));
        }
        extend(&mut ranges, number, decide(&rules, profile.default));
        next = number + 1;
    }
    extend(&mut ranges, next, always(profile.default));
    if let (Some(newer), Some(highest)) = (profile.newer, highest) {
        extend(&mut ranges, highest + 1, always(newer));
    }
    if let Some(foreign) = arch.foreign_numbers() {
        extend(&mut ranges, foreign, always(Action::Errno(errno::ENOSYS)));
    }
    Ok(ranges)
}

/// Starts a new range at `first`, which is at or after the start of the last one; joins it to the last where it is alike.
fn extend<'a>(ranges: &mut Vec<Range<'a>>, first: u32, decision: Decision<'a>) {
    ranges.pop_if(|last| last.first == first);
    if ranges.last().is_none_or(|last| last.decision != decision) {
        ranges.push(Range { first, decision });
    }
}

/// Cuts the rules of one call off behind the first that always holds.
fn decide<'a>(rules: &[&'a Rule], default: Action) -> Decision<'a> {
    let mut checks = Vec::new();
    for rule in rules {
        if rule.conditions.is_empty() {
            return Decision { checks, last: rule.action };
        }
        checks.push((rule.conditions.as_slice(), rule.action));
    }
    Decision { checks, last: default }
}

fn check_arguments(rule: &Rule) -> Result<(), SeccompError> {
    match rule.conditions.iter().find(|condition| condition.argument > 5) {
        None => Ok(()),
        Some(condition) => Err(SeccompError::Argument {
            syscall: rule.syscalls.first().cloned().unwrap_or_default(),
            argument: condition.argument,
        }),
    }
}

/// Emits the search for the number in the accumulator among these ranges.
fn search(assembler: &mut Assembler, ranges: &[Range<'_>]) -> Result<Target, SeccompError> {
    match ranges {
        // No range is ever empty; were one, this fails closed.
        [] => Ok(Target::Verdict(Action::KillProcess.verdict())),
        [range] => decision(assembler, &range.decision),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let boundary = high.first().map_or(0, |range| range.first);
            let above = search(assembler, high)?;
            let below = search(assembler, low)?;
            assembler.branch(JUMP_GREATER_OR_EQUAL, boundary, above, below)
        }
    }
}

fn decision(assembler: &mut Assembler, decision: &Decision<'_>) -> Result<Target, SeccompError> {
    let mut next = Target::Verdict(decision.last.verdict());
    for (conditions, action) in decision.checks.iter().rev() {
        let mut holds = Target::Verdict(action.verdict());
        for condition in conditions.iter().rev() {
            holds = assembler.condition(condition, holds, next)?;
        }
        next = holds;
    }
    Ok(next)
}
