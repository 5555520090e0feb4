//! `lrun update` of what a container is made of: only between its starts, when nobody but the caller answers for it.

use std::ffi::OsString;
use std::path::Path;

use lrun::seccomp::DEFAULT_CAPABILITIES;
use lrun::spec::{Mount, MountKind, Network, Seccomp, Spec, Uplink};
use lrun::state::{Found, Record};
use lrun::volumes::Volume;
use lstore::manifest::RunConfig;

use super::args::{NetworkArgument, RemakeArguments, RunArguments};
use super::folder::Folder;
use super::make::label;
use super::{device, etc, uplink, variables, volumes};
use crate::bridge;
use crate::capability;
use crate::env::Environment;
use crate::report::Failure;
use crate::volume;

/// Files whose content is by the host name and the network.
const BY_NETWORK: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Changes the record of a container that does not run.
///
/// # Errors
/// It runs; a value that cannot be had. Nothing is changed then.
pub(super) fn remake(
    store: &Path,
    found: &Found,
    arguments: &RemakeArguments,
    environment: &Environment,
) -> Result<(), Failure> {
    let name = &found.name;
    let runs =
        || format!("{name}: it runs, and only limits and --restart can be changed then; `lrun stop {name}` first");
    if found.record.running().is_some() {
        return Err(runs().into());
    }
    let folder = Folder::take(&found.path, found.record.spec.ephemeral)?.ok_or_else(runs)?;
    let mut record = found.again()?.record;
    let _kept = apply(&mut record, arguments, store, environment)?;
    Ok(record.write(folder.lock())?)
}

fn apply(
    record: &mut Record,
    arguments: &RemakeArguments,
    store: &Path,
    environment: &Environment,
) -> Result<Vec<Volume>, Failure> {
    if let Some(words) = arguments.entrypoint() {
        // As for `run`, it drops the command that was behind the last one.
        record.spec.args.clone_from(&words);
        record.entrypoint = words;
    }
    if record.spec.args.is_empty() {
        return Err("--entrypoint: the container would have no command".into());
    }
    for text in &arguments.labels {
        let (key, value) = label(text)?;
        record.labels.insert(key, value);
    }
    let spec = &mut record.spec;
    variables::add(&mut spec.env, &[], &arguments.env, environment)?;
    if let Some(hostname) = &arguments.hostname {
        rename(spec, hostname)?;
    }
    if let Some(network) = &arguments.network {
        connect(spec, network)?;
    }
    let own = &mut spec.namespaces;
    for (said, is_own, flag) in [
        (&arguments.pid, &mut own.pid, "--pid"),
        (&arguments.ipc, &mut own.ipc, "--ipc"),
        (&arguments.cgroupns, &mut own.cgroup, "--cgroupns"),
    ] {
        match said {
            None => {}
            Some(said) if said.is_own_or_hosts() => *is_own = said.is_own(),
            Some(_) => {
                return Err(
                    format!("{flag}: another's namespace is joined from the first start on, or not at all").into()
                );
            }
        }
    }
    own.time = arguments.timens.unwrap_or(own.time);
    if let Some(is_privileged) = arguments.privileged {
        privilege(spec, is_privileged)?;
    }
    for mount in volume::mounts(&arguments.volumes, &[], &[])? {
        add(spec, bridge::mount(mount)?);
    }
    spec.mounts.sort_by_key(|mount| mount.target.components().count());
    volumes::provide(store, spec)
}

/// In place of what is mounted there.
fn add(spec: &mut Spec, mount: Mount) {
    spec.mounts.retain(|other| other.target != mount.target);
    spec.mounts.push(mount);
}

fn rename(spec: &mut Spec, hostname: &str) -> Result<(), Failure> {
    if !spec.namespaces.uts || spec.joined.uts.is_some() {
        return Err("--hostname: the host name is the host's or another's".into());
    }
    let old = std::mem::replace(&mut spec.hostname, hostname.to_owned());
    let variable: OsString = format!("HOSTNAME={old}").into();
    for own in spec.env.iter_mut().filter(|own| **own == variable) {
        *own = format!("HOSTNAME={hostname}").into();
    }
    for (path, content) in &mut spec.files {
        let text = String::from_utf8_lossy(content);
        match path.to_str() {
            Some("/etc/hostname") => *content = format!("{hostname}\n").into_bytes(),
            Some("/etc/hosts") => {
                let end = format!("\t{old}");
                let line = |line: &str| match line.strip_suffix(&end) {
                    Some(address) => format!("{address}\t{hostname}\n"),
                    None => format!("{line}\n"),
                };
                *content = text.lines().map(line).collect::<String>().into_bytes();
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives it another network, with the files that belong to it; what the caller has added to these stays.
fn connect(spec: &mut Spec, wanted: &NetworkArgument) -> Result<(), Failure> {
    if spec.joined.network.is_some() || matches!(wanted, NetworkArgument::Other(_)) {
        return Err("--network: another's network is joined from the first start on, or not at all".into());
    }
    let said = RunArguments { network: wanted.clone(), ..RunArguments::default() };
    let mut network = uplink::network(&said, &RunConfig::default())?;
    match (&mut network, &spec.network) {
        (Network::Uplink(new), Network::Uplink(Uplink { ports, .. })) => new.ports.clone_from(ports),
        (_, Network::Uplink(old)) if !old.ports.is_empty() => {
            return Err(
                "--network: ports of the container are published, for which it must be pasta or slirp4netns".into()
            );
        }
        _ => {}
    }
    let name = if spec.hostname.is_empty() { "localhost" } else { &spec.hostname };
    let made = |network: &Network| etc::files(&said, name, network);
    let (before, after) = (made(&spec.network)?, made(&network)?);
    for path in BY_NETWORK.map(Path::new) {
        let of = |files: &[(std::path::PathBuf, Vec<u8>)]| {
            let found = files.iter().find(|(known, _)| known == path).map(|(_, content)| content.clone());
            found.map(|content| String::from_utf8_lossy(&content).into_owned())
        };
        let (old, new, now) = (of(&before), of(&after), of(&spec.files));
        let old_lines: Vec<&str> = old.iter().flat_map(|text| text.lines()).collect();
        let added = now.iter().flat_map(|text| text.lines()).filter(|line| !old_lines.contains(line));
        let added: String = added.flat_map(|line| [line, "\n"]).collect();
        spec.files.retain(|(known, _)| known != path);
        // A file that the caller did not want stays away; the image's is shown.
        if new.is_some() && (now.is_some() || old.is_none()) || !added.is_empty() {
            spec.files.push((path.to_owned(), (new.unwrap_or_default() + &added).into_bytes()));
        }
    }
    spec.network = network;
    Ok(())
}

fn privilege(spec: &mut Spec, is_privileged: bool) -> Result<(), Failure> {
    let devices = device::all_devices(Path::new("/dev"));
    let is_device = |mount: &Mount| matches!(&mount.kind, MountKind::Bind { source, .. } if *source == mount.target && devices.contains(source));
    spec.mounts.retain(|mount| !is_device(mount));
    spec.unmask.clear();
    spec.writable_sys = is_privileged;
    if is_privileged {
        spec.capabilities = capability::resolve(&["ALL"], &[] as &[&str])?;
        spec.seccomp = Seccomp::Unconfined;
        spec.unmask.push("ALL".into());
        let nodes = devices.iter().filter_map(|node| device::device(node, node).ok());
        spec.mounts.extend(nodes);
    } else {
        spec.capabilities = DEFAULT_CAPABILITIES;
        spec.granted &= DEFAULT_CAPABILITIES;
        spec.seccomp = Seccomp::Default;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_changed_wherever_it_stands() {
        let mut spec = Spec {
            hostname: "old".to_owned(),
            env: vec!["HOSTNAME=old".into(), "A=old".into()],
            files: vec![
                ("/etc/hostname".into(), b"old\n".to_vec()),
                ("/etc/hosts".into(), b"127.0.0.1\tlocalhost\n127.0.1.1\told\n192.0.2.1\tbold\n".to_vec()),
            ],
            ..Spec::default()
        };
        rename(&mut spec, "new").unwrap();
        assert_eq!(spec.env, ["HOSTNAME=new", "A=old"]);
        assert_eq!((spec.hostname.as_str(), spec.files[0].1.as_slice()), ("new", &b"new\n"[..]));
        assert_eq!(spec.files[1].1, b"127.0.0.1\tlocalhost\n127.0.1.1\tnew\n192.0.2.1\tbold\n");
    }

    #[test]
    fn lines_of_the_callers_outlive_a_change_of_the_network() {
        let said =
            RunArguments { add_host: vec![("other".to_owned(), "192.0.2.2".parse().unwrap())], ..Default::default() };
        let files = etc::files(&said, "box", &Network::None).unwrap();
        let mut spec = Spec { hostname: "box".to_owned(), files, ..Spec::default() };
        let pasta = NetworkArgument::Pasta(Vec::new());
        connect(&mut spec, &pasta).unwrap();
        let hosts = |spec: &Spec| {
            let (_, content) = spec.files.iter().find(|(path, _)| path == Path::new("/etc/hosts")).unwrap();
            String::from_utf8_lossy(content).into_owned()
        };
        assert!(hosts(&spec).ends_with("10.0.2.100\tbox\n192.0.2.2\tother\n"), "{}", hosts(&spec));
        assert!(spec.files.iter().any(|(path, _)| path == Path::new("/etc/resolv.conf")));
        connect(&mut spec, &NetworkArgument::None).unwrap();
        assert!(hosts(&spec).ends_with("127.0.1.1\tbox\n192.0.2.2\tother\n"), "{}", hosts(&spec));
        assert!(!spec.files.iter().any(|(path, _)| path == Path::new("/etc/resolv.conf")));
    }
}
