//! The runtime of the OCI: bundles of an image's files, step by step, by root and by who is not.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};

use serde_json::{Value, json};

use crate::need;
use crate::streams::{ALL, Terminal, WHICH};
use crate::support::{Env, all, image, programs, run, said};

mod bare;
mod engines;
mod joiners;
mod kernel_files;
mod listener;

/// Subordinate ids of the tests' user, see `tests/support`.
const RANGE: u32 = 2_000_000;

/// A directory with a Debian and a configuration.
struct Bundle {
    env: Env,
    folder: PathBuf,
    config: Value,
    _checkout: Option<Arc<Checkout>>,
}

/// The files of a Debian as `lstore checkout` writes them for a user, for all tests that run at the time: it takes longer
/// than they do.
#[derive(Debug)]
struct Checkout {
    env: Env,
}

impl Checkout {
    /// For who is not root, or for root.
    fn of(is_root: bool) -> Result<Arc<Self>, String> {
        static SHARED: Mutex<[Weak<Checkout>; 2]> = Mutex::new([Weak::new(), Weak::new()]);
        let mut shared = SHARED.lock().map_err(|error| error.to_string())?;
        if let Some(there) = shared[usize::from(is_root)].upgrade() {
            return Ok(there);
        }
        let env = if is_root { Env::root() } else { Env::new() }?;
        let tar = copy_of_debian(&env)?;
        env.ok(&["import", "-q", &tar.display().to_string(), "localhost/debian:12"]);
        env.ok(&["checkout", "localhost/debian:12", "rootfs"]);
        let made = Arc::new(Self { env });
        shared[usize::from(is_root)] = Arc::downgrade(&made);
        Ok(made)
    }
}

fn copy_of_debian(env: &Env) -> Result<PathBuf, String> {
    let copy = env.scratch.join("debian.tar");
    run(Command::new("cp").arg(image::debian()?).arg(&copy))?;
    run(Command::new("chmod").arg("644").arg(&copy))?;
    Ok(copy)
}

impl Bundle {
    /// Made by `lrun oci spec`, without a terminal, with the ids of the user's range.
    fn new(is_root: bool) -> Result<Self, String> {
        let checkout = Checkout::of(is_root)?;
        let mut bundle = Self { _checkout: Some(checkout.clone()), ..Self::empty(is_root)? };
        bundle.config["root"]["path"] = json!(checkout.env.scratch.join("rootfs"));
        Ok(bundle)
    }

    /// As [`Self::new`], with a root that is not there yet.
    fn empty(is_root: bool) -> Result<Self, String> {
        let env = if is_root { Env::root() } else { Env::new() }?;
        let mut spec = vec!["oci", "spec"];
        if env.user.is_some() {
            spec.push("--rootless");
        }
        said(&env.lrun(&spec));
        let folder = env.scratch.clone();
        let text = std::fs::read(folder.join("config.json")).map_err(|error| error.to_string())?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        config["process"]["terminal"] = json!(false);
        config["process"]["rlimits"] = json!([]);
        if let Some(user) = &env.user {
            for (name, own) in [("uidMappings", user.uid), ("gidMappings", user.gid)] {
                config["linux"][name] = json!([
                    {"containerID": 0, "hostID": own, "size": 1},
                    {"containerID": 1, "hostID": RANGE, "size": 65536},
                ]);
            }
        }
        Ok(Self { env, folder, config, _checkout: None })
    }

    fn shell(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
    }

    fn write(&self) {
        let text = serde_json::to_vec(&self.config).unwrap();
        std::fs::write(self.folder.join("config.json"), text).unwrap();
    }

    fn oci(&self, words: &[&str]) -> Output {
        let mut command = self.env.command(programs().join("lrun"));
        command.args(["oci", "--root"]).arg(self.folder.join("state")).args(words);
        self.output(command)
    }

    /// What it says goes to a file: a container that is left behind keeps the streams, and a pipe would not end before it.
    fn output(&self, mut command: Command) -> Output {
        let files = ["out", "err"].map(|name| self.folder.join(name));
        let [out, err] = files.each_ref().map(|path| File::create(path).unwrap());
        let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status().unwrap();
        let [stdout, stderr] = files.map(|path| std::fs::read(path).unwrap());
        Output { status, stdout, stderr }
    }

    fn ok(&self, words: &[&str]) -> String {
        said(&self.oci(words))
    }

    fn run(&mut self, script: &str) -> String {
        self.shell(script);
        self.write();
        self.ok(&["run", "box"])
    }

    fn state(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", name])).unwrap()
    }

    /// What is told of a configuration that is refused; nothing is left of it.
    fn refused(&self, config: &Value) -> String {
        std::fs::write(self.folder.join("config.json"), serde_json::to_vec(config).unwrap()).unwrap();
        let output = self.oci(&["create", "box"]);
        assert_eq!(output.status.code(), Some(1), "{}", all(&output));
        assert_eq!(self.ok(&["list", "-q"]), "");
        assert_eq!(std::fs::read_dir(self.folder.join("state")).map_or(0, Iterator::count), 0);
        all(&output)
    }
}

/// For root and for a user who is not, as the name of the test says of what it shows.
fn for_both(name: &str, check: impl Fn(Bundle)) {
    // Both are held until the end, so that they are there for the next test too.
    let _checkouts = [need!(name, Checkout::of(false)), need!(name, Checkout::of(true))];
    for is_root in [false, true] {
        check(need!(name, Bundle::new(is_root)));
    }
}

#[test]
fn a_bundle_lives_from_create_to_delete() {
    for_both("a_bundle_lives_from_create_to_delete", |mut bundle| {
        bundle.shell("echo begun > /tmp/mark; exec sleep 1000");
        bundle.config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/tmp", "type": "tmpfs"}));
        bundle.write();
        let pid_file = bundle.folder.join("pid").display().to_string();
        bundle.ok(&["create", "--pid-file", &pid_file, "box"]);
        let state = bundle.state("box");
        assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!("box")), "{state}");
        assert_eq!(state["pid"].to_string(), std::fs::read_to_string(&pid_file).unwrap());
        assert!(all(&bundle.oci(&["create", "box"])).contains("exists already"));
        bundle.ok(&["start", "box"]);
        assert_eq!(bundle.state("box")["status"], "running");
        assert!(all(&bundle.oci(&["start", "box"])).contains("only one that is created"));

        assert_eq!(
            bundle.ok(&["exec", "box", "sh", "-c", "cat /tmp/mark; id -u; cat /proc/1/comm"]),
            "begun\n0\nsleep\n"
        );
        assert_eq!(bundle.oci(&["exec", "box", "sh", "-c", "exit 7"]).status.code(), Some(7));
        assert_eq!(bundle.oci(&["exec", "box", "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
        assert!(all(&bundle.oci(&["exec", "box", "nosuch"])).contains("executable file not found"));
        let process = bundle.folder.join("process.json");
        let script = "id -u; pwd; echo $A; grep -c 'Cpus_allowed_list:.0$' /proc/self/status";
        let text = json!({"args": ["sh", "-c", script], "cwd": "/var", "env": ["PATH=/bin", "A=b"],
            "user": {"uid": 1000, "gid": 1000}, "execCPUAffinity": {"initial": "0-0", "final": "0"}});
        std::fs::write(&process, text.to_string()).unwrap();
        assert_eq!(bundle.ok(&["exec", "--process", &process.display().to_string(), "box"]), "1000\n/var\nb\n1\n");

        let processes: Value = serde_json::from_str(&bundle.ok(&["ps", "-f", "json", "box"])).unwrap();
        assert_eq!(processes, json!([state["pid"]]));
        let list: Value = serde_json::from_str(&bundle.ok(&["list", "-f", "json"])).unwrap();
        assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!("box"), &json!("running")));
        assert!(all(&bundle.oci(&["delete", "box"])).contains("--force"));
        bundle.ok(&["kill", "box", "KILL"]);
        while bundle.state("box")["status"] != "stopped" {}
        assert!(all(&bundle.oci(&["kill", "box", "TERM"])).contains("container not running"));
        // One that is made meanwhile may get the number that the mount namespace of the ended one had.
        bundle.ok(&["create", "next"]);
        bundle.ok(&["delete", "box"]);
        assert_eq!(bundle.state("next")["status"], "created");
        bundle.ok(&["delete", "--force", "next"]);
        assert!(all(&bundle.oci(&["state", "box"])).contains("does not exist"));
        bundle.ok(&["delete", "--force", "box"]);
    });
}

#[test]
fn a_command_is_confined_as_its_bundle_says() {
    for_both("a_command_is_confined_as_its_bundle_says", |mut bundle| {
        let caps = json!(["CAP_CHOWN", "CAP_KILL"]);
        bundle.config["hostname"] = json!("inside");
        let process = &mut bundle.config["process"];
        process["capabilities"] = json!({"bounding": caps, "effective": ["CAP_KILL"], "permitted": caps,
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
        process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o27});
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        process["oomScoreAdj"] = json!(500);
        process["cwd"] = json!("/work");
        process["env"] = json!(["PATH=/usr/bin:/bin", "A=b"]);
        bundle.config["mounts"].as_array_mut().unwrap().extend([
            json!({"destination": "/var/kept", "type": "bind", "source": "kept", "options": ["rbind", "ro"]}),
            json!({"destination": "/etc/default", "type": "tmpfs", "options": ["tmpcopyup", "noexec", "mode=1755"]}),
        ]);
        let linux = &mut bundle.config["linux"];
        linux["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        linux["maskedPaths"] = json!(["/proc/kcore", "/sys/firmware", "/etc/shadow"]);
        linux["readonlyPaths"] = json!(["/proc/sys"]);
        linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]});
        std::fs::create_dir(bundle.folder.join("kept")).unwrap();
        std::fs::write(bundle.folder.join("kept/file"), "kept").unwrap();
        let told = bundle.run(
            "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status | tr -s '\\t ' ' '
             id -u; id -g; umask; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; pwd; echo $A$HOME; uname -n
             cat /proc/sys/net/ipv4/ip_forward; (echo 0 > /proc/sys/net/ipv4/ip_forward) 2>&1 | grep -o 'Read-only.*'
             cat /var/kept/file; echo; (touch /var/kept/x; touch /etc/x) 2>&1 | grep -c Read-only; wc -c < /etc/shadow
             ls /sys/firmware | wc -l; ls /etc/default | grep -c useradd; stat -c %a /etc/default
             grep -c ' /etc/default .*noexec' /proc/self/mountinfo; ls /proc | grep -cx 1; ls -A /proc/self/fd | wc -l",
        );
        let wanted = "Groups: 5 6 \nCapInh: 0000000000000020\nCapPrm: 0000000000000020\nCapEff: 0000000000000020\n\
            CapBnd: 0000000000000021\nCapAmb: 0000000000000020\nNoNewPrivs: 1\nSeccomp: 2\n\
            1000\n1001\n0027\n100\n200\n500\n/work\nb/\ninside\n1\nRead-only file system\nkept\n2\n0\n0\n1\n1755\n1\n1\n4\n";
        assert_eq!(told, wanted);
    });
}

#[test]
fn hooks_run_in_their_order_and_a_failed_one_leaves_nothing() {
    for_both("hooks_run_in_their_order", |mut bundle| {
        let log = bundle.folder.join("log").display().to_string();
        let hook = |name: &str| {
            let script =
                format!("read -r state; echo {name} $(echo $state | grep -o 'status\":\"[a-z]*' | cut -c10-) >> {log}");
            json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 60})
        };
        bundle.config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": bundle.folder, "type": "bind", "source": bundle.folder, "options": ["bind"]}));
        // A hook inside sees the command's variables, those outside do not.
        bundle.config["process"]["env"] = json!(["PATH=/usr/bin:/bin", "A=b"]);
        bundle.config["hooks"] = json!({
            "prestart": [hook("prestart")], "createRuntime": [hook("createRuntime"), hook("createRuntime2")],
            "createContainer": [hook("createContainer")], "startContainer": [hook("startContainer$A")],
            "poststart": [hook("poststart$A")], "poststop": [hook("poststop")],
        });
        bundle.run("true");
        let told = std::fs::read_to_string(&log).unwrap();
        let wanted = "prestart creating\ncreateRuntime creating\ncreateRuntime2 creating\ncreateContainer creating\n\
            startContainerb creating\npoststart running\npoststop stopped\n";
        assert_eq!(told, wanted);
        for point in ["prestart", "createRuntime", "createContainer"] {
            let mut config = bundle.config.clone();
            config["hooks"] = json!({point: [{"path": "/bin/false"}]});
            assert!(bundle.refused(&config).contains("hook"), "{point}");
        }
        bundle.config["hooks"] = json!({"poststart": [{"path": "/bin/false"}]});
        bundle.shell("exec sleep 1000");
        bundle.write();
        bundle.ok(&["create", "box"]);
        assert!(all(&bundle.oci(&["start", "box"])).contains("hook"), "its failure ends the container");
        assert_eq!(bundle.ok(&["list", "-q"]), "");
        bundle.config["hooks"] = json!({"poststop": [{"path": "/bin/false"}, hook("last")]});
        bundle.write();
        bundle.ok(&["create", "box"]);
        let output = bundle.oci(&["delete", "box"]);
        assert!(
            output.status.success() && all(&output).contains("poststop hook /bin/false failed"),
            "{}",
            all(&output)
        );
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("last stopped\n"), "and keeps no other from running");
    });
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    for_both("a_terminal_goes_to_the_console_socket", |mut bundle| {
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
        bundle.shell("stty size; test -t 0 && tty; read x; echo got $x");
        bundle.write();
        assert!(all(&bundle.oci(&["create", "box"])).contains("--console-socket"));
        let socket = bundle.folder.join("console.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        run(Command::new("chmod").arg("777").arg(&socket)).unwrap();
        bundle.ok(&["create", "--console-socket", &socket.display().to_string(), "box"]);
        let (_, outer) = received(&listener.accept().unwrap().0.into());
        bundle.ok(&["start", "box"]);
        rustix::io::write(&outer, b"word\n").unwrap();
        let mut told = Vec::new();
        // The end of a terminal shows as an error.
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = rustix::io::read(&outer, &mut buffer) {
            told.extend_from_slice(&buffer[..count]);
        }
        let told = String::from_utf8(told).unwrap().replace('\r', "");
        let is_whole = ["33 77\n", "/dev/pts/0\n", "got word\n"].iter().all(|line| told.contains(line));
        assert!(is_whole, "{told}");
        bundle.ok(&["delete", "--force", "box"]);
    });
}

/// The descriptor that comes over a connection, and what is said with it.
fn received(connection: &OwnedFd) -> (Vec<u8>, OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 4096];
    let slices = &mut [std::io::IoSliceMut::new(&mut bytes)];
    let count = recvmsg(connection, slices, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    bytes.truncate(count);
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (bytes, fds.last().unwrap())
}

#[test]
fn namespaces_that_are_there_are_joined() {
    for_both("namespaces_that_are_there_are_joined", |mut bundle| {
        bundle.shell("exec sleep 1000");
        bundle.write();
        bundle.ok(&["create", "first"]);
        bundle.ok(&["start", "first"]);
        let pid = bundle.state("first")["pid"].to_string();
        let names = ["user", "net", "ipc", "pid"];
        let of = |kind: &str| format!("/proc/{pid}/ns/{kind}");
        let links = names.map(|name| std::fs::read_link(of(name)).unwrap().display().to_string());
        let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "uts"}), json!({"type": "cgroup"})];
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("pid", "pid"), ("user", "user")] {
            if file != "user" || bundle.env.user.is_some() {
                namespaces.push(json!({"type": kind, "path": of(file)}));
            }
        }
        bundle.config["linux"]["namespaces"] = json!(namespaces);
        bundle.config["linux"]["uidMappings"] = json!([]);
        bundle.config["linux"]["gidMappings"] = json!([]);
        let told = bundle.run("for n in user net ipc pid; do readlink /proc/self/ns/$n; done; cat /proc/1/comm");
        assert_eq!(told, format!("{}\nsleep\n", links.join("\n")));
        bundle.ok(&["delete", "--force", "first"]);
    });
}

#[test]
fn a_wish_that_cannot_be_granted_is_refused_by_name() {
    let bundle = need!("a_wish_that_cannot_be_granted", Bundle::new(false));
    let with = |pointer: &str, value: Value| {
        let mut config = bundle.config.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        config
    };
    for (pointer, value, told) in [
        ("/linux/intelRdt", json!({}), "linux.intelRdt"),
        ("/linux/mountLabel", json!("x"), "linux.mountLabel"),
        ("/linux/resources", json!({"network": {"classID": 10}}), "resources.network"),
        ("/linux/sysctl", json!({"kernel.core_pattern": "x"}), "kernel.core_pattern"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}]), "user namespace"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "newuidmap failed"),
        ("/process/args", json!(["nosuch"]), "nosuch: executable file not found"),
        ("/process/rlimits", json!([{"type": "RLIMIT_LUCK", "soft": 1, "hard": 1}]), "RLIMIT_LUCK"),
        ("/process/selinuxLabel", json!("x"), "SELinux"),
        ("/root/path", json!("nowhere"), "root.path"),
        ("/ociVersion", json!("9.0"), "ociVersion"),
    ] {
        let line = bundle.refused(&with(pointer, value));
        assert!(line.contains(told), "{pointer}: {line}");
    }
    let log = bundle.folder.join("log");
    let output = bundle.oci(&["state", "none"]);
    assert!(all(&output).contains("does not exist"));
    let told = bundle
        .env
        .command(programs().join("lrun"))
        .args(["oci", "--log-format", "json", "--log"])
        .arg(&log)
        .args(["state", "none"])
        .output();
    assert_eq!(told.unwrap().status.code(), Some(1));
    let line: Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
}

#[test]
fn a_device_that_root_makes_in_a_container_opens_nothing() {
    let mut bundle = need!("a_device_that_root_makes", Bundle::new(true));
    std::fs::create_dir(bundle.folder.join("kept")).unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/root", "type": "bind", "source": "kept", "options": ["rbind"]}),
        json!({"destination": "/tmp", "type": "tmpfs"}),
    ]);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8}]);
    let told = bundle.run(
        "stat -c '%a %u %g' /dev/own; head -c 3 /dev/own | od -An -tx1; head -c 1 /dev/zero | wc -c
         for d in /tmp /dev /root; do mknod $d/made c 1 5 && head -c 1 $d/made 2>&1; done | grep -c 'Permission denied'",
    );
    assert_eq!(told, "640 7 8\n 00 00 00\n1\n3\n");
}

#[test]
fn in_the_foreground_a_bundle_has_pipes_in_place_of_the_callers_terminal() {
    for_both("pipes_in_place_of_the_callers_terminal", |mut bundle| {
        bundle.shell(&format!("{WHICH}; echo out; echo err >&2; read -r line; echo got $line; exit 3"));
        bundle.write();
        let mut terminal = Terminal::new(&bundle.env);
        terminal.kind("a line\n");
        let state = bundle.folder.join("state").display().to_string();
        let mut command = bundle.env.command("setsid");
        command.args(["--ctty", "lrun", "oci", "--root", &state, "run", "box"]);
        // The line is echoed by the terminal as it is typed.
        let (code, told) = terminal.run(command, ALL);
        assert_eq!((code, &*told), (Some(3), "a line\nout\nerr\ngot a line\n"));
    });
}
