//! The classic BPF subset that seccomp programs are made of.
//!
//! Only operations that the kernel can evaluate ahead of time are used (`seccomp_is_const_allow` in kernel/seccomp.c,
//! Linux 5.11): a call whose verdict needs no argument then passes on one bitmap look-up and never runs the program.

/// One instruction; the layout is that of `struct sock_filter` (linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(C)]
pub struct BpfInstruction {
    /// Operation: class, size or comparison, and operand source.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The constant operand: offset, mask, comparand, distance or verdict.
    pub k: u32,
}

/// The most instructions the kernel accepts in one program (`BPF_MAXINSNS`, linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `A = data[k]`, 32 bits: `BPF_LD | BPF_W | BPF_ABS`.
pub(super) const LOAD: u16 = 0x20;
/// `A &= k`: `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// Skips `k` instructions: `BPF_JMP | BPF_JA`.
pub(super) const JUMP: u16 = 0x05;
/// `A == k`: `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const JUMP_EQUAL: u16 = 0x15;
/// `A > k`, unsigned: `BPF_JMP | BPF_JGT | BPF_K`.
pub(super) const JUMP_GREATER: u16 = 0x25;
/// `A >= k`, unsigned: `BPF_JMP | BPF_JGE | BPF_K`.
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
/// Ends with the verdict `k`: `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// Offset of the system call number in `struct seccomp_data` (linux/seccomp.h).
pub(super) const NUMBER_OFFSET: u32 = 0;
/// Offset of the architecture token.
pub(super) const ARCH_OFFSET: u32 = 4;

/// The offsets of the low and the high half of a 64-bit argument. Every supported architecture is little-endian.
pub(super) const fn argument_offsets(argument: u8) -> (u32, u32) {
    let low = 16 + 8 * argument as u32;
    (low, low + 4)
}
