//! What a container may use: the flags that `run`, `create` and `update` share.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are help texts, whose brackets mean what can be left out"
)]

use std::path::PathBuf;

use clap::Args;
use lrun::cgroup::{IoLimit, Rate, Resources, controller_of};

use super::limits;

/// Microseconds of a period of processor time where none is said.
const PERIOD: f64 = 100_000.0;

/// Limits by a control group.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ResourceArguments {
    /// Most memory, as 512m or 2g; what needs more is killed
    #[arg(short, long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,

    /// Most memory and swap together; -1 for no limit of swap; twice the memory if not said
    #[arg(long, value_name = "SIZE", value_parser = swap, allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,

    /// Memory that is taken away last when it is short
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory_reservation: Option<u64>,

    /// Leaning to swap, of control groups of version 1 alone; only -1, which leaves it as it is
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = swappiness, hide = true)]
    pub memory_swappiness: Option<i64>,

    /// Write a value into a file of the container's control group, after all limits: memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE", value_parser = file)]
    pub cgroup_conf: Vec<(String, String)>,

    /// Most processors at a time, as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = cpus, conflicts_with_all = ["cpu_period", "cpu_quota"])]
    pub cpus: Option<f64>,

    /// Microseconds of a period of processor time
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    pub cpu_period: Option<u64>,

    /// Microseconds of processor time in each period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, value_parser = quota)]
    pub cpu_quota: Option<i64>,

    /// Share of the processors when they are short: 2 to 262144, where 1024 is usual
    #[arg(short = 'c', long, value_name = "SHARES", value_parser = clap::value_parser!(u64).range(0..=262_144), conflicts_with = "cpu_weight")]
    pub cpu_shares: Option<u64>,

    /// The same in the kernel's units: 1 to 10000, where 100 is usual
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub cpu_weight: Option<u64>,

    /// Processors to run on, as 0-3,7
    #[arg(long, value_name = "LIST", value_parser = list)]
    pub cpuset_cpus: Option<String>,

    /// Memory nodes to use, as 0,1
    #[arg(long, value_name = "LIST", value_parser = list)]
    pub cpuset_mems: Option<String>,

    /// Most processes and threads; -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
    pub pids_limit: Option<i64>,

    /// Share of disks when they are busy: 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u64).range(10..=1000))]
    pub blkio_weight: Option<u64>,

    /// The same for one device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = weight)]
    pub blkio_weight_device: Vec<(PathBuf, u64)>,

    /// Most bytes to read from a device in a second, as /dev/sda:1m
    #[arg(long, value_name = "DEVICE:RATE", value_parser = rate)]
    pub device_read_bps: Vec<(PathBuf, u64)>,

    /// Most bytes to write to a device in a second
    #[arg(long, value_name = "DEVICE:RATE", value_parser = rate)]
    pub device_write_bps: Vec<(PathBuf, u64)>,

    /// Most reads from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = rate)]
    pub device_read_iops: Vec<(PathBuf, u64)>,

    /// Most writes to a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = rate)]
    pub device_write_iops: Vec<(PathBuf, u64)>,
}

impl ResourceArguments {
    /// In the runner's words.
    ///
    /// # Errors
    /// Swap without memory, or less of both than of memory.
    pub fn resources(&self, had: Option<u64>) -> Result<Resources, String> {
        let memory = self.memory.or(had);
        match (self.memory_swap, memory) {
            (Some(swap), Some(memory)) if swap >= 0 && swap.cast_unsigned() < memory => {
                return Err("--memory-swap is memory and swap together: not below --memory".into());
            }
            (Some(0..), None | Some(0)) => return Err("--memory-swap needs --memory".into()),
            _ => {}
        }
        #[allow(clippy::cast_possible_truncation, reason = "bounded by its parser")]
        let quota = self.cpus.map(|cpus| if cpus == 0.0 { -1 } else { (cpus * PERIOD).round() as i64 });
        let of = |rate: Rate, limits: &[(PathBuf, u64)]| {
            let one = |(device, most): &(PathBuf, u64)| IoLimit { device: device.clone(), rate, most: *most };
            limits.iter().map(one).collect::<Vec<_>>()
        };
        let io_limits = [
            of(Rate::ReadBytes, &self.device_read_bps),
            of(Rate::WriteBytes, &self.device_write_bps),
            of(Rate::Reads, &self.device_read_iops),
            of(Rate::Writes, &self.device_write_iops),
        ];
        Ok(Resources {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpu_period: self.cpu_period.or(self.cpus.map(|_| 100_000)),
            cpu_quota: self.cpu_quota.or(quota),
            cpu_shares: self.cpu_shares,
            cpu_weight: self.cpu_weight,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            io_weight: self.blkio_weight,
            io_weights: self.blkio_weight_device.clone(),
            io_limits: io_limits.concat(),
            files: self.cgroup_conf.clone(),
        })
    }
}

/// Whether a container has a control group of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsArgument {
    /// If a limit asks for it.
    #[default]
    Wanted,
    /// In any case.
    Enabled,
    /// In no case.
    Disabled,
    /// In any case, and the runner stays where it is.
    NoConmon,
}

/// Whether a container is prepared for systemd as its process 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemdArgument {
    /// If its command is systemd, by its name.
    #[default]
    Found,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// Bytes, or with b, k, m or g behind; 0 for no limit.
fn memory(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { limits::size(text) }
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(memory(text)?).map_err(|_| "more than there can be".into())
}

fn swappiness(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        _ => Err("only control groups of version 1 have it; leave it out, or set vm.swappiness of the machine".into()),
    }
}

fn file(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as memory.high=1073741824")?;
    controller_of(name)?;
    Ok((name.to_owned(), value.to_owned()))
}

fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // The kernel takes no less than a millisecond in a period.
        Ok(number) if number == 0.0 || (0.01..=8192.0).contains(&number) => Ok(number),
        _ => Err("a number of processors from 0.01 on, as 1.5".into()),
    }
}

fn quota(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(number) if number <= 0 => Ok(-1),
        Ok(number) if number >= 1000 => Ok(number),
        _ => Err("microseconds from 1000 on, or -1".into()),
    }
}

fn list(text: &str) -> Result<String, String> {
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    if text.split(',').all(is_range) { Ok(text.to_owned()) } else { Err("numbers and ranges, as 0-3,7".into()) }
}

fn device(text: &str) -> Result<(PathBuf, &str), String> {
    match text.rsplit_once(':') {
        Some((device, value)) if device.starts_with('/') => Ok((device.into(), value)),
        _ => Err("write DEVICE:VALUE with an absolute path".into()),
    }
}

fn weight(text: &str) -> Result<(PathBuf, u64), String> {
    let (device, value) = device(text)?;
    let weight = value.parse().ok().filter(|weight| (10..=1000).contains(weight));
    Ok((device, weight.ok_or("a weight from 10 to 1000")?))
}

fn rate(text: &str) -> Result<(PathBuf, u64), String> {
    let (device, value) = device(text)?;
    match value.parse() {
        Ok(number) => Ok((device, number)),
        Err(_) => Ok((device, limits::size(value)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_podmans_units() {
        assert_eq!((memory("64m"), memory("0")), (Ok(64 << 20), Ok(0)));
        assert_eq!((swap("-1"), swap("1g")), (Ok(-1), Ok(1 << 30)));
        assert_eq!((cpus("0.5"), quota("-1"), quota("50000")), (Ok(0.5), Ok(-1), Ok(50_000)));
        assert_eq!(rate("/dev/sda:1mb"), Ok(("/dev/sda".into(), 1 << 20)));
        assert_eq!(rate("/dev/disk/by-path/pci:0:20"), Ok(("/dev/disk/by-path/pci:0".into(), 20)));
        assert_eq!(weight("/dev/sda:500"), Ok(("/dev/sda".into(), 500)));
        assert!(cpus("0.001").is_err() && cpus("x").is_err() && quota("5").is_err() && swap("-2").is_err());
        assert!(rate("sda:1").is_err() && rate("/dev/sda").is_err() && weight("/dev/sda:5").is_err());
        assert!(list("0-3,7").is_ok() && list("").is_err() && list("0-").is_err() && list("a").is_err());
    }

    #[test]
    fn files_of_the_group_are_named_and_swappiness_is_of_no_use() {
        assert_eq!(file("memory.high=1G"), Ok(("memory.high".to_owned(), "1G".to_owned())));
        assert_eq!(file("io.max=8:0 rbps=1"), Ok(("io.max".to_owned(), "8:0 rbps=1".to_owned())));
        assert!(file("memory.high").is_err() && file("cgroup.procs=1").is_err());
        assert_eq!(swappiness("-1"), Ok(-1));
        assert!(swappiness("60").unwrap_err().contains("version 1"));
    }

    #[test]
    fn processors_are_a_quota_of_the_usual_period() {
        let of = |cpus| ResourceArguments { cpus: Some(cpus), ..ResourceArguments::default() }.resources(None).unwrap();
        assert_eq!((of(1.5).cpu_quota, of(1.5).cpu_period), (Some(150_000), Some(100_000)));
        assert_eq!(of(0.0).cpu_quota, Some(-1));
        assert!(ResourceArguments::default().resources(None).unwrap().is_empty());
    }

    #[test]
    fn swap_stands_on_memory() {
        let of = |memory, swap| ResourceArguments { memory, memory_swap: Some(swap), ..ResourceArguments::default() };
        assert!(of(None, 5).resources(None).is_err() && of(Some(10), 5).resources(None).is_err());
        assert!(of(None, 5).resources(Some(4)).is_ok() && of(Some(10), -1).resources(None).is_ok());
    }
}
