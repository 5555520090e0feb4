//! What a bundle says of limits, in the terms of version 2.

use std::path::Path;

use crate::cgroup::{self, Setting};
use crate::error::Error;
use crate::oci::config::{BlockIo, Cpu, Memory, Rdma, Resources};

/// Shares of version 1 that every group has where nothing is said.
const USUAL_SHARES: u64 = 1024;
/// Most bytes of `rdma.max` and others that are not said.
const MOST: &str = "max";

/// Limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::oci) struct Limits {
    /// Those that `lrun run` has too.
    pub(super) shared: cgroup::Resources,
    /// Others, as files.
    own: Vec<Setting>,
    /// Whether what uses more memory already is to be left alone.
    spares_memory: bool,
}

impl Limits {
    /// Of a bundle.
    ///
    /// # Errors
    /// [`Error::Refused`] for what version 2 has not.
    pub(super) fn of(resources: &Resources) -> Result<Self, Error> {
        let mut limits = Self::default();
        if resources.network.as_ref().is_some_and(|network| network.as_object().is_none_or(|object| !object.is_empty()))
        {
            return refused("network: classes and priorities are of version 1");
        }
        for huge in &resources.hugepage_limits {
            if !huge.page_size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return refused(&format!("hugepageLimits: {:?} is no size", huge.page_size));
            }
            limits.add(&format!("hugetlb.{}.max", huge.page_size), huge.limit.to_string());
        }
        if let Some(memory) = &resources.memory {
            limits.memory(memory)?;
        }
        if let Some(cpu) = &resources.cpu {
            limits.cpu(cpu)?;
        }
        if let Some(block) = &resources.block_io {
            limits.disks(block)?;
        }
        limits.shared.pids = resources.pids.as_ref().map(|pids| pids.limit).filter(|&limit| limit != 0);
        for (device, Rdma { hca_handles, hca_objects }) in &resources.rdma {
            let count = |count: &Option<u32>| count.map_or_else(|| MOST.to_owned(), |count| count.to_string());
            let value = format!("{device} hca_handle={} hca_object={}", count(hca_handles), count(hca_objects));
            limits.add("rdma.max", value);
        }
        for (name, value) in &resources.unified {
            if Path::new(name).components().count() != 1 || name.contains('/') || name.starts_with('.') {
                return refused(&format!("unified: {name:?} is no file of a control group"));
            }
            limits.add(name, value.clone());
        }
        Ok(limits)
    }

    /// What is to be written. What says no limit, or what every group has, needs no controller.
    pub(super) fn settings(&self) -> Vec<Setting> {
        // Its devices are named by number, of which none can be missing.
        let mut settings = self.shared.settings().unwrap_or_default();
        settings.retain(|setting| !setting.is_implied);
        for setting in &mut settings {
            let is_usual = setting.files == ["cpu.weight"] && self.shared.cpu_shares == Some(USUAL_SHARES);
            setting.is_implied = is_usual || setting.value.split(' ').next() == Some(MOST);
        }
        settings.extend(self.own.iter().cloned());
        settings
    }

    /// Whether nothing is to be kept.
    pub(super) fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    /// The files that have to be there.
    pub(super) fn names(&self) -> Vec<String> {
        let settings = self.settings().into_iter().filter(|setting| !setting.is_implied);
        settings.filter_map(|setting| setting.files.into_iter().next()).collect()
    }

    /// Most bytes of memory, where what uses more is to be left alone.
    pub(in crate::oci) fn spared_memory(&self) -> Option<u64> {
        self.shared.memory.filter(|&limit| self.spares_memory && limit > 0)
    }

    fn add(&mut self, file: &str, value: String) {
        self.own.push(Setting::asked(file, value));
    }

    fn memory(&mut self, memory: &Memory) -> Result<(), Error> {
        if memory.disable_oom_killer == Some(true) || memory.swappiness.is_some() {
            return refused("memory: disableOOMKiller and swappiness are of version 1");
        }
        let bytes = |wish: Option<i64>| wish.filter(|&bytes| bytes != 0).map(|bytes| bytes.try_into().unwrap_or(0));
        self.shared.memory = bytes(memory.limit);
        self.shared.memory_reservation = bytes(memory.reservation);
        self.shared.memory_swap = memory.swap.filter(|&swap| swap != 0);
        self.spares_memory = memory.check_before_update == Some(true);
        // The limit is of both together.
        match (memory.swap.unwrap_or(0), memory.limit.unwrap_or(0)) {
            (..=0, _) => Ok(()),
            (swap, limit) if limit > 0 && swap >= limit => Ok(()),
            _ => refused("memory: swap counts memory too, and must be at least its limit"),
        }
    }

    fn cpu(&mut self, cpu: &Cpu) -> Result<(), Error> {
        if cpu.realtime_runtime.is_some_and(|value| value != 0) || cpu.realtime_period.is_some_and(|value| value != 0) {
            return refused("cpu: real-time limits are of version 1");
        }
        let list = |list: &String| Some(list.clone()).filter(|list| !list.is_empty());
        self.shared.cpu_shares = cpu.shares.filter(|&shares| shares != 0);
        self.shared.cpu_quota = cpu.quota.filter(|&quota| quota != 0);
        self.shared.cpu_period = cpu.period.filter(|&period| period != 0);
        self.shared.cpuset_cpus = list(&cpu.cpus);
        self.shared.cpuset_mems = list(&cpu.mems);
        if let Some(burst) = cpu.burst {
            self.add("cpu.max.burst", burst.to_string());
        }
        if let Some(idle) = cpu.idle {
            self.add("cpu.idle", idle.to_string());
        }
        Ok(())
    }

    fn disks(&mut self, block: &BlockIo) -> Result<(), Error> {
        if block.leaf_weight.is_some_and(|weight| weight != 0) {
            return refused("blockIO: leafWeight is of version 1");
        }
        self.shared.io_weight = block.weight.filter(|&weight| weight != 0).map(u64::from);
        for device in &block.weight_device {
            if device.leaf_weight.is_some_and(|weight| weight != 0) {
                return refused("blockIO: leafWeight is of version 1");
            }
            if let Some(weight) = device.weight {
                // Of the scheduler bfq, which alone weighs single devices by these numbers.
                self.add("io.bfq.weight", format!("{}:{} {weight}", device.major, device.minor));
            }
        }
        let throttled = [
            ("rbps", &block.throttle_read_bps_device),
            ("wbps", &block.throttle_write_bps_device),
            ("riops", &block.throttle_read_iops_device),
            ("wiops", &block.throttle_write_iops_device),
        ];
        for (key, device) in throttled.into_iter().flat_map(|(key, list)| list.iter().map(move |device| (key, device)))
        {
            let rate = if device.rate == 0 { MOST.to_owned() } else { device.rate.to_string() };
            self.add("io.max", format!("{}:{} {key}={rate}", device.major, device.minor));
        }
        Ok(())
    }
}

fn refused<T>(reason: &str) -> Result<T, Error> {
    Err(Error::Refused(format!("linux.resources.{reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let limits = Limits::of(&serde_json::from_str(text).unwrap()).map_err(|error| error.to_string())?;
        let told = |setting: &Setting| {
            format!("{}{}={}", setting.files[0], if setting.is_implied { "?" } else { "" }, setting.value)
        };
        Ok(limits.settings().iter().map(told).collect::<Vec<_>>().join(";"))
    }

    #[test]
    fn limits_are_files_of_version_2() {
        let memory = r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#;
        assert_eq!(of(memory).unwrap(), "memory.max=100;memory.low=50;memory.swap.max=50");
        assert_eq!(of(r#"{"memory":{"limit":100}}"#).unwrap(), "memory.max=100");
        assert_eq!(of(r#"{"pids":{"limit":9}}"#).unwrap(), "pids.max=9");
        assert_eq!(of(r#"{"cpu":{"shares":512,"quota":50000}}"#).unwrap(), "cpu.max=50000 100000;cpu.weight=20");
        assert_eq!(of(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}"#).unwrap(), "hugetlb.2MB.max=4");
        assert_eq!(of(r#"{"unified":{"memory.high":"9"}}"#).unwrap(), "memory.high=9");
        assert_eq!(of(r#"{"blockIO":{},"memory":{"useHierarchy":true}}"#).unwrap(), "");
        assert_eq!(
            of(r#"{"blockIO":{"weight":50,"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":7}]}}"#).unwrap(),
            "io.bfq.weight=50;io.max=8:1 rbps=7"
        );
        assert_eq!(of(r#"{"rdma":{"mlx":{"hcaHandles":3}}}"#).unwrap(), "rdma.max=mlx hca_handle=3 hca_object=max");
    }

    #[test]
    fn what_every_group_has_needs_no_controller() {
        let none = r#"{"pids":{"limit":-1},"memory":{"limit":-1,"swap":-1},"cpu":{"shares":1024,"period":50000}}"#;
        let told = "memory.max?=max;memory.swap.max?=max;cpu.max?=max 50000;cpu.weight?=39;pids.max?=max";
        assert_eq!(of(none).unwrap(), told);
        assert!(Limits::of(&serde_json::from_str(none).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn limits_that_cannot_be_kept_are_refused() {
        for text in [
            r#"{"memory":{"swappiness":5}}"#,
            r#"{"memory":{"swap":5,"limit":9}}"#,
            r#"{"blockIO":{"leafWeight":10}}"#,
            r#"{"unified":{"../x":"1"}}"#,
            r#"{"unified":{"a/x":"1"}}"#,
            r#"{"network":{"classID":10}}"#,
            r#"{"cpu":{"realtimeRuntime":1}}"#,
            r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#,
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
