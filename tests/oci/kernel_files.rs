//! What is said to the kernel through files of /proc reaches the kernel, and nothing that only looks like it
//! (CVE-2019-16884, CVE-2025-52881).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::Bundle;
use super::bare::PROGRAM;
use crate::need;
use crate::support::all;

/// What files that are to be left alone hold.
const UNTOUCHED: &str = "untouched";
/// Files that a label, a score or a parameter goes to.
const FILES: [&str; 6] = [
    "self/attr/exec",
    "self/attr/apparmor/exec",
    "thread-self/attr/exec",
    "thread-self/attr/apparmor/exec",
    "self/oom_score_adj",
    "sys/net/ipv4/ip_forward",
];
/// Has a machine look as if it had both security modules: what is asked of them gets past the first look.
const MODULES: &str = r#"
set -e
mount -t tmpfs security /sys/kernel/security
mkdir -p /sys/kernel/security/apparmor "$S/fs"
mount -t tmpfs fs "$S/fs"
mkdir "$S/fs/selinux" "$S/fs/cgroup"
echo 1 > "$S/fs/selinux/enforce"
mount --rbind /sys/fs/cgroup "$S/fs/cgroup"
mount --rbind "$S/fs" /sys/fs
exec "$@"
"#;

impl Bundle {
    /// A folder that looks like /proc, as far as something is written there.
    fn likeness(&self, folder: &str) -> PathBuf {
        let likeness = self.make(folder).unwrap();
        for file in FILES {
            let path = likeness.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, UNTOUCHED).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        }
        // The way to them is open for all too.
        let open = Command::new("chmod").args(["-R", "a+rwX"]).arg(&likeness).status();
        assert!(open.unwrap().success());
        likeness
    }

    /// As [`Self::oci`], on a machine that looks as if it had security modules.
    fn with_modules(&self, words: &[&str]) -> Output {
        let mut command = self.by_root("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", MODULES, "sh"]);
        command.args(self.whose("--clear-groups", words));
        self.output(command)
    }
}

/// Nothing was written to what only looks like /proc.
fn is_untouched(likeness: &Path, when: &str) {
    for file in FILES {
        assert_eq!(std::fs::read_to_string(likeness.join(file)).unwrap(), UNTOUCHED, "{when}: {file}");
    }
}

/// The wishes that are granted by a file of /proc.
fn wishes() -> [(&'static str, Value); 2] {
    [("apparmorProfile", json!("no-such-profile")), ("selinuxLabel", json!("u:r:no_such_t:s0"))]
}

/// All ways in which something else than the kernel's can be at /proc: what the bundle has there, and where the likeness is.
fn ways(bundle: &Bundle) -> Vec<(&'static str, Option<Value>, PathBuf)> {
    let volume = bundle.likeness("likeness");
    let bind = json!({"destination": "/proc", "type": "bind", "source": volume, "options": ["rbind"]});
    let dotted = json!({"destination": "/sys/../proc/.", "type": "bind", "source": volume, "options": ["rbind"]});
    let memory = json!({"destination": "/proc", "type": "tmpfs", "options": ["tmpcopyup"]});
    let image = bundle.likeness("root/proc");
    vec![
        ("a volume", Some(bind), volume.clone()),
        ("a volume by another name", Some(dotted), volume),
        ("a file system in memory", Some(memory), image.clone()),
        ("the image's own files", None, image),
    ]
}

#[test]
fn no_label_is_written_to_what_only_looks_like_the_kernels() {
    for is_root in [false, true] {
        let mut bundle = need!("no_label_is_written_elsewhere", Bundle::bare(is_root));
        bundle.unmount("/proc");
        let own = bundle.config.clone();
        for (way, mount, likeness) in ways(&bundle) {
            for (wish, value) in wishes() {
                bundle.config = own.clone();
                bundle.config["process"][wish] = value;
                if let Some(mount) = &mount {
                    bundle.mount(mount.clone());
                }
                bundle.write();
                let output = bundle.with_modules(&["run", "box"]);
                is_untouched(&likeness, &format!("{way}, {wish}"));
                assert_eq!(output.status.code(), Some(1), "{way}, {wish}: the command runs unconfined");
            }
        }
    }
}

#[test]
fn a_command_that_joins_says_nothing_to_what_only_looks_like_the_kernels() {
    for is_root in [false, true] {
        let mut bundle = need!("a_command_that_joins_says_nothing_elsewhere", Bundle::bare(is_root));
        bundle.unmount("/proc");
        let likeness = bundle.likeness("root/proc");
        bundle.config["process"]["args"] = json!([PROGRAM, "wait"]);
        bundle.write();
        bundle.ok(&["create", "box"]);
        bundle.ok(&["start", "box"]);
        let file = bundle.folder.join("process.json");
        let join = |wish: &str, value: Value| {
            let mut process = json!({"args": [PROGRAM, "wait"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
            process[wish] = value;
            std::fs::write(&file, process.to_string()).unwrap();
            let pid_file = bundle.folder.join("pid");
            let words = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), "--process"];
            let output = bundle.with_modules(&[&words, &[file.to_str().unwrap(), "box"][..]].concat());
            is_untouched(&likeness, wish);
            (output, pid_file)
        };
        for (wish, value) in wishes() {
            let (output, _) = join(wish, value);
            assert_ne!(output.status.code(), Some(0), "{wish}: the command runs unconfined");
        }
        let (output, pid_file) = join("oomScoreAdj", json!(321));
        assert!(output.status.success(), "{}", all(&output));
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert_eq!(score.trim(), "321", "by root: {is_root}");
        bundle.ok(&["delete", "--force", "box"]);
    }
}

#[test]
fn no_parameter_is_written_to_what_only_looks_like_the_kernels() {
    for is_root in [false, true] {
        let mut bundle = need!("no_parameter_is_written_elsewhere", Bundle::bare(is_root));
        bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        let below = bundle.config.clone();
        bundle.unmount("/proc");
        let own = bundle.config.clone();
        for (way, mount, likeness) in ways(&bundle) {
            bundle.config = own.clone();
            if let Some(mount) = mount {
                bundle.mount(mount);
            }
            bundle.refused(&bundle.config);
            is_untouched(&likeness, way);
        }
        // Another file of the kernel's: what is written must not turn up there.
        let mut config = below;
        let other = json!({"destination": "/proc/sys/net/ipv4/ip_forward", "type": "bind",
            "source": "/proc/sys/net/ipv4/ip_default_ttl", "options": ["bind"]});
        config["mounts"].as_array_mut().unwrap().push(other);
        bundle.refused(&config);
    }
}

#[test]
fn what_is_mounted_over_proc_is_the_kernels() {
    for is_root in [false, true] {
        let mut bundle = need!("what_is_mounted_over_proc", Bundle::bare(is_root));
        let likeness = bundle.likeness("likeness");
        let own = bundle.config.clone();
        let file = likeness.join("self/attr/exec");
        let bind = |place: &str, source: &Path| json!({"destination": place, "type": "bind", "source": source, "options": ["rbind"]});
        let memory = |place: &str| json!({"destination": place, "type": "tmpfs"});
        for mount in [
            bind("/proc", &likeness),
            bind("proc", &likeness),
            bind("/proc/.", &likeness),
            bind("/dev/../proc", &likeness),
            bind("/proc", Path::new("/proc/sys")),
            bind("/proc/self/attr", &likeness),
            bind("/proc/1/attr/exec", &file),
            bind("/proc/sys", &likeness),
            bind("/proc/meminfo/../self/attr", &likeness),
            memory("/proc"),
            memory("/proc/sys"),
            memory("/proc/acpi"),
        ] {
            let mut config = own.clone();
            config["mounts"].as_array_mut().unwrap().push(mount.clone());
            let told = bundle.refused(&config);
            assert!(told.contains("/proc"), "{mount}: {told}");
        }
        // What shows other numbers of the machine may be there, and so may the /proc of others.
        std::fs::write(bundle.folder.join("meminfo"), "MemTotal: 1 kB\n").unwrap();
        bundle.config = own.clone();
        bundle.mount(bind("/proc/meminfo", &bundle.folder.join("meminfo")));
        bundle.write();
        bundle.ok(&["run", "box"]);
        bundle.config = own;
        bundle.unmount("/proc");
        bundle.mount(bind("/proc", Path::new("/proc")));
        bundle.write();
        bundle.ok(&["run", "box"]);
    }
}
