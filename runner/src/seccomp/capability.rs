//! Capabilities as bits of a 64-bit set, as in `CapEff:` of /proc/PID/status.

/// The names of capabilities(7) without `CAP_`, in the order of their numbers (linux/capability.h, Linux 5.9).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The 14 capabilities a container keeps by default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
/// SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE and SETFCAP.
pub const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// CAP_NET_RAW, by which the default profile opens AF_PACKET.
pub const NET_RAW: u64 = 1 << 13;

/// The bit of a capability named as `CAP_SYS_ADMIN`.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let name = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == name).map(|number| 1 << number)
}

/// All names, as `CAP_SYS_ADMIN`, in the order of their numbers.
pub(crate) fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_numbers() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("CAP_SYS_ADMIN"), Some(1 << 21));
        assert_eq!(bit("CAP_NET_RAW"), Some(NET_RAW));
        assert_eq!(bit("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(bit("SYS_ADMIN"), None);
        assert_eq!(bit("CAP_NONSENSE"), None);
    }

    #[test]
    fn the_default_set_is_the_fourteen_it_names() {
        let names = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT \
                     MKNOD AUDIT_WRITE SETFCAP";
        let set = names.split(' ').map(|name| bit(&format!("CAP_{name}")).unwrap()).fold(0, |set, bit| set | bit);
        assert_eq!(set, DEFAULT_CAPABILITIES);
    }
}
