//! Sizes, ages and dates in the words that podman and docker use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;

/// A size in bytes, in powers of 1000 and three significant digits: `27.1 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut divisor = 1_u128;
    // In whole numbers, so that 999.5 kB is rounded up to 1 MB and never shown as 1e+03 kB.
    while unit + 1 < UNITS.len() && u128::from(bytes) * 10 >= divisor * 9995 {
        unit += 1;
        divisor *= 1000;
    }
    let whole = u128::from(bytes) / divisor;
    let decimals = match whole {
        _ if unit == 0 => 0,
        0..=9 => 2,
        10..=99 => 1,
        _ => 0,
    };
    let scale = 10_u128.pow(decimals);
    let rounded = (u128::from(bytes) * scale + divisor / 2) / divisor;
    let mut number = (rounded / scale).to_string();
    let fraction = rounded % scale;
    if fraction > 0 {
        let digits = format!("{fraction:0width$}", width = decimals as usize);
        number.push('.');
        number.push_str(digits.trim_end_matches('0'));
    }
    format!("{number} {}", UNITS[unit])
}

/// How long before `now` something happened: `2 hours ago`. A moment that is still to come counts as now, since clocks
/// differ between the machine that built an image and this one.
pub fn ago(then: SystemTime, now: SystemTime) -> String {
    let age = now.duration_since(then).unwrap_or(Duration::ZERO);
    format!("{} ago", duration(age.as_secs()))
}

/// A duration in its largest fitting unit. The limits are those of docker's and podman's listings.
pub fn duration(seconds: u64) -> String {
    // To the nearest hour, but the units above are rounded down.
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..MINUTE => format!("{seconds} seconds"),
        _ if seconds / MINUTE == 1 => "About a minute".into(),
        _ if seconds < HOUR => format!("{} minutes", seconds / MINUTE),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if seconds < 2 * WEEK => format!("{} days", seconds / DAY),
        _ if seconds < 2 * MONTH => format!("{} weeks", seconds / WEEK),
        _ if seconds < 2 * YEAR => format!("{} months", seconds / MONTH),
        _ => format!("{} years", seconds / YEAR),
    }
}

/// The first twelve digits of an id, without `sha256:`.
pub fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// A moment as RFC 3339 in UTC, with as many decimals as it has: `2026-11-24T01:00:45.970216078Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let (date, clock, nanoseconds) = calendar(time);
    if nanoseconds == 0 {
        return format!("{date}T{clock}Z");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{date}T{clock}.{}Z", fraction.trim_end_matches('0'))
}

/// Reads a moment in RFC 3339; the fraction may have any length and is cut to nanoseconds. `None` for what is none.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let numbers = |text: &str, separator: char| -> Option<[i64; 3]> {
        let mut parts = text.split(separator).map(|part| part.parse::<i64>().ok());
        Some([parts.next()??, parts.next()??, parts.next()??])
    };
    let [year, month, day] = numbers(date, '-')?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(whole, ':')?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    // Days since 1970-01-01, years counted from March as in `civil`.
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400) + day_of_year
        - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds = digits.parse().ok()?;
    let base = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 { UNIX_EPOCH.checked_sub(base) } else { UNIX_EPOCH.checked_add(base) };
    moment?.checked_add(Duration::from_nanos(nanoseconds))
}

/// A moment as `{{.CreatedAt}}` prints it: `2026-11-24 01:00:45 +0000 UTC`.
pub fn timestamp(time: SystemTime) -> String {
    let (date, clock, _) = calendar(time);
    format!("{date} {clock} +0000 UTC")
}

/// Date, time of day and nanoseconds in UTC, by the Gregorian calendar also before its introduction.
fn calendar(time: SystemTime) -> (String, String, u32) {
    let (seconds, nanoseconds) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (i128::from(after.as_secs()), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let nanoseconds = before.subsec_nanos();
            let borrowed = u32::from(nanoseconds > 0);
            (-i128::from(before.as_secs()) - i128::from(borrowed), (1_000_000_000 - nanoseconds) % 1_000_000_000)
        }
    };
    let day = i128::from(DAY);
    let (year, month, date) = civil(seconds.div_euclid(day));
    let second = seconds.rem_euclid(day);
    (
        format!("{year:04}-{month:02}-{date:02}"),
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
        nanoseconds,
    )
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last of its year: then the days before a month are a
/// linear function, (153 m + 2) / 5, of the month since March.
fn civil(days: i128) -> (i128, i128, i128) {
    const DAYS_OF_400_YEARS: i128 = 146_097;
    // 0000-03-01 is 719,468 days before 1970-01-01.
    let days = days + 719_468;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        let moment = UNIX_EPOCH + Duration::new(1_800_000_123, 456_000_000);
        assert_eq!(parse_rfc3339(&rfc3339(moment)), Some(moment));
        assert_eq!(parse_rfc3339("1970-01-01T02:00:00.5+02:00"), Some(UNIX_EPOCH + Duration::from_millis(500)));
        for bad in ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T00:00Z"] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_three_digits_in_powers_of_a_thousand() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1024, "1.02 kB"),
            (11_345, "11.3 kB"),
            (11_353, "11.4 kB"),
            (11_472, "11.5 kB"),
            (124_000_000, "124 MB"),
            (999_499, "999 kB"),
            (999_500, "1 MB"),
            (7_300_000, "7.3 MB"),
            (9_999_000, "10 MB"),
            (1_020_000_000, "1.02 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn ages_use_the_words_of_podman() {
        for (seconds, text) in [
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (119, "About a minute ago"),
            (120, "2 minutes ago"),
            (3599, "59 minutes ago"),
            (3600, "About an hour ago"),
            (5399, "About an hour ago"),
            (5400, "2 hours ago"),
            (47 * HOUR, "47 hours ago"),
            (2 * DAY, "2 days ago"),
            (13 * DAY, "13 days ago"),
            (14 * DAY, "2 weeks ago"),
            (60 * DAY, "2 months ago"),
            (729 * DAY, "24 months ago"),
            (730 * DAY, "2 years ago"),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            assert_eq!(ago(now - Duration::from_secs(seconds), now), text);
        }
    }

    #[test]
    fn an_image_from_the_future_is_as_old_as_one_from_now() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(ago(now + Duration::from_mins(1), now), "Less than a second ago");
    }

    #[test]
    fn moments_are_written_in_utc() {
        let moment = SystemTime::UNIX_EPOCH + Duration::new(1_795_482_045, 970_216_078);
        assert_eq!(rfc3339(moment), "2026-11-24T01:00:45.970216078Z");
        assert_eq!(timestamp(moment), "2026-11-24 01:00:45 +0000 UTC");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
        let leap = SystemTime::UNIX_EPOCH + Duration::from_hours(264_384);
        assert_eq!(rfc3339(leap), "2000-02-29T00:00:00Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(rfc3339(before), "1969-12-31T23:59:59.5Z");
    }

    #[test]
    fn short_ids_have_twelve_digits() {
        assert_eq!(short_id("sha256:db9d92251e6a739c911028afaf79"), "db9d92251e6a");
        assert_eq!(short_id("abc"), "abc");
    }
}
