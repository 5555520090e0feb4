//! Containers of a real Debian, as an unprivileged user.

use std::process::Stdio;

use crate::need;
use crate::support::image::debian as debian_tar;
use crate::support::{Env, all, said};

/// A store with a real Debian in it, and the image's name.
pub fn debian() -> Result<(Env, String), String> {
    let env = Env::new()?;
    let tar = debian_tar()?;
    let copy = env.scratch.join("debian.tar");
    std::fs::hard_link(&tar, &copy)
        .or_else(|_| std::fs::copy(&tar, &copy).map(|_| ()))
        .map_err(|error| error.to_string())?;
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .map_err(|error| error.to_string())?;
    let name = "localhost/debian:test".to_owned();
    said(&env.lstore(&["import", "-q", "-c", "CMD [\"/bin/bash\"]", copy.to_str().unwrap_or_default(), &name]));
    Ok((env, name))
}

pub fn inside(env: &Env, image: &str, flags: &[&str], script: &str) -> String {
    said(&env.lrun(&[&["run", "--rm"], flags, &[image, "sh", "-c", script]].concat()))
}

#[test]
fn isolation_is_what_it_should_be() {
    let (env, image) = need!("isolation", debian());
    let user = env.user.clone().unwrap();
    let map = inside(&env, &image, &[], "cat /proc/self/uid_map");
    let map: Vec<Vec<&str>> = map.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(map, [vec!["0", &user.uid.to_string(), "1"], vec!["1", "2000000", "65536"]]);
    assert_eq!(inside(&env, &image, &[], "cat /proc/1/setgroups"), "allow\n");

    // Process 1 itself, not a shell around it: a shell blocks signals while it forks.
    let status = said(&env.lrun(&["run", "--rm", &image, "cat", "/proc/1/status"]));
    for (field, value) in [
        ("CapEff", "00000000a80425fb"),
        ("CapPrm", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Seccomp", "2"),
        ("SigIgn", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
        assert_eq!(line.trim(), value, "{field}");
    }
    let processes = inside(&env, &image, &[], "cd /proc && for p in [0-9]*; do echo $p; done; readlink /proc/1/exe");
    let processes: Vec<&str> = processes.lines().collect();
    assert_eq!((processes[0], processes.len() <= 3), ("1", true), "{processes:?}");
    assert_eq!(processes.last(), Some(&"/usr/bin/dash"));
    assert_eq!(inside(&env, &image, &[], "ls /sys/class/net"), "lo\n");
    assert_eq!(inside(&env, &image, &[], "cat /sys/class/net/lo/operstate; ls /proc/self/fd | wc -l"), "unknown\n4\n");

    // Of every mount the part that is shown: nothing of the host's tree but six devices and the null behind masks.
    let mounts = inside(&env, &image, &[], "cat /proc/self/mountinfo");
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let kind = line.split(" - ").nth(1).unwrap().split(' ').next().unwrap();
        let expected = match kind {
            "proc" => true,
            "devtmpfs" | "tmpfs" => {
                ["/", "/null", "/zero", "/full", "/random", "/urandom", "/tty"].contains(&fields[3])
            }
            _ => fields[3] == "/",
        };
        assert!(expected, "{line}");
        assert!(!line.contains("shared:") && !line.contains("master:"), "nothing travels: {line}");
    }
    assert!(mounts.lines().next().unwrap().contains("overlay"));
}

#[test]
fn what_must_not_work_does_not() {
    let (env, image) = need!("what_must_not_work", debian());
    for script in [
        "mount -t proc proc /mnt",
        "mount -o remount,rw /sys",
        "umount /proc/keys",
        "unshare -Ur true",
        "unshare -m true",
        "mknod /disk b 8 0",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "test -s /proc/keys",
        "chroot / unshare -n true",
        "hostname other",
        "date -s 2001-01-01",
        "kill -0 2000000",
    ] {
        let output = env.lrun(&["run", "--rm", &image, "sh", "-c", script]);
        assert!(!output.status.success(), "{script}: {}", all(&output));
    }
}

#[test]
fn packages_can_be_installed_and_the_image_stays_as_it_was() {
    let (env, image) = need!("packages_can_be_installed", debian());
    let script = "apt-get update -qq && apt-get install -y -qq hello > /dev/null && hello";
    let output = env.lrun(&["run", "--rm", "--network", "host", &image, "sh", "-c", script]);
    if !output.status.success() {
        let update = env.lrun(&["run", "--rm", "--network", "host", &image, "apt-get", "update"]);
        if all(&update).contains("Failed to fetch") || !update.status.success() {
            return crate::support::skip("packages_can_be_installed", "the package mirror does not answer");
        }
    }
    assert!(said(&output).contains("Hello, world!"), "{}", all(&output));
    let gone = env.lrun(&["run", "--rm", &image, "hello"]);
    assert_eq!(gone.status.code(), Some(127));
    env.ok(&["fsck"]);
}

#[test]
fn nothing_that_a_container_does_changes_the_pool() {
    let (env, image) = need!("nothing_changes_the_pool", debian());
    let state = || {
        let script = "find objects -type f -printf '%p %s %m %U %G %T@ ' -exec sha256sum {} \\; | sort";
        said(&env.command("sh").args(["-c", script]).current_dir(&env.store).output().unwrap())
    };
    let before = state();
    assert!(before.lines().count() > 1000);
    let script = "echo x >> /bin/sh; chmod 777 /bin/ls; chown 5:5 /bin/cat; touch -d 2001-01-01 /bin/date; \
                  truncate -s 0 /etc/passwd; ln /bin/true /linked && echo x >> /linked; rm -rf /usr/share; \
                  sed -i s/root/toor/ /etc/group; exec 3<> /bin/dd && echo x >&3; true";
    inside(&env, &image, &[], script);
    assert!(before == state(), "an object has changed");
    env.ok(&["fsck"]);
}

#[test]
fn flags_do_what_podmans_do() {
    let (env, image) = need!("flags", debian());
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    assert_eq!(run(&["-e", "A=1", "-e", "A=2"], "echo $A"), "2\n");
    std::fs::write(env.scratch.join("env"), "# comment\nB=from file\n").unwrap();
    assert_eq!(run(&["--env-file", "env"], "echo $B"), "from file\n");
    assert_eq!(run(&["-w", "/new/dir"], "pwd"), "/new/dir\n");
    assert_eq!(run(&["-u", "nobody"], "id -un; grep CapEff /proc/self/status"), "nobody\nCapEff:\t0000000000000000\n");
    assert_eq!(run(&["-u", "12:34"], "id -u; id -g"), "12\n34\n");
    assert_eq!(run(&["--hostname", "box"], "hostname; cat /etc/hostname"), "box\nbox\n");
    assert_eq!(run(&["--read-only"], "touch /x 2>/dev/null || echo refused"), "refused\n");
    assert_eq!(run(&["--read-only", "--tmpfs", "/t:size=1m"], "touch /t/x && echo written"), "written\n");
    // What programs need to write to is in memory, and begins with what the image has there.
    let script = "for at in /run /tmp /var/tmp /dev/shm; do touch $at/x 2>/dev/null && stat -fc %T $at; done; \
                  stat -c '%n %a' /run/* /run/.containerenv";
    let told = "tmpfs\ntmpfs\ntmpfs\ntmpfs\n/run/lock 1777\n/run/x 644\n/run/.containerenv 644\n";
    assert_eq!(run(&["--read-only"], script), told);
    let told = "tmpfs\n/run/lock 1777\n/run/.containerenv 644\n";
    assert_eq!(run(&["--read-only", "--read-only-tmpfs=false"], script), told);
    let read_only = ["--tmpfs", "/etc:tmpcopyup,ro,nosuid,noexec"];
    assert_eq!(run(&read_only, "touch /etc/x 2>/dev/null || grep -c . /etc/debian_version"), "1\n");
    assert_eq!(run(&["--cap-drop", "ALL"], "grep CapBnd /proc/1/status"), "CapBnd:\t0000000000000000\n");
    assert_eq!(
        run(&["--cap-drop", "all", "--cap-add", "chown"], "grep CapEff /proc/1/status"),
        "CapEff:\t0000000000000001\n"
    );
    assert_eq!(run(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/1/status"), "NoNewPrivs:\t1\n");
    assert_eq!(run(&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/1/status"), "Seccomp:\t0\n");
    let own = env.user.clone().unwrap().uid.to_string();
    assert_eq!(run(&["--userns", "keep-id"], "id -u"), format!("{own}\n"));
    // By a line of its own in the image's passwd, which is then closed.
    assert_eq!(
        run(&["--userns", "keep-id", "--read-only"], "id -un; touch /etc/x 2>/dev/null || echo closed"),
        "lstest\nclosed\n"
    );

    let host = said(&std::process::Command::new("readlink").arg("/proc/self/ns/net").output().unwrap());
    assert_eq!(run(&["--network", "host"], "readlink /proc/self/ns/net"), host);
    assert_ne!(run(&["--network", "none"], "readlink /proc/self/ns/net"), host);

    let entry = env.lrun(&["run", "--rm", "--entrypoint", "echo", &image, "from", "entrypoint"]);
    assert_eq!(said(&entry), "from entrypoint\n");
    let short = env.lrun(&["--rm", &image, "echo", "short form"]);
    assert_eq!(said(&short), "short form\n");
}

#[test]
fn with_keep_id_the_caller_is_itself_and_root_is_root() {
    let (env, image) = need!("with_keep_id", debian());
    let user = env.user.clone().unwrap();
    let own = format!("{}:{}", user.uid, user.gid);
    for plain in [&[][..], &["--no-holder"]] {
        let run = |flags: &[&str], script: &str| inside(&env, &image, &[plain, flags].concat(), script);
        let owners = "stat -c %u:%g / /etc /usr/bin/passwd; stat -c %g /etc/shadow";
        assert_eq!(run(&["--userns", "keep-id"], owners), "0:0\n0:0\n0:0\n42\n");
        assert_eq!(run(&["--userns", "keep-id"], "echo $(id -u):$(id -g)"), format!("{own}\n"));
        assert_eq!(run(&["--userns", "keep-id"], "touch /etc/x 2>/dev/null || echo refused"), "refused\n");
        // Nobody of the image is the caller, and everybody exists.
        let strangers = "find / -xdev -path /proc -prune -o -path /sys -prune -o \\( -nouser -o -uid ID \\) -print";
        let strangers = strangers.replace("ID", &user.uid.to_string());
        assert_eq!(run(&["--userns", "keep-id", "-u", "0"], &strangers), "");
        let flags = ["--userns", "keep-id:uid=200,gid=210,size=65536"];
        assert_eq!(
            run(&flags, "id -u; id -g; stat -c %u /etc; cut -c23- /proc/self/uid_map | wc -l"),
            "200\n210\n0\n3\n"
        );
        // What it writes outside is its own.
        let folder = env.scratch.join("own");
        let _ = std::fs::create_dir(&folder);
        std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        let volume = format!("{}:/data", folder.display());
        run(&["--userns", "keep-id", "-v", &volume], "touch /data/file");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.join("file")).unwrap()), user.uid);
    }
    // As root is the caller where nothing else is said: the two checkouts are two.
    assert_eq!(inside(&env, &image, &[], "stat -c %u:%g / /etc; id -u"), "0:0\n0:0\n0\n");
    env.ok(&["fsck"]);
}

#[test]
fn with_keep_id_capabilities_of_files_hold() {
    let env = need!("with_keep_id_capabilities", Env::new());
    let tar = need!("with_keep_id_capabilities", debian_tar());
    need!("with_keep_id_capabilities", crate::support::has("setcap"));
    let rootfs = env.scratch.join("capable");
    let command = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{}", all(&output));
    };
    let path = rootfs.to_str().unwrap();
    std::fs::create_dir(&rootfs).unwrap();
    command("tar", &["-xf", tar.to_str().unwrap(), "-C", path]);
    command("cp", &[&format!("{path}/usr/bin/cat"), &format!("{path}/usr/bin/capable")]);
    command("setcap", &["cap_net_raw+ep", &format!("{path}/usr/bin/capable")]);
    let packed = env.scratch.join("capable.tar");
    let own = "--xattrs-include=security.capability";
    command("tar", &["-C", path, "--xattrs", own, "-cf", packed.to_str().unwrap(), "."]);
    env.ok(&["import", "-q", packed.to_str().unwrap(), "capable:1"]);
    for flags in [&["-u", "33"][..], &["--userns", "keep-id"]] {
        let status = inside(&env, "capable:1", flags, "capable /proc/self/status");
        assert!(status.contains("CapEff:\t0000000000002000"), "{flags:?}: {status}");
    }
    env.ok(&["fsck"]);
}

#[test]
fn volumes_show_the_hosts_files() {
    let (env, image) = need!("volumes", debian());
    let folder = env.scratch.join("shared");
    std::fs::create_dir(&folder).unwrap();
    let user = env.user.clone().unwrap();
    std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
    let volume = format!("{}:/data", folder.display());
    inside(&env, &image, &["-v", &volume], "echo written > /data/file; chown 33:33 /data/file");
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "written\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.join("file")).unwrap());
    assert_eq!(owner, 2_000_000 + 32, "ids are those of the range");
    let read_only = format!("{volume}:ro");
    assert_eq!(
        inside(&env, &image, &["-v", &read_only], "echo x > /data/file 2>/dev/null || cat /data/file"),
        "written\n"
    );
    let relative = ["--mount", "type=bind,source=./shared/file,target=/etc/one,ro"];
    assert_eq!(inside(&env, &image, &relative, "cat /etc/one"), "written\n");
}

#[test]
fn standard_streams_and_terminals_are_passed_through() {
    let (env, image) = need!("standard_streams", debian());
    let mut echo = env.command("lrun");
    let mut process =
        echo.args(["run", "--rm", "-i", &image, "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut process.stdin.take().unwrap(), b"through\n").unwrap();
    assert_eq!(process.wait_with_output().unwrap().stdout, b"through\n");
    let closed = env.lrun(&["run", "--rm", &image, "cat"]);
    assert!(closed.status.success() && closed.stdout.is_empty(), "without -i there is no input");

    need!("standard_streams (terminal)", crate::support::has("script"));
    let line =
        format!("stty rows 33 cols 77; lrun run --rm -it {image} sh -c 'tty; stty size; ls /dev/console; exit 5'");
    let output = env.command("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    let told = all(&output);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("/dev/pts/0") && told.contains("33 77") && told.contains("/dev/console"), "{told}");
}

#[test]
fn signals_are_forwarded_and_no_container_outlives_its_runner() {
    let (env, image) = need!("signals", debian());
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut process = env.spawn("lrun", &["run", "--rm", &image, "sh", "-c", script]);
    let mut output = std::io::BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(3));

    for flags in [&["run", "--rm"][..], &["run", "--rm", "--init", "-u", "33"]] {
        let mut process = env.spawn("lrun", &[flags, &[&image, "sh", "-c", "echo ready; sleep 1000"]].concat());
        let mut output = std::io::BufReader::new(process.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        // The pipe ends only when nobody inside holds it any more.
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    }
    // The next container sweeps what the killed ones left.
    inside(&env, &image, &[], "true");
    for _ in 0..100 {
        if std::fs::read_dir(env.store.join("containers")).unwrap().count() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("a container's folder is left");
}

#[test]
fn init_reaps_what_is_left_and_passes_the_status_on() {
    let (env, image) = need!("init", debian());
    let script =
        "(sleep 0.1 &) ; sleep 0.4; cat /proc/[0-9]*/stat | grep -c ' Z ' ; readlink /proc/$$/exe; echo $$; exit 9";
    let output = env.lrun(&["run", "--rm", "--init", &image, "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(9), "{}", all(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(told.lines().next(), Some("0"), "{told}");
    assert_ne!(told.lines().last(), Some("1"), "{told}");
    let exe = env.lrun(&["run", "--rm", "--init", &image, "readlink", "/proc/1/exe"]);
    assert!(!exe.status.success(), "the init's program is out of reach: {}", all(&exe));
}

#[test]
fn a_directory_can_be_the_root() {
    let (env, image) = need!("a_directory_can_be_the_root", debian());
    env.ok(&["checkout", &image, "rootfs"]);
    let output =
        env.lrun(&["run", "--rm", "--rootfs", "rootfs", "sh", "-c", "echo kept > /made; cat /etc/debian_version"]);
    assert!(said(&output).starts_with("12"), "{}", all(&output));
    assert_eq!(std::fs::read_to_string(env.scratch.join("rootfs/made")).unwrap(), "kept\n");
    env.ok(&["unshare", "rm", "-r", "rootfs"]);
}

#[test]
fn every_placement_runs() {
    let (env, image) = need!("every_placement_runs", debian());
    for placement in ["stub", "hardlink", "copy"] {
        let flags =
            ["run", "--rm", "--placement", placement, &image, "sh", "-c", "cat /etc/debian_version; test -u /bin/su"];
        let output = env.lrun(&flags);
        assert!(
            output.status.success() || all(&output).contains("cannot be used here"),
            "{placement}: {}",
            all(&output)
        );
    }
}

#[test]
fn what_a_start_remembers_of_an_image_ends_with_the_next_change() {
    let (env, image) = need!("what_a_start_remembers", debian());
    let answers = || std::fs::read_dir(env.store.join("starts")).map_or(0, Iterator::count);
    // An index that has just changed could change again unnoticed: what it says is not kept.
    assert_eq!(inside(&env, &image, &[], "echo one"), "one\n");
    std::thread::sleep(std::time::Duration::from_millis(200));
    for _ in 0..2 {
        assert_eq!(inside(&env, &image, &[], "echo one"), "one\n");
        assert_eq!(answers(), 1);
    }
    // A damaged answer is none.
    let answer = std::fs::read_dir(env.store.join("starts")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&answer, "{}").unwrap();
    assert_eq!(inside(&env, &image, &[], "echo two"), "two\n");
    assert_ne!(std::fs::read_to_string(&answer).unwrap(), "{}");

    // The name goes to an image with another command, then to none.
    let tar = env.scratch.join("debian.tar");
    env.ok(&["import", "-q", "-c", "CMD [\"echo\", \"changed\"]", tar.to_str().unwrap(), &image]);
    assert_eq!(said(&env.lrun(&["run", "--rm", &image])), "changed\n");
    env.ok(&["rmi", &image]);
    assert_eq!(env.lrun(&["run", "--rm", "--pull", "never", &image]).status.code(), Some(125));
    env.ok(&["gc"]);
    assert_eq!(answers(), 0);
}

#[test]
fn a_missing_image_is_pulled() {
    let registry = need!("a_missing_image_is_pulled", crate::support::registry::Registry::start());
    let env = need!("a_missing_image_is_pulled", Env::new());
    let tar = need!("a_missing_image_is_pulled", debian_tar());
    let image = crate::support::image::Image::new(&[std::fs::read(tar).unwrap()], crate::support::image::Packing::Gzip);
    let name = registry.push(&image, "debian:12");
    let output = env.lrun(&["run", "--rm", &name, "cat", "/etc/debian_version"]);
    assert!(said(&output).starts_with("12"), "{}", all(&output));
    let exported = env.json(&["inspect", &name])[0]["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    assert_eq!(crate::support::image::sha256(&env.lstore(&["export", "--layer", &exported]).stdout), exported);
}

#[test]
fn without_a_subordinate_range_root_is_the_only_user() {
    let mut env = need!("without_a_range", Env::new());
    let tar = need!("without_a_range", debian_tar());
    let nobody = crate::support::User { uid: 65_534, gid: 65_534, home: "/nonexistent".into() };
    std::os::unix::fs::chown(&env.scratch, Some(nobody.uid), Some(nobody.gid)).unwrap();
    env.user = Some(nobody);
    let import =
        env.command("sh").args(["-c", "lstore import -q - alone:1"]).stdin(std::fs::File::open(tar).unwrap()).output();
    said(&import.unwrap());
    let output = env.lrun(&[
        "run",
        "--rm",
        "alone:1",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; stat -c %u /bin/sh; ls /dev/pts",
    ]);
    let told = all(&output);
    assert!(output.status.success() && told.contains("a single user id"), "{told}");
    assert!(
        told.split_ascii_whitespace().collect::<Vec<_>>().windows(3).any(|map| map == ["0", "65534", "1"]),
        "{told}"
    );
}
