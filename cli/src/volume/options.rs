//! The options that bind mounts and tmpfs share, each of which may be given once.

use lrun::spec::Relabel;

use super::idmap::IdMapping;
use super::mount::{Propagation, VolumeError};

/// What a list of options says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) read_only: Option<bool>,
    pub(super) nosuid: Option<bool>,
    pub(super) nodev: Option<bool>,
    pub(super) noexec: Option<bool>,
    pub(super) recursive: Option<bool>,
    pub(super) propagation: Option<Propagation>,
    pub(super) relabel: Option<Relabel>,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<u32>,
    /// Whether a file system in memory begins with what the image has there.
    pub(super) copies_up: Option<bool>,
    /// Whether a new volume begins with what the image has there.
    pub(super) copies: Option<bool>,
    /// Whether the files are given to the container's user.
    pub(super) owned: Option<bool>,
    /// Which ids the files show with.
    pub(super) ids: Option<IdMapping>,
}

impl Options {
    /// Takes note of `option`, which may have a `=value`. `whole` is the argument it stands in, for messages.
    pub(super) fn add(&mut self, option: &str, whole: &str) -> Result<(), VolumeError> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let once = |slot: &mut Option<bool>, setting| set(slot, setting, option, whole);
        match (name, value) {
            ("ro", None) => once(&mut self.read_only, true),
            ("rw", None) => once(&mut self.read_only, false),
            ("nosuid", None) => once(&mut self.nosuid, true),
            ("suid", None) => once(&mut self.nosuid, false),
            ("nodev", None) => once(&mut self.nodev, true),
            ("dev", None) => once(&mut self.nodev, false),
            ("noexec", None) => once(&mut self.noexec, true),
            ("exec", None) => once(&mut self.noexec, false),
            ("rbind", None) => once(&mut self.recursive, true),
            ("bind", None) => once(&mut self.recursive, false),
            ("z", None) => set(&mut self.relabel, Relabel::Shared, option, whole),
            ("Z", None) => set(&mut self.relabel, Relabel::Private, option, whole),
            ("U", None) => once(&mut self.owned, true),
            ("idmap", value) => set(&mut self.ids, IdMapping::parse(value, whole)?, option, whole),
            ("copy", None) => once(&mut self.copies, true),
            ("nocopy", None) => once(&mut self.copies, false),
            ("tmpcopyup", None) => once(&mut self.copies_up, true),
            ("notmpcopyup", None) => once(&mut self.copies_up, false),
            ("size", Some(value)) => {
                let size = size(value).ok_or_else(|| VolumeError::size(value, whole))?;
                set(&mut self.size, size, option, whole)
            }
            ("mode", Some(value)) => {
                let mode = mode(value).ok_or_else(|| VolumeError::mode(value, whole))?;
                set(&mut self.mode, mode, option, whole)
            }
            (_, None) => match Propagation::named(name) {
                Some(propagation) => set(&mut self.propagation, propagation, option, whole),
                None => Err(VolumeError::option(option, whole)),
            },
            _ => Err(VolumeError::option(option, whole)),
        }
    }
}

impl Options {
    /// Whether the files are given to the container's user: what cannot be changed cannot be given either.
    pub(super) fn owned(&self, whole: &str) -> Result<bool, VolumeError> {
        match (self.owned.unwrap_or(false), self.read_only.unwrap_or(false)) {
            (true, true) => Err(VolumeError::Contradiction { option: "U".into(), whole: whole.into() }),
            (owned, _) => Ok(owned),
        }
    }
}

/// Sets what must not have been set before: of `ro,rw` one is a mistake.
fn set<T>(slot: &mut Option<T>, value: T, option: &str, whole: &str) -> Result<(), VolumeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(VolumeError::Contradiction { option: option.into(), whole: whole.into() }),
    }
}

/// A size in bytes: `64m`, `1g`, in powers of 1024 as mount(8) has them.
fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        b't' => (&text[..text.len() - 1], 1 << 40),
        b'b' => (&text[..text.len() - 1], 1),
        _ => (text, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(factor)).flatten()
}

/// A mode of at most four octal digits.
fn mode(text: &str) -> Option<u32> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()?;
    (mode <= 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("64m"), Some(64 << 20));
        assert_eq!(size("65536K"), Some(64 << 20));
        assert_eq!(size("1g"), Some(1 << 30));
        assert_eq!(size("10b"), Some(10));
        assert_eq!(size("4096"), Some(4096));
        for bad in ["", "m", "-1", "1.5g", "50%", "+1", "99999999999999t", "é"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("1777"), Some(0o1777));
        assert_eq!(mode("0700"), Some(0o700));
        for bad in ["", "9", "-1", "17777", "u+x"] {
            assert_eq!(mode(bad), None, "{bad}");
        }
    }
}
