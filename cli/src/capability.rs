//! `--cap-add` and `--cap-drop` -> a set of capabilities.

/// What a container gets unless told otherwise, as a mask with bit n for capability n (capabilities(7)): the 14 of
/// docker's default.
pub const DEFAULT: u64 = 0xa804_25fb;

/// Every capability that Linux 6.18 has. What an older kernel lacks must be taken out before use: see the capability
/// bounding set (`PR_CAPBSET_READ`).
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The names without `CAP_`, by number (include/uapi/linux/capability.h).
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

/// Why a set of capabilities cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No capability has this name.
    #[error("unknown capability {0:?}; the names are in capabilities(7), with or without CAP_, or ALL")]
    Unknown(String),
    /// The same one is added and dropped.
    #[error("capability {0} is both added and dropped; give one of --cap-add and --cap-drop")]
    Contradiction(String),
}

/// The default set with the capabilities `add` added and those of `drop` taken away.
///
/// `ALL` in `add` starts from every capability, in `drop` from none: `--cap-drop ALL --cap-add CHOWN` leaves one. Names
/// may have the prefix `CAP_` and be in any case. Errors: an unknown name, or one on both sides.
pub fn resolve<A: AsRef<str>, D: AsRef<str>>(add: &[A], drop: &[D]) -> Result<u64, CapabilityError> {
    let (add_all, added) = mask(add)?;
    let (drop_all, dropped) = mask(drop)?;
    if add_all && drop_all {
        return Err(CapabilityError::Contradiction("ALL".into()));
    }
    let both = added & dropped;
    if both != 0 {
        let name = NAMES.get(both.trailing_zeros() as usize).copied().unwrap_or_default();
        return Err(CapabilityError::Contradiction(name.into()));
    }
    let start = match (add_all, drop_all) {
        (true, _) => ALL,
        (_, true) => 0,
        _ => DEFAULT,
    };
    Ok((start | added) & !dropped)
}

/// The capabilities that were named, `ALL` for all. Errors: an unknown name.
pub fn named<T: AsRef<str>>(names: &[T]) -> Result<u64, CapabilityError> {
    mask(names).map(|(all, mask)| if all { ALL } else { mask })
}

/// Whether `ALL` is among `names`, and the capabilities named one by one.
fn mask<T: AsRef<str>>(names: &[T]) -> Result<(bool, u64), CapabilityError> {
    let mut all = false;
    let mut mask = 0;
    for given in names {
        let given = given.as_ref();
        let upper = given.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" {
            all = true;
            continue;
        }
        let number =
            NAMES.iter().position(|known| *known == name).ok_or_else(|| CapabilityError::Unknown(given.into()))?;
        mask |= 1 << number;
    }
    Ok((all, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<u64, String> {
        resolve(add, drop).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_the_fourteen_of_docker() {
        let fourteen = [
            "chown",
            "dac_override",
            "fowner",
            "fsetid",
            "kill",
            "setgid",
            "setuid",
            "setpcap",
            "net_bind_service",
            "net_raw",
            "sys_chroot",
            "mknod",
            "audit_write",
            "setfcap",
        ];
        assert_eq!(set(&[], &[]), Ok(0x0000_0000_a804_25fb));
        assert_eq!(set(&fourteen, &["ALL"]), Ok(DEFAULT));
    }

    #[test]
    fn names_may_have_a_prefix_and_any_case() {
        for name in ["SYS_ADMIN", "CAP_SYS_ADMIN", "cap_sys_admin", "Sys_Admin"] {
            assert_eq!(set(&[name], &[]), Ok(DEFAULT | 1 << 21));
        }
        assert_eq!(set(&["CHECKPOINT_RESTORE"], &["all"]), Ok(1 << 40));
    }

    #[test]
    fn all_is_a_starting_point() {
        assert_eq!(set(&["ALL"], &[]), Ok(0x1ff_ffff_ffff));
        assert_eq!(set(&["all"], &["chown"]), Ok(ALL & !1));
        assert_eq!(set(&["chown"], &["CAP_ALL"]), Ok(1));
        assert_eq!(set(&[], &["ALL", "kill"]), Ok(0));
    }

    #[test]
    fn dropping_what_is_not_there_is_no_mistake() {
        assert_eq!(set(&[], &["SYS_ADMIN"]), Ok(DEFAULT));
        assert_eq!(set(&[], &["CHOWN"]), Ok(DEFAULT & !1));
    }

    #[test]
    fn unknown_names_and_contradictions_are_refused() {
        assert!(set(&["foo"], &[]).unwrap_err().starts_with("unknown capability \"foo\""));
        assert!(set(&["ALL"], &["ALL"]).unwrap_err().starts_with("capability ALL is both"));
        assert!(set(&["CHOWN"], &["cap_chown"]).unwrap_err().starts_with("capability CHOWN is both"));
        assert!(set(&[""], &[]).is_err());
    }
}
