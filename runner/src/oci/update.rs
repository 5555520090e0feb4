//! `update`: other limits for a container that is there.

use super::cgroup::limits;
use super::config::Resources;
use super::state::{Found, Status, keep_config};
use crate::error::Error;

/// Changes limits, as far as they are said, and remembers them.
///
/// # Errors
/// [`Error::Refused`] for a container that has ended or has no control group, and for limits that cannot be set.
pub fn update(container: &Found, wish: &Resources) -> Result<(), Error> {
    let (id, status) = (&container.record.id, container.status());
    let refused = |reason: String| Err(Error::Refused(format!("container {id:?} {reason}")));
    if status == Status::Stopped {
        return refused("is stopped, and has no limits any more".to_owned());
    }
    let mut config = container.config()?;
    if !wish.devices.is_empty() && wish.devices != config.linux.resources.devices {
        return refused("keeps its rules about devices as long as it is there".to_owned());
    }
    let wish = completed(wish, &config.linux.resources);
    let limits = limits(&wish)?;
    let Some(made) = &container.record.cgroup else {
        return refused("has no control group of its own, which limits need".to_owned());
    };
    if let (Some(limit), Some(used)) = (limits.spared_memory(), made.group().usage().memory)
        && limit < used
    {
        return refused(format!("uses {used} bytes of memory already, more than the limit"));
    }
    made.limit(&limits)?;
    config.linux.resources = merged(&config.linux.resources, wish);
    keep_config(&container.folder, &config)
}

/// With the other half of what the kernel takes as one, as it was.
fn completed(wish: &Resources, kept: &Resources) -> Resources {
    let mut wish = wish.clone();
    if let (Some(memory), Some(kept)) = (&mut wish.memory, &kept.memory)
        && memory.swap.is_some()
    {
        memory.limit = memory.limit.or(kept.limit);
    }
    if let (Some(cpu), Some(kept)) = (&mut wish.cpu, &kept.cpu)
        && (cpu.quota.is_some() || cpu.period.is_some())
    {
        cpu.quota = cpu.quota.or(kept.quota);
        cpu.period = cpu.period.or(kept.period);
    }
    wish
}

/// What a container has, changed by what is said.
fn merged(kept: &Resources, wish: Resources) -> Resources {
    let mut all = kept.clone();
    if let Some(wish) = wish.memory {
        let memory = all.memory.get_or_insert_default();
        memory.limit = wish.limit.or(memory.limit);
        memory.reservation = wish.reservation.or(memory.reservation);
        memory.swap = wish.swap.or(memory.swap);
    }
    if let Some(wish) = wish.cpu {
        let cpu = all.cpu.get_or_insert_default();
        cpu.shares = wish.shares.or(cpu.shares);
        cpu.quota = wish.quota.or(cpu.quota);
        cpu.period = wish.period.or(cpu.period);
        cpu.burst = wish.burst.or(cpu.burst);
        cpu.idle = wish.idle.or(cpu.idle);
        for (list, wish) in [(&mut cpu.cpus, wish.cpus), (&mut cpu.mems, wish.mems)] {
            if !wish.is_empty() {
                *list = wish;
            }
        }
    }
    all.pids = wish.pids.or(all.pids);
    all.block_io = wish.block_io.or(all.block_io);
    all.unified.extend(wish.unified);
    all.rdma.extend(wish.rdma);
    for huge in wish.hugepage_limits {
        all.hugepage_limits.retain(|known| known.page_size != huge.page_size);
        all.hugepage_limits.push(huge);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Resources {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn half_a_limit_is_completed_by_what_is_there() {
        let kept = of(r#"{"memory":{"limit":100},"cpu":{"quota":5,"period":50,"shares":9}}"#);
        let wish = completed(&of(r#"{"memory":{"swap":150},"cpu":{"quota":7}}"#), &kept);
        let (memory, cpu) = (wish.memory.unwrap(), wish.cpu.unwrap());
        assert_eq!((memory.limit, memory.swap), (Some(100), Some(150)));
        assert_eq!((cpu.quota, cpu.period, cpu.shares), (Some(7), Some(50), None));
    }

    #[test]
    fn what_is_not_said_stays() {
        let kept = of(r#"{"memory":{"limit":100},"pids":{"limit":5},"cpu":{"cpus":"0","shares":9}}"#);
        let all = merged(&kept, of(r#"{"memory":{"swap":150},"cpu":{"cpus":"1"},"unified":{"memory.high":"7"}}"#));
        assert_eq!(all.memory.unwrap().limit, Some(100));
        assert_eq!((all.pids.unwrap().limit, all.unified.len()), (5, 1));
        let cpu = all.cpu.unwrap();
        assert_eq!((cpu.cpus.as_str(), cpu.shares), ("1", Some(9)));
    }
}
