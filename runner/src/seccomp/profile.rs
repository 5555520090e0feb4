//! A system call policy as plain data.

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Runs it.
    Allow,
    /// Runs it and logs it.
    Log,
    /// Returns this error, 0 to 4095, without running it.
    Errno(u16),
    /// Tells a tracer, with this datum; without a tracer the call returns ENOSYS.
    Trace(u16),
    /// Asks whoever holds the listener.
    Notify,
    /// Sends SIGSYS.
    Trap,
    /// Ends the calling thread.
    KillThread,
    /// Ends the whole process.
    KillProcess,
}

impl Action {
    /// The verdict a program returns for it (`SECCOMP_RET_*`, linux/seccomp.h).
    pub fn verdict(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Trace(datum) => 0x7ff0_0000 | u32::from(datum),
            Self::Notify => 0x7fc0_0000,
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0x0000_0000,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared; all comparisons are unsigned and 64 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The argument equals the value.
    Equal,
    /// The argument differs from the value.
    NotEqual,
    /// The argument is below the value.
    Less,
    /// The argument is at most the value.
    LessOrEqual,
    /// The argument is above the value.
    Greater,
    /// The argument is at least the value.
    GreaterOrEqual,
    /// The argument's bits in this mask equal the value; a value with bits outside the mask never matches.
    MaskedEqual(u64),
}

/// One test of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// What it is compared with.
    pub value: u64,
}

/// What happens to some system calls when the container's capabilities and the call's arguments allow the rule to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names as in the kernel's table of the architecture. Names the architecture does not have are skipped.
    pub syscalls: Vec<String>,
    /// What happens.
    pub action: Action,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Capabilities, one bit each, that the container must all have kept.
    pub with: u64,
    /// Capabilities of which the container must have kept none.
    pub without: u64,
}

impl Rule {
    /// Whether the rule counts in a container that kept these capabilities.
    pub fn applies(&self, kept: u64) -> bool {
        kept & self.with == self.with && kept & self.without == 0
    }
}

/// A whole policy. For each call, the first rule that names it, applies, and whose conditions hold decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What happens to a call that no rule decides.
    pub default: Action,
    /// Overrides `default` above the highest number that the rules name: calls newer than the profile.
    pub newer: Option<Action>,
    /// In order of precedence.
    pub rules: Vec<Rule>,
}

impl Profile {
    /// The capabilities, one bit each, on which the compiled program depends at all.
    pub fn relevant_capabilities(&self) -> u64 {
        self.rules.iter().fold(0, |set, rule| set | rule.with | rule.without)
    }
}
