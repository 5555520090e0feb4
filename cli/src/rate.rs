//! How slowly an image may come, as it is said on the command line.

use std::str::FromStr;
use std::time::Duration;

use lstore::registry::MinimumRate;

/// The longest time over which a rate is taken, in seconds.
const LONGEST: u64 = 86_400;

/// `BYTES[:SECONDS]`: the rate below which a source is given up, in bytes a second, and over how many seconds it is taken;
/// 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<MinimumRate>);

/// What is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a rate of the form BYTES[:SECONDS], with 1 to {LONGEST} seconds, as 1000:60")]
pub struct RateError;

impl Default for Rate {
    fn default() -> Self {
        Self(Some(MinimumRate::default()))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let usual = MinimumRate::default();
        let (bytes, window) = match text.split_once(':') {
            Some((bytes, seconds)) => (bytes, Duration::from_secs(seconds.parse().map_err(|_| RateError)?)),
            None => (text, usual.window),
        };
        let bytes = bytes.parse().map_err(|_| RateError)?;
        if window.is_zero() || window.as_secs() > LONGEST {
            return Err(RateError);
        }
        Ok(Self((bytes > 0).then_some(MinimumRate { bytes, window })))
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(rate) => write!(formatter, "{}:{}", rate.bytes, rate.window.as_secs()),
            None => formatter.write_str("0"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_a_second_over_a_time() {
        for (text, bytes, seconds) in [("1000:60", 1000, 60), ("5", 5, 60), ("1:86400", 1, 86_400)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate(Some(MinimumRate { bytes, window: Duration::from_secs(seconds) })), "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        assert_eq!("0".parse(), Ok(Rate(None)));
        assert_eq!("0:5".parse(), Ok(Rate(None)));
        for bad in ["", ":", "x", "-1", "1:", "1:0", "1:x", "1:86401", "1:1:1"] {
            assert_eq!(bad.parse::<Rate>(), Err(RateError), "{bad}");
        }
    }
}
