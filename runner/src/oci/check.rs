//! What a bundle may ask for and is not to be had here: refused by name, before anything is done.

use std::path::Path;

use super::config::{Config, Linux, Process};
use crate::error::Error;

/// Looks through a configuration.
///
/// # Errors
/// [`Error::Refused`] with the first thing that cannot be given.
pub(super) fn config(config: &Config) -> Result<(), Error> {
    let refused = |reason: &str| Err(Error::Refused(reason.to_owned()));
    let version = config.oci_version.as_str();
    if !version.starts_with("1.") {
        return Err(Error::Refused(format!("ociVersion is {version:?}; versions 1.0 to 1.2 are understood")));
    }
    if config.root.as_ref().is_none_or(|root| root.path.as_os_str().is_empty()) {
        return refused("root.path is missing");
    }
    if config.mounts.iter().any(|mount| mount.destination.as_os_str().is_empty()) {
        return refused("a mount has no destination");
    }
    for hook in config.hooks.all() {
        if !hook.path.is_absolute() {
            return Err(Error::Refused(format!("the path of the hook {} is not absolute", hook.path.display())));
        }
    }
    linux(&config.linux)?;
    config.process.as_ref().map_or(Ok(()), process)
}

/// Looks through a command.
///
/// # Errors
/// As for [`config`].
pub(super) fn process(process: &Process) -> Result<(), Error> {
    if process.args.is_empty() {
        return Err(Error::Refused("process.args is empty: there is no command".to_owned()));
    }
    if !process.cwd.is_absolute() {
        return Err(Error::Refused(format!("process.cwd {} is not absolute", process.cwd.display())));
    }
    if !process.apparmor_profile.is_empty() && !Path::new("/sys/kernel/security/apparmor").exists() {
        return Err(Error::Refused("process.apparmorProfile: this kernel runs without AppArmor".to_owned()));
    }
    if !process.selinux_label.is_empty() && !has_selinux() {
        return Err(Error::Refused("process.selinuxLabel: this kernel runs without SELinux".to_owned()));
    }
    Ok(())
}

fn linux(linux: &Linux) -> Result<(), Error> {
    if !linux.mount_label.is_empty() && !has_selinux() {
        return Err(Error::Refused("linux.mountLabel: this kernel runs without SELinux".to_owned()));
    }
    unknown(&[
        ("linux.intelRdt", linux.intel_rdt.is_some()),
        ("linux.netDevices", linux.net_devices.is_some()),
        ("linux.personality.flags", linux.personality.as_ref().is_some_and(|wish| !wish.flags.is_empty())),
    ])
}

fn unknown(wishes: &[(&str, bool)]) -> Result<(), Error> {
    match wishes.iter().find(|(_, is_wished)| *is_wished) {
        Some((name, _)) => Err(Error::Refused(format!("{name} is not supported"))),
        None => Ok(()),
    }
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(), String> {
        config(&serde_json::from_str(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_to_be_had_is_refused_by_name() {
        of(r#"{"ociVersion":"1.2.0","root":{"path":"r"},"process":{"args":["true"],"cwd":"/"}}"#).unwrap();
        for (text, named) in [
            (r#"{"ociVersion":"2.0","root":{"path":"r"}}"#, "ociVersion"),
            (r#"{"ociVersion":"1.0"}"#, "root.path"),
            (r#"{"ociVersion":"1.0","root":{"path":"r"},"process":{"args":[],"cwd":"/"}}"#, "args"),
            (r#"{"ociVersion":"1.0","root":{"path":"r"},"process":{"args":["x"],"cwd":"x"}}"#, "cwd"),
            (r#"{"ociVersion":"1.0","root":{"path":"r"},"hooks":{"prestart":[{"path":"x"}]}}"#, "hook"),
            (r#"{"ociVersion":"1.0","root":{"path":"r"},"linux":{"intelRdt":{}}}"#, "intelRdt"),
        ] {
            assert!(of(text).unwrap_err().contains(named), "{text}");
        }
    }
}
