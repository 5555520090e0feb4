//! Writes instructions from the last to the first.
//!
//! Jumps in BPF go forward only, and a conditional one reaches 255 instructions. Assembled from its end, a program knows
//! every target before the jump to it, and a verdict that has drifted out of reach is written again, closer by, which costs no
//! more than a jump to the old one.

use std::collections::HashMap;

use super::bpf::{
    AND, BpfInstruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, MAX_INSTRUCTIONS, RETURN,
    argument_offsets,
};
use super::error::SeccompError;
use super::profile::{Comparison, Condition};

/// Where a jump goes.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// To an instruction that ends the program with this verdict.
    Verdict(u32),
    /// To the instruction that was the n-th to be written.
    Written(usize),
}

/// A program in the making.
#[derive(Default)]
pub(super) struct Assembler {
    /// The last instruction of the program first.
    reversed: Vec<BpfInstruction>,
    /// Where each verdict was last written.
    verdicts: HashMap<u32, usize>,
}

impl Assembler {
    /// The program, first instruction first.
    pub(super) fn finish(mut self) -> Vec<BpfInstruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// Writes a load of the 32-bit word at this offset, after which the program goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Result<Target, SeccompError> {
        if !matches!(next, Target::Written(position) if position + 1 == self.reversed.len()) {
            self.bridge(next)?;
        }
        self.write(LOAD, offset)
    }

    /// Writes a comparison of the accumulator with `k` and its two ways out.
    pub(super) fn branch(
        &mut self,
        code: u16,
        k: u32,
        then: Target,
        otherwise: Target,
    ) -> Result<Target, SeccompError> {
        // One to spare: bringing `otherwise` into reach may put an instruction between this one and `then`.
        let then = self.within(then, usize::from(u8::MAX) - 1)?;
        let otherwise = self.within(otherwise, usize::from(u8::MAX))?;
        let jt = u8::try_from(self.distance(then)).map_err(|_| SeccompError::TooLong)?;
        let jf = u8::try_from(self.distance(otherwise)).map_err(|_| SeccompError::TooLong)?;
        self.push(BpfInstruction { code, jt, jf, k })
    }

    /// Writes the check of one argument: both 32-bit halves where both matter.
    pub(super) fn condition(
        &mut self,
        condition: &Condition,
        then: Target,
        otherwise: Target,
    ) -> Result<Target, SeccompError> {
        let Condition { argument, comparison, value } = *condition;
        match comparison {
            Comparison::Equal => self.masked_equal(argument, u64::MAX, value, then, otherwise),
            Comparison::NotEqual => self.masked_equal(argument, u64::MAX, value, otherwise, then),
            Comparison::MaskedEqual(mask) => self.masked_equal(argument, mask, value, then, otherwise),
            Comparison::Greater => self.ordered(argument, JUMP_GREATER, value, then, otherwise),
            Comparison::LessOrEqual => self.ordered(argument, JUMP_GREATER, value, otherwise, then),
            Comparison::GreaterOrEqual => self.ordered(argument, JUMP_GREATER_OR_EQUAL, value, then, otherwise),
            Comparison::Less => self.ordered(argument, JUMP_GREATER_OR_EQUAL, value, otherwise, then),
        }
    }

    fn masked_equal(
        &mut self,
        argument: u8,
        mask: u64,
        value: u64,
        then: Target,
        otherwise: Target,
    ) -> Result<Target, SeccompError> {
        if value & !mask != 0 {
            return Ok(otherwise);
        }
        let (low, high) = argument_offsets(argument);
        let then = self.half_equal(low, low_half(mask), low_half(value), then, otherwise)?;
        self.half_equal(high, high_half(mask), high_half(value), then, otherwise)
    }

    fn half_equal(
        &mut self,
        offset: u32,
        mask: u32,
        value: u32,
        then: Target,
        otherwise: Target,
    ) -> Result<Target, SeccompError> {
        if mask == 0 {
            return Ok(then);
        }
        let mut next = self.branch(JUMP_EQUAL, value, then, otherwise)?;
        if mask != u32::MAX {
            next = self.write(AND, mask)?;
        }
        self.load(offset, next)
    }

    /// `above` decides the low halves; it is `>` or `>=`, and the high halves decide alone unless they are equal.
    fn ordered(
        &mut self,
        argument: u8,
        above: u16,
        value: u64,
        then: Target,
        otherwise: Target,
    ) -> Result<Target, SeccompError> {
        let (low, high) = argument_offsets(argument);
        let lower = self.branch(above, low_half(value), then, otherwise)?;
        let lower = self.load(low, lower)?;
        let equal = self.branch(JUMP_EQUAL, high_half(value), lower, otherwise)?;
        let greater = self.branch(JUMP_GREATER, high_half(value), then, equal)?;
        self.load(high, greater)
    }

    /// How many instructions lie between the next one to be written and this one.
    fn distance(&self, position: usize) -> usize {
        self.reversed.len() - position - 1
    }

    /// Finds or writes an instruction that leads to the target from at most this far away.
    fn within(&mut self, target: Target, reach: usize) -> Result<usize, SeccompError> {
        let written = match target {
            Target::Verdict(verdict) => self.verdicts.get(&verdict).copied(),
            Target::Written(position) => Some(position),
        };
        match written {
            // Not yet written, it would come at a distance of 0.
            Some(position) if self.distance(position) <= reach => Ok(position),
            _ => self.bridge(target),
        }
    }

    /// Writes an instruction that leads to the target.
    fn bridge(&mut self, target: Target) -> Result<usize, SeccompError> {
        let here = self.reversed.len();
        match target {
            Target::Verdict(verdict) => {
                self.verdicts.insert(verdict, here);
                self.write(RETURN, verdict)?;
            }
            Target::Written(position) => {
                let distance = u32::try_from(self.distance(position)).map_err(|_| SeccompError::TooLong)?;
                self.write(JUMP, distance)?;
            }
        }
        Ok(here)
    }

    fn write(&mut self, code: u16, k: u32) -> Result<Target, SeccompError> {
        self.push(BpfInstruction { code, jt: 0, jf: 0, k })
    }

    fn push(&mut self, instruction: BpfInstruction) -> Result<Target, SeccompError> {
        if self.reversed.len() == MAX_INSTRUCTIONS {
            return Err(SeccompError::TooLong);
        }
        self.reversed.push(instruction);
        Ok(Target::Written(self.reversed.len() - 1))
    }
}

/// Bits 0 to 31.
fn low_half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Bits 32 to 63.
fn high_half(value: u64) -> u32 {
    low_half(value >> 32)
}
