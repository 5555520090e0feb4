//! Confinement by a security module of the host: an AppArmor profile that the command is executed under
//! (`apparmor(7)`, `aa_change_onexec(2)`), or an SELinux label (`selinux(8)`, `setexeccon(3)`).

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

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

/// Where the kernel's SELinux is spoken to, if it is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// Where the policies are, and which of them is used.
const POLICIES: &str = "/etc/selinux";
/// Takes the label of the next program that a thread executes.
const NEXT_LABEL: &str = "/proc/thread-self/attr/exec";
/// Categories of a level, by convention of every policy that has them.
const CATEGORIES: u32 = 1024;

/// The SELinux labels of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files, whatever they have on disk.
    pub files: String,
}

/// What is to differ from the policy's own label for containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelOptions {
    /// User.
    pub user: Option<String>,
    /// Role.
    pub role: Option<String>,
    /// Type of the processes.
    pub kind: Option<String>,
    /// Type of the files.
    pub file_kind: Option<String>,
    /// Level; two categories that are drawn without.
    pub level: Option<String>,
}

impl Labels {
    /// The labels of a container on this machine, by its policy (`lxc_contexts`).
    ///
    /// # Errors
    /// [`Error::Refused`] where SELinux is not there, or the policy has no label for containers.
    pub fn of_machine(options: &LabelOptions) -> Result<Self, Error> {
        let refused = |reason: String| Error::Refused(format!("--security-opt label: {reason}"));
        if !Path::new(SELINUX).exists() {
            let reason =
                "SELinux is not enabled on this machine (`lrun info`); leave the option out, or give label=disable";
            return Err(refused(reason.to_owned()));
        }
        let config = std::fs::read_to_string(Path::new(POLICIES).join("config")).unwrap_or_default();
        let policy = config.lines().find_map(|line| line.strip_prefix("SELINUXTYPE=")).unwrap_or("targeted").trim();
        let file = Path::new(POLICIES).join(policy).join("contexts/lxc_contexts");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            refused(format!(
                "{}: {error}; the policy has no label for containers, install container-selinux",
                file.display()
            ))
        })?;
        let mut numbers = [0; 4];
        rustix::rand::getrandom(&mut numbers, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| refused(format!("no random categories: {error}")))?;
        Self::of(&text, options, u32::from_le_bytes(numbers))
            .ok_or_else(|| refused(format!("{}: it has no label for processes and files", file.display())))
    }

    fn of(contexts: &str, options: &LabelOptions, random: u32) -> Option<Self> {
        let base = |name: &str| {
            let of_name = |line: &str| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
            };
            contexts.lines().find_map(of_name)
        };
        // Two that differ, in order: as many pairs as there are, none of them a single category.
        let (first, second) = (random % CATEGORIES, random / CATEGORIES % (CATEGORIES - 1));
        let second = if second >= first { second + 1 } else { second };
        let drawn = format!("s0:c{},c{}", first.min(second), first.max(second));
        let level = options.level.as_ref().unwrap_or(&drawn);
        let label = |base: &str, user: Option<&String>, role: Option<&String>, kind: Option<&String>| {
            let mut parts = base.splitn(4, ':');
            let mut part = |said: Option<&String>| parts.next().map(|own| said.map_or(own, String::as_str).to_owned());
            let (user, role, kind) = (part(user)?, part(role)?, part(kind)?);
            // A policy without levels has none in its labels.
            Some(if parts.next().is_some() {
                format!("{user}:{role}:{kind}:{level}")
            } else {
                format!("{user}:{role}:{kind}")
            })
        };
        Some(Self {
            process: label(&base("process")?, options.user.as_ref(), options.role.as_ref(), options.kind.as_ref())?,
            files: label(&base("file")?, options.user.as_ref(), None, options.file_kind.as_ref())?,
        })
    }
}

/// Has the next program that this process executes, or one that it makes, run under a label.
pub(crate) fn apply_label(root: &Root, label: &str) -> io::Result<()> {
    let explain = |error: io::Error| match error.raw_os_error() {
        Some(nix::libc::EINVAL) => io::Error::other("the policy of this machine has no such label"),
        Some(nix::libc::EACCES | nix::libc::EPERM) => io::Error::other("the policy does not let the caller set it"),
        _ => error,
    };
    root.set_parameter(Path::new(NEXT_LABEL), label).map_err(explain)
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

    const CONTEXTS: &str = "process = \"system_u:system_r:container_t:s0\"\n\
                            content = \"system_u:object_r:virt_var_lib_t:s0\"\n\
                            file = \"system_u:object_r:container_file_t:s0\"\n";

    #[test]
    fn a_label_is_the_policys_with_two_categories_that_differ() {
        let of = |random| Labels::of(CONTEXTS, &LabelOptions::default(), random).unwrap();
        assert_eq!(of(5).process, "system_u:system_r:container_t:s0:c0,c5");
        assert_eq!(of(5).files, "system_u:object_r:container_file_t:s0:c0,c5");
        assert_eq!(of(0).process, "system_u:system_r:container_t:s0:c0,c1");
        assert_eq!(of(1023 + 1022 * 1024).process, "system_u:system_r:container_t:s0:c1022,c1023");
        assert_eq!(of(u32::MAX).process.split(',').count(), 2);
    }

    #[test]
    fn each_part_of_a_label_can_be_said() {
        let text = |text: &str| Some(text.to_owned());
        let options = LabelOptions {
            user: text("u"),
            role: text("r"),
            kind: text("spc_t"),
            file_kind: text("f_t"),
            level: text("s0:c7"),
        };
        let labels = Labels::of(CONTEXTS, &options, 0).unwrap();
        assert_eq!((labels.process.as_str(), labels.files.as_str()), ("u:r:spc_t:s0:c7", "u:object_r:f_t:s0:c7"));
        let flat = "process = \"a:b:c\"\nfile = \"a:b:d\"\n";
        assert_eq!(Labels::of(flat, &LabelOptions::default(), 0).unwrap().process, "a:b:c");
        assert_eq!(Labels::of("", &options, 0), None);
    }
}
