//! `update` and `events`.

use std::io::Write;
use std::path::Path;

use lrun::oci::config::{BlockIo, Cpu, Memory, Pids, Resources};
use lrun::oci::events::{killed_for_memory, stats};
use lrun::oci::state::{Containers, Status};
use lrun::oci::update;
use serde_json::json;

use super::args::{EventsArguments, UpdateArguments};
use crate::report::Failure;

pub(super) fn update(containers: &Containers, arguments: &UpdateArguments) -> Result<(), Failure> {
    let container = containers.find(&arguments.id)?;
    let resources = match &arguments.resources {
        Some(file) if file == Path::new("-") => Resources::read(Path::new("/dev/stdin"))?,
        Some(file) => Resources::read(file)?,
        None => of_words(arguments),
    };
    Ok(update::update(&container, &resources)?)
}

fn of_words(arguments: &UpdateArguments) -> Resources {
    let single = &arguments.single;
    Resources {
        memory: Some(Memory {
            limit: single.memory,
            reservation: single.memory_reservation,
            swap: single.memory_swap,
            kernel: single.kernel_memory,
            kernel_tcp: single.kernel_memory_tcp,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: single.cpu_share,
            quota: single.cpu_quota,
            burst: single.cpu_burst,
            period: single.cpu_period,
            realtime_runtime: single.cpu_rt_runtime,
            realtime_period: single.cpu_rt_period,
            cpus: single.cpuset_cpus.clone().unwrap_or_default(),
            mems: single.cpuset_mems.clone().unwrap_or_default(),
            idle: single.cpu_idle,
        }),
        pids: single.pids_limit.map(|limit| Pids { limit }),
        block_io: single.blkio_weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    }
}

/// Tells what is used, until the container ends, and when a process was killed for want of memory.
pub(super) fn events(containers: &Containers, arguments: &EventsArguments) -> Result<(), Failure> {
    let container = containers.find(&arguments.id)?;
    let tell = |event: &serde_json::Value| writeln!(std::io::stdout().lock(), "{event}");
    if container.status() == Status::Stopped {
        return Err(format!("container {:?} is stopped and uses nothing", arguments.id).into());
    }
    if arguments.stats {
        return Ok(tell(&stats(&container)?)?);
    }
    let mut killed = killed_for_memory(&container);
    while container.status() != Status::Stopped {
        tell(&stats(&container)?)?;
        std::thread::sleep(arguments.interval);
        let now = killed_for_memory(&container);
        if now > killed {
            tell(&json!({"type": "oom", "id": arguments.id}))?;
        }
        killed = now;
    }
    Ok(())
}
