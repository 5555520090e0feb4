//! In what a container of `lrun` is known to differ from podman's, and why. README.md tells users of those that they meet.

use super::portrait::like;

/// One difference, or several that have one reason.
pub struct Accepted {
    /// What differs; `*` stands for any text, here and below.
    names: &'static [&'static str],
    /// A flag with which it does; empty for all.
    with: &'static str,
    how: How,
    /// Why that is well.
    reason: &'static str,
}

enum How {
    /// lrun's value and podman's; `-` is nothing.
    Values(&'static str, &'static str),
    /// Words between commas that lrun's list has besides podman's, and those that it lacks.
    Words(&'static [&'static str], &'static [&'static str]),
    /// Bits that lrun's number has besides podman's.
    Bits(u64),
}

use How::{Bits, Values, Words};

/// CAP_NET_RAW, CAP_MKNOD and CAP_AUDIT_WRITE.
const MORE_CAPABILITIES: u64 = 1 << 13 | 1 << 27 | 1 << 29;

pub const ACCEPTED: [Accepted; 25] = [
    Accepted {
        names: &["status CapBnd", "status CapEff", "status CapPrm"],
        with: "",
        how: Bits(MORE_CAPABILITIES),
        reason: "fourteen capabilities, as the OCI runtimes and docker have them; Debian configures podman to eleven",
    },
    Accepted { names: &["env container"], with: "", how: Values("lrun", "podman"), reason: "its own name" },
    Accepted {
        names: &["env TERM"],
        with: "",
        how: Values("-", "xterm"),
        reason: "nothing is said of a terminal where there is none",
    },
    Accepted {
        names: &["limits Max processes", "limits Max open files"],
        with: "",
        how: Values("*", "*"),
        reason: "limits are the caller's own; podman raises them to what it may",
    },
    Accepted {
        names: &["status SigIgn"],
        with: "",
        how: Values("0000000000000000", "*"),
        reason: "a container begins with no signal ignored; podman passes on what its caller ignores",
    },
    // The root.
    Accepted {
        names: &["mount / options"],
        with: "",
        how: Words(&["nodev"], &[]),
        reason: "said aloud; in a user namespace the kernel opens no device on such a file system anyhow",
    },
    Accepted {
        names: &["mount / of the file system"],
        with: "",
        how: Words(&["datadir+", "lowerdir+"], &["lowerdir"]),
        reason: "layers are given one by one, and contents apart from metadata",
    },
    Accepted {
        names: &["mount / propagation"],
        with: "VOLUME:/shared:rshared",
        how: Values("private", "shared"),
        reason: "only the volume is shared; podman makes the root so too",
    },
    Accepted {
        names: &["value /"],
        with: "--cap-drop ALL",
        how: Values("is writable", "is not writable"),
        reason: "the root has the image's mode, 755; podman makes it 555",
    },
    // Volumes.
    Accepted {
        names: &[
            "mount /b options",
            "mount /plain options",
            "mount /ro options",
            "mount /private options",
            "mount /slave options",
            "mount /shared options",
        ],
        with: "VOLUME",
        how: Words(&["nosuid"], &[]),
        reason: "set-id programs on a volume are without effect until the option suid is given",
    },
    // Files of ours.
    Accepted {
        names: &[
            "mount /etc/hostname *",
            "mount /etc/hosts *",
            "mount /etc/resolv.conf *",
            "mount /run/.containerenv *",
            "mount /run/podman-init *",
        ],
        with: "",
        how: Values("-", "*"),
        reason: "files of the runner's are in the container's own layer and need no mount, its init no file",
    },
    // /dev.
    Accepted {
        names: &["mount /dev options"],
        with: "",
        how: Words(&["relatime"], &[]),
        reason: "podman keeps the time of each access, which nobody reads",
    },
    Accepted {
        names: &["dev /dev/core"],
        with: "",
        how: Values("-", "*'/proc/kcore'"),
        reason: "what it leads to is masked",
    },
    Accepted {
        names: &["mount /dev/shm of the file system"],
        with: "",
        how: Values("*size=65536k*", "*size=64000k*"),
        reason: "64m is 64 MiB",
    },
    Accepted {
        names: &["mount /dev/*"],
        with: "--privileged",
        how: Values("*", "* + *"),
        reason: "podman mounts each device a second time",
    },
    // Masks.
    Accepted {
        names: &["mount /proc/* options", "mount /sys/* options"],
        with: "",
        how: Words(&["nodev", "noexec", "nosuid"], &[]),
        reason: "all that is mounted there is so, masks and read-only folders included",
    },
    Accepted {
        names: &["mount /proc/* of the file system", "mount /sys/* of the file system"],
        with: "",
        how: Words(&["mode=555"], &[]),
        reason: "nobody may write into the folder of a mask",
    },
    Accepted {
        names: &[
            "mount /proc/kcore options",
            "mount /proc/keys options",
            "mount /proc/timer_list options",
            "mount /proc/sched_debug options",
            "mount /proc/latency_stats options",
            "mount /proc/timer_stats options",
        ],
        with: "",
        how: Words(&["rw"], &["ro"]),
        reason: "the null device hides a file, and takes what is written",
    },
    Accepted {
        names: &[
            "mount /proc/interrupts *",
            "mount /sys/devices/virtual/powercap *",
            "mount /sys/kernel/debug *",
            "mount /sys/kernel/tracing *",
        ],
        with: "",
        how: Values("*", "-"),
        reason: "more is masked, as newer versions of podman do",
    },
    // The host's.
    Accepted {
        names: &["mount /sys/kernel *"],
        with: "--network host",
        how: Values("-", "*"),
        reason: "podman hides all of /sys/kernel with the host's network, lrun what tells of the host as ever",
    },
    Accepted {
        names: &["mount /sys/kernel/tracing *"],
        with: "--network host",
        how: Values("* + *", "*"),
        reason: "masked; podman hides the folder above",
    },
    Accepted {
        names: &["mount /sys/fs/cgroup *"],
        with: "--network host",
        how: Values("* + *", "*"),
        reason: "over the host's control groups, which came along with /sys, lie the container's, read-only",
    },
    Accepted {
        names: &["mount /sys/fs/cgroup options"],
        with: "unmask=ALL",
        how: Words(&["ro"], &["rw"]),
        reason: "control groups are no mask",
    },
    // The user's own id inside.
    Accepted {
        names: &["uid_map *", "gid_map *", "mount * of the file system"],
        with: "--userns keep-id",
        how: Values("*", "*"),
        reason: "one user namespace; podman puts a second one into its own, and counts ids and owners from there",
    },
    Accepted {
        names: &["dev /dev/mqueue"],
        with: "--userns keep-id",
        how: Values("drwxrwxrwt *", "drwxrwxrwt 0:0 *"),
        reason: "the folder belongs to who made the namespace, the caller",
    },
];

/// The reason of a difference, if it is known.
pub fn reason(flags: &str, name: &str, own: &str, theirs: &str) -> Option<&'static str> {
    let is_known = |accepted: &&Accepted| {
        flags.contains(accepted.with)
            && accepted.names.iter().any(|pattern| like(pattern, name))
            && accepted.how.holds(own, theirs)
    };
    ACCEPTED.iter().find(is_known).map(|accepted| accepted.reason)
}

impl How {
    fn holds(&self, own: &str, theirs: &str) -> bool {
        match self {
            Values(one, other) => like(one, own) && like(other, theirs),
            Words(more, less) => {
                let lacks = |list: &str, word: &str| list.split(',').all(|other| other != word);
                own != "-"
                    && theirs != "-"
                    && own.split(',').filter(|word| lacks(theirs, word)).all(|word| more.contains(&word))
                    && theirs.split(',').filter(|word| lacks(own, word)).all(|word| less.contains(&word))
            }
            Bits(bits) => {
                let number = |text: &str| u64::from_str_radix(text, 16).ok();
                number(own).zip(number(theirs)).is_some_and(|(own, theirs)| own & !bits == theirs)
            }
        }
    }
}

#[test]
fn only_what_is_told_is_accepted() {
    assert!(reason("", "mount / options", "nodev,relatime,rw", "relatime,rw").is_some());
    assert!(reason("", "mount / options", "relatime,rw", "relatime,ro").is_none(), "another word");
    assert!(reason("", "mount / options", "relatime,rw", "nodev,relatime,rw").is_none(), "the other way round");
    assert!(reason("", "status CapEff", "00000000a80425fb", "00000000800405fb").is_some());
    assert!(reason("", "status CapEff", "00000000a82425fb", "00000000800405fb").is_none(), "another bit");
    assert!(reason("", "mount / propagation", "private", "shared").is_none(), "without the flag");
    assert!(reason("", "dev /dev/sda", "brw------- 0:0 8:0", "-").is_none());
}
