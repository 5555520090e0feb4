//! Runs a program as the kernel would, and checks it as the kernel's verifier would (kernel/seccomp.c, net/core/filter.c).

use super::bpf::{
    AND, BpfInstruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, MAX_INSTRUCTIONS, RETURN,
};

/// What a program is asked about: `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..4].copy_from_slice(&self.number.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_le_bytes());
        bytes[8..16].fill(0xee); // the instruction pointer, which no verdict may depend on
        for (slot, argument) in bytes[16..].chunks_exact_mut(8).zip(self.arguments) {
            slot.copy_from_slice(&argument.to_le_bytes());
        }
        bytes
    }
}

/// The verdict, and the number of instructions it took.
pub(super) fn run(program: &[BpfInstruction], call: &Call) -> (u32, usize) {
    let data = call.bytes();
    let (mut accumulator, mut at, mut steps) = (0_u32, 0, 0);
    loop {
        let BpfInstruction { code, jt, jf, k } = program[at];
        let branch = |holds| usize::from(if holds { jt } else { jf });
        steps += 1;
        at += 1;
        match code {
            LOAD => accumulator = u32::from_le_bytes(data[k as usize..][..4].try_into().unwrap()),
            AND => accumulator &= k,
            JUMP => at += k as usize,
            JUMP_EQUAL => at += branch(accumulator == k),
            JUMP_GREATER => at += branch(accumulator > k),
            JUMP_GREATER_OR_EQUAL => at += branch(accumulator >= k),
            RETURN => return (k, steps),
            other => panic!("the kernel cannot evaluate operation {other:#x} ahead of time"),
        }
    }
}

/// Panics unless the kernel would load the program.
pub(super) fn verify(program: &[BpfInstruction]) {
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS, "{} instructions", program.len());
    assert_eq!(program.last().unwrap().code, RETURN, "the last instruction returns");
    for (at, BpfInstruction { code, jt, jf, k }) in program.iter().enumerate() {
        let rest = program.len() - at - 1;
        match *code {
            LOAD => assert!(k % 4 == 0 && *k < 64, "load at {at} from {k}"),
            JUMP => assert!((*k as usize) < rest, "jump at {at}"),
            JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_OR_EQUAL => {
                assert!(usize::from(*jt.max(jf)) < rest, "branch at {at}");
            }
            AND | RETURN => {}
            other => panic!("operation {other:#x} at {at}"),
        }
    }
}
