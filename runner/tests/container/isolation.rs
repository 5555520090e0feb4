//! What a container sees, and what it cannot do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::support::{Bench, ROOT};

pub(crate) const TESTS: &[Test] = &[
    ("ids_are_the_callers_and_its_subordinates", ids),
    ("a_user_without_subordinates_is_root_alone", single_mapping),
    ("keep_id_gives_the_callers_number", keep_id),
    ("the_store_and_the_container_agree_on_ids", enter_agrees),
    ("capabilities_are_the_fourteen", capabilities),
    ("capabilities_of_other_users_are_none", user_capabilities),
    ("only_own_processes_are_seen", processes),
    ("the_network_holds_only_lo", network),
    ("the_hosts_network_is_given_when_asked_for", host_network),
    ("no_mount_of_the_host_is_left", mounts),
    ("kernel_files_are_masked_or_read_only", masks),
    ("nothing_can_be_mounted_or_unmounted", no_mounting),
    ("devices_are_the_six_and_no_more", devices),
    ("links_in_the_image_do_not_move_the_standard_mounts", image_links),
    ("descriptors_and_environment_of_the_caller_stay_out", leaks),
    ("pid_1_shows_nothing_of_the_runner", runner_is_hidden),
    ("a_working_directory_outside_is_refused", working_directory),
    ("a_chroot_escape_stays_in_the_container", chroot_escape),
    ("the_filter_and_no_new_privileges_are_in_force", filter),
    ("root_gets_the_same_walls", rootful),
    ("both_ways_make_the_same_container", twins),
    ("a_holder_is_replaced_when_it_is_gone_or_not_what_it_says", holders),
];

fn ids(bench: &Bench) {
    let run = bench.container();
    let out = run.sh("cat /proc/self/uid_map /proc/1/setgroups; id -u; id -G; stat -c %u:%g /etc/passwd");
    let words: Vec<&str> = out.split_whitespace().collect();
    let (uid, subordinate) = (bench.user.uid.to_string(), bench.first_subordinate.to_string());
    assert_eq!(words[..6], ["0", &uid, "1", "1", &subordinate, "65536"]);
    assert_eq!(words[6..], ["allow", "0", "0", "0:0"]);
}

/// All that a process can read of its own confinement, without the numbers that count mounts and processes. What moves with
/// the moment, such as the signals that a shell blocks while it forks, is read of a process that does nothing but read.
const SELF_PORTRAIT: &str = "cut -d' ' -f4- /proc/self/mountinfo | sort; grep -v -E '^(State|Pid|PPid|Tgid|Ngid|NStgid|NSpid|NSpgid|NSsid|Vm|Rss|volun|nonvol|Cpus|Mems|SigQ|Hugetlb)' /proc/self/status; \
    cat /proc/1/limits /proc/1/uid_map /proc/1/gid_map /proc/1/setgroups /proc/1/cgroup /proc/1/environ; readlink /proc/1/cwd /proc/1/root; \
    ls -l /proc/self/fd | wc -l; cut -d: -f1 /proc/net/dev; ls /sys/class/net; stat -c '%A %u %g %t:%T %N' /dev/* /dev/pts/*; umask; ulimit -a";

fn twins(bench: &Bench) {
    let variants: [&[&str]; 9] = [
        &[],
        &["--network-host"],
        &["--user", "app"],
        &["--read-only", "--init"],
        &["--unconfined", "--rm"],
        &["--keep-id", "--user", "app"],
        &["--with", r#"{"namespaces": {"pid": true, "ipc": false, "uts": false, "cgroup": false}}"#],
        &["--with", r#"{"umask": 63, "oom_score": 500, "limits": [{"name": "nofile", "soft": 100, "hard": 200}]}"#],
        &["--with", r#"{"sysctls": [["net.ipv4.ip_forward", "1"]], "landlock": [{"path": "/", "writing": false}]}"#],
    ];
    for flags in variants {
        let portrait = |by_holder| {
            bench.by_holder.set(by_holder);
            let mut run = bench.container();
            let out = run.flags(flags).sh(SELF_PORTRAIT);
            out.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (plain, by_holder) = (portrait(false), portrait(true));
        assert!(plain.len() > 60, "{plain:?}");
        for (one, other) in plain.iter().zip(&by_holder) {
            assert_eq!(one, other, "{flags:?}");
        }
        assert_eq!(plain.len(), by_holder.len(), "{flags:?}");
    }
}

fn holders(bench: &Bench) {
    bench.by_holder.set(true);
    let record = bench.holder_of(bench.user).join("holder");
    let pid = || fs::read_to_string(&record).unwrap().lines().nth(1).unwrap().parse::<i32>().unwrap();
    let starts = || assert_eq!(bench.container().run(&["/bin/true"]).code, 0);
    starts();
    let first = pid();
    starts();
    assert_eq!(pid(), first, "one holder serves many starts");
    assert_eq!(fs::read_dir(format!("/proc/{first}/fd")).unwrap().count(), 4, "three of /dev/null, one of its record");
    assert_eq!(fs::read_link(format!("/proc/{first}/cwd")).unwrap().to_str(), Some("/"));

    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    // Its namespace can be joined until the machine's own init has noted its end.
    let is_gone = || !std::path::Path::new(&format!("/proc/{first}")).exists();
    assert!(eventually(is_gone), "the machine's init does not reap");
    starts();
    assert_ne!(pid(), first);
    // The number of a process that is no holder, as after a reuse.
    let text = fs::read_to_string(&record).unwrap().replace(&format!("\n{}\n", pid()), "\n1\n");
    let last = pid();
    fs::write(&record, text).unwrap();
    starts();
    assert_ne!(pid(), 1);
    fs::remove_file(&record).unwrap();
    assert!(eventually(|| {
        fs::read_to_string(format!("/proc/{last}/stat")).map_or(true, |stat| stat.contains(") Z"))
    }));
}

/// Whether something comes true within some seconds.
fn eventually(condition: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        condition()
    })
}

fn single_mapping(bench: &Bench) {
    let finished = bench.container_of(bench.bare).run(&["/bin/sh", "-c", "cat /proc/self/uid_map /proc/1/setgroups"]);
    let words: Vec<&str> = finished.out.split_whitespace().collect();
    assert_eq!(words, ["0", &bench.bare.uid.to_string(), "1", "deny"], "{finished:?}");
    assert!(finished.err.contains("notice: the container has a single user id: no subordinate ids"), "{finished:?}");
    let finished = bench.container_of(bench.bare).flags(&["--user", "app"]).run(&["/bin/true"]);
    assert_eq!(finished.code, 125);
    assert!(finished.err.contains("cannot become user"), "{finished:?}");
}

fn keep_id(bench: &Bench) {
    let mut run = bench.container();
    let uid = bench.user.uid.to_string();
    assert_eq!(run.flags(&["--keep-id", "--user", &uid]).sh("id -u").trim(), uid);
}

fn enter_agrees(bench: &Bench) {
    let directory = bench.directory(bench.user);
    let file = directory.path().join("file");
    let script = format!("echo x > {0} && chown 33:44 {0} && id -u", file.display());
    let output = bench.program(bench.user).args(["--enter", "/bin/sh", "-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{output:?}");
    let mut run = bench.container();
    let out = run.flag("--bind").flag(directory.path()).flag("/srv").sh("stat -c %u:%g /srv/file");
    assert_eq!(out.trim(), "33:44");
    let output = bench.program(bench.bare).args(["--enter", "/bin/cat", "/proc/self/uid_map"]).output().unwrap();
    let line = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(line, format!("0 {} 1", bench.bare.uid));
}

fn status(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_owned()
}

fn capabilities(bench: &Bench) {
    for extra in [&[][..], &["--init"], &["--no-new-privileges"]] {
        let mut run = bench.container();
        let text = run.flags(extra).sh("cat /proc/1/status");
        for key in ["CapEff", "CapBnd", "CapPrm"] {
            assert_eq!(status(&text, key), "00000000a80425fb", "{key} {extra:?}");
        }
        for key in ["CapInh", "CapAmb"] {
            assert_eq!(status(&text, key), "0000000000000000", "{key} {extra:?}");
        }
    }
    let mut run = bench.container();
    let text = run.flags(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]).sh("cat /proc/self/status");
    assert_eq!(
        (status(&text, "CapEff"), status(&text, "CapBnd")),
        ("0000000000000001".into(), "0000000000000001".into())
    );
}

fn user_capabilities(bench: &Bench) {
    let mut run = bench.container();
    let text = run.flags(&["--user", "app"]).sh("id -u; id -g; id -G; cat /proc/self/status");
    assert_eq!(text.lines().take(3).collect::<Vec<_>>(), ["33", "33", "33 44"]);
    assert_eq!(status(&text, "CapEff"), "0000000000000000");
    assert_eq!(status(&text, "CapBnd"), "00000000a80425fb");
    // What was added by name a user has too, and keeps through the programs that it starts.
    let mut run = bench.container();
    let text = run.flags(&["--user", "app", "--grant", "NET_ADMIN"]).sh("cat /proc/self/status");
    for key in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(&text, key), "0000000000001000", "{key}");
    }
}

fn processes(bench: &Bench) {
    let out = bench.container().sh("echo $$; for p in /proc/[0-9]*; do echo ${p#/proc/}; done");
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["1", "1"]);
    // kill(-1) reaches nobody outside: this test would not live to tell.
    bench.container().sh("kill -9 -1; true");
}

fn network(bench: &Bench) {
    let out = bench.container().sh("tail= ; while read line; do echo \"$line\"; done < /proc/net/dev; ls /sys/class/net; cat /sys/class/net/lo/flags");
    let devices: Vec<&str> = out.lines().filter_map(|line| line.trim().split_once(':').map(|(name, _)| name)).collect();
    assert_eq!(devices, ["lo"], "{out}");
    let flags = out.lines().last().unwrap();
    assert_eq!(u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap() & 1, 1, "lo is up");
}

fn host_network(bench: &Bench) {
    let mut run = bench.container();
    let out = run.flags(&["--network-host"]).sh("readlink /proc/self/ns/net; touch /sys/x 2>&1; true");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(out.starts_with(own.to_str().unwrap()), "{out}");
    assert!(out.contains("Read-only file system") || out.contains("Permission denied"), "{out}");
}

fn mounts(bench: &Bench) {
    let out = bench.container().sh("cat /proc/self/mountinfo");
    let mut points = BTreeSet::new();
    for line in out.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        points.insert(fields[4].to_owned());
        // Private: nothing that the container mounts can reach another namespace.
        assert!(!line.contains("shared:"), "{line}");
    }
    let roots = ["/", "/proc", "/sys", "/dev"];
    assert!(roots.iter().all(|root| points.contains(*root)), "{out}");
    let below = |point: &String| roots[1..].iter().any(|root| point == root || point.starts_with(&format!("{root}/")));
    let strangers: Vec<&String> = points.iter().filter(|point| *point != "/" && !below(point)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    let root = out.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.contains(" - overlay ") && root.contains("nodev"), "{root}");
    assert!(root.contains("lowerdir") && !root.split(" - ").nth(1).unwrap().contains('/'), "names of the host: {root}");
}

fn masks(bench: &Bench) {
    let script = "
        for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
            [ ! -e $file ] || [ \"$(stat -c %t:%T $file)\" = 1:3 ] || echo $file is open
        done
        [ -z \"$(ls -A /sys/firmware)\" ] || echo firmware is open
        for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity; do
            (echo x > $file) 2>/dev/null && echo wrote $file
        done
        touch /sys/x /sys/fs/cgroup/x /proc/sys/x 2>/dev/null && echo wrote
        true";
    assert_eq!(bench.container().sh(script), "");
    let mut run = bench.container();
    let out = run.flag("--unmask-all").sh("stat -c %t:%T /proc/keys");
    assert_ne!(out.trim(), "1:3");
}

fn no_mounting(bench: &Bench) {
    for attempt in [
        "mount -t proc proc /srv",
        "mount -t tmpfs tmpfs /srv",
        "mount -o remount,rw /sys",
        "umount /proc/kcore",
        "umount /proc",
        "mount --make-rshared /",
        "mknod /srv/disk b 254 0 && cat /srv/disk",
    ] {
        // Neither the filter nor the lack of capabilities is needed by the other.
        for walls in ["", "--unconfined"] {
            let mut run = bench.container();
            run.flags(if walls.is_empty() { &[] } else { std::slice::from_ref(&walls) });
            let finished = run.run(&["/bin/sh", "-c", attempt]);
            assert_ne!(finished.code, 0, "{attempt} {walls}: {finished:?}");
        }
    }
}

fn devices(bench: &Bench) {
    let out = bench.container().sh("ls /dev | sort | tr '\\n' ' '; echo x > /dev/null; head -c 4 /dev/zero | wc -c");
    let mut lines = out.lines();
    assert_eq!(
        lines.next().unwrap().trim(),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 4"
    );
    assert_eq!(bench.container().sh("stat -c '%g %a' /dev/pts/ptmx").trim(), "0 666");
}

/// A copy of the image in which `path` is a link to `target`.
fn linked(bench: &Bench, path: &str, target: &str) -> tempfile::TempDir {
    let directory = bench.directory(bench.user);
    let output = bench
        .program(bench.user)
        .args(["--enter", "/bin/cp", "-a"])
        .arg(bench.image_of(bench.user))
        .arg(directory.path().join("image"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let path = directory.path().join("image").join(path);
    fs::remove_dir_all(&path).unwrap();
    symlink(target, &path).unwrap();
    directory
}

fn image_links(bench: &Bench) {
    for path in ["proc", "sys", "dev"] {
        let host = bench.directory(bench.user);
        let directory = linked(bench, path, host.path().to_str().unwrap());
        // With the host's network /sys is the host's, bound: another way to the same place.
        for network in [&[][..], &["--network-host"]] {
            let mut run = bench.bare_run(bench.user);
            run.flags(network).flag("--directory").flag(directory.path().join("image"));
            let finished = run.run(&["/bin/true"]);
            assert_eq!(finished.code, 125, "{path} {network:?}: {finished:?}");
            let said = format!("cannot mount /{path}: the image has a symbolic link there");
            assert!(finished.err.contains(&said), "{path} {network:?}: {finished:?}");
        }
        assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
    }
}

fn leaks(bench: &Bench) {
    let run = bench.container();
    let mut command = run.command(&["/bin/sh", "-c", "ls /proc/self/fd; env; umask"]);
    command.env("SECRET", "of the caller");
    // A descriptor that some caller left open across exec.
    let secret = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
    let finished = crate::support::Finished::new(command.output().unwrap());
    let lines: Vec<&str> = finished.out.lines().collect();
    // The fourth is the directory that ls reads.
    assert_eq!(lines[..4], ["0", "1", "2", "3"], "{finished:?}");
    assert!(!finished.out.contains("SECRET"));
    assert!(lines[4..].contains(&"HOME=/root") && lines.iter().any(|line| line.starts_with("PATH=")), "{finished:?}");
    assert_eq!(*lines.last().unwrap(), "0022");
}

fn runner_is_hidden(bench: &Bench) {
    // Only with --init does a process of the runner's live in the container.
    let mut run = bench.container();
    let finished =
        run.flag("--init").run(&["/bin/sh", "-c", "cat /proc/1/environ; cat /proc/1/exe | wc -c; ls /proc/1/fd"]);
    assert!(finished.err.contains("Permission denied"), "{finished:?}");
    assert_eq!(finished.out.trim(), "0", "{finished:?}");
}

fn working_directory(bench: &Bench) {
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/fd/5", "/proc/self/fd/6", "/missing"] {
        let mut run = bench.container();
        let finished = run.flags(&["--cwd", cwd]).run(&["/bin/sh", "-c", "ls /; ls"]);
        assert!(finished.code == 125 || !finished.out.contains("home"), "{cwd}: {finished:?}");
    }
    let mut run = bench.container();
    assert_eq!(run.flags(&["--cwd", "/a/b"]).sh("pwd").trim(), "/a/b");
}

fn chroot_escape(bench: &Bench) {
    let script = "mkdir /jail; cd /; chroot /jail /bin/true 2>/dev/null; cd ../../../../..; ls";
    let out = bench.container().sh(script);
    assert!(out.contains("jail") && !out.contains("home"), "{out}");
}

fn filter(bench: &Bench) {
    let text = bench.container().sh("cat /proc/self/status");
    assert_eq!((status(&text, "Seccomp"), status(&text, "NoNewPrivs")), ("2".into(), "0".into()));
    let mut run = bench.container();
    let text = run.flags(&["--no-new-privileges", "--user", "app"]).sh("cat /proc/self/status");
    assert_eq!((status(&text, "Seccomp"), status(&text, "NoNewPrivs")), ("2".into(), "1".into()));
    for key in ["SigBlk", "SigIgn"] {
        assert_eq!(status(&text, key), "0000000000000000", "{key}");
    }
}

fn rootful(bench: &Bench) {
    // With ids of its own, where the machine has some for root, and with the host's.
    for flags in [&[][..], &["--with", r#"{"user_namespace": "Host"}"#]] {
        let mut run = bench.container_of(ROOT);
        let out = run.flags(flags).sh(
            "cat /proc/self/status; cat /proc/self/uid_map; ls /sys/class/net; for p in /proc/[0-9]*; do echo $p; done; ls /",
        );
        assert_eq!(status(&out, "CapEff"), "00000000a80425fb");
        assert!(flags.is_empty() || out.contains("4294967295"), "{out}");
        assert!(out.contains("\nlo\n/proc/1\nbin\n"), "{out}");
        for attempt in [
            "mount -t tmpfs tmpfs /srv",
            "mknod /srv/d c 1 5 && head -c 1 /srv/d",
            "echo x > /proc/sys/kernel/core_pattern",
        ] {
            let mut run = bench.container_of(ROOT);
            let finished = run.flags(flags).run(&["/bin/sh", "-c", attempt]);
            assert_ne!(finished.code, 0, "{attempt}: {finished:?}");
        }
    }
}
