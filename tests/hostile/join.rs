//! Who joins a container is out of reach of what runs in it, with whatever power that has there.
//!
//! In each test an attacker that may trace whoever is in its user namespace races against processes of ours that come
//! near, and tries to seize them, to look into them, and to reach the host's files through them. What it got is said as it
//! was counted before those who join hid first, over 200 joins on two cores with nothing else to do.

use super::attack::{Arena, Gains, TRACER, joins};
use crate::need;
use crate::networks::let_connect;
use crate::support::all;

/// No filter, and no capability but the default ones: process 1 goes into a user namespace of its own, and whoever joins
/// process 1 is there too, where the attacker outside of it has all power.
const NO_FILTER: &[&str] = &["--security-opt", "seccomp=unconfined"];
/// A health check that does nothing, and is made when it is asked for.
const CHECK: &[&str] = &["--health-cmd", "[\"/attacker\", \"exit\"]", "--health-interval", "disable"];
/// It sees all processes of the host, and may trace those of its user namespace.
const AMONG_THE_HOSTS: &[&str] = &["--pid", "host", "--cap-add", "SYS_PTRACE"];

fn exec(arena: &Arena, flags: &[&str], words: &[&str]) -> [Gains; 2] {
    [&[][..], &["-t", "-i"]].map(|how| arena.attack(flags, words).during_exec(joins(), how))
}

fn check(arena: &Arena, flags: &[&str], words: &[&str]) -> Gains {
    let attack = arena.attack(&[flags, CHECK].concat(), words);
    attack.during(joins(), "healthcheck", |name| arena.env.lrun(&["healthcheck", "run", name]))
}

/// 174 of 200 were seized: the process that joins was uid 0 of the host, with all capabilities of the container's user namespace
/// and no filter. Each was made to unmount the read-only /proc/sys and to open the host's core_pattern for writing.
#[test]
fn s1_a_command_that_joins_is_never_seized_as_root() {
    let arena = need!("s1", Arena::of_root());
    Gains::assert_none_though_seen(&exec(&arena, TRACER, &["parameter"]));
    Gains::assert_none_though_seen(&exec(&arena, &[TRACER, &["--init"]].concat(), &["parameter"]));
}

/// 174 of 200 were seized, and used so.
#[test]
fn s1_a_health_check_is_never_seized_as_root() {
    let arena = need!("s1", Arena::of_root());
    Gains::assert_none_though_seen(&[check(&arena, TRACER, &["parameter"])]);
}

/// The new container's first process is born among the processes of the other while its root still is the host's.
fn s2(arena: &Arena) {
    let start = |name: &str| {
        let other = format!("container:{name}");
        arena.env.lrun(&arena.words(&["--pid", &other], &["exit"]))
    };
    Gains::assert_none_though_seen(&[arena.attack(TRACER, &[]).during(joins(), "run --pid container:X", start)]);
}

/// A file of the caller's was written through /proc/PID/root by 176 of 200.
#[test]
fn s2_a_container_that_joins_the_processes_of_another_shows_it_nothing_of_the_host() {
    s2(&need!("s2", Arena::of_user()));
}

/// A file that only root may write to was written by 185 of 200, which were made to do it.
#[test]
fn s2_a_container_that_joins_the_processes_of_another_shows_it_nothing_of_the_host_as_root() {
    s2(&need!("s2", Arena::of_root()));
}

fn s3(arena: &Arena, all_flags: &[&[&str]]) {
    let attack = |flags: &&[&str]| arena.attack(flags, &[]).during_exec(joins(), &[]).of(flags);
    Gains::assert_none(&all_flags.iter().map(attack).collect::<Vec<_>>());
}

/// The keeper was in the container's user namespace with the host's root: a file of the caller's was written through it each time.
/// Of the commands that joined about 130 of 200 were seized.
#[test]
fn s3_nothing_of_ours_is_within_reach_among_the_hosts_processes() {
    let arena = need!("s3", Arena::of_user());
    let network_of_host = [AMONG_THE_HOSTS, &["--network", "host"]].concat();
    s3(
        &arena,
        &[
            AMONG_THE_HOSTS,
            &network_of_host,
            &["--privileged", "--pid", "host"],
            &["--pid", "host", "--cap-add", "ALL"],
        ],
    );
}

/// Of the commands that joined about 150 of 200 were seized; the keeper was elsewhere.
#[test]
fn s3_nothing_of_ours_is_within_reach_among_the_hosts_processes_as_root() {
    let arena = need!("s3", Arena::of_root());
    let all_power = ["--privileged", "--pid", "host", "--userns", "private"];
    s3(&arena, &[AMONG_THE_HOSTS, &["--pid", "host", "--cap-add", "ALL"], &all_power]);
}

/// What connects the container, and what starts that. The keeper's fork that does was in the container's user namespace, with
/// uid 0 for root: a file that only the caller may write to was written through it each time. As user, slirp4netns itself was
/// there too and could be seized, and it has the host's network: now it is refused where the container could see it.
#[test]
fn s3_what_connects_a_container_is_out_of_its_reach() {
    let arena = need!("s3", Arena::of_user());
    need!("s3", let_connect(&arena.env, "pasta"));
    need!("s3", let_connect(&arena.env, "slirp4netns"));
    s3(&arena, &[&[AMONG_THE_HOSTS, &["--network", "pasta"]].concat()]);
    s3(&arena, &[&[AMONG_THE_HOSTS, &["--network", "pasta", "--no-holder"]].concat()]);
    refuses_slirp4netns(&arena, AMONG_THE_HOSTS);
}

fn refuses_slirp4netns(arena: &Arena, flags: &[&str]) {
    let flags = [flags, &["--network", "slirp4netns"]].concat();
    let output = arena.env.lrun(&arena.words(&flags, &["exit"]));
    assert_eq!(output.status.code(), Some(125));
    assert!(all(&output).contains("could take it over; use pasta"), "{}", all(&output));
}

#[test]
fn s3_what_connects_a_container_is_out_of_its_reach_as_root() {
    let arena = need!("s3", Arena::of_root());
    need!("s3", let_connect(&arena.env, "pasta"));
    need!("s3", let_connect(&arena.env, "slirp4netns"));
    let flags = ["pasta", "slirp4netns"].map(|program| [AMONG_THE_HOSTS, &["--network", program]].concat());
    s3(&arena, &[&flags[0], &flags[1]]);
}

/// Who joins some of its namespaces comes into its user namespace, before its very eyes: of 50 starts 45 as user, and 62 processes
/// as root, were made to write to a file that only the caller may.
fn s3_joined(arena: &Arena, networks: &[&str]) {
    let attack = |network: &&str| {
        let start = |name: &str| {
            let other = format!("container:{name}");
            arena.env.lrun(&arena.words(&["--ipc", &other, "--network", network], &["exit"]))
        };
        let what = format!("run --ipc container:X --network {network}");
        arena.attack(AMONG_THE_HOSTS, &[]).during(joins() / 4, &what, start)
    };
    Gains::assert_none(&networks.iter().map(attack).collect::<Vec<_>>());
}

#[test]
fn s3_a_container_that_joins_another_among_the_hosts_processes_is_out_of_its_reach() {
    let arena = need!("s3", Arena::of_user());
    need!("s3", let_connect(&arena.env, "pasta"));
    need!("s3", let_connect(&arena.env, "slirp4netns"));
    s3_joined(&arena, &["none", "pasta"]);
    let attack = arena.attack(AMONG_THE_HOSTS, &[]);
    refuses_slirp4netns(&arena, &["--ipc", &format!("container:{}", attack.name())]);
}

#[test]
fn s3_a_container_that_joins_another_among_the_hosts_processes_is_out_of_its_reach_as_root() {
    let arena = need!("s3", Arena::of_root());
    need!("s3", let_connect(&arena.env, "pasta"));
    need!("s3", let_connect(&arena.env, "slirp4netns"));
    s3_joined(&arena, &["none", "pasta", "slirp4netns"]);
}

/// 164 of 200 were seized, with all capabilities and without a filter, and gave away the descriptors that their caller had inherited.
#[test]
fn s4_a_command_that_joins_is_never_seized() {
    let arena = need!("s4", Arena::of_user());
    Gains::assert_none_though_seen(&exec(&arena, TRACER, &["parameter"]));
    Gains::assert_none_though_seen(&exec(&arena, &[TRACER, &["--init"]].concat(), &["parameter"]));
}

/// 178 of 200 were seized.
#[test]
fn s4_a_health_check_is_never_seized() {
    let arena = need!("s4", Arena::of_user());
    Gains::assert_none_though_seen(&[check(&arena, TRACER, &["parameter"])]);
}

/// With nothing given but a filter taken away, 170 of 200 were seized.
#[test]
fn s4_a_command_that_joins_a_user_namespace_made_inside_is_never_seized() {
    let arena = need!("s4", Arena::of_user());
    Gains::assert_none_though_seen(&exec(&arena, NO_FILTER, &["nested"]));
    Gains::assert_none_though_seen(&[check(&arena, NO_FILTER, &["nested"])]);
}

/// 180 of 200.
#[test]
fn s4_a_command_that_joins_a_user_namespace_made_inside_is_never_seized_as_root() {
    let arena = need!("s4", Arena::of_root());
    Gains::assert_none_though_seen(&exec(&arena, NO_FILTER, &["nested"]));
    Gains::assert_none_though_seen(&[check(&arena, NO_FILTER, &["nested"])]);
}
