//! Compiles the default seccomp profile, so that a start only hands the finished program to the kernel.

#![allow(dead_code, unreachable_pub, reason = "the modules are the library's; this script calls one function of each")]
#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::error::Error;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

#[path = "src/seccomp/arch.rs"]
mod arch;
#[path = "src/seccomp/assemble.rs"]
mod assemble;
#[path = "src/seccomp/bpf.rs"]
mod bpf;
#[path = "src/seccomp/capability.rs"]
mod capability;
#[path = "src/seccomp/compile.rs"]
mod compile;
#[path = "src/seccomp/errno.rs"]
mod errno;
#[path = "src/seccomp/error.rs"]
mod error;
#[path = "src/seccomp/profile.rs"]
mod profile;
#[path = "src/seccomp/text.rs"]
mod text;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/seccomp");

    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let arch = arch::Arch::from_target(&target).ok_or_else(|| {
        format!("lrun has no system call table for {target}: add a column to src/seccomp/syscalls.txt")
    })?;
    let profile = text::parse(include_str!("src/seccomp/profile.txt"))?;
    let with_raw = compile::compile(&profile, arch, capability::DEFAULT_CAPABILITIES)?;
    let without = compile::compile(&profile, arch, capability::DEFAULT_CAPABILITIES & !capability::NET_RAW)?;

    let mut code = String::new();
    writeln!(code, "/// The architecture this library was built for.")?;
    writeln!(code, "pub const NATIVE: Arch = Arch::{arch:?};")?;
    writeln!(code, "/// The capabilities that make a difference to the default program.")?;
    writeln!(code, "pub(super) const RELEVANT_CAPABILITIES: u64 = {:#x};", profile.relevant_capabilities())?;
    for (name, program, what) in [
        ("DEFAULT_PROGRAM", with_raw, "the default capabilities"),
        ("APART_PROGRAM", without, "the default capabilities without `NET_RAW`"),
    ] {
        writeln!(code, "/// The default profile for {what}.")?;
        writeln!(code, "pub(super) static {name}: [BpfInstruction; {}] = [", program.len())?;
        for bpf::BpfInstruction { code: operation, jt, jf, k } in program {
            writeln!(code, "    BpfInstruction {{ code: {operation:#04x}, jt: {jt}, jf: {jf}, k: {k:#x} }},")?;
        }
        writeln!(code, "];")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("seccomp.rs"), code)?;
    Ok(())
}
