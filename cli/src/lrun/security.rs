//! `--security-opt`.

use std::path::PathBuf;

use lrun::lsm::LabelOptions;

/// Which system calls the container may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeccompOption {
    /// The built-in program.
    #[default]
    Default,
    /// All of them.
    Unconfined,
    /// What a profile in the OCI's JSON format allows.
    Profile(PathBuf),
}

/// Which of the masked and read-only paths below /proc and /sys the container sees as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmask {
    /// Only these.
    Paths(Vec<PathBuf>),
    /// All of them.
    All,
}

impl Default for Unmask {
    fn default() -> Self {
        Self::Paths(Vec::new())
    }
}

/// What all `--security-opt` flags together say; a later one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// Programs gain no rights by setuid bits or file capabilities (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: SeccompOption,
    /// Paths that are not masked.
    pub unmask: Unmask,
    /// Further paths that are.
    pub mask: Vec<PathBuf>,
    /// Mount options of /proc.
    pub proc_options: Vec<String>,
    /// What was said of the container's SELinux label; it has none of its own without.
    pub label: Option<LabelOptions>,
    /// The AppArmor profile of the container; none of its own without.
    pub apparmor: Option<String>,
}

/// Why a security option cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// The option is not known.
    #[error(
        "unknown --security-opt {0:?}; known are no-new-privileges, seccomp=FILE|unconfined, mask=PATH:PATH, unmask=ALL|PATH:PATH, proc-opts=OPTION, label=disable|user:U|role:R|type:T|filetype:T|level:L and apparmor=PROFILE|unconfined"
    )]
    Unknown(String),
    /// No part of an SELinux label.
    #[error(
        "--security-opt {0:?} is no part of a label; known are label=disable, user:, role:, type:, filetype: and level:"
    )]
    Label(String),
    /// A path to mask or unmask is not absolute.
    #[error(
        "--security-opt {0}={1:?} is not a list of absolute paths; write unmask=ALL or {0}=/proc/acpi:/sys/firmware"
    )]
    Path(&'static str, String),
    /// The option must be true or false.
    #[error("--security-opt no-new-privileges={0:?} is neither true nor false")]
    Boolean(String),
}

impl SecurityOptions {
    /// Reads the arguments of all `--security-opt` flags.
    ///
    /// `label=disable` and `apparmor=unconfined` are what happens without a word. The form with a colon (`label:disable`) is
    /// docker's old one.
    pub fn parse<T: AsRef<str>>(arguments: &[T]) -> Result<Self, SecurityError> {
        let mut options = Self::default();
        for argument in arguments {
            let argument = argument.as_ref();
            let (name, value) = match argument.split_once(['=', ':']) {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            match (name, value) {
                ("no-new-privileges", None | Some("true")) => options.no_new_privileges = true,
                ("no-new-privileges", Some("false")) => options.no_new_privileges = false,
                ("no-new-privileges", Some(other)) => {
                    return Err(SecurityError::Boolean(other.into()));
                }
                ("seccomp", Some("unconfined")) => options.seccomp = SeccompOption::Unconfined,
                ("seccomp", Some(file)) if !file.is_empty() => {
                    options.seccomp = SeccompOption::Profile(file.into());
                }
                ("mask", Some(paths)) => options.mask.extend(absolute("mask", paths)?),
                ("proc-opts", Some(said)) if !said.is_empty() => {
                    options.proc_options.extend(said.split(',').map(str::to_owned));
                }
                ("unmask", Some(paths)) => options.unmask(paths)?,
                ("systempaths", Some("unconfined")) => options.unmask = Unmask::All,
                ("label", Some("disable")) => options.label = None,
                ("apparmor", Some("unconfined")) => options.apparmor = None,
                ("apparmor", Some(profile)) if is_profile(profile) => options.apparmor = Some(profile.into()),
                ("label", Some(said)) => {
                    let part = options.label.get_or_insert_default();
                    set_label(part, said).ok_or_else(|| SecurityError::Label(argument.into()))?;
                }
                _ => return Err(SecurityError::Unknown(argument.into())),
            }
        }
        Ok(options)
    }

    fn unmask(&mut self, paths: &str) -> Result<(), SecurityError> {
        if paths.eq_ignore_ascii_case("all") {
            self.unmask = Unmask::All;
            return Ok(());
        }
        let paths = absolute("unmask", paths)?;
        if let Unmask::Paths(known) = &mut self.unmask {
            known.extend(paths);
        }
        Ok(())
    }
}

/// One part of a label; `None` for what is none.
fn set_label(label: &mut LabelOptions, said: &str) -> Option<()> {
    let (part, value) = said.split_once(':')?;
    // What the kernel would take for two labels, or for two parts of one.
    let is_word = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    let place = match part {
        "level" if is_word => &mut label.level,
        _ if !is_word || value.contains(':') => return None,
        "user" => &mut label.user,
        "role" => &mut label.role,
        "type" => &mut label.kind,
        "filetype" => &mut label.file_kind,
        _ => return None,
    };
    *place = Some(value.to_owned());
    Some(())
}

/// Whether it can be the name of a profile: the kernel takes one line.
fn is_profile(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| letter.is_control())
}

fn absolute(name: &'static str, paths: &str) -> Result<Vec<PathBuf>, SecurityError> {
    if paths.split(':').any(|path| !path.starts_with('/')) {
        return Err(SecurityError::Path(name, paths.into()));
    }
    Ok(paths.split(':').map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(SecurityOptions::parse::<&str>(&[]), Ok(SecurityOptions::default()));
    }

    #[test]
    fn distrobox_options_change_nothing() {
        for options in [["label=disable", "apparmor=unconfined"], ["label:disable", "apparmor:unconfined"]] {
            assert_eq!(SecurityOptions::parse(&options), Ok(SecurityOptions::default()));
        }
    }

    #[test]
    fn options_add_up_and_the_last_wins() {
        let options = SecurityOptions::parse(&[
            "no-new-privileges",
            "seccomp=unconfined",
            "seccomp=/etc/p=1.json",
            "unmask=/proc/acpi:/sys/x",
            "unmask=/proc/bus",
            "mask=/etc/secret",
            "proc-opts=hidepid=2,gid=5",
            "apparmor=unconfined",
            "label=disable",
            "label=type:spc_t",
            "label=level:s0:c1,c2",
            "apparmor=strict",
        ]);
        assert_eq!(
            options,
            Ok(SecurityOptions {
                no_new_privileges: true,
                seccomp: SeccompOption::Profile("/etc/p=1.json".into()),
                unmask: Unmask::Paths(vec!["/proc/acpi".into(), "/sys/x".into(), "/proc/bus".into()]),
                mask: vec!["/etc/secret".into()],
                proc_options: vec!["hidepid=2".into(), "gid=5".into()],
                apparmor: Some("strict".into()),
                label: Some(LabelOptions {
                    kind: Some("spc_t".into()),
                    level: Some("s0:c1,c2".into()),
                    ..LabelOptions::default()
                }),
            })
        );
        let off = SecurityOptions::parse(&["no-new-privileges", "no-new-privileges:false"]);
        assert_eq!(off, Ok(SecurityOptions::default()));
    }

    #[test]
    fn everything_can_be_unmasked() {
        for option in ["unmask=ALL", "unmask=all", "systempaths=unconfined"] {
            let options = SecurityOptions::parse(&[option]).unwrap();
            assert_eq!(options.unmask, Unmask::All);
        }
    }

    #[test]
    fn what_cannot_be_granted_is_refused() {
        for (option, expected) in [
            ("foo=bar", SecurityError::Unknown("foo=bar".into())),
            ("seccomp=", SecurityError::Unknown("seccomp=".into())),
            ("mask=proc:/x", SecurityError::Path("mask", "proc:/x".into())),
            ("label=bogus:t", SecurityError::Label("label=bogus:t".into())),
            ("label=type:", SecurityError::Label("label=type:".into())),
            ("label=type:a:b", SecurityError::Label("label=type:a:b".into())),
            ("apparmor=", SecurityError::Unknown("apparmor=".into())),
            ("apparmor=a\nb", SecurityError::Unknown("apparmor=a\nb".into())),
            ("unmask=proc", SecurityError::Path("unmask", "proc".into())),
            ("no-new-privileges=1", SecurityError::Boolean("1".into())),
        ] {
            assert_eq!(SecurityOptions::parse(&[option]), Err(expected));
        }
    }
}
