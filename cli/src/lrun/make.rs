//! A container that is made and does not run yet: its folder, its record, its checkout.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use lrun::Error;
use lrun::idmap::Shape;
use lrun::root_ids;
use lrun::spec::UserNamespace;
use lrun::state::{Record, Restart, random_id};
use lstore::{Checkout, Start};

use super::args::{CreateArguments, RunArguments};
use super::attendance;
use super::etc;
use super::folder::Folder;
use super::health;
use super::images;
use super::inherit;
use super::join;
use super::provide::provide;
use super::publish::exposed;
use super::run::{SHORT, remove_with_volumes};
use super::secret;
use super::stop;
use super::systemd;
use super::volumes;
use crate::bridge;
use crate::env::Environment;
use crate::global::Global;
use crate::report::Failure;

/// A container that is there and does not run.
pub(super) struct Made {
    /// Its folder, locked.
    pub(super) folder: Folder,
    /// Where that is, until somebody renames it.
    pub(super) path: PathBuf,
    /// Its record, not yet written.
    pub(super) record: Record,
    /// Its checkout.
    pub(super) checkout: Checkout,
    /// What keeps those of other images that it mounts.
    pub(super) leases: Vec<OwnedFd>,
}

/// Makes the container of a command line.
pub(super) fn make(
    global: &Global,
    arguments: &RunArguments,
    store: &Path,
    environment: &Environment,
) -> Result<Made, Failure> {
    if arguments.rm && arguments.create.restart != Restart::No {
        return Err("--rm and --restart contradict each other; leave one out".into());
    }
    let joins = join::wanted(arguments, store)?;
    let adopted = joins.as_ref().map(|joins| joins.adopt(arguments)).transpose()?;
    let arguments = adopted.as_ref().unwrap_or(arguments);
    let id = random_id()?;
    let name = arguments.name.clone().unwrap_or_else(|| id[..SHORT].to_owned());
    let own = arguments.image().to_str().ok_or("the image's name is not UTF-8")?;
    let Start { image, config, checkout } = provide(global, arguments, store, own)?;
    let mut spec = bridge::spec(arguments, &config, &name, environment)?;
    systemd::prepare(&mut spec, arguments, &id)?;
    if let Some(wish) = &mut spec.cgroup {
        wish.name.clone_from(&id);
    }
    if let Some(joins) = joins {
        joins.apply(&mut spec);
    }
    if arguments.privileged {
        etc::introduce(&mut spec, &name, &id, &arguments.image().to_string_lossy(), &image);
    }
    if !arguments.volumes_from.is_empty() {
        inherit::mounts(arguments, store, &mut spec)?;
    }
    inherit::image_volumes(arguments.image_volume, &config.volumes, &mut spec)?;
    let leases = images::look_up(global, arguments, store, &mut spec)?;
    let health = health::wanted(&arguments.create.health, config.healthcheck.as_ref())?;
    let secrets = secret::wanted(&arguments.create.secrets, store)?;
    let exposed = exposed(arguments, &config.exposed_ports)?;
    let labels = labels(&arguments.create, config.labels)?;
    let attendance = attendance::wanted(&arguments.create, store)?;
    let create = &arguments.create;
    if create.replace {
        stop::displace(store, &name)?;
    }
    if let Some(file) = &create.cidfile {
        // Before the container: one that cannot be told is not to be made.
        let mut cidfile = std::fs::File::create_new(file)
            .map_err(|error| format!("--cidfile {}: {error}; it must not be there yet", file.display()))?;
        cidfile.write_all(id.as_bytes())?;
    }
    let folder = Folder::make(store, &name, arguments.rm).map_err(|error| {
        if let Some(file) = &create.cidfile {
            let _ = std::fs::remove_file(file);
        }
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::from(format!("the name {name} is in use by another container; choose another one"))
            }
            _ => error.into(),
        }
    })?;
    let image_id = image.strip_prefix("sha256:").unwrap_or(&image).to_owned();
    let entrypoint = arguments.entrypoint().unwrap_or_else(|| config.entrypoint.iter().map(OsString::from).collect());
    let own_signal = || spec.systemd.then(|| systemd::STOP_SIGNAL.to_owned());
    let stop_signal = create.stop_signal.clone().or(config.stop_signal).or_else(own_signal);
    let record = Record {
        labels,
        exposed,
        health,
        secrets,
        attendance,
        entrypoint,
        stop_signal,
        stop_timeout: create.stop_timeout,
        restart: create.restart,
        log_size: create.log_size(),
        holder: !arguments.no_holder,
        ..Record::new(id, arguments.image().to_string_lossy().into_owned(), image_id, spec)
    };
    let mut made = Made { folder, path: Folder::place(store, &name), record, checkout, leases };
    reserve(store, &name, &mut made).inspect_err(|_| {
        remove_with_volumes(store, &made.path, &[], Some(&made.record.id));
        if let Some(file) = &create.cidfile {
            let _ = std::fs::remove_file(file);
        }
    })?;
    Ok(made)
}

/// Makes what is the container's by its record.
fn reserve(store: &Path, name: &str, made: &mut Made) -> Result<(), Failure> {
    if !made.folder.is_ephemeral() {
        // Before it can be seen. One of --rm keeps what it runs from by its leases.
        bridge::roots::keep(store, &made.record, name)?;
    }
    if let UserNamespace::Own(Shape::Range { size, .. }) = made.record.spec.user_namespace {
        deal_out_ids(store, made, size)?;
    }
    if volumes::is_wanted(&made.record.spec) {
        make_volumes(store, made)?;
    }
    Ok(())
}

/// Gives the container ids that no other one of the store has: one at a time, and each is told of by its record.
fn deal_out_ids(store: &Path, made: &mut Made, size: u32) -> Result<(), Failure> {
    let containers = std::fs::File::open(store.join("containers"))?;
    rustix::fs::flock(&containers, rustix::fs::FlockOperation::LockExclusive)?;
    let taken =
        super::select::containers(store).all().into_iter().filter_map(|found| match found.record.spec.user_namespace {
            UserNamespace::Own(shape) => Some(shape),
            UserNamespace::Host => None,
        });
    let shape = root_ids::free(size, &taken.collect::<Vec<_>>()).map_err(Error::from)?;
    made.record.spec.user_namespace = UserNamespace::Own(shape);
    Ok(made.record.write(made.folder.lock())?)
}

/// Makes the container's volumes, and has its record name them before they can be taken for unused.
fn make_volumes(store: &Path, made: &mut Made) -> Result<(), Failure> {
    let _kept = volumes::provide(store, &mut made.record.spec)?;
    Ok(made.record.write(made.folder.lock())?)
}

/// The image's labels, then those of the files, then those of the command line; a later one wins.
fn labels(arguments: &CreateArguments, image: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = image;
    let mut add = |text: &str| {
        let (key, value) = label(text)?;
        labels.insert(key, value);
        Ok::<_, String>(())
    };
    for file in &arguments.label_file {
        let text =
            std::fs::read_to_string(file).map_err(|error| format!("--label-file {}: {error}", file.display()))?;
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).try_for_each(&mut add)?;
    }
    arguments.labels.iter().try_for_each(|label| add(label))?;
    Ok(labels)
}

/// A label as `KEY=VALUE` or `KEY`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err(format!("label {text:?} has no name")) } else { Ok((key.to_owned(), value.to_owned())) }
}
