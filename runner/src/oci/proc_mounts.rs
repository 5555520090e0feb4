//! What a bundle may mount at `/proc` and below: the kernel's own, and in it a few files that tell of the machine. Programs
//! believe what they find there, and anything else in its place would have them believe a volume (CVE-2019-16884).

use std::path::{Component, Path, PathBuf};

/// Where procfs belongs.
pub(super) const PROC: &str = "/proc";
/// Files that tell of the machine, and that engines put others over to tell of the container. As runc has them.
const SHOWN: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Whether a mount goes to `/proc` itself; then it may do so if its source is a procfs. `kind` is its type, `None` for a bind.
///
/// # Errors
/// Why it may not.
pub(super) fn is_proc(target: &Path, kind: Option<&str>) -> Result<bool, String> {
    let place = plain(target);
    if place == Path::new(PROC) {
        return match kind {
            None | Some("proc") => Ok(true),
            Some(other) => Err(format!("at /proc there can be a mount of type proc or a bind of one, and not {other}")),
        };
    }
    // By way of a link in /proc the parent of a place is another than its name says.
    let turns = target.components().any(|component| component == Component::ParentDir);
    if target.starts_with(PROC) && turns
        || place.starts_with(PROC) && !SHOWN.iter().any(|shown| place == Path::new(shown))
    {
        return Err(format!("nothing can be mounted below /proc but over {}", SHOWN.join(", ")));
    }
    Ok(false)
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &str, kind: Option<&str>) -> Result<bool, String> {
        is_proc(Path::new(target), kind)
    }

    #[test]
    fn only_procfs_goes_to_proc() {
        for target in ["/proc", "/proc/", "/proc/.", "/dev/../proc", "/proc/x/.."] {
            assert_eq!(of(target, Some("proc")), Ok(true), "{target}");
            assert_eq!(of(target, None), Ok(true), "{target}");
            assert!(of(target, Some("tmpfs")).is_err(), "{target}");
        }
    }

    #[test]
    fn below_it_a_few_files_can_be_covered() {
        assert_eq!(
            (of("/proc/meminfo", None), of("/procedure", None), of("/a/proc", None)),
            (Ok(false), Ok(false), Ok(false))
        );
        for target in [
            "/proc/self/attr",
            "/proc/1/attr/exec",
            "/proc/sys",
            "/x/../proc/sys",
            "/proc/meminfo/x",
            "/proc/x/../meminfo",
        ] {
            assert!(of(target, None).is_err(), "{target}");
        }
        // A link such as /proc/thread-self has another parent than its name.
        assert!(of("/proc/thread-self/../../stat", None).is_err());
    }
}
