//! Confinement by a security module of the host: an AppArmor profile that the command is executed under
//! (`apparmor(7)`, `aa_change_onexec(2)`).

use std::io;
use std::path::Path;

use crate::error::Error;
use crate::target::Root;

/// Says whether the kernel has AppArmor, and it is on.
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// Takes the profile of the next program that a thread executes.
const NEXT: &str = "/proc/thread-self/attr/apparmor/exec";

/// Makes sure that this machine can put a container under a profile.
///
/// # Errors
/// [`Error::Refused`] where AppArmor is not there or off.
pub fn require_apparmor(profile: &str) -> Result<(), Error> {
    require(profile, std::fs::read_to_string(ENABLED))
}

fn require(profile: &str, enabled: io::Result<String>) -> Result<(), Error> {
    if enabled.is_ok_and(|text| text.trim() == "Y") {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "--security-opt apparmor={profile}: AppArmor is not enabled on this machine (`lrun info`); leave the option out, or \
         boot with apparmor=1 security=apparmor"
    )))
}

/// Has the next program that this process executes, or one that it makes, run under a profile.
pub(crate) fn apply_apparmor(root: &Root, profile: &str) -> io::Result<()> {
    let explain = |error: io::Error| match error.raw_os_error() {
        Some(nix::libc::ENOENT) => {
            io::Error::other("no such profile is loaded; root loads it: `apparmor_parser -r /etc/apparmor.d/FILE`")
        }
        Some(nix::libc::EACCES | nix::libc::EPERM) => io::Error::other("the profile of the caller does not allow it"),
        _ => error,
    };
    root.set_parameter(Path::new(NEXT), &format!("exec {profile}")).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_apparmor_refuses_a_profile() {
        assert!(require("p", Ok("Y\n".to_owned())).is_ok());
        for there in [Ok("N\n".to_owned()), Err(io::ErrorKind::NotFound.into())] {
            let told = require("p", there).unwrap_err().to_string();
            assert!(told.contains("apparmor=p") && told.contains("not enabled"), "{told}");
        }
    }
}
