//! `lrun` within a container: of its own, of podman, in bwrap, in a user namespace, in a chroot. It works as far as that one allows,
//! says what is weaker, and names what stands in the way.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::containers::debian;
use crate::need;
use crate::own_copy::{IMAGE, small};
use crate::support::{Env, all, has, programs, run, said};

/// Makes an image of a few of the container's own files, in a store in `/s`, and runs a script in it.
const INNER: &str = r#"#!/bin/sh
export LSTORE_ROOT=/s/store HOME=/s XDG_RUNTIME_DIR=/s
lib=/usr/lib/x86_64-linux-gnu
[ -e $lib ] || lib=/usr/lib/aarch64-linux-gnu
tar -cf /s/small.tar /bin /lib /lib64 /usr/lib64 /usr/bin/dash /usr/bin/sh /usr/bin/cat /usr/bin/id /usr/bin/ls \
    $lib/libc.so.6 $lib/ld-linux-* $lib/libselinux.so.1* $lib/libpcre2-8.so.0* 2> /dev/null
lstore import -q /s/small.tar localhost/small:1 > /dev/null && lrun run --rm localhost/small:1 sh -c "$1"
"#;

/// What is asked: who one is, which processes one sees, and which network devices.
const LOOK: &str = "id -u; cd /proc; echo [0-9]*; ls /sys/class/net";

fn prepared() -> Result<(Env, String), String> {
    let (env, image) = debian()?;
    let bin = env.scratch.join("bin");
    std::fs::create_dir(&bin).map_err(|error| error.to_string())?;
    run(Command::new("cp").arg(programs().join("lrun")).arg(programs().join("lstore")).arg(&bin))?;
    std::fs::write(bin.join("inner"), INNER).map_err(|error| error.to_string())?;
    std::fs::set_permissions(bin.join("inner"), PermissionsExt::from_mode(0o755)).map_err(|error| error.to_string())?;
    Ok((env, image))
}

/// Where the outer container allows all, nothing is weaker; elsewhere what is weaker or missing is told.
fn holds(outer: &str, outside: &dyn Fn(&[&str]) -> Output) {
    let power = ["--privileged", "-v", "/s"];
    let whole = outside(&power);
    assert_eq!(all(&whole), "0\n1\nlo\n", "{outer}: as in no other");

    let refused = outside(&["-v", "/s"]);
    assert_eq!(refused.status.code(), Some(125), "{outer}: {}", all(&refused));
    assert!(all(&refused).contains("lacks the capability SYS_ADMIN"), "{outer}: {}", all(&refused));
    assert!(all(&refused).contains("--privileged"), "{outer}: {}", all(&refused));

    let store_in_memory = ["--tmpfs", "/s:mode=1777,exec"];
    let filter = ["-u", "1000", "--security-opt", "seccomp=unconfined"];
    let weaker = outside(&[&filter[..], &store_in_memory].concat());
    assert!(weaker.status.success() && weaker.stdout.starts_with(b"0\n1 "), "{outer}: {}", all(&weaker));
    for what in
        ["the container has a single user id", "/proc is the one of the outside", "/sys is the one of the outside"]
    {
        let told = format!("lrun: warning: {what}");
        assert_eq!(all(&weaker).matches(&told).count(), 1, "{outer}, {what}: {}", all(&weaker));
    }
    let open = ["--security-opt", "unmask=ALL"];
    let whole = outside(&[&filter[..], &open, &store_in_memory].concat());
    assert!(whole.stdout == b"0\n1\nlo\n" && !all(&whole).contains("the outside"), "{outer}: {}", all(&whole));
}

#[test]
fn lrun_in_lrun_works_as_far_as_it_is_allowed() {
    let (env, image) = need!("lrun_in_lrun", prepared());
    let bin = format!("{}:/usr/local/bin:ro", env.scratch.join("bin").display());
    let outside = |flags: &[&str], command: &[&str]| {
        env.lrun(&[&["run", "--rm", "-v", &bin], flags, &[image.as_str()], command].concat())
    };
    holds("lrun", &|flags| outside(flags, &["inner", LOOK]));

    // Among the outer container's own files.
    let overlay = outside(&["--privileged"], &["sh", "-c", "mkdir /s; inner \"$1\"", "sh", LOOK]);
    assert!(overlay.status.success() && overlay.stdout == b"0\n1\nlo\n", "{}", all(&overlay));
    assert!(all(&overlay).contains("the store is on an overlay") && all(&overlay).contains("-v /store"));
    // Power over mounts, none over networks.
    let down = outside(&["--cap-add", "SYS_ADMIN", "-v", "/s"], &["inner", LOOK]);
    assert!(down.status.success() && down.stdout == b"0\n1\nlo\n", "{}", all(&down));
    assert!(
        all(&down).contains("the loopback device is down: this root lacks the capability NET_ADMIN"),
        "{}",
        all(&down)
    );
    let filtered = outside(&["-u", "1000", "--tmpfs", "/s:mode=1777,exec"], &["inner", "true"]);
    assert!(!filtered.status.success() && all(&filtered).contains("seccomp=unconfined"), "{}", all(&filtered));
}

#[test]
fn lrun_in_podman_works_as_far_as_it_is_allowed() {
    let (env, image) = need!("lrun_in_podman", has("podman").and_then(|()| prepared()));
    env.ok(&["checkout", &image, "rootfs"]);
    // podman wants groups of version 2 alone.
    let podman = |words: &[&str]| {
        let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && \
                      exec setpriv --reuid=$TEST_UID --regid=$TEST_GID --clear-groups podman --root \"$PWD/pod\" --runroot \"$PWD/podrun\" \"$@\"";
        let user = env.user.as_ref().unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &user.home)
            .env("XDG_RUNTIME_DIR", env.scratch.join("run"))
            .env("TEST_UID", user.uid.to_string())
            .env("TEST_GID", user.gid.to_string())
            .current_dir(&env.scratch)
            .stdin(Stdio::null());
        command.output().unwrap()
    };
    let works = podman(&["info"]);
    if !works.status.success() {
        return crate::support::skip("lrun_in_podman", &format!("podman does not work here: {}", all(&works)));
    }
    let bin = format!("{}:/usr/local/bin:ro", env.scratch.join("bin").display());
    let rootfs = env.scratch.join("rootfs").display().to_string();
    holds("podman", &|flags| {
        let fixed = ["run", "--rm", "--cgroups=disabled", "--network", "none", "--log-driver", "none", "-v", &bin];
        podman(&[&fixed, flags, &["--rootfs", &rootfs, "inner", LOOK]].concat())
    });
    // What podman itself leaves running.
    said(&podman(&["system", "migrate"]));
}

#[test]
fn lrun_in_a_sandbox_works_as_far_as_it_is_allowed() {
    let (env, _) = need!("lrun_in_a_sandbox", has("bwrap").and_then(|()| small()));
    let look = ["run", "--rm", IMAGE, "sh", "-c", "cd /proc; echo [0-9]*; cat /srv/one"];
    let within = |sandbox: &str, words: &[&str]| {
        let mut sandbox = sandbox.split(' ');
        env.command(sandbox.next().unwrap()).args(sandbox).arg("lrun").args(words).output().unwrap()
    };
    let whole = "bwrap --unshare-all --bind / / --dev /dev --proc /proc";
    for (sandbox, told) in
        [(whole, "do not exist in the container or sandbox around"), ("unshare -r", "forbids to change groups")]
    {
        let ran = within(sandbox, &look);
        assert!(ran.status.success() && ran.stdout == b"1\none\n", "{sandbox}: {}", all(&ran));
        assert_eq!(all(&ran).matches(told).count(), 1, "{sandbox}: {}", all(&ran));
    }
    let unusable = format!("{whole} --unshare-user --disable-userns");
    for (sandbox, told) in [
        ("bwrap --unshare-all --bind / / --dev /dev", "`bwrap --proc /proc`"),
        (unusable.as_str(), "leave out --disable-userns"),
        ("bwrap --unshare-all --uid 0 --bind / / --dev /dev --proc /proc", "lacks the capability SYS_ADMIN"),
    ] {
        let ran = within(sandbox, &look);
        assert_eq!(ran.status.code(), Some(125), "{sandbox}: {}", all(&ran));
        assert!(all(&ran).contains(told), "{sandbox}: {}", all(&ran));
    }
}

/// Two programs, what the kernel shows, and a store: where root builds packages. The mounts around are shared, as systemd has them.
const CHROOT: &str = r#"
    mkdir -p tree/bin tree/proc tree/dev tree/tmp && cp "$1"/lrun "$1"/lstore small.tar tree/bin
    mount --bind /proc tree/proc && mount --rbind /dev tree/dev
    before=$(cat /proc/self/mountinfo)
    export LSTORE_ROOT=/store HOME=/
    within() { chroot tree "$@"; }
    within /bin/lstore import -q /bin/small.tar localhost/small:1 > /dev/null
    within /bin/lrun run --rm localhost/small:1 sh -c 'cd /proc; echo [0-9]*; cat /srv/one'
    within /bin/lrun run -d --name x localhost/small:1 sleep 100 > /dev/null
    within /bin/lrun exec x sh -c 'echo /bin/l*'
    within /bin/lrun rm -f -t 0 x
    [ "$before" = "$(cat /proc/self/mountinfo)" ] || echo "mounts went out"
    chmod 1777 tree/tmp
    LSTORE_ROOT=/tmp/store chroot --userspec="$2:$2" tree /bin/lrun run --rm localhost/small:1 true && echo ran
"#;

#[test]
fn lrun_in_a_chroot_works_for_root_and_tells_others_why_not() {
    let (env, _) = need!("lrun_in_a_chroot", small());
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "shared", "sh", "-c", CHROOT, "sh"]).arg(programs());
    let ran = command.arg(env.user.as_ref().unwrap().uid.to_string()).current_dir(&env.scratch).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "1\none\n/bin/l*\nx\n", "{}", all(&ran));
    assert!(all(&ran).contains("this is a chroot, in which the kernel makes none; run as root"), "{}", all(&ran));
}
