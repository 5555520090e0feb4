//! Arguments of `update` and `events`.

use std::path::PathBuf;

use clap::Args;

/// New limits.
#[derive(Args, Debug)]
pub struct UpdateArguments {
    /// Take them from a file, an object as 'linux.resources' is in config.json; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "single")]
    pub resources: Option<PathBuf>,

    /// Single limits.
    #[command(flatten)]
    pub single: Single,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Limits by themselves. Bytes may have a unit, and -1 is no limit.
#[derive(Args, Debug)]
#[group(id = "single", multiple = true)]
pub struct Single {
    /// Weight at disks, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,

    /// Microseconds of a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,

    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,

    /// Microseconds that may be saved up
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_burst: Option<u64>,

    /// Share of the processors, 2 to 262144
    #[arg(short = 'c', long, alias = "cpu-shares", value_name = "SHARE")]
    pub cpu_share: Option<u64>,

    /// Whether to run only when nothing else does: 1 or 0
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,

    /// Real-time limits, which version 2 of control groups has not
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    pub cpu_rt_period: Option<u64>,

    /// Real-time limits, which version 2 of control groups has not
    #[arg(long, value_name = "MICROSECONDS", hide = true, allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,

    /// Processors, as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,

    /// Nodes of memory
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,

    /// Most bytes of memory
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    pub memory: Option<i64>,

    /// Bytes of memory that are taken away last
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    pub memory_reservation: Option<i64>,

    /// Most bytes of memory and swap together
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    pub memory_swap: Option<i64>,

    /// Kernel memory, which version 2 of control groups does not tell apart
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true, value_parser = bytes)]
    pub kernel_memory: Option<i64>,

    /// Kernel memory, which version 2 of control groups does not tell apart
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true, value_parser = bytes)]
    pub kernel_memory_tcp: Option<i64>,

    /// Most processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
}

/// What to tell.
#[derive(Args, Debug)]
pub struct EventsArguments {
    /// Once
    #[arg(long)]
    pub stats: bool,

    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    pub interval: std::time::Duration,

    /// Container
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = crate::lrun::args::bytes(text)?;
    i64::try_from(bytes).map_err(|_| format!("{text} is too large"))
}

fn interval(text: &str) -> Result<std::time::Duration, String> {
    let time = crate::lrun::moment::duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("{text:?} is no time such as 5s"))
}
