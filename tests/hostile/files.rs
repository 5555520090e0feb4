//! Rows about files: of the image, of volumes, of the pool.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;

use super::Prison;
use crate::containers::debian;
use crate::need;
use crate::support::image::sha256;
use crate::support::{Env, all, said};

#[test]
fn row_02_an_image_without_true_proc_or_sys_is_refused() {
    let prison = need!("row 2", Prison::open());
    let canary = prison.folder("row-2");
    for (name, make) in [
        ("proc-link", format!("ln -s {} proc", canary.display())),
        ("sys-link", format!("ln -s {} sys", canary.display())),
        ("proc-inner-link", "mkdir tmp && ln -s tmp proc".to_owned()),
        ("proc-file", "echo x > proc".to_owned()),
        ("sys-file", "echo x > sys".to_owned()),
    ] {
        let image = prison.tiny(name, &make);
        for flags in [&[][..], &["--network", "host"], &["--no-holder"]] {
            let output = prison.env.lrun(&[&["run", "--rm"], flags, &[&image]].concat());
            assert_eq!(output.status.code(), Some(125), "{name} {flags:?}: {}", all(&output));
            assert!(all(&output).contains("cannot mount /"), "{name}: {}", all(&output));
        }
    }
    assert_eq!(std::fs::read_dir(canary).unwrap().count(), 0);
}

#[test]
fn row_03_links_in_the_images_dev_lead_nowhere() {
    let prison = need!("row 3", Prison::open());
    let canary = prison.folder("row-3");
    let victim = canary.join("victim");
    std::fs::write(&victim, "whole").unwrap();
    let out = canary.display();
    let image = prison.tiny("dev-link", &format!("ln -s {out} dev"));
    let output = prison.env.lrun(&["run", "--rm", &image]);
    assert!(output.status.code() == Some(125) && all(&output).contains("symbolic link"), "{}", all(&output));
    let inner = format!(
        "mkdir dev && ln -s {out} dev/pts && ln -s {out} dev/shm && ln -s {out} dev/mqueue && \
         for n in null console zero full random urandom tty ptmx; do ln -s {out}/victim dev/$n; done"
    );
    let image = prison.tiny("dev-inner", &inner);
    for flags in [&[][..], &["-t"], &["--no-holder"], &["--privileged"]] {
        let output = prison.env.lrun(&[&["run", "--rm"], flags, &[&image]].concat());
        assert!(all(&output).contains("lrun "), "{flags:?}: {}", all(&output));
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"whole");
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 1);
}

#[test]
fn row_04_a_mount_target_that_is_swapped_stays_inside() {
    let prison = need!("row 4", Prison::open());
    let (shared, host) = (prison.folder("row-4-shared"), prison.folder("row-4-host"));
    let volume = format!("{}:/data", shared.display());
    let swap = format!(
        "mkdir /data/a; ln -s {} /data/b; while :; do mv -T /data/a /data/t; mv -T /data/b /data/a; \
                        mv -T /data/t /data/b; mv -T /data/a /data/t; mv -T /data/b /data/a; mv -T /data/t /data/b; done",
        host.display()
    );
    let mut swapper = prison.env.spawn("lrun", &["run", "--rm", "-v", &volume, &prison.image, "sh", "-c", &swap]);
    let inner = format!("{}:/data/a/inner/deep", prison.folder("row-4-inner").display());
    for _ in 0..15 {
        // Whether a start wins or loses the race is no matter: a place is found inside or not at all.
        let output = prison.run(&["-v", &volume, "-v", &inner], "cat /proc/self/mountinfo");
        assert!([Some(0), Some(125)].contains(&output.status.code()), "{}", all(&output));
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0, "something was made on the host");
    }
    swapper.kill().unwrap();
    swapper.wait().unwrap();
}

#[test]
fn row_05_writes_for_the_kernel_land_in_no_other_file() {
    let prison = need!("row 5", Prison::open());
    // A label or profile that the machine cannot give is refused and not ignored.
    for (option, module) in [("label=type:container_t", "SELinux"), ("apparmor=no-such-profile", "AppArmor")] {
        let output = prison.run(&["--security-opt", option], "true");
        assert!(output.status.code() == Some(125) && all(&output).contains(module), "{}", all(&output));
    }
    // Nor is anything written to what only looks like the kernel's: a volume in place of /proc.
    let fake = prison.folder("row-5");
    let file = fake.join("sys/net/ipv4/ip_forward");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "untouched").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let volume = format!("{}:/proc", fake.display());
    let output = prison.run(&["-v", &volume, "--sysctl", "net.ipv4.ip_forward=1"], "true");
    assert_eq!(output.status.code(), Some(125));
    assert!(all(&output).contains("it is no file of the kernel's"), "{}", all(&output));
    assert_eq!(std::fs::read(&file).unwrap(), b"untouched");
}

#[test]
fn row_06_no_descriptor_and_no_working_directory_of_the_host() {
    let prison = need!("row 6", Prison::open());
    for number in 0..20 {
        for path in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/../../.."),
            format!("/proc/1/fd/{number}"),
        ] {
            let output =
                prison.command(&["-w", &path], &["sh", "-c", "ls -d /proc/self/cwd/home/*; ls ../../../../home"]);
            let told = all(&output);
            assert!(output.status.code() == Some(125) || !told.contains("lstest"), "{path}: {told}");
        }
    }
    assert_eq!(prison.tell(&[], "ls /proc/self/fd"), "0\n1\n2\n3\n", "3 is the folder that is listed");
    // The same for a command that joins.
    let name = format!("row-6-{}", std::process::id());
    said(&prison.env.lrun(&["run", "-d", "--rm", "--name", &name, &prison.image, "sleep", "60"]));
    assert_eq!(said(&prison.env.lrun(&["exec", &name, "ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
    for number in 3..12 {
        let path = format!("/proc/self/fd/{number}");
        let output = prison.env.lrun(&["exec", "-w", &path, &name, "sh", "-c", "ls -d /proc/self/cwd/home/*"]);
        assert!(!all(&output).contains("lstest"), "{path}: {}", all(&output));
    }
    prison.env.lrun(&["rm", "-f", &name]);
}

/// Objects of the pool with all that a container could want to change; the times and links of stubs' contents too.
fn pool(env: &Env, is_shared_by_links: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for folder in std::fs::read_dir(env.store.join("objects")).unwrap() {
        for object in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let (mode, uid, gid, time, nanoseconds) =
                (data.mode(), data.uid(), data.gid(), data.mtime(), data.mtime_nsec());
            let changed = if is_shared_by_links { (0, 0) } else { (data.ctime(), data.ctime_nsec()) };
            let bytes = sha256(&std::fs::read(&path).unwrap());
            let xattrs = xattrs(&path);
            lines.push(format!(
                "{} {mode:o} {uid} {gid} {time}.{nanoseconds} {changed:?} {bytes} {xattrs:?}",
                path.display()
            ));
        }
    }
    lines.sort();
    lines
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &str| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).map(|name| (name.clone(), value(&name))).collect()
}

/// Everything that writes, by every way that there is; what fails is no matter.
const POISON: &str = r#"
for f in /bin/ls /bin/sh /etc/passwd /usr/bin/perl /lib/x86_64-linux-gnu/libc.so.6; do
    ( echo x >> $f; chmod 777 $f; chown 5:5 $f; chmod 4755 $f; touch -d 2001-01-01 $f ) 2>/dev/null
done
( truncate -s 0 /etc/group; ln /bin/cat /linked && echo x >> /linked; mv /bin/dd /moved && echo x >> /moved
  cp --reflink=always /bin/true /cloned; echo x >> /cloned; rm -rf /usr/share/doc; sed -i s/root/toor/ /etc/shadow ) 2>/dev/null
perl -e 'sub try { my @a = @_; syscall(shift @a, @a) }
    for my $f ("/usr/bin/stat", "/usr/bin/tail", "/etc/debian_version") {
        my $n = length(my $value = "poison");
        try(188, $f, "user.poison", $value, $n, 0);            # setxattr
        try(188, $f, "user.overlay.redirect", $value, $n, 0);
        try(188, $f, "trusted.overlay.redirect", $value, $n, 0);
        try(188, $f, "security.capability", pack("LLLLL", 0x02000001, 0xffffffff, 0, 0xffffffff, 0), 20, 0);
        open(my $read, "<", $f);
        open(my $both, "+<", $f);
        for my $h ($read, $both) {                             # mmap, shared and private, written through by read(2)
            for my $flags (1, 2) {
                my $at = try(9, 0, 4096, 3, $flags, fileno($h), 0);
                open(my $zero, "<", "/dev/zero");
                try(0, fileno($zero), $at, 64) if $at != -1;
                try(26, $at, 4096, 4) if $at != -1;            # msync
            }
            my $one = pack("L", 0x10);
            try(16, fileno($h), 0x40086602, $one);             # FS_IOC_SETFLAGS
            try(285, fileno($h), 3, 0, 4096);                  # fallocate, a hole
            try(77, fileno($h), 1);                            # ftruncate
            open(my $again, "+<", "/proc/self/fd/" . fileno($h)) and print $again "poison";
        }
        # What was read before the copy and what was written after are two files.
        open(my $late, ">>", $f) and print $late "late";
        my $at = try(9, 0, 4096, 3, 1, fileno($read), 0);
    }
    open(my $mem, "+<", "/proc/self/mem");
    # The page cache by the kernel crypto: splice(2) into a socket that is refused.
    exit(try(41, 38, 5, 0) == -1 ? 0 : 9);
'
"#;

#[test]
fn row_24_nothing_that_a_container_does_reaches_the_pool() {
    for placement in ["stub", "hardlink", "copy"] {
        let (env, image) = need!("row 24", debian());
        let first = env.lrun(&["run", "--rm", "--placement", placement, &image, "true"]);
        if all(&first).contains("cannot be used here") {
            crate::support::skip(&format!("row 24 ({placement})"), &all(&first));
            continue;
        }
        let before = pool(&env, placement == "hardlink");
        assert!(before.len() > 1000);
        for flags in [&[][..], &["--privileged"], &["-u", "33"], &["--userns", "keep-id", "-u", "0"]] {
            let words = [&["run", "--rm", "--placement", placement], flags, &[&image, "sh", "-c", POISON]].concat();
            let output = env.lrun(&words);
            // The last try is AF_ALG's; a privileged container has no filter, and yet no write to what it reads.
            assert!(flags == ["--privileged"] || output.status.success(), "{flags:?}: {}", all(&output));
        }

        // A descriptor held open for writing, while the pool is looked at and a further checkout made of it.
        let hold = "exec 3<>/bin/ls 4>>/etc/passwd; echo held; read line; echo poison >&3; echo poison >&4; echo done; sleep 60";
        let mut command = env.command("lrun");
        let words = ["run", "--rm", "-i", "--placement", placement, &image, "sh", "-c", hold];
        let mut held = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = std::io::BufReader::new(held.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        env.ok(&["prepare", "--caller=7:7", &image]);
        std::io::Write::write_all(held.stdin.as_mut().unwrap(), b"go\n").unwrap();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "held\ndone\n");
        env.ok(&["fsck"]);
        let after = pool(&env, placement == "hardlink");
        held.kill().unwrap();
        held.wait().unwrap();
        let changed: Vec<_> = before.iter().zip(&after).filter(|(one, other)| one != other).collect();
        assert!(changed.is_empty() && before.len() == after.len(), "{placement}: {changed:?}");
        // What the next container of the image sees is the image.
        let script =
            "tail -c 7 /bin/ls | grep -c poison; ls -l /usr/bin/stat | cut -c1-10; grep -c toor /etc/shadow; true";
        let words = ["run", "--rm", "--placement", placement, &image, "sh", "-c", script];
        assert_eq!(said(&env.lrun(&words)), "0\n-rwxr-xr-x\n0\n");
    }
}

/// A file system in memory on a folder, until dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn tmpfs(folder: &'a Path) -> Self {
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "mode=777", "none"]).arg(folder).status();
        assert!(mount.unwrap().success());
        Self(folder)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn row_25_read_only_volumes_are_so_to_the_bottom() {
    let prison = need!("row 25", Prison::open());
    let folder = prison.folder("row-25");
    let below = folder.join("below");
    std::fs::create_dir(&below).unwrap();
    // A mount of the host's on the volume, writable by everybody.
    let mounted = Mounted::tmpfs(&below);
    let volume = format!("{}:/v:ro", folder.display());
    let tries = [
        "touch /v/x",
        "touch /v/below/x",
        "mount -o remount,rw /v",
        "mount -o remount,rw,bind /v/below",
        "umount /v/below",
    ];
    let unfiltered = ["-v", &volume, "--security-opt", "seccomp=unconfined"];
    prison.fails(&[&["-v", &volume], &["-v", &volume, "--no-holder"], &unfiltered], &tries);
    drop(mounted);

    // A link on the host is followed once, when the container starts.
    let (one, other) = (prison.folder("row-25-one"), prison.folder("row-25-other"));
    std::fs::write(one.join("name"), "one").unwrap();
    std::fs::write(other.join("name"), "other").unwrap();
    let link = prison.env.scratch.join("row-25-link");
    symlink(&one, &link).unwrap();
    let volume = format!("{}:/v", link.display());
    let script = "echo ready; read line; cat /v/name";
    let mut command = prison.env.command("lrun");
    let words = ["run", "--rm", "-i", "-v", &volume, &prison.image, "sh", "-c", script];
    let mut process = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    std::fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    std::io::Write::write_all(process.stdin.as_mut().unwrap(), b"go\n").unwrap();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    process.wait().unwrap();
    assert_eq!(line, "ready\none");
}

#[test]
fn row_26_nothing_of_the_image_is_run_or_loaded_outside() {
    let prison = need!("row 26", Prison::open());
    // Static: no interpreter, so no library, of the host or of an image, is ever loaded.
    for program in ["lrun", "lstore"] {
        let path = said(&prison.env.command("sh").args(["-c", &format!("command -v {program}")]).output().unwrap());
        let elf = std::fs::read(path.trim()).unwrap();
        let number = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
        let (size, count) = (number(54), number(56));
        let kinds: Vec<u8> = (0..count).map(|index| elf[64 + index * size]).collect();
        assert!(count > 0 && !kinds.contains(&3), "{program} has an interpreter");
    }
    let canary = prison.folder("row-26");
    std::fs::set_permissions(&canary, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // Programs by the names that a runner might call, and name services that lead to a library of the image.
    let script = format!(
        "mkdir -p usr/bin usr/sbin bin etc lib && for f in usr/bin/newuidmap usr/bin/newgidmap bin/sh usr/bin/lstore bin/tar; do \
         printf '#!/runner\\ntouch {0}/run\\n' > $f && chmod 4755 $f; done && printf 'passwd: evil\\n' > etc/nsswitch.conf && \
         cp /lib/x86_64-linux-gnu/libc.so.6 lib/libnss_evil.so.2 && printf 'eve:x:7:7::/:/bin/sh\\n' > etc/passwd",
        canary.display()
    );
    let image = prison.tiny("evil", &script);
    for flags in
        [&[][..], &["-u", "eve"], &["--no-holder"], &["--userns", "keep-id"], &["--group-add", "7"], &["--init"]]
    {
        let output = prison.env.lrun(&[&["run", "--rm"], flags, &[&image]].concat());
        assert!(output.status.success() && all(&output).contains("lrun "), "{flags:?}: {}", all(&output));
    }
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
}

/// A set-id file in a store would lend its owner's identity to every other user.
#[test]
fn nobody_else_reaches_into_a_store() {
    let prison = need!("store", Prison::open());
    let names = ["", "objects", "trees", "containers", "index.db"];
    let paths: Vec<String> = names.iter().map(|name| prison.env.store.join(name).display().to_string()).collect();
    let list = |who: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args([&format!("--reuid={who}"), &format!("--regid={who}"), "--clear-groups", "ls", "-d"]);
        // Each by itself: `.` at its end takes leave to enter it.
        let inner = paths.iter().map(|path| format!("{}/.", path.trim_end_matches("/index.db")));
        command.args(inner).output().unwrap()
    };
    let owner = prison.env.user.clone().unwrap().uid.to_string();
    assert!(list(&owner).status.success(), "{}", all(&list(&owner)));
    let told = said_nothing(&list("65533"));
    assert_eq!(told.matches("Permission denied").count(), paths.len(), "{told}");
}

/// What a command complained of, which printed nothing else.
fn said_nothing(output: &std::process::Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
