//! A container in the words of podman: what `inspect` and `ps` print.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lrun::cgroup::Resources;
use lrun::health::{Health, HealthCheck};
use lrun::join::Other;
use lrun::spec::{ImageMount, Mount, MountKind, Network, Port, Propagation, Spec};
use lrun::state::{Found, Moment, Record, Restart, Status};
use serde_json::{Value, json};

use super::publish::leads_to;
use super::run::SHORT;
use super::secret::told;
use crate::output::{ago, duration, rfc3339, timestamp};

/// podman's word for no moment at all.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Characters of a command that `ps` shows.
const COMMAND: usize = 17;

pub(super) fn time(moment: Moment) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(moment)
}

fn moment(moment: Option<Moment>) -> String {
    moment.map_or_else(|| NEVER.to_owned(), |moment| rfc3339(time(moment)))
}

fn text(words: &[OsString]) -> Vec<String> {
    words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The object of `inspect`.
pub(super) fn inspected(found: &Found) -> Value {
    let Found { name, record, path } = found;
    let spec = &record.spec;
    let status = record.status();
    let run = record.run.as_ref();
    let pid = record.running().map_or(0, |first| first.id);
    let args = text(&spec.args);
    let command = args.get(record.entrypoint.len()..).unwrap_or_default();
    let network = match &spec.network {
        Network::Host => "host".to_owned(),
        Network::None => "none".to_owned(),
        Network::Joined => mode(false, spec.joined.network.as_ref()),
        Network::Uplink(uplink) => uplink.program.name().to_owned(),
    };
    let (own, joined) = (spec.namespaces, &spec.joined);
    let bindings = bindings(spec);
    let mut ports = bindings.clone();
    for port in unpublished(record) {
        ports[format!("{}/{}", port.container, port.protocol)] = Value::Null;
    }
    let (policy, times) = match record.restart {
        Restart::No => ("no", 0),
        Restart::OnFailure(times) => ("on-failure", times),
        Restart::Always => ("always", 0),
    };
    let mut value = json!({
        "Id": record.id,
        "Created": rfc3339(time(record.created)),
        "Path": args.first(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": {
            "Status": status.name(),
            "Running": status == Status::Running,
            "Paused": status == Status::Paused,
            "Restarting": false,
            "OOMKilled": run.is_some_and(|run| run.had_no_memory),
            "Dead": false,
            "Pid": pid,
            "ExitCode": record.exit().unwrap_or(0),
            "Error": "",
            "CgroupPath": record.group,
            "StartedAt": moment(run.map(|run| run.started)),
            "FinishedAt": moment(run.and_then(|run| run.finished)),
            "Health": health(found),
        },
        "Image": record.image_id,
        "ImageName": record.image,
        "Name": name,
        "ProcessLabel": spec.selinux.as_ref().map_or("", |labels| labels.process.as_str()),
        "MountLabel": spec.selinux.as_ref().map_or("", |labels| labels.files.as_str()),
        "AppArmorProfile": spec.apparmor.as_deref().unwrap_or_default(),
        "RestartCount": record.restarts,
        "Dependencies": record.attendance.requires,
        "PidFile": record.attendance.pidfile.as_deref().unwrap_or(Path::new("")),
        "ConmonPidFile": record.attendance.runner_pidfile.as_deref().unwrap_or(Path::new("")),
        "Mounts": spec.mounts.iter().filter_map(mount).collect::<Vec<_>>(),
        "LogPath": path.join("log"),
        "NetworkSettings": { "Ports": ports },
        "Config": {
            "Hostname": spec.hostname,
            "User": spec.user,
            "Tty": spec.terminal,
            "OpenStdin": spec.interactive,
            "Env": text(&spec.env),
            "Cmd": command,
            "Entrypoint": text(&record.entrypoint),
            "Image": record.image,
            "WorkingDir": spec.cwd,
            "Labels": record.labels,
            "SystemdMode": spec.systemd,
            "StopSignal": record.stop_signal.as_deref().unwrap_or("SIGTERM"),
            "StopTimeout": record.stop_timeout,
            "Secrets": told(&record.secrets),
            "Healthcheck": record.health.as_ref().map(check),
            "HealthcheckOnFailureAction": record.health.as_ref().map_or("none", |check| check.on_failure.name()),
        },
        "HostConfig": {
            "NetworkMode": network,
            "PortBindings": bindings,
            "IpcMode": mode(own.ipc, joined.ipc.as_ref()),
            "PidMode": mode(own.pid, joined.pid.as_ref()),
            "UTSMode": mode(own.uts, joined.uts.as_ref()),
            "CgroupnsMode": mode(own.cgroup, joined.cgroup.as_ref()),
            "UsernsMode": joined.user.as_ref().map_or_else(String::new, |other| mode(false, Some(other))),
            "IDMappings": id_maps(pid),
            "AutoRemove": spec.ephemeral,
            "ReadonlyRootfs": spec.read_only,
            "RestartPolicy": { "Name": policy, "MaximumRetryCount": times },
            "LogConfig": { "Type": if record.attendance.unlogged { "none" } else { "k8s-file" }, "Path": path.join("log"), "Size": record.log_size },
        },
    });
    limits(&mut value["HostConfig"], spec);
    value
}

/// Which ids of the host those of a running container are, `INSIDE:HOST:COUNT` each.
fn id_maps(pid: i32) -> Value {
    let map = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(":")).collect()
    };
    json!({ "UidMap": map("uid_map"), "GidMap": map("gid_map") })
}

/// The limits of `inspect`, in the units of the flags; 0 and empty for none.
fn limits(config: &mut Value, spec: &Spec) {
    let wish = spec.cgroup.clone().unwrap_or_default();
    let Resources {
        memory, memory_swap, memory_reservation, cpu_period, cpu_quota, cpu_shares, pids, io_weight, ..
    } = wish.resources;
    let swap = memory_swap.or_else(|| memory.and_then(|memory| i64::try_from(memory.saturating_mul(2)).ok()));
    let numbers = [
        ("Memory", json!(memory.unwrap_or(0))),
        ("MemorySwap", json!(swap.unwrap_or(0))),
        ("MemoryReservation", json!(memory_reservation.unwrap_or(0))),
        ("CpuPeriod", json!(cpu_period.unwrap_or(0))),
        ("CpuQuota", json!(cpu_quota.unwrap_or(0))),
        ("CpuShares", json!(cpu_shares.unwrap_or(0))),
        ("CpusetCpus", json!(wish.resources.cpuset_cpus.unwrap_or_default())),
        ("CpusetMems", json!(wish.resources.cpuset_mems.unwrap_or_default())),
        ("PidsLimit", json!(pids.unwrap_or(0))),
        ("BlkioWeight", json!(io_weight.unwrap_or(0))),
        ("CgroupParent", json!(wish.parent.unwrap_or_default())),
    ];
    for (name, value) in numbers {
        config[name] = value;
    }
    let files: std::collections::BTreeMap<_, _> = wish.resources.files.into_iter().collect();
    config["CgroupConf"] = if files.is_empty() { Value::Null } else { json!(files) };
}

/// What the checks of a container found, as podman has it: an empty status where there are none.
fn health(found: &Found) -> Value {
    if found.record.health.is_none() {
        return json!({ "Status": "", "FailingStreak": 0, "Log": null });
    }
    let health = Health::read(&found.path);
    let log: Vec<Value> = health
        .log
        .iter()
        .map(|check| {
            json!({
                "Start": moment(Some(check.start)), "End": moment(Some(check.end)),
                "ExitCode": check.exit, "Output": check.output,
            })
        })
        .collect();
    json!({ "Status": health.status.name(), "FailingStreak": health.failing_streak, "Log": log })
}

fn check(check: &HealthCheck) -> Value {
    json!({
        "Test": check.test,
        "Interval": nanoseconds(check.interval.unwrap_or_default()),
        "Timeout": nanoseconds(check.timeout),
        "StartPeriod": nanoseconds(check.start_period),
        "Retries": check.retries,
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whose a namespace is, as the command line has it.
fn mode(is_own: bool, other: Option<&Other>) -> String {
    match other {
        Some(Other::Container(id)) => format!("container:{id}"),
        Some(Other::File(path)) => format!("ns:{}", path.display()),
        None if is_own => "private".to_owned(),
        None => "host".to_owned(),
    }
}

/// The ports that lead in.
pub(super) fn published(spec: &Spec) -> &[Port] {
    spec.network.uplink().map_or(&[], |uplink| uplink.ports.as_slice())
}

/// Those to which none leads, though they are exposed.
fn unpublished(record: &Record) -> impl Iterator<Item = &Port> {
    let is_published = |port: &Port| published(&record.spec).iter().any(|one| leads_to(one, port).is_some());
    record.exposed.iter().filter(move |port| !is_published(port))
}

/// The ports of `inspect`: each of the container's, with those of the host that lead there.
fn bindings(spec: &Spec) -> Value {
    let mut bindings = serde_json::Map::new();
    for port in published(spec) {
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        for at in 0..port.count {
            let binding = json!({ "HostIp": address, "HostPort": (port.host + at).to_string() });
            let entry = bindings.entry(format!("{}/{}", port.container + at, port.protocol));
            if let Value::Array(known) = entry.or_insert_with(|| json!([])) {
                known.push(binding);
            }
        }
    }
    Value::Object(bindings)
}

/// The ports of `ps --format json`.
fn listed_ports(spec: &Spec) -> Value {
    let port = |port: &Port| {
        json!({
            "host_ip": port.address.map(|address| address.to_string()).unwrap_or_default(),
            "container_port": port.container,
            "host_port": port.host,
            "range": port.count,
            "protocol": port.protocol.to_string(),
        })
    };
    let ports: Vec<Value> = published(spec).iter().map(port).collect();
    if ports.is_empty() { Value::Null } else { Value::Array(ports) }
}

/// The ports that `ps` shows: `0.0.0.0:8080->80/tcp`, and `443/tcp` for one that is only exposed.
pub(super) fn ports(record: &Record) -> String {
    let range = |first: u16, count: u16| match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first + count - 1),
    };
    let one = |port: &Port| {
        let address = match port.address {
            None => "0.0.0.0".to_owned(),
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(address) => address.to_string(),
        };
        let (host, container) = (range(port.host, port.count), range(port.container, port.count));
        format!("{address}:{host}->{container}/{}", port.protocol)
    };
    let leading = published(&record.spec).iter().map(one);
    let others = unpublished(record).map(|port| format!("{}/{}", port.container, port.protocol));
    leading.chain(others).collect::<Vec<_>>().join(", ")
}

fn mount(mount: &Mount) -> Option<Value> {
    let (source, recursive, propagation) = match &mount.kind {
        MountKind::Bind { source, recursive, propagation, .. } => (source, recursive, propagation),
        MountKind::Volume { name, folder, .. } => return Some(volume(mount, name, folder)),
        MountKind::Image(image) => return Some(self::image(mount, image)),
        MountKind::Tmpfs { .. } => return None,
    };
    let propagation = match propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    };
    let options = options(mount, if *recursive { "rbind" } else { "bind" });
    Some(json!({
        "Type": "bind", "Source": source, "Destination": mount.target, "Driver": "", "Mode": "",
        "Options": options, "RW": !mount.read_only, "Propagation": propagation,
    }))
}

fn volume(mount: &Mount, name: &str, folder: &Path) -> Value {
    json!({
        "Type": "volume", "Name": name, "Source": folder.join("data"), "Destination": mount.target, "Driver": "local",
        "Mode": "", "Options": options(mount, "bind"), "RW": !mount.read_only, "Propagation": "rprivate",
    })
}

/// podman tells the image as it was named, and of the options only whether it can be written to.
fn image(mount: &Mount, image: &ImageMount) -> Value {
    let mut value = json!({
        "Type": "image", "Source": image.name, "Destination": mount.target, "Driver": "", "Mode": "", "Options": null,
        "RW": !mount.read_only, "Propagation": "",
    });
    if !image.subpath.as_os_str().is_empty() {
        value["SubPath"] = json!(image.subpath);
    }
    value
}

fn options(mount: &Mount, first: &'static str) -> Vec<&'static str> {
    let flags = [("nosuid", mount.nosuid), ("nodev", mount.nodev), ("noexec", mount.noexec)];
    std::iter::once(first).chain(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name)).collect()
}

/// An object of `ps --format json`.
pub(super) fn listed(found: &Found) -> Value {
    let Found { name, record, .. } = found;
    let run = record.run.as_ref();
    let seconds =
        |moment: Option<Moment>| moment.map_or(-62_135_596_800, |moment| (moment / 1_000_000_000).cast_signed());
    json!({
        "AutoRemove": record.spec.ephemeral,
        "Command": text(&record.spec.args),
        "CreatedAt": ago(time(record.created), SystemTime::now()),
        "Created": seconds(Some(record.created)),
        "Exited": record.status() == Status::Exited,
        "ExitCode": record.exit().unwrap_or(0),
        "ExitedAt": seconds(run.and_then(|run| run.finished)),
        "Id": record.id,
        "Image": record.image,
        "ImageID": record.image_id,
        "Labels": record.labels,
        "Mounts": targets(record),
        "Names": [name],
        "Pid": record.running().map_or(0, |first| first.id),
        "Ports": listed_ports(&record.spec),
        "Restarts": record.restarts,
        "StartedAt": seconds(run.map(|run| run.started)),
        "State": record.status().name(),
        "Status": status(found, SystemTime::now()),
    })
}

/// The fields of a template of `ps`: what people read.
pub(super) fn shown(found: &Found, is_whole: bool) -> Value {
    let Found { name, record, .. } = found;
    let now = SystemTime::now();
    let age = ago(time(record.created), now);
    let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": id(record, is_whole),
        "Id": id(record, is_whole),
        "Image": record.image,
        "ImageID": if is_whole { record.image_id.as_str() } else { record.image_id.get(..SHORT).unwrap_or_default() },
        "Command": command(record, is_whole),
        "CreatedAt": timestamp(time(record.created)),
        "Created": age,
        "CreatedHuman": age,
        "RunningFor": age,
        "Status": status(found, now),
        "State": record.status().name(),
        "Exited": record.status() == Status::Exited,
        "ExitCode": record.exit().unwrap_or(0),
        "Labels": labels.join(","),
        "Mounts": targets(record).join(","),
        "Names": name,
        "Pid": record.running().map_or(0, |first| first.id),
        "Ports": ports(record),
        "Restarts": record.restarts,
    })
}

fn targets(record: &Record) -> Vec<String> {
    let binds = record.spec.mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Tmpfs { .. }));
    binds.map(|mount| Path::display(&mount.target).to_string()).collect()
}

/// All digits, or as many as tell containers apart.
pub(super) fn id(record: &Record, is_whole: bool) -> &str {
    if is_whole { &record.id } else { record.id.get(..SHORT).unwrap_or(&record.id) }
}

/// The command line as `ps` shows it.
pub(super) fn command(record: &Record, is_whole: bool) -> String {
    let whole = text(&record.spec.args).join(" ");
    match whole.char_indices().nth(COMMAND) {
        Some((end, _)) if !is_whole => format!("{}...", &whole[..end]),
        _ => whole,
    }
}

/// `Up 2 hours (healthy)`, `Exited (0) 5 seconds ago`, `Created`.
pub(super) fn status(found: &Found, now: SystemTime) -> String {
    let record = &found.record;
    let age = |moment: Moment| now.duration_since(time(moment)).unwrap_or_default().as_secs();
    match (record.status(), &record.run) {
        (Status::Paused, _) => "Paused".to_owned(),
        (Status::Running, Some(run)) => {
            let health = record.health.as_ref().map(|_| format!(" ({})", Health::read(&found.path).status.name()));
            format!("Up {}{}", duration(age(run.started)), health.unwrap_or_default())
        }
        (Status::Exited, Some(run)) => {
            let code = record.exit().unwrap_or(0);
            match run.finished {
                Some(finished) => format!("Exited ({code}) {}", ago(time(finished), now)),
                None => format!("Exited ({code})"),
            }
        }
        _ => "Created".to_owned(),
    }
}
