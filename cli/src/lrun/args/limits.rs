//! Values of `lrun run`'s flags for limits.

use std::net::IpAddr;
use std::path::PathBuf;

use lrun::limit::Limit;
use lrun::spec::LandlockRule;

/// `--ulimit`: one limit, or those of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UlimitArgument {
    /// All as the caller has them, which they are anyway.
    Host,
    /// This one.
    One(Limit),
}

pub(super) fn ulimit(text: &str) -> Result<UlimitArgument, String> {
    if text == "host" {
        return Ok(UlimitArgument::Host);
    }
    let (name, values) = text.split_once('=').ok_or("write NAME=SOFT[:HARD] or host")?;
    let name = name.to_ascii_lowercase();
    if !Limit::is_known(&name) {
        return Err("there is no such limit; nofile, nproc, core, stack, memlock … are in setrlimit(2)".into());
    }
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| format!("{text}: neither a number nor -1, which is no limit")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return Err("the soft limit is above the hard one".into());
    }
    Ok(UlimitArgument::One(Limit { name, soft, hard }))
}

/// `--sysctl` and `--annotation`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// `--hosts-file`; an empty path for none.
pub(super) fn hosts_file(text: &str) -> Result<PathBuf, String> {
    match text {
        "none" => Ok(PathBuf::new()),
        "image" => Err("the image's own is shown by --no-hosts".into()),
        "" => Err("name a file of the host, or none".into()),
        path => Ok(path.into()),
    }
}

/// `--personality`, as `personality(2)` has it.
pub(super) fn personality(text: &str) -> Result<u32, String> {
    match text.to_ascii_uppercase().trim_start_matches("PER_") {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        _ => Err("there are LINUX and LINUX32".into()),
    }
}

/// `--umask`.
pub(super) fn umask(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err("an octal number up to 0777".into()),
    }
}

/// `--shm-size`: as [`bytes`], and not less than a page.
pub(super) fn size(text: &str) -> Result<u64, String> {
    Some(bytes(text)?).filter(|&size| size >= 1 << 10).ok_or_else(|| "a size from 1k on".into())
}

/// A number with b, k, m or g behind it, or bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return Err("write bytes, or a number with k, m or g".into()),
    };
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| "a number of bytes is missing, or too large".into())
}

/// `--add-host`.
pub(super) fn host(text: &str) -> Result<(String, IpAddr), String> {
    // The address of IPv6 has colons of its own.
    let (name, address) = text.split_once([':', '=']).ok_or("write NAME:ADDRESS")?;
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !name.split(';').all(is_name) {
        return Err("no name of a host".into());
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse().map_err(|_| format!("{address}: no address; host-gateway is none here"))?;
    Ok((name.replace(';', " "), address))
}

/// `--dns-search` and `--dns-option`: one word of resolv.conf(5).
pub(super) fn word(text: &str) -> Result<String, String> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word { Ok(text.to_owned()) } else { Err("one word of visible characters".into()) }
}

/// `--device`: the node on the host and inside.
pub(super) fn device(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let mut parts = text.split(':');
    let source = PathBuf::from(parts.next().unwrap_or_default());
    let mut target = source.clone();
    let mut rest: Vec<&str> = parts.collect();
    if rest.first().is_some_and(|part| part.starts_with('/')) {
        target = PathBuf::from(rest.remove(0));
    }
    match rest.as_slice() {
        // A node that is bound has the host's permissions; less cannot be had without a control group's filter.
        [] | ["rwm" | "rw"] if source.is_absolute() && target.is_absolute() => Ok((source, target)),
        [_] => Err("permissions other than rwm cannot be set; leave them out".into()),
        _ => Err("write SOURCE[:TARGET], absolute paths".into()),
    }
}

/// `--landlock`.
pub(super) fn landlock(text: &str) -> Result<LandlockRule, String> {
    match text.split_once(':') {
        Some((access @ ("ro" | "rw"), path)) if path.starts_with('/') => {
            Ok(LandlockRule { path: path.into(), writing: access == "rw" })
        }
        _ => Err("write ro:PATH or rw:PATH with an absolute path of the container".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_one_value_or_two() {
        let limit = |soft, hard| UlimitArgument::One(Limit { name: "nofile".into(), soft, hard });
        assert_eq!(ulimit("nofile=5"), Ok(limit(Some(5), Some(5))));
        assert_eq!(ulimit("NOFILE=5:-1"), Ok(limit(Some(5), None)));
        assert_eq!(ulimit("host"), Ok(UlimitArgument::Host));
        for text in ["nofile", "nofile=", "nofile=x", "nofile=6:5", "nofile=-1:5", "bogus=1"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_have_a_name_and_an_address() {
        assert_eq!(host("a:10.0.0.1"), Ok(("a".into(), "10.0.0.1".parse().unwrap())));
        assert_eq!(host("a;b:::1"), Ok(("a b".into(), "::1".parse().unwrap())));
        assert_eq!(host("a:[fe80::1]"), Ok(("a".into(), "fe80::1".parse().unwrap())));
        for text in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a\n:1.2.3.4", "a:host-gateway"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_devices_masks_and_rules() {
        assert_eq!((size("64m"), size("1024")), (Ok(64 << 20), Ok(1024)));
        assert!(size("1").is_err() && size("1x").is_err() && size("99999999999g").is_err());
        assert_eq!(device("/dev/fuse"), Ok(("/dev/fuse".into(), "/dev/fuse".into())));
        assert_eq!(device("/dev/fuse:/dev/x:rwm"), Ok(("/dev/fuse".into(), "/dev/x".into())));
        assert!(device("/dev/fuse:r").is_err() && device("fuse").is_err());
        assert_eq!(umask("0077"), Ok(0o077));
        assert!(umask("999").is_err() && umask("1777").is_err());
        assert_eq!(landlock("ro:/usr").unwrap().path, PathBuf::from("/usr"));
        assert!(landlock("/usr").is_err() && landlock("ro:usr").is_err() && landlock("rx:/usr").is_err());
    }
}
