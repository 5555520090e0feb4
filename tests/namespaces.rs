//! Namespaces of others: of a container by its name, of a file, and clocks of one's own.

use std::path::Path;

use crate::background::start;
use crate::containers::{debian, inside};
use crate::need;
use crate::support::{Env, all, said};

fn of(env: &Env, name: &str, namespace: &str) -> String {
    said(&env.lrun(&["exec", name, "readlink", &format!("/proc/self/ns/{namespace}")]))
}

fn pid(env: &Env, name: &str) -> String {
    said(&env.lrun(&["inspect", "--format", "{{.State.Pid}}", name])).trim().to_owned()
}

const KINDS: [(&str, &str); 6] = [
    ("--network", "net"),
    ("--pid", "pid"),
    ("--ipc", "ipc"),
    ("--uts", "uts"),
    ("--cgroupns", "cgroup"),
    ("--userns", "user"),
];

#[test]
fn a_container_joins_the_namespaces_of_another() {
    let (env, image) = need!("a_container_joins", debian());
    start(&env, &image, &["--name", "first", "-h", "one"]);
    said(&env.lrun(&["exec", "first", "sh", "-c", "echo shared > /dev/shm/word"]));
    let id = pid(&env, "first");
    for (flag, kind) in KINDS {
        let wanted = of(&env, "first", kind);
        let other = if kind == "net" { "pid" } else { "net" };
        let others = of(&env, "first", other);
        let script = format!(
            "readlink /proc/self/ns/{kind} /proc/self/ns/{other}; grep -E 'CapBnd|Seccomp:' /proc/self/status; \
             mount -t tmpfs x /mnt 2>&1 || true"
        );
        let file = format!("ns:/proc/{id}/ns/{kind}");
        for flags in [&[flag, "container:first"][..], &[flag, "container:first", "--no-holder"], &[flag, &file]] {
            let told = inside(&env, &image, flags, &script);
            assert!(told.starts_with(&wanted), "{flags:?}: {told}");
            // What is not joined is its own, and the walls are the same as ever.
            assert!(!told.contains(others.trim()), "{flags:?}: {told}");
            assert!(told.contains("00000000a80425fb") && told.contains("Seccomp:\t2"), "{told}");
            assert!(told.contains("permission denied"), "{told}");
        }
    }
    let all = inside(&env, &image, &["--pid", "container:first"], "cat /proc/1/cmdline | tr '\\0' ' '");
    assert!(all.contains("echo begins"), "{all}");
    assert_eq!(inside(&env, &image, &["--ipc", "container:first"], "cat /dev/shm/word"), "shared\n");
    assert_eq!(inside(&env, &image, &[], "ls /dev/shm"), "");
    assert_eq!(
        inside(&env, &image, &["--uts", "container:first"], "hostname; cat /etc/hostname; echo $HOSTNAME"),
        "one\none\none\n"
    );
    said(&env.lrun(&["rm", "-f", "-t", "0", "first"]));
}

#[test]
fn two_containers_share_a_network_and_a_third_command_joins_both() {
    let (env, image) = need!("two_containers_share_a_network", debian());
    start(&env, &image, &["--name", "first"]);
    let server = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 80, Listen => 5) or die; \
                  while ($c = $s->accept) { print $c \"hello\\n\"; close $c }'";
    said(&env.lrun(&["run", "-d", "--name", "second", "--network", "container:first", &image, "sh", "-c", server]));
    let ask = "for i in $(seq 100); do exec 3<>/dev/tcp/127.0.0.1/80 && cat <&3 && exit; sleep 0.1; done 2>/dev/null";
    assert_eq!(said(&env.lrun(&["exec", "first", "bash", "-c", ask])), "hello\n");
    assert_eq!(of(&env, "second", "net"), of(&env, "first", "net"));
    let id = said(&env.lrun(&["inspect", "--format", "{{.Id}}", "first"]));
    let mode = said(&env.lrun(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", "second"]));
    assert_eq!(mode, format!("container:{id}"));

    // Started anew, the first has another network, and the second goes with it when it is started anew.
    said(&env.lrun(&["restart", "-t", "0", "first"]));
    said(&env.lrun(&["restart", "-t", "0", "second"]));
    assert_eq!(of(&env, "second", "net"), of(&env, "first", "net"));
    said(&env.lrun(&["stop", "-t", "0", "first", "second"]));
    let refused = env.lrun(&["start", "second"]);
    assert_eq!(refused.status.code(), Some(125));
    assert!(all(&refused).contains("`lrun start first` first"), "{}", all(&refused));
    said(&env.lrun(&["rm", "first"]));
    assert!(all(&env.lrun(&["start", "second"])).contains("is not there any more"));
    said(&env.lrun(&["rm", "second"]));
}

#[test]
fn whom_it_joins_has_its_ids_and_what_cannot_be_joined_is_refused() {
    let (env, image) = need!("whom_it_joins_has_its_ids", debian());
    start(&env, &image, &["--name", "kept", "--userns", "keep-id"]);
    start(&env, &image, &["--name", "plain"]);
    let joins = ["--network", "container:kept"];
    let script = "id -u; cat /proc/self/uid_map; stat -c %u /etc/passwd";
    let own = inside(&env, &image, &["--userns", "keep-id"], script);
    assert_eq!(inside(&env, &image, &joins, script), own, "the files are whose they are for the other");
    assert_eq!(
        inside(&env, &image, &[&joins[..], &["--userns", "keep-id"]].concat(), "id -u"),
        format!("{}\n", env.user.as_ref().unwrap().uid)
    );
    for (flags, reason) in [
        (&["--network", "container:plain", "--userns", "keep-id"][..], "leave --userns out"),
        (&["--network", "container:plain", "--pid", "container:kept"], "another than the first"),
        (&["--network", "container:nobody"], "no such container"),
        (&["--network", "container:plain", "-p", "1:1"], "leave it out"),
        (&["--network", "container:plain", "--sysctl", "net.ipv4.ip_forward=1"], "the network is another's"),
        (&["--uts", "container:plain", "-h", "x"], "leave out one"),
        (&["--network", "ns:/proc/1/ns/net"], "ns/net: "),
        (&["--network", "ns:/etc/passwd"], "/etc/passwd: "),
        (&["--network", "ns:/no/such"], "/no/such: "),
    ] {
        let refused = env.lrun(&[&["run", "--rm"], flags, &[&image, "true"]].concat());
        assert_eq!(refused.status.code(), Some(125), "{flags:?}: {}", all(&refused));
        assert!(all(&refused).contains(reason) && all(&refused).lines().count() == 1, "{flags:?}: {}", all(&refused));
    }
    assert_eq!(std::fs::read_dir(env.store.join("containers")).unwrap().count(), 2);
    said(&env.lrun(&["rm", "-f", "kept", "plain"]));
}

#[test]
fn clocks_can_be_the_containers_own() {
    let (env, image) = need!("clocks_can_be", debian());
    let host = format!("{}\n", std::fs::read_link("/proc/self/ns/time").unwrap().display());
    for plain in [&[][..], &["--no-holder"]] {
        assert_eq!(inside(&env, &image, plain, "readlink /proc/self/ns/time"), host);
        let own = [plain, &["--timens", "private"]].concat();
        assert_ne!(inside(&env, &image, &own, "readlink /proc/self/ns/time"), host);
    }
    start(&env, &image, &["--name", "clock", "--timens", "private"]);
    let link = Path::new("/proc").join(pid(&env, "clock")).join("ns/time");
    assert_eq!(of(&env, "clock", "time"), format!("{}\n", std::fs::read_link(link).unwrap().display()));
    said(&env.lrun(&["rm", "-f", "clock"]));
}
