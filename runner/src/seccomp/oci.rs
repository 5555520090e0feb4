//! Profiles in JSON: the `linux.seccomp` object of the OCI runtime specification, and the richer files of
//! the moby and containers projects, which add `includes` and `excludes`.
//!
//! Meaning follows what libseccomp makes of such files, because they were written and tested against it:
//! - a rule whose action is the default is void;
//! - a rule without conditions beats rules with conditions for the same call, wherever it stands;
//! - conditions on different arguments must all hold, but as soon as two look at the same argument, any one suffices;
//! - calls newer than the newest one named return ENOSYS where the default would refuse them, so that the C library
//!   falls back instead of failing.
//!
//! Left aside, each with a result that is at least as strict: `architectures` and `archMap` (only the native ABI is
//! ever let through), `flags` (logging and speculation; there is one thread when the program is installed).

use serde::Deserialize;

use super::arch::Arch;
use super::capability;
use super::errno;
use super::profile::{Action, Comparison, Condition, Profile, Rule};

/// The largest file that is looked at, in bytes; profiles in the wild have about 20 KiB.
pub const MAX_BYTES: usize = 1 << 20;

/// The action that leaves a call to a listener.
const NOTIFY: &str = "SCMP_ACT_NOTIFY";

/// A JSON profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Larger than [`MAX_BYTES`].
    #[error("the seccomp profile has {0} bytes, more than the {MAX_BYTES} allowed")]
    TooLarge(usize),
    /// Not JSON, or not shaped like a profile.
    #[error("the seccomp profile is not a valid OCI seccomp object")]
    Json(#[from] serde_json::Error),
    /// An action that does not exist, or SCMP_ACT_NOTIFY where there is no listener.
    #[error("the seccomp profile uses the action {0:?}, which is not supported")]
    Action(String),
    /// An error name that Linux does not have.
    #[error("the seccomp profile uses the unknown error {0:?}")]
    ErrorName(String),
    /// An error number the kernel would not pass on.
    #[error("the seccomp profile uses the error number {0}, more than 4095")]
    ErrorNumber(u32),
    /// A comparison that does not exist.
    #[error("the seccomp profile uses the unknown comparison {0:?}")]
    Comparison(String),
    /// A `minKernel` that is not `MAJOR.MINOR`.
    #[error("the seccomp profile asks for kernel {0:?}, which is not a version like 4.8")]
    Kernel(String),
}

/// A kernel version, as far as profiles ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 in 6.18.
    pub major: u32,
    /// 18 in 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the front of a release as uname(2) gives it, such as `6.18.44-generic`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut parts = release.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?;
        let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
        Some(Self { major, minor: minor[..digits].parse().ok()? })
    }
}

/// A profile that was read from JSON.
#[derive(Debug)]
pub struct OciProfile {
    /// What it says for this architecture and kernel; capabilities are decided when it is compiled.
    pub profile: Profile,
    /// Names that this architecture has no system call for, sorted. Normal in a file for several architectures; worth
    /// a warning when the default action lets calls through, because a rule meant to stop one has no effect.
    pub unknown: Vec<String>,
}

impl OciProfile {
    /// Whether it leaves calls to a listener.
    pub fn notifies(&self) -> bool {
        self.profile.rules.iter().any(|rule| rule.action == Action::Notify)
    }
}

/// Reads a profile for one architecture and kernel, where nobody listens.
///
/// # Errors
/// [`OciError`] names the first part that is not understood: a profile is used as it was meant or not at all.
pub fn parse(json: &[u8], arch: Arch, kernel: KernelVersion) -> Result<OciProfile, OciError> {
    let parsed = parse_for_listener(json, arch, kernel)?;
    if parsed.notifies() { Err(OciError::Action(NOTIFY.to_owned())) } else { Ok(parsed) }
}

/// Reads a profile that may have calls decided by a listener.
///
/// # Errors
/// As for [`parse`]; and for a default that is left to the listener, which would never get to hear of the first call.
pub fn parse_for_listener(json: &[u8], arch: Arch, kernel: KernelVersion) -> Result<OciProfile, OciError> {
    if json.len() > MAX_BYTES {
        return Err(OciError::TooLarge(json.len()));
    }
    let file: File = serde_json::from_slice(json)?;
    let default = action(&file.default_action, file.default_errno_ret, file.default_errno.as_deref())?;
    if default == Action::Notify {
        return Err(OciError::Action(format!("{NOTIFY} by default")));
    }

    let mut rules = Vec::new();
    for entry in file.syscalls.unwrap_or_default() {
        let action = action(&entry.action, entry.errno_ret, entry.errno.as_deref())?;
        let includes = entry.includes.unwrap_or_default();
        let excludes = entry.excludes.unwrap_or_default();
        if action == default || !includes.admits(arch, kernel)? || excludes.shuts_out(arch, kernel)? {
            continue;
        }
        let Some(with) = all_bits(includes.caps.as_deref().unwrap_or_default()) else { continue };
        let without =
            excludes.caps.iter().flatten().filter_map(|name| capability::bit(name)).fold(0, |set, bit| set | bit);
        let syscalls: Vec<String> = entry.names.into_iter().flatten().chain(entry.name).collect();
        for conditions in alternatives(entry.args.unwrap_or_default())? {
            rules.push(Rule { syscalls: syscalls.clone(), action, conditions, with, without });
        }
    }
    rules.sort_by_key(|rule| !rule.conditions.is_empty());

    let numbers = arch.syscalls();
    let names = rules.iter().flat_map(|rule| &rule.syscalls);
    let mut unknown: Vec<String> = names.filter(|name| !numbers.contains_key(name.as_str())).cloned().collect();
    unknown.sort_unstable();
    unknown.dedup();

    let permissive = matches!(default, Action::Allow | Action::Log | Action::Trace(_));
    let newer = (!permissive).then_some(Action::Errno(errno::ENOSYS));
    Ok(OciProfile { profile: Profile { default, newer, rules }, unknown })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    names: Option<Vec<String>>,
    /// Older moby files have one entry per call.
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

// In the two objects that narrow a rule, a key that is not understood would silently widen it: hence
// `deny_unknown_fields`.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u8,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Filter {
    /// As `includes`: whether every part that is given holds.
    fn admits(&self, arch: Arch, kernel: KernelVersion) -> Result<bool, OciError> {
        let arch_fits = self.names_arch(arch).unwrap_or(true);
        Ok(self.kernel_reached(kernel)?.unwrap_or(true) && arch_fits)
    }

    /// As `excludes`: whether any part that is given holds.
    fn shuts_out(&self, arch: Arch, kernel: KernelVersion) -> Result<bool, OciError> {
        let arch_fits = self.names_arch(arch).unwrap_or(false);
        Ok(self.kernel_reached(kernel)?.unwrap_or(false) || arch_fits)
    }

    fn names_arch(&self, arch: Arch) -> Option<bool> {
        let arches = self.arches.as_ref().filter(|arches| !arches.is_empty())?;
        Some(arches.iter().any(|name| name == arch.go_name()))
    }

    fn kernel_reached(&self, kernel: KernelVersion) -> Result<Option<bool>, OciError> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let least = KernelVersion::parse(text).ok_or_else(|| OciError::Kernel(text.to_owned()))?;
        Ok(Some(kernel >= least))
    }
}

/// The bits of all these capabilities, or `None` if one is unknown and can therefore not have been kept.
fn all_bits(names: &[String]) -> Option<u64> {
    names.iter().try_fold(0, |set, name| Some(set | capability::bit(name)?))
}

fn action(name: &str, number: Option<u32>, error: Option<&str>) -> Result<Action, OciError> {
    let datum = || match error.filter(|name| !name.is_empty()) {
        Some(name) => errno::number(name).ok_or_else(|| OciError::ErrorName(name.to_owned())),
        None => match number {
            None => Ok(errno::EPERM),
            Some(number) => {
                u16::try_from(number).ok().filter(|number| *number <= errno::MAX).ok_or(OciError::ErrorNumber(number))
            }
        },
    };
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(datum()?)),
        "SCMP_ACT_TRACE" => Ok(Action::Trace(datum()?)),
        NOTIFY => Ok(Action::Notify),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        other => Err(OciError::Action(other.to_owned())),
    }
}

/// The lists of conditions of which one must hold entirely.
fn alternatives(arguments: Vec<Argument>) -> Result<Vec<Vec<Condition>>, OciError> {
    let conditions = arguments.into_iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated = conditions
        .iter()
        .enumerate()
        .any(|(index, condition)| conditions[..index].iter().any(|earlier| earlier.argument == condition.argument));
    if repeated { Ok(conditions.into_iter().map(|condition| vec![condition]).collect()) } else { Ok(vec![conditions]) }
}

fn condition(argument: Argument) -> Result<Condition, OciError> {
    let Argument { index, value, value_two, op } = argument;
    let (comparison, value) = match op.as_str() {
        "SCMP_CMP_EQ" => (Comparison::Equal, value),
        "SCMP_CMP_NE" => (Comparison::NotEqual, value),
        "SCMP_CMP_LT" => (Comparison::Less, value),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, value),
        "SCMP_CMP_GT" => (Comparison::Greater, value),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, value),
        "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual(value), value_two),
        _ => return Err(OciError::Comparison(op)),
    };
    Ok(Condition { argument: index, comparison, value })
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Call, run, verify};
    use super::super::{NATIVE, compile};
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const ENOSYS: u32 = 0x0005_0026;
    const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

    fn errno(number: u32) -> u32 {
        0x0005_0000 | number
    }

    /// Compiles the JSON and asks about one call.
    fn verdict(json: &str, kept: u64, name: &str, arguments: &[u64]) -> u32 {
        let program = compile(&parse(json.as_bytes(), NATIVE, KERNEL).unwrap().profile, NATIVE, kept).unwrap();
        verify(&program);
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&program, &Call { number: NATIVE.syscalls()[name], arch: NATIVE.audit_token(), arguments: all }).0
    }

    fn profile(entries: &str) -> String {
        format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{entries}]}}"#)
    }

    #[test]
    fn the_runtime_specification_s_object_is_understood() {
        let json = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
                {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 4294967295, "op": "SCMP_CMP_EQ"}]}
            ]}"#;
        assert_eq!(verdict(json, 0, "read", &[]), ALLOW);
        assert_eq!(verdict(json, 0, "mount", &[]), errno(22));
        assert_eq!(verdict(json, 0, "reboot", &[]), 0x8000_0000);
        assert_eq!(verdict(json, 0, "personality", &[0xffff_ffff]), ALLOW);
        assert_eq!(verdict(json, 0, "personality", &[0x1_ffff_ffff]), errno(13));
        assert_eq!(verdict(json, 0, "getpid", &[]), errno(13));
    }

    #[test]
    fn a_default_without_number_is_eperm_and_newer_calls_are_enosys() {
        let json = profile(r#"{"names": ["openat2"], "action": "SCMP_ACT_ALLOW"}"#);
        assert_eq!(verdict(&json, 0, "close_range", &[]), errno(1));
        assert_eq!(verdict(&json, 0, "openat2", &[]), ALLOW);
        assert_eq!(verdict(&json, 0, "mseal", &[]), ENOSYS);
        let open =
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP"}]}"#;
        assert_eq!(verdict(open, 0, "mseal", &[]), ALLOW);
        assert_eq!(verdict(open, 0, "read", &[]), 0x0003_0000);
    }

    #[test]
    fn every_comparison_is_the_specification_s() {
        for (op, holds) in [
            ("EQ", [false, true, false]),
            ("NE", [true, false, true]),
            ("LT", [true, false, false]),
            ("LE", [true, true, false]),
            ("GT", [false, false, true]),
            ("GE", [false, true, true]),
        ] {
            let json = profile(&format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                     "args": [{{"index": 2, "value": 8589934592, "op": "SCMP_CMP_{op}"}}]}}"#
            ));
            let found = [0x1_ffff_ffff, 0x2_0000_0000, 0x2_0000_0001]
                .map(|value| verdict(&json, 0, "read", &[0, 0, value]) == ALLOW);
            assert_eq!(found, holds, "{op}");
        }
        let masked = profile(
            r#"{"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}"#,
        );
        assert_eq!(verdict(&masked, 0, "clone", &[0x003d_0f00]), ALLOW);
        assert_eq!(verdict(&masked, 0, "clone", &[0x1000_0011]), errno(1));
    }

    #[test]
    fn conditions_on_different_arguments_all_hold_and_on_the_same_any() {
        let both = profile(
            r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                         {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]}"#,
        );
        assert_eq!(verdict(&both, 0, "socket", &[16, 3, 9]), ALLOW);
        assert_eq!(verdict(&both, 0, "socket", &[16, 3, 0]), errno(1));
        let any = both.replace(r#""index": 2"#, r#""index": 0"#);
        assert_eq!(verdict(&any, 0, "socket", &[16]), ALLOW);
        assert_eq!(verdict(&any, 0, "socket", &[9]), ALLOW);
        assert_eq!(verdict(&any, 0, "socket", &[2]), errno(1));
    }

    #[test]
    fn a_rule_without_conditions_wins_and_one_equal_to_the_default_is_void() {
        let conditional =
            r#"{"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ"}]}"#;
        let allow = r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#;
        let like_default = r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}"#;
        assert_eq!(verdict(&profile(&format!("{conditional}, {allow}")), 0, "read", &[0]), ALLOW);
        assert_eq!(verdict(&profile(&format!("{like_default}, {conditional}")), 0, "read", &[0]), 0x0003_0000);
    }

    #[test]
    fn includes_and_excludes_choose_rules_by_capability_architecture_and_kernel() {
        let rule = |filter: &str| {
            profile(&format!(r#"{{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "args": null, {filter}}}"#))
        };
        let allowed = |filter: &str, kept| verdict(&rule(filter), kept, "bpf", &[]) == ALLOW;
        let (admin, bpf) = (1 << 21, 1 << 39);

        let needs_both = r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}, "excludes": {}"#;
        assert_eq!([0, admin, admin | bpf].map(|kept| allowed(needs_both, kept)), [false, false, true]);
        let without_either = r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#;
        assert_eq!([0, admin, bpf, 1].map(|kept| allowed(without_either, kept)), [true, false, false, true]);
        assert!(!allowed(r#""includes": {"caps": ["CAP_FROM_THE_FUTURE"]}"#, u64::MAX));
        assert!(allowed(r#""excludes": {"caps": ["CAP_FROM_THE_FUTURE"]}"#, u64::MAX));

        let here = NATIVE.go_name();
        assert!(allowed(&format!(r#""includes": {{"arches": ["s390x", "{here}"]}}"#), 0));
        assert!(!allowed(&format!(r#""excludes": {{"arches": ["s390x", "{here}"]}}"#), 0));
        assert!(!allowed(r#""includes": {"arches": ["s390x"]}"#, 0));

        assert!(allowed(r#""includes": {"minKernel": "4.8"}"#, 0));
        assert!(allowed(r#""includes": {"minKernel": "6.1"}"#, 0));
        assert!(!allowed(r#""includes": {"minKernel": "6.10"}"#, 0));
        assert!(!allowed(r#""excludes": {"minKernel": "4.8"}"#, 0));
    }

    #[test]
    fn names_of_other_architectures_are_reported_and_have_no_effect() {
        let json = profile(
            r#"{"names": ["socketcall", "read", "_llseek", "socketcall"], "action": "SCMP_ACT_ALLOW"},
               {"name": "write", "action": "SCMP_ACT_ALLOW"}"#,
        );
        assert_eq!(parse(json.as_bytes(), NATIVE, KERNEL).unwrap().unknown, ["_llseek", "socketcall"]);
        assert_eq!(verdict(&json, 0, "write", &[]), ALLOW);
    }

    #[test]
    fn error_names_are_understood_and_win_over_numbers() {
        let json = profile(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EINVAL"}"#);
        assert_eq!(verdict(&json, 0, "read", &[]), errno(22));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |json: &str| parse(json.as_bytes(), NATIVE, KERNEL).unwrap_err();
        let entry = |rest: &str| profile(&format!(r#"{{"names": ["read"], {rest}}}"#));
        assert!(matches!(refused("[]"), OciError::Json(_)));
        assert!(matches!(refused("{}"), OciError::Json(_)));
        assert!(matches!(refused(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), OciError::Json(_)));
        assert!(matches!(refused(&" ".repeat(MAX_BYTES + 1)), OciError::TooLarge(_)));
        assert!(matches!(refused(&entry(r#""action": "SCMP_ACT_NOTIFY""#)), OciError::Action(_)));
        assert!(matches!(refused(&entry(r#""action": "allow""#)), OciError::Action(_)));
        assert!(matches!(
            refused(&entry(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#)),
            OciError::ErrorNumber(4096)
        ));
        assert!(matches!(refused(&entry(r#""action": "SCMP_ACT_ERRNO", "errno": "EWHAT""#)), OciError::ErrorName(_)));
        let argument = |rest: &str| entry(&format!(r#""action": "SCMP_ACT_ALLOW", "args": [{{"index": 0, {rest}}}]"#));
        assert!(matches!(refused(&argument(r#""op": "SCMP_CMP_ALMOST""#)), OciError::Comparison(_)));
        assert!(matches!(refused(&argument(r#""op": "SCMP_CMP_EQ", "value": -1"#)), OciError::Json(_)));
        assert!(matches!(refused(&argument(r#""op": "SCMP_CMP_EQ", "mask": 1"#)), OciError::Json(_)));
        let filter = |filter: &str| entry(&format!(r#""action": "SCMP_ACT_ALLOW", "includes": {filter}"#));
        assert!(matches!(refused(&filter(r#"{"minKernel": "new"}"#)), OciError::Kernel(_)));
        assert!(matches!(refused(&filter(r#"{"hosts": ["mine"]}"#)), OciError::Json(_)));
    }

    #[test]
    fn kernel_versions_compare_by_number() {
        let version = |release| KernelVersion::parse(release).map(|version| (version.major, version.minor));
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.4-rc1"), Some((5, 4)));
        assert_eq!(version("4.8"), Some((4, 8)));
        assert_eq!([version(""), version("6"), version("6.x"), version("-1.2")], [None; 4]);
        assert!(KernelVersion { major: 6, minor: 2 } < KernelVersion { major: 6, minor: 10 });
    }
}
