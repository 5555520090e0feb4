//! What a container uses.

use std::path::Path;
use std::time::Duration;

use super::Group;

/// Of a group, or of the processes of one that has none. `None`: nothing tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far.
    pub cpu: Option<Duration>,
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// Most bytes of memory, where there is a limit.
    pub memory_limit: Option<u64>,
    /// Bytes read from and written to devices.
    pub io: Option<(u64, u64)>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Bytes received and sent by the network of the container.
    pub network: Option<(u64, u64)>,
}

impl Group {
    /// What the processes in it use, as far as its controllers tell. The network is not theirs to tell.
    pub fn usage(&self) -> Usage {
        let number = |file: &str| self.text(file).and_then(|text| text.trim().parse::<u64>().ok());
        let cpu = self.text("cpu.stat").and_then(|text| field(&text, "usage_usec "));
        Usage {
            cpu: cpu.map(Duration::from_micros),
            memory: number("memory.current"),
            memory_limit: number("memory.max"),
            io: self.text("io.stat").map(|text| transferred(&text)),
            pids: number("pids.current"),
            network: None,
        }
    }
}

impl Usage {
    /// What is not told here is taken from another.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.or(other.cpu),
            memory: self.memory.or(other.memory),
            memory_limit: self.memory_limit.or(other.memory_limit),
            io: self.io.or(other.io),
            pids: self.pids.or(other.pids),
            network: self.network.or(other.network),
        }
    }

    /// The network of a process, without its loopback device (`proc_net(5)`).
    pub fn of_network(process: i32) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("net/dev")).ok()?;
        Some(devices(&text))
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|text| text.trim().parse().ok())
}

/// The sums of `io.stat`.
fn transferred(text: &str) -> (u64, u64) {
    let sum =
        |key: &str| text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum::<u64>();
    (sum("rbytes="), sum("wbytes="))
}

/// The sums of `net/dev`: the first and the ninth number of each device.
fn devices(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for (name, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        sums.0 += numbers.first().copied().unwrap_or_default();
        sums.1 += numbers.get(8).copied().unwrap_or_default();
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_summed_up() {
        let io = "8:0 rbytes=10 wbytes=1 rios=3 wios=1 dbytes=0 dios=0\n253:0 rbytes=5 wbytes=2 rios=1 wios=1\n";
        assert_eq!(transferred(io), (15, 3));
        assert_eq!(transferred(""), (0, 0));
        let net =
            "Inter-| Receive\n face |bytes\n    lo: 7 0 0 0 0 0 0 0 7 0\n  eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        assert_eq!(devices(net), (100, 20));
    }

    #[test]
    fn a_group_tells_what_its_controllers_know() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file("cpu.stat", "usage_usec 1500000\nuser_usec 1\n");
        file("memory.current", "4096\n");
        file("memory.max", "max\n");
        let usage = Group::at(folder.path().to_path_buf()).usage();
        assert_eq!((usage.cpu, usage.memory), (Some(Duration::from_millis(1500)), Some(4096)));
        assert_eq!((usage.memory_limit, usage.pids, usage.io), (None, None, None));
    }
}
