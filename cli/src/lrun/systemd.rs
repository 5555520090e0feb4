//! `--systemd`: what systemd wants of a container in which it is process 1, as podman has it (systemd, "Container Interface").

use std::ffi::OsString;
use std::path::Path;

use lrun::Spec;
use lrun::cgroup::Wish;
use lrun::spec::{Mount, MountKind};

use super::args::{CgroupsArgument, RunArguments, SystemdArgument};
use crate::report::Failure;

/// Commands that are taken for systemd, beside those of that name.
const INITS: [&str; 3] = ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"];
/// Folders that are to be new at each start, with their modes.
const FRESH: [(&str, u32); 4] = [("/run", 0o755), ("/run/lock", 0o1777), ("/tmp", 0o1777), ("/var/log/journal", 0o755)];
/// Asks systemd to shut down (`systemd(1)`, "SIGNALS").
pub(super) const STOP_SIGNAL: &str = "SIGRTMIN+3";
/// Digits of the container's id that are its machine's too.
const DIGITS: usize = 32;

/// Prepares a container for systemd, if that is what it runs or what was asked for.
pub(super) fn prepare(spec: &mut Spec, arguments: &RunArguments, id: &str) -> Result<(), Failure> {
    let is_wanted = match arguments.systemd {
        SystemdArgument::Never => false,
        SystemdArgument::Found => is_systemd(&spec.args),
        SystemdArgument::Always => true,
    };
    if !is_wanted {
        return Ok(());
    }
    let hindrance = [
        (arguments.init, "--init"),
        (!spec.namespaces.pid, "--pid"),
        (!spec.namespaces.cgroup, "--cgroupns"),
        (arguments.cgroups == CgroupsArgument::Disabled, "--cgroups=disabled"),
    ];
    if let Some((_, flag)) = hindrance.iter().find(|(is_given, _)| *is_given) {
        return Err(format!(
            "{flag}: systemd is process 1 of a container with a control group of its own; leave it out, or give --systemd=false"
        )
        .into());
    }
    spec.systemd = true;
    // Named when the container is.
    spec.cgroup.get_or_insert_with(Wish::default);
    for (target, mode) in FRESH.map(|(target, mode)| (Path::new(target), mode)) {
        if !spec.mounts.iter().any(|mount| mount.target == target) {
            let kind = MountKind::Tmpfs { size: None, mode, copies: false };
            let target = target.to_path_buf();
            spec.mounts.push(Mount { kind, target, read_only: false, nosuid: true, nodev: true, noexec: false });
        }
    }
    // Outer ones first: the caller's may lie above or below these.
    spec.mounts.sort_by_key(|mount| mount.target.components().count());
    if !spec.env.iter().any(|variable| variable.as_encoded_bytes().starts_with(b"container_uuid=")) {
        spec.env.push(format!("container_uuid={}", &id[..DIGITS.min(id.len())]).into());
    }
    Ok(())
}

/// Whether a command is systemd, by its name alone; also one that a shell is told to run.
fn is_systemd(words: &[OsString]) -> bool {
    let program = match words {
        [_, flag, script] if flag == "-c" => script.to_str().and_then(|script| script.split(' ').next()),
        [program, ..] => program.to_str(),
        [] => None,
    };
    program
        .is_some_and(|program| INITS.contains(&program) || Path::new(program).file_name() == Some("systemd".as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_known_by_its_name() {
        let is = |words: &[&str]| is_systemd(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(is(&["/sbin/init"]) && is(&["/usr/lib/systemd/systemd", "--unit=x"]) && is(&["systemd"]));
        assert!(is(&["/bin/sh", "-c", "/usr/sbin/init --x"]));
        assert!(!is(&[]) && !is(&["init"]) && !is(&["/bin/sh", "/sbin/init"]) && !is(&["/x/systemd-run"]));
    }

    #[test]
    fn what_it_wants_is_added_and_what_stands_in_its_way_is_told() {
        let of = |arguments: RunArguments| {
            let mut spec = Spec { args: vec!["sh".into()], ..Spec::default() };
            spec.mounts.push(Mount {
                kind: MountKind::Tmpfs { size: None, mode: 0o700, copies: false },
                target: "/tmp".into(),
                read_only: false,
                nosuid: true,
                nodev: true,
                noexec: false,
            });
            prepare(&mut spec, &arguments, &"0123456789abcdef".repeat(4)).map(|()| spec)
        };
        let always = || RunArguments { systemd: SystemdArgument::Always, ..RunArguments::default() };
        assert!(!of(RunArguments::default()).unwrap().systemd);
        let spec = of(always()).unwrap();
        let targets: Vec<_> = spec.mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/tmp", "/run", "/run/lock", "/var/log/journal"]);
        assert!(matches!(spec.mounts[0].kind, MountKind::Tmpfs { mode: 0o700, .. }), "the caller's stays");
        assert!(spec.systemd && spec.cgroup.is_some());
        assert_eq!(spec.env, ["container_uuid=0123456789abcdef0123456789abcdef"]);
        let refused = of(RunArguments { init: true, ..always() }).unwrap_err().error.to_string();
        assert!(refused.contains("--systemd=false"), "{refused}");
        assert!(of(RunArguments { cgroups: CgroupsArgument::Disabled, ..always() }).is_err());
    }
}
