//! Limits as properties of a unit of systemd's (`systemd.resource-control(5)`): what is written past it, it may take back when
//! it reads its units again.

use super::message::Value;
use super::resources::{PERIOD, Resources, weight_of_shares};

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

impl Resources {
    /// The properties for what is said. Limits of disks have none here: theirs name devices by path.
    pub(super) fn properties<'a>(&self) -> Vec<(&'a str, Value)> {
        let mut properties = Vec::new();
        let mut add = |name, value| properties.push((name, value));
        let most = |value: u64| Value::Number(if value == 0 { u64::MAX } else { value });
        if let Some(memory) = self.memory {
            add("MemoryMax", most(memory));
        }
        if let Some(low) = self.memory_reservation {
            add("MemoryLow", Value::Number(low));
        }
        if let Some(swap) = self.memory_swap {
            let swap = u64::try_from(swap).map(|swap| swap.saturating_sub(self.memory.unwrap_or(0)));
            add("MemorySwapMax", Value::Number(swap.unwrap_or(u64::MAX)));
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let period = self.cpu_period.unwrap_or(PERIOD).max(1);
            let quota = self.cpu_quota.and_then(|quota| u64::try_from(quota).ok()).filter(|&quota| quota > 0);
            // It keeps whole percents: rounded up, what is written to the file itself stays within.
            let percents = quota.map(|quota| quota.saturating_mul(100).div_ceil(period));
            let each = percents.map_or(u64::MAX, |percents| percents.saturating_mul(SECOND / 100));
            add("CPUQuotaPerSecUSec", Value::Number(each));
            add("CPUQuotaPeriodUSec", Value::Number(period));
        }
        if let Some(weight) = self.cpu_weight.or(self.cpu_shares.map(weight_of_shares)) {
            add("CPUWeight", Value::Number(weight));
        }
        if let Some(mask) = self.cpuset_cpus.as_deref().and_then(mask) {
            add("AllowedCPUs", Value::Bytes(mask));
        }
        if let Some(mask) = self.cpuset_mems.as_deref().and_then(mask) {
            add("AllowedMemoryNodes", Value::Bytes(mask));
        }
        if let Some(pids) = self.pids {
            add("TasksMax", Value::Number(u64::try_from(pids).ok().filter(|&pids| pids > 0).unwrap_or(u64::MAX)));
        }
        properties
    }
}

/// A value of a property as annotations have it (GVariant's text format): `true`, `'text'`, `uint64 5`, `-5`. `None` for others.
pub(crate) fn parsed(text: &str) -> Option<Value> {
    let quoted =
        |quote: char| text.strip_prefix(quote)?.strip_suffix(quote).filter(|text| !text.contains([quote, '\\']));
    if let Some(text) = quoted('\'').or_else(|| quoted('"')) {
        return Some(Value::Text(text.to_owned()));
    }
    match text.split_once(' ').unwrap_or(("int32", text)) {
        (_, "true") => Some(Value::Flag(true)),
        (_, "false") => Some(Value::Flag(false)),
        ("int32", number) => number.parse().ok().map(Value::Signed),
        ("uint32", number) => number.parse().ok().map(Value::Short),
        ("uint64", number) => number.parse().ok().map(Value::Number),
        _ => None,
    }
}

/// A list such as `0-3,7` as bits, the first byte's lowest first. `None` for what is no list, which the kernel will tell.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        for number in usize::from(first)..=usize::from(last) {
            if bytes.len() <= number / 8 {
                bytes.resize(number / 8 + 1, 0_u8);
            }
            bytes[number / 8] |= 1 << (number % 8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_the_units_of_systemd() {
        let resources = Resources {
            memory: Some(100),
            memory_swap: Some(150),
            cpu_quota: Some(50_000),
            pids: Some(-1),
            cpuset_cpus: Some("0-1,9".to_owned()),
            ..Resources::default()
        };
        assert_eq!(
            resources.properties(),
            [
                ("MemoryMax", Value::Number(100)),
                ("MemorySwapMax", Value::Number(50)),
                ("CPUQuotaPerSecUSec", Value::Number(500_000)),
                ("CPUQuotaPeriodUSec", Value::Number(100_000)),
                ("AllowedCPUs", Value::Bytes(vec![3, 2])),
                ("TasksMax", Value::Number(u64::MAX)),
            ]
        );
        assert_eq!((mask("x"), mask("")), (None, None));
    }

    #[test]
    fn a_property_is_read_with_its_type() {
        let told = ["true", "'a b'", "\"x\"", "uint64 10000000", "uint32 3", "37", "int32 -1"].map(parsed);
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let numbers = [Value::Number(10_000_000), Value::Short(3), Value::Signed(37), Value::Signed(-1)].map(Some);
        assert_eq!(told[..3], [Some(Value::Flag(true)), text("a b"), text("x")]);
        assert_eq!(told[3..], numbers);
        assert_eq!(["", "['a']", "uint64 x", "'a", "@as []"].map(parsed), [const { None }; 5]);
    }
}
