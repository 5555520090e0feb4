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

/// A JSON profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Larger than [`MAX_BYTES`].
    #[error("the seccomp profile has {0} bytes, more than the {MAX_BYTES} allowed")]
    TooLarge(usize),
    /// Not JSON, or not shaped like a profile.
    #[error("the seccomp profile is not a valid OCI seccomp object")]
    Json(#[from] serde_json::Error),
    /// An action that does not exist, or SCMP_ACT_NOTIFY, for which there is no listener.
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

/// Reads a profile for one architecture and kernel.
///
/// # Errors
/// [`OciError`] names the first part that is not understood: a profile is used as it was meant or not at all.
pub fn parse(json: &[u8], arch: Arch, kernel: KernelVersion) -> Result<OciProfile, OciError> {
    if json.len() > MAX_BYTES {
        return Err(OciError::TooLarge(json.len()));
    }
    let file: File = serde_json::from_slice(json)?;
    let default = action(&file.default_action, file.default_errno_ret, file.default_errno.as_deref())?;

    let mut rules = Vec::new();
    for entry in file.syscalls.unwrap_or_default() {
        let action = action(&entry.action, entry.errno_ret, entry.errno.as_deref())?;
        let includes = entry.includes.unwrap_or_default();
        let excludes = entry.excludes.unwrap_or_default();
        if action == default || !includes.admits(arch, kernel)? || excludes.shuts_out(arch, kernel)? {
            continue;
        }
        let Some(with) = all_bits(&includes.caps) else { continue };
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

// In the two objects that narrow a rule, a key that is not understood would silently widen it; hence `deny_unknown_fields`.

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
fn all_bits(names: &Option<Vec<String>>) -> Option<u64> {
    names.iter().flatten().try_fold(0, |set, name| Some(set | capability::bit(name)?))
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
