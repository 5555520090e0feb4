//! The compiler and the default profile, held against a plain reading of the profile.

use std::collections::HashMap;

use proptest::prelude::*;

use super::interpreter::{Call, run, verify};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const EAFNOSUPPORT: u32 = 0x0005_0061;
const KILL_PROCESS: u32 = 0x8000_0000;

const SYS_ADMIN: u64 = 1 << 21;

/// The rules that name each number, in the profile's order.
fn rules_by_number(profile: &Profile, arch: Arch) -> HashMap<u32, Vec<&Rule>> {
    let numbers = arch.syscalls();
    let mut rules: HashMap<u32, Vec<&Rule>> = HashMap::new();
    for rule in &profile.rules {
        for number in rule.syscalls.iter().filter_map(|name| numbers.get(name.as_str())) {
            rules.entry(*number).or_default().push(rule);
        }
    }
    rules
}

/// The verdict by the definition of [`Profile`], without ranges, trees or halves.
fn expected(profile: &Profile, rules: &HashMap<u32, Vec<&Rule>>, arch: Arch, kept: u64, call: &Call) -> u32 {
    if arch == Arch::X86_64 && call.number >= 0x4000_0000 {
        return ENOSYS;
    }
    for rule in rules.get(&call.number).into_iter().flatten() {
        let capable = (0..64).all(|bit| {
            let held = kept >> bit & 1 == 1;
            (held || rule.with >> bit & 1 == 0) && (!held || rule.without >> bit & 1 == 0)
        });
        if capable && rule.conditions.iter().all(|condition| holds(condition, call)) {
            return rule.action.verdict();
        }
    }
    match profile.newer {
        Some(newer) if rules.keys().max().is_some_and(|highest| call.number > *highest) => newer.verdict(),
        _ => profile.default.verdict(),
    }
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let (argument, value) = (call.arguments[usize::from(condition.argument)], condition.value);
    match condition.comparison {
        Comparison::Equal => argument == value,
        Comparison::NotEqual => argument != value,
        Comparison::Less => argument < value,
        Comparison::LessOrEqual => argument <= value,
        Comparison::Greater => argument > value,
        Comparison::GreaterOrEqual => argument >= value,
        Comparison::MaskedEqual(mask) => argument & mask == value,
    }
}

/// Values around every number a profile may compare with, in either half.
fn interesting(values: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut all = vec![0, 1, u64::MAX, u64::from(u32::MAX), 1 << 32];
    for value in values {
        all.extend([value, value.wrapping_sub(1), value.wrapping_add(1), !value]);
        all.extend([value ^ 1 << 32, value ^ 1 << 63, value << 32, value | 0xffff_ffff_0000_0000]);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Compares program and definition for every number near the tables and every argument value near the rules.
fn assert_equivalent(profile: &Profile, arch: Arch, kept: u64) {
    let program = compile(profile, arch, kept).unwrap();
    verify(&program);
    let rules = rules_by_number(profile, arch);
    let numbers = (0..=600).chain([0x3fff_ffff, u32::MAX - 1, u32::MAX]).chain(0x4000_0000..=0x4000_0000 + 600);
    for number in numbers {
        let conditions = || rules.get(&number).into_iter().flatten().flat_map(|rule| &rule.conditions);
        let masks = conditions().filter_map(|condition| match condition.comparison {
            Comparison::MaskedEqual(mask) => Some(mask),
            _ => None,
        });
        let calls = |value: u64| {
            let at = move |position: usize| std::array::from_fn(|index| if index == position { value } else { 0 });
            (0..6).map(at).chain([[value; 6]])
        };
        // A call whose arguments nobody reads needs only one try.
        let values = if conditions().next().is_none() {
            vec![0xdead_beef_dead_beef]
        } else {
            interesting(conditions().map(|condition| condition.value).chain(masks))
        };
        for arguments in values.into_iter().flat_map(calls) {
            let call = Call { number, arch: arch.audit_token(), arguments };
            let (verdict, _) = run(&program, &call);
            assert_eq!(verdict, expected(profile, &rules, arch, kept, &call), "{arch:?}, kept {kept:#x}, {call:x?}");
        }
    }
}

/// Asks the default program about one call by name.
fn verdict(kept: u64, arch: Arch, name: &str, arguments: &[u64]) -> u32 {
    let program = compile(&default_profile().unwrap(), arch, kept).unwrap();
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(&program, &Call { number: arch.syscalls()[name], arch: arch.audit_token(), arguments: all }).0
}

#[test]
fn the_default_program_says_what_the_profile_says() {
    let profile = default_profile().unwrap();
    for arch in Arch::ALL {
        for kept in [DEFAULT_CAPABILITIES, 0, u64::MAX, SYS_ADMIN] {
            assert_equivalent(&profile, arch, kept);
        }
    }
}

#[test]
fn each_capability_alone_opens_what_the_profile_says() {
    let profile = default_profile().unwrap();
    for bit in (0..64).filter(|bit| profile.relevant_capabilities() >> bit & 1 == 1) {
        assert_equivalent(&profile, NATIVE, 1 << bit);
    }
}

#[test]
fn the_precompiled_program_is_the_compiled_one() {
    let compiled = compile(&default_profile().unwrap(), NATIVE, DEFAULT_CAPABILITIES).unwrap();
    assert_eq!(built::DEFAULT_PROGRAM.as_slice(), compiled);
    let compiled = compile(&default_profile().unwrap(), NATIVE, DEFAULT_CAPABILITIES & !NET_RAW).unwrap();
    assert_eq!(built::APART_PROGRAM.as_slice(), compiled);
}

#[test]
fn capabilities_no_rule_asks_for_use_the_precompiled_program() {
    let net_admin = 1 << 12;
    assert!(matches!(default_program(DEFAULT_CAPABILITIES | net_admin), Ok(Cow::Borrowed(_))));
    assert!(matches!(default_program(DEFAULT_CAPABILITIES & !NET_RAW), Ok(Cow::Borrowed(_))));
    assert!(matches!(default_program(DEFAULT_CAPABILITIES | SYS_ADMIN), Ok(Cow::Owned(_))));
    assert_eq!(
        default_program(DEFAULT_CAPABILITIES | net_admin).unwrap(),
        compile(&default_profile().unwrap(), NATIVE, DEFAULT_CAPABILITIES | net_admin).unwrap()
    );
}

#[test]
fn the_profile_classifies_every_call_of_the_tables_and_no_other() {
    let profile = default_profile().unwrap();
    let named: std::collections::HashSet<&str> =
        profile.rules.iter().flat_map(|rule| &rule.syscalls).map(String::as_str).collect();
    let known: std::collections::HashSet<&str> =
        Arch::ALL.iter().flat_map(|arch| arch.syscalls().into_keys()).collect();
    assert_eq!(named, known);
}

#[test]
fn every_call_ends_in_a_rule_that_needs_no_capability_and_no_argument() {
    let profile = default_profile().unwrap();
    let mut settled = HashMap::new();
    for rule in &profile.rules {
        for name in &rule.syscalls {
            let earlier = settled.insert(name, rule.conditions.is_empty() && rule.with == 0);
            assert_ne!(earlier, Some(true), "{name} is named again where no call arrives");
        }
    }
    assert!(settled.values().all(|settled| *settled), "{settled:?}");
}

#[test]
fn programs_are_small_and_shallow() {
    for arch in Arch::ALL {
        for kept in [DEFAULT_CAPABILITIES, 0, u64::MAX] {
            let program = compile(&default_profile().unwrap(), arch, kept).unwrap();
            assert!(program.len() <= 140, "{arch:?}: {} instructions", program.len());
            for number in 0..600 {
                let (_, steps) = run(&program, &Call { number, arch: arch.audit_token(), arguments: [u64::MAX; 6] });
                // Two loads, the ABI check, at most 8 comparisons of the number, 8 steps for arguments, the verdict.
                assert!(steps <= 20, "{arch:?}: {steps} steps for {number}");
            }
        }
    }
}

#[test]
fn another_abi_kills_and_x32_does_not_exist() {
    const I386: u32 = 0x4000_0003;
    const ARM: u32 = 0x4000_0028;
    for (arch, others) in [(Arch::X86_64, [I386, 0xc000_00b7]), (Arch::Aarch64, [ARM, 0xc000_003e])] {
        let program = compile(&default_profile().unwrap(), arch, u64::MAX).unwrap();
        for other in others {
            for number in 0..600 {
                assert_eq!(run(&program, &Call { number, arch: other, arguments: [0; 6] }).0, KILL_PROCESS);
            }
        }
    }
    // Even where the profile allows everything.
    let open = Profile { default: Action::Allow, newer: None, rules: Vec::new() };
    let program = compile(&open, Arch::X86_64, u64::MAX).unwrap();
    let verdict = |number| run(&program, &Call { number, arch: 0xc000_003e, arguments: [0; 6] }).0;
    assert_eq!((verdict(0), verdict(0x3fff_ffff)), (ALLOW, ALLOW));
    assert_eq!((verdict(0x4000_0000), verdict(0x4000_0208), verdict(u32::MAX)), (ENOSYS, ENOSYS, ENOSYS));
}

#[test]
fn dangerous_calls_are_refused_by_default() {
    for arch in Arch::ALL {
        for name in [
            "mount",
            "umount2",
            "pivot_root",
            "open_tree",
            "move_mount",
            "fsopen",
            "mount_setattr",
            "setns",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "swapon",
            "swapoff",
            "quotactl",
            "quotactl_fd",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "open_by_handle_at",
            "reboot",
            "settimeofday",
            "clock_settime",
            "clock_adjtime",
            "adjtimex",
            "acct",
            "syslog",
            "mbind",
            "vhangup",
        ] {
            assert_eq!(verdict(DEFAULT_CAPABILITIES, arch, name, &[]), EPERM, "{arch:?} {name}");
        }
    }
}

#[test]
fn capabilities_open_what_users_expect_of_them() {
    for (capability, names) in [
        (
            "CAP_SYS_ADMIN",
            "mount umount2 pivot_root unshare setns clone3 fsopen bpf perf_event_open syslog sethostname",
        ),
        ("CAP_SYS_MODULE", "init_module finit_module delete_module"),
        ("CAP_SYS_TIME", "settimeofday clock_settime clock_adjtime adjtimex"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_SYS_NICE", "mbind set_mempolicy"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_PTRACE", "kcmp pidfd_getfd"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ] {
        let bit = capability::bit(capability).unwrap();
        for name in names.split(' ') {
            assert_eq!(verdict(bit, NATIVE, name, &[u64::MAX]), ALLOW, "{capability} {name}");
            assert_ne!(verdict(0, NATIVE, name, &[u64::MAX]), ALLOW, "{name} with no capability");
        }
    }
    for name in ["keyctl", "io_uring_setup", "userfaultfd", "kexec_load", "swapon"] {
        assert_eq!(verdict(u64::MAX, NATIVE, name, &[]), EPERM, "{name} with every capability");
    }
}

#[test]
fn namespaces_cannot_be_made_but_threads_and_processes_can() {
    const THREAD: u64 = 0x003d_0f00; // the flags of pthread_create
    const SIGCHLD: u64 = 17;
    const NEWTIME: u64 = 0x80;
    let clone = |flags| verdict(DEFAULT_CAPABILITIES, NATIVE, "clone", &[flags]);
    assert_eq!((clone(THREAD), clone(SIGCHLD), clone(0x4111)), (ALLOW, ALLOW, ALLOW));
    for shift in [17, 25, 26, 27, 28, 29, 30] {
        assert_eq!(clone(1 << shift | SIGCHLD), EPERM, "bit {shift}");
        assert_eq!(clone(1 << shift | THREAD | 1 << 40), EPERM, "bit {shift}");
        assert_eq!(verdict(DEFAULT_CAPABILITIES, NATIVE, "unshare", &[1 << shift]), EPERM, "bit {shift}");
    }
    assert_eq!(verdict(DEFAULT_CAPABILITIES, NATIVE, "unshare", &[NEWTIME]), EPERM);
    assert_eq!(verdict(DEFAULT_CAPABILITIES, NATIVE, "unshare", &[0x600]), ALLOW);
    assert_eq!(verdict(DEFAULT_CAPABILITIES, NATIVE, "clone3", &[]), ENOSYS);
}

#[test]
fn terminal_injection_is_caught_in_the_low_half_with_any_capability() {
    for kept in [DEFAULT_CAPABILITIES, u64::MAX] {
        for command in [0x5412, 0x541c] {
            for high in [0, 1, 0x8000_0000, 0xffff_ffff] {
                assert_eq!(verdict(kept, NATIVE, "ioctl", &[0, high << 32 | command]), EPERM);
            }
            assert_eq!(verdict(kept, NATIVE, "ioctl", &[command, command + 1]), ALLOW);
        }
    }
}

#[test]
fn sockets_are_of_the_families_that_programs_need() {
    const NEEDED: [u64; 4] = [1, 2, 10, 16];
    const PACKET: u64 = 17;
    for arch in Arch::ALL {
        for kept in [0, DEFAULT_CAPABILITIES & !NET_RAW, DEFAULT_CAPABILITIES, NET_RAW, u64::MAX] {
            let program = compile(&default_profile().unwrap(), arch, kept).unwrap();
            for high in [0, 1 << 32, u64::MAX << 32] {
                let call = |name, family| {
                    let arguments = [high | family, 0, 0, 0, 0, 0];
                    run(&program, &Call { number: arch.syscalls()[name], arch: arch.audit_token(), arguments }).0
                };
                for family in 0..300 {
                    let is_open = NEEDED.contains(&family) || family == PACKET && kept & NET_RAW != 0;
                    let wanted = if is_open { ALLOW } else { EAFNOSUPPORT };
                    assert_eq!(call("socket", family), wanted, "{arch:?}, kept {kept:#x}, family {family}");
                    if family < 64 {
                        let wanted = if family == 1 { ALLOW } else { EAFNOSUPPORT };
                        assert_eq!(call("socketpair", family), wanted, "{arch:?}, kept {kept:#x}, a pair of {family}");
                    }
                }
                for family in [0x8000_0001, 0xffff_fff7, 0xffff_ffff, 0x1_0002] {
                    assert_eq!(call("socket", family), EAFNOSUPPORT, "{family:#x}");
                }
            }
        }
    }
}

#[test]
fn personalities_are_the_known_ones() {
    let personality = |value| verdict(DEFAULT_CAPABILITIES, NATIVE, "personality", &[value]);
    for known in [0, 8, 0x2_0000, 0x2_0008, 0x4_0000, 0xffff_ffff, u64::MAX] {
        assert_eq!(personality(known), ALLOW, "{known:#x}");
    }
    for other in [1, 0x10_0000, 0x40_0000, 0x1_0000_0000 | 0x40_0000, 0xffff_fffe] {
        assert_eq!(personality(other), EPERM, "{other:#x}");
    }
}

#[test]
fn a_profile_of_calls_newer_than_it_knows_answers_them_apart() {
    let names = vec!["read".to_owned(), "openat2".to_owned()];
    let allow = Rule { syscalls: names, action: Action::Allow, conditions: vec![], with: SYS_ADMIN, without: 0 };
    let profile = Profile { default: Action::Errno(1), newer: Some(Action::Errno(38)), rules: vec![allow] };
    for kept in [0, SYS_ADMIN] {
        assert_equivalent(&profile, NATIVE, kept);
    }
    let program = compile(&profile, NATIVE, 0).unwrap();
    let verdict = |number| run(&program, &Call { number, arch: NATIVE.audit_token(), arguments: [0; 6] }).0;
    assert_eq!((verdict(436), verdict(437), verdict(438)), (EPERM, EPERM, ENOSYS));
}

#[test]
fn long_programs_still_reach_their_targets() {
    // Enough conditions to push every shared verdict out of a conditional jump's reach, several times over.
    let condition = |value| Condition { argument: 3, comparison: Comparison::Greater, value };
    let conditions = |count: u64| (0..count).map(condition).collect::<Vec<_>>();
    let rule = |name: &str, count, action| Rule {
        syscalls: vec![name.to_owned()],
        action,
        conditions: conditions(count),
        with: 0,
        without: 0,
    };
    let profile = Profile {
        default: Action::Errno(1),
        newer: None,
        rules: vec![
            rule("read", 200, Action::Allow),
            rule("read", 150, Action::Trap),
            rule("openat", 190, Action::Log),
            rule("mseal", 100, Action::Allow),
            rule("getpid", 60, Action::Errno(0)),
        ],
    };
    for arch in Arch::ALL {
        assert_equivalent(&profile, arch, 0);
    }
    let too_long = Profile { rules: vec![rule("read", 1000, Action::Allow)], ..profile };
    assert_eq!(compile(&too_long, NATIVE, 0), Err(SeccompError::TooLong));
}

#[test]
fn a_seventh_argument_is_refused() {
    let condition = Condition { argument: 6, comparison: Comparison::Equal, value: 0 };
    let rule = Rule {
        syscalls: vec!["read".to_owned()],
        action: Action::Allow,
        conditions: vec![condition],
        with: 0,
        without: 0,
    };
    let profile = Profile { default: Action::Allow, newer: None, rules: vec![rule] };
    assert_eq!(compile(&profile, NATIVE, 0), Err(SeccompError::Argument { syscall: "read".to_owned(), argument: 6 }));
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        (0..4096_u16).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
        Just(Action::Trap),
        Just(Action::KillThread),
        Just(Action::KillProcess),
    ]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let word = || prop_oneof![0..4_u64, any::<u64>(), (0..64_u32).prop_map(|bit| 1 << bit)];
    let comparison = prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::GreaterOrEqual),
        word().prop_map(Comparison::MaskedEqual),
    ];
    (0..6_u8, comparison, word(), any::<bool>()).prop_map(|(argument, comparison, value, fitting)| {
        let value = match comparison {
            Comparison::MaskedEqual(mask) if fitting => value & mask,
            _ => value,
        };
        Condition { argument, comparison, value }
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let names: Vec<String> = Arch::X86_64.syscalls().into_keys().map(str::to_owned).collect();
    let mut names: Vec<String> = names.into_iter().chain(["socketcall".to_owned()]).collect();
    names.sort_unstable();
    (
        prop::collection::vec(prop::sample::select(names), 1..6),
        any_action(),
        prop::collection::vec(any_condition(), 0..4),
        prop_oneof![Just(0), Just(1), Just(3)],
        prop_oneof![Just(0), Just(2), Just(4)],
    )
        .prop_map(|(syscalls, action, conditions, with, without)| Rule {
            syscalls,
            action,
            conditions,
            with,
            without,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_profile_compiles_to_what_it_says(
        default in any_action(),
        newer in prop::option::of(any_action()),
        rules in prop::collection::vec(any_rule(), 0..40),
        kept in 0..8_u64,
    ) {
        let profile = Profile { default, newer, rules };
        for arch in Arch::ALL {
            assert_equivalent(&profile, arch, kept);
        }
    }
}
