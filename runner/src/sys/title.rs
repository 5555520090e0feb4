//! What others see of a process: its command line (`/proc/PID/cmdline`, which everybody may read), its variables
//! (`/proc/PID/environ`) and its name.
//!
//! A fork shows those of the program that it comes from, secrets on the command line included, for as long as it lives. The
//! kernel shows memory of the process itself, at the top of its stack, where the strings lie as they were given: arguments, then
//! variables, then the path of the program. So they are overwritten there. Where the first begins the C library knows, and where
//! the last ends the kernel has told; nothing is asked at run time.
//!
//! What is still of use afterwards: the variables, which are copied before, so that `std::env::var` and programs that are started
//! have them as ever. What is not: `std::env::args`, which reads the strings themselves.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::OnceLock;

use nix::libc;

/// More than the kernel takes for arguments and variables together (`execve(2)`, three quarters of 8 MiB).
const MOST: usize = 6 * 1024 * 1024;

unsafe extern "C" {
    /// The variables (`environ(7)`).
    static mut environ: *mut *mut c_char;
    /// The first argument (`program_invocation_name(3)`).
    static program_invocation_name: *const c_char;
}

/// Where the strings lie.
#[derive(Debug, Clone, Copy)]
struct Area {
    start: usize,
    length: usize,
}

/// Has this process show `lrun: ROLE` as its command line, nothing as its variables, and `lrun-ROLE` as its name. It must have a
/// single thread, as every fork has. Where the strings lie elsewhere than expected, the name is all that changes.
pub fn set(role: &str) {
    if let Ok(name) = CString::new(format!("lrun-{role}")) {
        // A name is cut, never refused.
        let _ = rustix::thread::set_name(&name);
    }
    let Some(Area { start, length }) = area() else { return };
    keep_variables(start..start + length);
    let title = format!("lrun: {role}");
    // With a last byte that is none the kernel shows the title up to there, were it longer than the arguments.
    let title = &title.as_bytes()[..title.len().min(length - 1)];
    let place = ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the area is memory of this process, on its stack, that the kernel made for exec and nobody else refers to: the
    // variables have just been copied, and nothing in this library reads the arguments. It can be written to, and there is no
    // other thread.
    unsafe {
        ptr::write_bytes(place, 0, length);
        ptr::copy_nonoverlapping(title.as_ptr(), place, title.len());
    }
}

/// The area, found once: afterwards the variables are elsewhere.
fn area() -> Option<Area> {
    static FOUND: OnceLock<Option<Area>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: a pointer that the C library sets before `main` and nothing here changes; read, not followed.
        let start = unsafe { program_invocation_name }.expose_provenance();
        // SAFETY: takes a number, and gives 0 for what the kernel has not told.
        let end = usize::try_from(unsafe { libc::getauxval(libc::AT_EXECFN) }).ok()?;
        let length = end.checked_sub(start).filter(|length| start != 0 && (2..=MOST).contains(length))?;
        // Variables that lie elsewhere have been moved, or are another layout's.
        let area = start..end;
        variables()
            .all(|variable| area.contains(&variable.as_ptr().expose_provenance()))
            .then_some(Area { start, length })
    })
}

/// The variables as they are.
fn variables() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: a pointer that is null or begins a list.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: the list ends with a null, beyond which `next` does not go.
        let variable = unsafe { *next };
        if variable.is_null() {
            return None;
        }
        // SAFETY: as above: this entry was not the last.
        next = unsafe { next.add(1) };
        // SAFETY: each entry is a string that lives as long as the process, unless `set` overwrites it, which copies it first.
        Some(unsafe { CStr::from_ptr(variable) })
    })
}

/// Has the variables be copies, unless they are already: those in the area are about to go.
fn keep_variables(area: std::ops::Range<usize>) {
    if variables().all(|variable| !area.contains(&variable.as_ptr().expose_provenance())) {
        return;
    }
    let copies = variables().map(|variable| variable.to_owned().into_raw());
    let list: Vec<*mut c_char> = copies.chain([ptr::null_mut()]).collect();
    // SAFETY: a list of strings that ends with a null, all of which live as long as the process; there is no other thread that
    // could read the old one meanwhile.
    unsafe { environ = list.leak().as_mut_ptr() };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{self, Fork};

    #[test]
    fn a_fork_shows_its_title_and_keeps_its_variables() {
        let before: Vec<_> = std::env::vars_os().collect();
        assert!(before.len() > 3);
        let command_line = std::fs::read("/proc/self/cmdline").unwrap();
        match process::fork().unwrap() {
            Fork::Child => {
                let look = |role: &str| {
                    set(role);
                    let shown = std::fs::read("/proc/self/cmdline").unwrap_or_default();
                    let shown = String::from_utf8_lossy(&shown).trim_end_matches('\0').to_owned();
                    let shown_variables = std::fs::read("/proc/self/environ").unwrap_or_else(|_| vec![1]);
                    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
                    let kept = std::env::vars_os().collect::<Vec<_>>() == before;
                    let child = std::process::Command::new("env").output();
                    let child = child.is_ok_and(|output| output.stdout.windows(5).any(|bytes| bytes == b"PATH="));
                    let is_wiped = shown_variables.iter().all(|byte| *byte == 0) || role.len() > 20;
                    shown == format!("lrun: {role}") && is_wiped && name.starts_with("lrun-") && kept && child
                };
                // Twice, as the keeper of a monitor does; and longer than the arguments, over the variables.
                let long = "x".repeat(command_line.len() + 20);
                let is_well = look("keeper") && look("monitor") && look(&long);
                process::exit_now(i32::from(!is_well));
            }
            Fork::Parent(child) => {
                assert_eq!(
                    process::wait_for(child).unwrap(),
                    nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(child), 0)
                );
            }
        }
        assert_eq!(std::fs::read("/proc/self/cmdline").unwrap(), command_line);
    }
}
