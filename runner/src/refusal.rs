//! Why the kernel refuses user namespaces, or any power in them, and what helps.

use std::io::{self, Read};

use nix::libc;

use crate::error::Error;

/// What can stand in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// `user.max_user_namespaces` (`namespaces(7)`).
    pub most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's kernels.
    pub unprivileged: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    pub apparmor: Option<u64>,
    /// The AppArmor profile that confines this process, as one of a container does; `None` for one that does not enforce.
    pub profile: Option<String>,
    /// Whether a seccomp filter is on this process, as on those of a container.
    pub is_filtered: bool,
    /// Whether this process has CAP_SYS_ADMIN, which root of a container lacks.
    pub has_power: bool,
    /// Whether the root directory is none of a mount, as after `chroot(2)`.
    pub is_chroot: bool,
}

impl Obstacles {
    /// Looks.
    pub fn probe() -> Self {
        let number = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
        let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let mounts = text("mountinfo");
        Self {
            most: number("user/max_user_namespaces"),
            unprivileged: number("kernel/unprivileged_userns_clone"),
            apparmor: number("kernel/apparmor_restrict_unprivileged_userns"),
            profile: apparmor_label().and_then(|label| label.strip_suffix(" (enforce)").map(str::to_owned)),
            is_filtered: text("status").lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')),
            has_power: rustix::thread::capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN)),
            is_chroot: !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")),
        }
    }

    /// The cause of an error of `clone(2)` or `unshare(2)`, or of the first mount after it, with the way out. `None` where
    /// nothing known explains it.
    pub fn cause(&self, errno: i32) -> Option<&'static str> {
        let is_refusal = matches!(errno, libc::EPERM | libc::EACCES);
        Some(match errno {
            libc::ENOSPC | libc::EUSERS if self.most == Some(0) => {
                "sysctl user.max_user_namespaces is 0; as root, set it to 15000"
            }
            libc::ENOSPC | libc::EUSERS => {
                "there are as many as sysctl user.max_user_namespaces allows here or around, or they are nested 32 deep; in bwrap, \
                 leave out --disable-userns"
            }
            libc::EPERM if self.unprivileged == Some(0) => {
                "sysctl kernel.unprivileged_userns_clone is 0; as root, set it to 1"
            }
            libc::EPERM if self.is_chroot => {
                "this is a chroot, in which the kernel makes none; run as root, or enter it by pivot_root, as containers and \
                 `bwrap --bind DIR /` do"
            }
            _ if is_refusal && self.apparmor == Some(1) && !self.is_confined() => {
                "AppArmor gives programs without a profile no power in them; \
                 `lrun apparmor | sudo tee /etc/apparmor.d/lrun` and `sudo apparmor_parser -r /etc/apparmor.d/lrun` add one"
            }
            libc::EPERM | libc::ENOSYS if self.is_filtered => {
                "a seccomp filter is on this process, probably of a container around it; start that with one that allows \
                 namespaces and mounts, such as --security-opt seccomp=unconfined"
            }
            libc::EACCES | libc::EPERM if self.is_confined() => CONFINED,
            _ => return None,
        })
    }

    /// Whether a profile of somebody else's stands in the way. Ubuntu's own, which a program without one is given in a new user
    /// namespace, means that there is none.
    fn is_confined(&self) -> bool {
        self.profile.as_deref().is_some_and(|profile| !profile.contains(UNPRIVILEGED))
    }

    /// The same for root, who makes no user namespace.
    pub fn cause_for_root(&self, errno: i32) -> Option<&'static str> {
        match errno {
            libc::EPERM | libc::ENOSYS if !self.has_power => Some(
                "this root lacks the capability SYS_ADMIN, as in a container; start that one with --privileged, and the store \
                 on a volume of it, or run as a user",
            ),
            libc::EPERM | libc::ENOSYS if self.is_filtered => self.cause(libc::ENOSYS),
            libc::EACCES | libc::EPERM if self.is_confined() => Some(CONFINED),
            _ => None,
        }
    }
}

/// What Ubuntu confines a program without a profile by, once it is in a user namespace.
const UNPRIVILEGED: &str = "unprivileged_userns";
/// What a profile of somebody else's means.
const CONFINED: &str = "an AppArmor profile is on this process, probably of a container around it (/proc/self/attr/current names it); \
                        start that with --security-opt apparmor=unconfined";

/// The AppArmor label of this process, with its mode (`apparmor(7)`); `None` without that module.
pub fn apparmor_label() -> Option<String> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
    if enabled.trim() != "Y" {
        return None;
    }
    // Only the first is AppArmor's own where several modules are at work (Linux 5.8).
    let files = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    Some(text.trim_end_matches(['\n', '\0']).to_owned())
}

/// An error with its cause, where that is a /proc of other processes: those of ours are not found there.
pub(crate) fn with_proc(error: Error) -> Error {
    let is_of_command = matches!(error, Error::NotFound(_) | Error::NotExecutable { .. });
    let own = std::fs::read_link("/proc/self");
    if is_of_command || own.is_ok_and(|own| own.to_str() == Some(&std::process::id().to_string())) {
        return error;
    }
    Error::Refused(format!(
        "{error}: /proc is not there, or that of another process namespace; give the sandbox around one of its own, as \
         `bwrap --proc /proc` and `mount -t proc proc /proc` do"
    ))
}

/// The failure to open the null device, with what helps where devices do not work.
pub(crate) fn of_null(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    io::Error::other(format!(
        "/dev/null: {error}: devices do not work here; give the sandbox around a /dev of its own, as `bwrap --dev /dev` does"
    ))
}

/// Whether the user namespace of this process forbids to set groups (`user_namespaces(7)`), as one of a single id does.
pub(crate) fn keeps_groups() -> bool {
    let Ok(mut file) = std::fs::File::open("/proc/self/setgroups") else { return false };
    let mut text = String::new();
    // A file of the container's that only looks like it says nothing.
    rustix::fs::fstatfs(&file).is_ok_and(|system| system.f_type == rustix::fs::PROC_SUPER_MAGIC)
        && file.read_to_string(&mut text).is_ok()
        && text.trim() == "deny"
}

/// What is told then.
pub(crate) const KEPT_GROUPS: &str =
    "the container has the user ids of the sandbox around, which forbids to change groups: yours are kept";

/// The failure to bring up the loopback device.
pub(crate) fn of_loopback(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EPERM) { io::Error::other(NO_NET_ADMIN) } else { error }
}

/// Why root of a container cannot set up a network, and what helps.
const NO_NET_ADMIN: &str =
    "this root lacks the capability NET_ADMIN, as in a container; start that one with --cap-add NET_ADMIN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let none = Obstacles::default();
        let confined = |profile: &str| Obstacles { profile: Some(profile.to_owned()), ..none.clone() };
        let (docker, ubuntu) = (confined("docker-default"), confined("unprivileged_userns"));
        let cases = [
            (Obstacles { most: Some(0), ..none.clone() }, libc::ENOSPC, "max_user_namespaces is 0"),
            (Obstacles { most: Some(9), ..none.clone() }, libc::ENOSPC, "as many as"),
            (Obstacles { unprivileged: Some(0), ..none.clone() }, libc::EPERM, "set it to 1"),
            (Obstacles { is_chroot: true, ..none.clone() }, libc::EPERM, "chroot"),
            (Obstacles { apparmor: Some(1), ..none.clone() }, libc::EACCES, "lrun apparmor"),
            (Obstacles { is_filtered: true, ..none.clone() }, libc::EPERM, "seccomp=unconfined"),
            // A container of docker's on Ubuntu, filter and profile both: each refuses in its own words.
            (Obstacles { is_filtered: true, apparmor: Some(1), ..docker.clone() }, libc::EPERM, "seccomp=unconfined"),
            (Obstacles { is_filtered: true, apparmor: Some(1), ..docker.clone() }, libc::EACCES, "apparmor=unconfined"),
            (docker.clone(), libc::EPERM, "apparmor=unconfined"),
            (Obstacles { apparmor: Some(1), ..ubuntu.clone() }, libc::EPERM, "lrun apparmor"),
        ];
        for (obstacles, errno, wanted) in cases {
            let told = obstacles.cause(errno).unwrap_or_default();
            assert!(told.contains(wanted), "{obstacles:?}: {told}");
        }
        let filtered = Obstacles { is_filtered: true, has_power: true, ..none.clone() };
        assert!(filtered.cause_for_root(libc::ENOSYS).unwrap().contains("seccomp=unconfined"));
        assert!(none.cause_for_root(libc::EPERM).unwrap().contains("--privileged"));
        let privileged = Obstacles { has_power: true, ..docker };
        assert!(privileged.cause_for_root(libc::EACCES).unwrap().contains("apparmor=unconfined"));
        assert_eq!(none.cause(libc::EPERM), None);
        assert_eq!(Obstacles { apparmor: Some(1), ..none }.cause(libc::EINVAL), None);
    }

    #[test]
    fn a_process_that_is_no_containers_is_told_apart() {
        let obstacles = Obstacles::probe();
        assert!(obstacles.most.is_some() && !obstacles.is_chroot, "{obstacles:?}");
    }
}
