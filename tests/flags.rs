//! Flags of `lrun run` that change what a container is and may do: each with podman's meaning.

use crate::containers::{debian, inside};
use crate::need;
use crate::support::{Env, all, said};

fn refused(env: &Env, image: &str, flags: &[&str], reason: &str) {
    let output = env.lrun(&[&["run", "--rm"], flags, &[image, "true"]].concat());
    assert_eq!(output.status.code(), Some(125), "{flags:?}: {}", all(&output));
    assert!(all(&output).contains(reason), "{flags:?}: {}", all(&output));
}

#[test]
fn limits_masks_and_parameters_are_set_or_refused() {
    let (env, image) = need!("limits", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    let limits = ["--ulimit", "nofile=5:10", "--ulimit", "core=0"];
    assert_eq!(run(&limits, "ulimit -n; ulimit -Hn; ulimit -c"), "5\n10\n0\n");
    assert_eq!(run(&["--ulimit", "host"], "ulimit -Hn"), run(&[], "ulimit -Hn"));
    refused(&env, &image, &["--ulimit", "nofile=4000000000"], "cannot set the limit nofile: above your own hard limit");
    assert_eq!(run(&["--umask", "077"], "umask"), "0077\n");
    assert_eq!(run(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500\n");
    refused(&env, &image, &["--oom-score-adj", "-5"], "readiness to be killed");
    let size = run(&["--shm-size", "1m"], "stat -fc '%b %S' /dev/shm");
    let numbers: Vec<u64> = size.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(numbers[0] * numbers[1], 1 << 20);

    for plain in [&[][..], &["--no-holder"]] {
        let sysctls = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmax=1234567"];
        let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; \
                      (echo 0 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null || echo read-only";
        assert_eq!(run(&[plain, &sysctls].concat(), script), "1\n1234567\nread-only\n");
    }
    refused(&env, &image, &["--sysctl", "kernel.core_pattern=x"], "this parameter is the host's");
    refused(&env, &image, &["--sysctl", "net/../kernel/core_pattern=x"], "no name of a kernel parameter");
    refused(&env, &image, &["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"], "the network is the host's");
    refused(&env, &image, &["--ipc", "host", "--sysctl", "kernel.shmmax=1"], "the IPC namespace is the host's");

    let masks = ["--security-opt", "mask=/etc/shadow:/usr/share"];
    assert_eq!(run(&masks, "cat /etc/shadow; ls /usr/share"), "");
    assert!(run(&["--security-opt", "proc-opts=hidepid=2"], "cat /proc/self/mounts").contains("hidepid=invisible"));
}

#[test]
fn users_are_known_by_name_and_have_their_groups() {
    let (env, image) = need!("users", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    assert_eq!(run(&["--group-add", "video,777", "-u", "nobody"], "id -G"), "65534 44 777\n");
    assert_eq!(run(&["-u", "4242:55"], "grep Groups /proc/self/status"), "Groups:\t55 \n", "its own is among them");
    let kept = run(&["--group-add", "keep-groups"], "grep Groups /proc/self/status");
    assert_eq!(run(&["--annotation", "run.oci.keep_original_groups=1"], "grep Groups /proc/self/status"), kept);
    refused(&env, &image, &["--group-add", "keep-groups", "--group-add", "video"], "no other can be added");
    refused(&env, &image, &["--group-add", "no-such-group"], "no group no-such-group");

    let user = env.user.clone().unwrap();
    let script = "id -un; tail -n 1 /etc/passwd; stat -c '%u %a' /etc/passwd";
    let expected = format!("4242\n4242:*:4242:0:container user:/:/bin/sh\n{}\n", "0 644");
    assert_eq!(run(&["-u", "4242"], script), expected);
    let entry = ["-u", "4242:55", "--passwd-entry", "bob:*:$UID:$GID::/srv:/bin/sh", "--group-entry", "bobs:x:$GID:"];
    assert_eq!(run(&entry, "id -un; id -gn; echo $HOME"), "bob\nbobs\n/srv\n");
    assert_eq!(run(&["-u", "4242", "--passwd=false"], "grep -c 4242 /etc/passwd || true"), "0\n");
    refused(&env, &image, &["-u", "5", "--passwd-entry", "a:b\nroot2::0:0::/:/bin/sh"], "not one line");
    let name = said(&std::process::Command::new("id").args(["-un", &user.uid.to_string()]).output().unwrap());
    assert_eq!(run(&["--userns", "keep-id"], "id -un"), name);
    // Root, and whom the image knows, are as the image has them.
    assert_eq!(run(&["-u", "33"], "id -un; ls -l --time-style=+%Y /etc/passwd | wc -l"), "www-data\n1\n");
}

#[test]
fn namespaces_can_be_the_hosts() {
    let (env, image) = need!("namespaces", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    for plain in [&[][..], &["--no-holder"]] {
        for (flag, name) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
            let script = format!("readlink /proc/self/ns/{name}");
            let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            let host = format!("{}\n", host.display());
            assert_eq!(run(&[plain, &[flag, "host"]].concat(), &script), host, "{flag}");
            assert_ne!(run(&[plain, &[flag, "private"]].concat(), &script), host, "{flag}");
        }
        // The host's processes are seen, its parameters stay out of reach.
        let script = "test -d /proc/2 && cat /proc/1/environ; (echo x > /proc/sys/kernel/core_pattern); echo $?";
        let told = all(&env.lrun(&[&["run", "--rm"], plain, &["--pid", "host", &image, "sh", "-c", script]].concat()));
        assert!(told.contains("/proc/1/environ: Permission denied") && !told.contains("\n0\n"), "{told}");
    }
    refused(&env, &image, &["--uts", "host", "--hostname", "x"], "leave out one");
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    assert_eq!(run(&["--uts", "host"], "cat /proc/sys/kernel/hostname"), format!("{host}\n"));
}

#[test]
fn no_process_outlives_a_container_that_is_among_the_hosts() {
    let (env, image) = need!("no_process_outlives", debian());
    // A number that no other process sleeps for.
    let seconds = format!("1{:08}", std::process::id());
    for flags in [&["--pid", "host"][..], &["--pid", "host", "-u", "33", "--no-holder"], &["--pid", "host", "--init"]] {
        inside(
            &env,
            &image,
            flags,
            &format!("setsid sleep {seconds} & setsid sh -c 'sleep {seconds} & sleep {seconds}' & sleep 0.1"),
        );
        let sleeps = || {
            let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
            // A holder is a fork of its first runner, and shows its words.
            lines.filter(|line| line.starts_with(&format!("sleep\0{seconds}"))).count()
        };
        assert!((0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            sleeps() == 0
        }));
    }
}

#[test]
fn privileged_is_all_that_the_caller_may_and_no_more() {
    let (env, image) = need!("privileged", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    let status = run(&["--privileged"], "cat /proc/self/status");
    assert!(status.contains("CapEff:\t000001ffffffffff") && status.contains("Seccomp:\t0"), "{status}");
    let script = "mount -t tmpfs none /mnt && unshare -Ur true && test -e /sys/firmware && test -e /dev/fuse && \
                  ! ls -d /dev/tty1 2>/dev/null && touch /sys/fs/cgroup/x 2>/dev/null; echo made";
    assert_eq!(run(&["--privileged"], script), "made\n");
    // The host's power is nobody's: what is root's outside stays so.
    let script = "for what in 'echo x > /proc/sys/kernel/core_pattern' 'echo b > /proc/sysrq-trigger' \
                  'head -c 1 /dev/kmsg' 'mknod /x b 7 0 && head -c 1 /x' 'cat /proc/kcore | head -c 1 | grep -q .' \
                  'mount /dev/loop0 /mnt'; do (eval \"$what\") >/dev/null 2>&1 && echo \"$what\"; done; true";
    assert_eq!(run(&["--privileged"], script), "");
    assert!(run(&["--privileged", "--cap-drop", "SYS_ADMIN"], "grep CapEff /proc/self/status").contains("1ffffdfffff"));
    let user = run(&["--privileged", "-u", "33"], "grep CapEff /proc/self/status");
    assert_eq!(user, "CapEff:\t0000000000000000\n");
}

#[test]
fn devices_hosts_and_resolvers_are_given() {
    let (env, image) = need!("devices", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    assert_eq!(run(&["--device", "/dev/null:/dev/other"], "stat -c %t:%T /dev/other; echo x > /dev/other"), "1:3\n");
    refused(&env, &image, &["--device", "/etc/passwd"], "not a device");
    refused(&env, &image, &["--device", "/dev/null:r"], "permissions other than rwm cannot be set");
    let hosts =
        ["--add-host", "db:10.0.0.7", "--dns", "9.9.9.9", "--dns-search", "example.org", "--dns-option", "ndots:2"];
    let resolver = "search example.org\nnameserver 9.9.9.9\noptions ndots:2\n";
    assert_eq!(run(&hosts, "getent hosts db | tr -s ' '; cat /etc/resolv.conf"), format!("10.0.0.7 db\n{resolver}"));
    let hosts = run(&["--no-hosts"], "cat /etc/hosts 2>/dev/null || true");
    assert!(!hosts.contains("127.0.1.1"), "{hosts}");
}

#[test]
fn landlock_leaves_what_is_named() {
    let (env, image) = need!("landlock", debian());
    let rules = ["--landlock", "ro:/usr", "--landlock", "ro:/etc/passwd", "--landlock", "rw:/tmp"];
    let rules = [&rules[..], &["--landlock", "ro:/lib64"]].concat();
    let script = "cat /etc/passwd > /tmp/copy && test -s /tmp/copy && echo copied; \
                  for what in 'cat /etc/group' 'ls /' 'ls /proc/self' 'touch /usr/x' 'truncate -s 0 /usr/bin/ls' 'rm /usr/bin/ls' \
                  'ln /usr/bin/ls /tmp/ls' 'echo x >> /etc/passwd' 'mkdir /x' 'cp /usr/bin/true /tmp/t && mv /tmp/t /usr/bin/'; do \
                  (eval \"$what\") 2>/dev/null && echo \"$what\"; done; cp /usr/bin/true /tmp/t && /tmp/t";
    assert_eq!(inside(&env, &image, &rules, script), "copied\n");
    // For a user, with a filter or none, and for what a set-id program would be.
    for more in [&["-u", "33"][..], &["--security-opt", "seccomp=unconfined"], &["--no-holder"], &["--init"]] {
        let flags = [&rules[..], more].concat();
        assert_eq!(
            inside(&env, &image, &flags, "cat /etc/group 2>/dev/null || echo kept out"),
            "kept out\n",
            "{more:?}"
        );
    }
    refused(&env, &image, &["--landlock", "ro:/missing"], "cannot enforce the Landlock rule /missing");
    // The command itself must be within reach.
    let output = env.lrun(&["run", "--rm", "--landlock", "rw:/tmp", &image, "true"]);
    assert_eq!(output.status.code(), Some(126), "{}", all(&output));
}

#[test]
fn what_keeps_a_user_from_namespaces_is_named() {
    let (env, image) = need!("what_keeps_a_user", debian());
    let told = said(&env.lrun(&["info", "--format", "{{.UserNamespaces}}"]));
    assert_eq!(told, "work\n");
    // A container of ours is one of the places where there are none.
    let program = crate::support::programs();
    let volume = format!("{}:/opt:ro", program.display());
    let inside = |words: &[&str]| env.lrun(&[&["run", "--rm", "-u", "1000", "-v", &volume, &image], words].concat());
    let told = said(&inside(&["/opt/lrun", "info", "--format", "{{.UserNamespaces}}"]));
    assert!(told.contains("a seccomp filter") && told.contains("--security-opt"), "{told}");
    let refused = inside(&["/opt/lrun", "run", "--rootfs", "/", "true"]);
    let told = all(&refused);
    assert!(refused.status.code() == Some(125) && told.contains("a seccomp filter"), "{told}");
    let profile = said(&env.lrun(&["apparmor"]));
    assert!(profile.contains(&format!("profile lrun \"{}/lrun\"", program.display())), "{profile}");
}
