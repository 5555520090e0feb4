//! Containers and files whose namespaces a container takes: from the names of a command line to what the runner is told.

use std::path::{Path, PathBuf};

use lrun::FirstProcess;
use lrun::idmap::Shape;
use lrun::join::{Joined, Other};
use lrun::spec::{Spec, UserNamespace};
use lrun::state::{Found, Status};

use super::args::{NamespaceArgument, NetworkArgument, RunArguments, UserNamespaceArgument};
use super::select::containers;
use super::uplink;
use crate::bridge;
use crate::report::Failure;

/// What a command line wants to join, looked up.
pub(super) struct Wanted {
    joined: Joined,
    /// The container whose network it is, and the one whose host name.
    network: Option<Found>,
    uts: Option<Found>,
    /// That whose ids it has.
    first: Option<Found>,
}

/// Looks up what is to be joined; `None` for nothing.
pub(super) fn wanted(arguments: &RunArguments, store: &Path) -> Result<Option<Wanted>, Failure> {
    let mut first = None;
    let mut look = |argument: &NamespaceArgument| -> Result<(Option<Other>, Option<Found>), Failure> {
        match argument {
            NamespaceArgument::Private | NamespaceArgument::Host => Ok((None, None)),
            NamespaceArgument::File(path) => Ok((Some(Other::File(path.clone())), None)),
            NamespaceArgument::Container(name) => {
                let found = containers(store).find(name)?;
                first.get_or_insert_with(|| found.clone());
                Ok((Some(Other::Container(found.record.id.clone())), Some(found)))
            }
        }
    };
    let (user, _) = match &arguments.userns {
        UserNamespaceArgument::Other(other) => look(other)?,
        UserNamespaceArgument::Usual
        | UserNamespaceArgument::Private
        | UserNamespaceArgument::Host
        | UserNamespaceArgument::Auto(_)
        | UserNamespaceArgument::KeepId { .. } => (None, None),
    };
    let (network, of_network) = match &arguments.network {
        NetworkArgument::Other(other) => look(other)?,
        _ => (None, None),
    };
    let (pid, _) = look(&arguments.pid)?;
    let (ipc, _) = look(&arguments.ipc)?;
    let (uts, of_uts) = look(&arguments.uts)?;
    let (cgroup, _) = look(&arguments.cgroupns)?;
    let joined = Joined { user, network, pid, ipc, uts, cgroup };
    if joined.is_empty() {
        return Ok(None);
    }
    Ok(Some(Wanted { joined, network: of_network, uts: of_uts, first }))
}

impl Wanted {
    /// The command line with the ids of whom it joins.
    pub(super) fn adopt(&self, arguments: &RunArguments) -> Result<RunArguments, Failure> {
        let mut own = arguments.clone();
        let is_said = matches!(arguments.userns, UserNamespaceArgument::KeepId { .. } | UserNamespaceArgument::Auto(_));
        let Some(first) = &self.first else {
            if is_said {
                return Err("--userns: a namespace of a file belongs to another user namespace; leave it out".into());
            }
            return Ok(own);
        };
        let is_root = rustix::process::geteuid().is_root();
        if arguments.userns == UserNamespaceArgument::Host && is_root {
            // Power over the others' namespaces it has without their ids.
            return Ok(own);
        }
        own.userns = match first.record.spec.user_namespace {
            UserNamespace::Own(Shape::KeepId { user, group, size }) => {
                UserNamespaceArgument::KeepId { uid: Some(user), gid: Some(group), size }
            }
            UserNamespace::Own(Shape::Auto | Shape::Range { .. }) => UserNamespaceArgument::Usual,
            UserNamespace::Host => UserNamespaceArgument::Host,
        };
        let is_hosts = own.userns == UserNamespaceArgument::Host && is_root;
        let is_other = is_said && bridge::shape(arguments) != bridge::shape(&own);
        if is_other || arguments.userns == UserNamespaceArgument::Private && is_hosts {
            let name = &first.name;
            return Err(format!(
                "--userns: who joins the container {name} has its user namespace and its ids; leave --userns out"
            )
            .into());
        }
        Ok(own)
    }

    /// Tells the runner, and gives the container the files that belong to the namespaces.
    pub(super) fn apply(self, spec: &mut Spec) {
        let Self { joined, network, uts, .. } = self;
        spec.joined = joined;
        let of = |found: &Found, path: &str| {
            found.record.spec.files.iter().find(|(known, _)| known == Path::new(path)).map(|(_, text)| text.clone())
        };
        let mut set = |path: &str, text: Option<Vec<u8>>| {
            spec.files.retain(|(known, _)| known != Path::new(path));
            spec.files.extend(text.map(|text| (PathBuf::from(path), text)));
        };
        if let Some(found) = &network {
            // Names are those of the network.
            set("/etc/hosts", of(found, "/etc/hosts"));
            set("/etc/resolv.conf", of(found, "/etc/resolv.conf"));
        }
        if let Some(found) = &uts {
            set("/etc/hostname", of(found, "/etc/hostname"));
            let name = &found.record.spec.hostname;
            let mine = spec.env.iter_mut().filter(|variable| variable.to_string_lossy().starts_with("HOSTNAME="));
            mine.for_each(|variable| *variable = format!("HOSTNAME={name}").into());
        }
    }
}

/// The containers that a spec joins, as they are now: all must run. What the network of one knows of the host, this has too.
pub(super) fn others(store: &Path, spec: &mut Spec) -> Result<Vec<(String, FirstProcess)>, Failure> {
    let mut others = Vec::new();
    let mut names_host = None;
    for other in spec.joined.others() {
        let Other::Container(id) = other else { continue };
        let gone = |why: &str| {
            let id = id.get(..super::run::SHORT).unwrap_or(id);
            format!("the container {id}, whose namespaces are to be joined, {why}")
        };
        let found = containers(store).find(id).map_err(|_| gone("is not there any more; make this one anew"))?;
        let first = match found.record.status() {
            Status::Running => found.record.running(),
            _ => None,
        };
        let name = &found.name;
        let first = first.ok_or_else(|| gone(&format!("does not run; `lrun start {name}` first")))?;
        if let (true, Some(uplink)) = (spec.joined.network.as_ref() == Some(other), found.record.spec.network.uplink())
        {
            names_host = Some(uplink.addresses().host);
        }
        others.push((id.clone(), first));
    }
    if let Some(loopback) = names_host {
        uplink::add_host(spec, loopback);
    }
    Ok(others)
}
