//! `lrun` within a container: of its own, and of podman. It works as far as that one allows, says what is weaker, and names what
//! stands in the way.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::containers::debian;
use crate::need;
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
