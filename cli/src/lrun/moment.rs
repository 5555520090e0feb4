//! Moments as `--since` and `--until` take them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::output::parse_rfc3339;

/// Reads a moment: RFC 3339, a date, a date and time of day in UTC, seconds since 1970, or how long before `now`.
pub(super) fn parse(text: &str, now: SystemTime) -> Option<SystemTime> {
    let whole = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    if text.contains('-')
        && let Some(moment) = whole.iter().find_map(|text| parse_rfc3339(text))
    {
        return Some(moment);
    }
    if let Some(age) = duration(text) {
        return now.checked_sub(age);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let age = Duration::new(seconds.parse().ok()?, nanos.parse().ok().filter(|_| is_number)?);
    UNIX_EPOCH.checked_add(age)
}

/// Go's durations: `1h30m`, `1.5s`, `300ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[letters..];
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_numbers_or_ages() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let at = |text: &str| parse(text, now).map(|moment| moment.duration_since(UNIX_EPOCH).unwrap());
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(at("2025-01-01T10:00:00.000000000+00:00"), seconds(1_735_725_600));
        assert_eq!(at("2025-01-01T10:00:00.5Z"), Some(Duration::from_millis(1_735_725_600_500)));
        assert_eq!(at("2025-01-01T10:00:00"), seconds(1_735_725_600));
        assert_eq!(at("2025-01-01"), seconds(1_735_689_600));
        assert_eq!(at("1735689600.25"), Some(Duration::from_millis(1_735_689_600_250)));
        assert_eq!(at("1h30m"), seconds(1_000_000_000 - 5400));
        assert_eq!(at("500ms"), Some(Duration::from_millis(999_999_999_500)));
        for wrong in ["", "yesterday", "10x", "m", "1.", "2025-13-01", "-5"] {
            assert_eq!(at(wrong), None, "{wrong:?}");
        }
    }
}
