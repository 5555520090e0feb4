//! The process that starts a container: flags in, exit status out, as a command line would.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use lrun::idmap::Shape;
use lrun::spec::{Mount, MountKind, Network, Propagation, Seccomp, UserNamespace};
use lrun::{Aftermath, Error, ExitStatus, Host, Plan, Rootfs, Spec, launch};

/// Handles `--launch` and `--enter`; `None` for anything else.
pub(crate) fn main(first: &str, args: &[String]) -> Option<i32> {
    match first {
        "--launch" => Some(run(args)),
        "--enter" => Some(enter(args)),
        _ => None,
    }
}

/// Runs a command as root of a user namespace of the caller's, as the store does.
fn enter(args: &[String]) -> i32 {
    if let Err(error) = lrun::userns::enter() {
        eprintln!("{error}");
        return 125;
    }
    eprintln!("{}", std::process::Command::new(&args[0]).args(&args[1..]).exec());
    127
}

/// The bit of a capability, or those of all.
fn capability(name: &str) -> u64 {
    if name == "ALL" { u64::MAX } else { 1 << format!("CAP_{name}").parse::<caps::Capability>().unwrap().index() }
}

fn run(args: &[String]) -> i32 {
    let mut args = args.iter().cloned();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut spec = Spec { interactive: true, env: vec![path.into()], ..Spec::default() };
    let mut rootfs = None;
    let mut clear = None;
    let mut holder = None;
    while let Some(flag) = args.next() {
        let mut next = || args.next().expect("the flag has a value");
        match flag.as_str() {
            "--overlay" => {
                let (lower, own) = (next().into(), PathBuf::from(next()));
                let part = |name: &str| own.join(name);
                let (upper, work, mountpoint) = (part("upper"), part("work"), part("root"));
                rootfs = Some(Rootfs::Overlay { lower, data: None, upper, work, mountpoint });
                clear = Some(own);
            }
            "--directory" => rootfs = Some(Rootfs::Directory(next().into())),
            "--holder" => holder = Some(next().into()),
            "--keep" => clear = None,
            "--network-host" => spec.network = Network::Host,
            "--user" => spec.user = next(),
            "--keep-id" => {
                let (user, group) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
                spec.user_namespace = UserNamespace::Own(Shape::KeepId { user, group, size: None });
            }
            "--terminal" => spec.terminal = true,
            "--no-input" => spec.interactive = false,
            "--with" => {
                let mut value = serde_json::to_value(&spec).unwrap();
                let said: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&next()).unwrap();
                value.as_object_mut().unwrap().extend(said);
                spec = serde_json::from_value(value).unwrap();
            }
            "--init" => spec.init = true,
            "--read-only" => spec.read_only = true,
            "--rm" => spec.ephemeral = true,
            "--no-new-privileges" => spec.no_new_privileges = true,
            "--unmask-all" => spec.unmask.push("ALL".into()),
            "--hostname" => spec.hostname = next(),
            "--file" => spec.files.push((next().into(), next().into_bytes())),
            "--cwd" => spec.cwd = next().into(),
            "--env" => spec.env.push(next().into()),
            "--cap-add" => spec.capabilities |= capability(&next()),
            "--grant" => {
                spec.granted = capability(&next());
                spec.capabilities |= spec.granted;
            }
            "--cap-drop" => spec.capabilities &= !capability(&next()),
            "--unconfined" => spec.seccomp = Seccomp::Unconfined,
            "--bind" | "--bind-ro" => {
                let kind = MountKind::Bind {
                    source: next().into(),
                    recursive: true,
                    propagation: Propagation::Private,
                    relabel: None,
                };
                let read_only = flag == "--bind-ro";
                let target = next().into();
                spec.mounts.push(Mount { kind, target, read_only, nosuid: true, nodev: true, noexec: false });
            }
            "--tmpfs" => {
                let kind = MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777, copies: false };
                let target = next().into();
                spec.mounts.push(Mount { kind, target, read_only: false, nosuid: true, nodev: true, noexec: true });
            }
            "--" => break,
            other => panic!("{other}: unknown flag"),
        }
    }
    spec.args = args.map(Into::into).collect();
    match start(spec, &rootfs.expect("a root file system is given"), clear.as_deref(), holder) {
        Ok(ExitStatus::Code(code)) => code.into(),
        Ok(ExitStatus::Signal(signal)) => 128 + i32::from(signal),
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                Error::NotFound(_) => 127,
                Error::NotExecutable { .. } => 126,
                _ => 125,
            }
        }
    }
}

fn start(spec: Spec, rootfs: &Rootfs, clear: Option<&Path>, holder: Option<PathBuf>) -> Result<ExitStatus, Error> {
    let plan = Plan::new(spec, Host { holder, ..Host::probe() })?;
    let (mut end, line) = std::io::pipe().unwrap();
    // Where its owners exist; that its end is waited for is the test's wish, not the library's.
    let work = || {
        for part in clear.iter().flat_map(|own| ["upper", "work", "root"].map(|part| own.join(part))) {
            // What is left over is for the test to find.
            let _ = std::fs::remove_dir_all(part);
        }
    };
    let aftermath = Aftermath { work: Box::new(work), keep: vec![line.as_fd()] };
    let mut container = launch(&plan, rootfs, Some(aftermath), &mut |warning| eprintln!("notice: {warning}"))?;
    let status = container.wait()?;
    drop((container, line));
    // Closed by the end of that process.
    end.read_to_end(&mut Vec::new()).unwrap();
    Ok(status)
}
