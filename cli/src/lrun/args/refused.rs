//! Flags of podman's `run` and `create` that cannot be granted, each with its reason and the way out: better told than by the
//! word that they do not exist. A value that asks for what is so anyway is taken.

use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

const PODS: &str = "there are no pods; containers share namespaces by --network container:NAME, --ipc, --pid and --uts";
const BRIDGES: &str = "there are no bridges, on which alone it means something; --network slirp4netns:cidr=… and \
                       --network pasta:--address,… choose addresses";
const MAPS: &str = "ids are mapped by your whole range; --userns keep-id says who you are inside";
const GROUPS: &str = "only control groups of version 1 have it; leave it out";
const SESSION: &str = "a container in the foreground is this program's own; start it with -d, then 'lrun attach'";

const STARTUP: &str = "there is one check; failures of the beginning are left out by --health-start-period";
const CHECKS: &str = "the last 5 checks are kept, with 500 bytes of what each wrote";

/// Name, whether it is a switch, values that are taken, and the reason.
const REFUSED: [(&str, bool, &[&str], &str); 40] = [
    ("pod", false, &[], PODS),
    ("pod-id-file", false, &[], PODS),
    ("init-ctr", false, &[], PODS),
    ("ip", false, &[], BRIDGES),
    ("ip6", false, &[], BRIDGES),
    ("mac-address", false, &[], BRIDGES),
    ("network-alias", false, &[], BRIDGES),
    ("uidmap", false, &[], MAPS),
    ("gidmap", false, &[], MAPS),
    ("subuidname", false, &[], MAPS),
    ("subgidname", false, &[], MAPS),
    ("oom-kill-disable", true, &["false"], GROUPS),
    ("cpu-rt-period", false, &["0"], GROUPS),
    ("cpu-rt-runtime", false, &["0"], GROUPS),
    ("device-cgroup-rule", false, &[], "what --device does not give cannot be opened anyway; leave it out"),
    ("disable-content-trust", true, &["true", "false"], ""),
    ("seccomp-policy", false, &["default"], "a profile is named by --security-opt seccomp=FILE, not by the image"),
    ("init-path", false, &[], "the init of --init is lrun itself; give your own as the command"),
    ("hostuser", false, &[], "the line of a user is given by --passwd-entry"),
    ("attach", false, &[], "what is not attached is redirected, as by >/dev/null; standard input is attached by -i"),
    ("sig-proxy", true, &["true"], SESSION),
    ("detach-keys", false, &[""], SESSION),
    ("rmi", true, &["false"], "remove the image by 'lstore rmi' when the container has ended"),
    ("decryption-key", false, &[], "layers that are encrypted are not known"),
    ("shm-size-systemd", false, &[], "no folders are mounted for systemd; give --tmpfs /run"),
    ("rdt-class", false, &[], "cache allocation of the processor is root's to give out"),
    ("gpus", false, &[], "devices are given by --device, as /dev/dri/renderD128"),
    ("retry", false, &[], "a pull tries again by itself; 'lstore pull' it before"),
    ("retry-delay", false, &[], "a pull tries again by itself; 'lstore pull' it before"),
    ("cert-dir", false, &[], "certificates are those that the machine trusts"),
    (
        "creds",
        false,
        &[],
        "a password on the command line shows to all; log in with podman or docker, or give --authfile",
    ),
    ("health-startup-cmd", false, &[], STARTUP),
    ("health-startup-interval", false, &[], STARTUP),
    ("health-startup-retries", false, &[], STARTUP),
    ("health-startup-success", false, &[], STARTUP),
    ("health-startup-timeout", false, &[], STARTUP),
    ("health-log-destination", false, &["local"], CHECKS),
    ("health-max-log-count", false, &["5"], CHECKS),
    ("health-max-log-size", false, &["500"], CHECKS),
    ("signature-policy", false, &[], "signatures are not looked at; name the image by its digest"),
];

/// See above: a command line that has one of them does not come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedArguments;

impl Args for RefusedArguments {
    fn augment_args(command: Command) -> Command {
        REFUSED.iter().fold(command, |command, &(name, is_switch, taken, why)| {
            let parser = move |text: &str| {
                if taken.contains(&text) { Ok(text.to_owned()) } else { Err(why) }
            };
            let argument = Arg::new(name).long(name).hide(true).action(clap::ArgAction::Append).value_parser(parser);
            command.arg(if is_switch {
                argument.num_args(0..=1).require_equals(true).default_missing_value("true")
            } else {
                argument
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RefusedArguments {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;
    use crate::lrun::args::Lrun;

    fn parsed(verb: &str, flag: &str) -> Result<Lrun, Error> {
        Lrun::try_parse_from(["lrun", verb, flag, "i"].map(OsString::from))
    }

    #[test]
    fn each_is_refused_with_its_reason_unless_nothing_is_asked_for() {
        for verb in ["run", "create"] {
            for (name, is_switch, taken, why) in REFUSED {
                let flag = if is_switch { format!("--{name}") } else { format!("--{name}=x") };
                match parsed(verb, &flag) {
                    Ok(_) => assert!(is_switch && taken.contains(&"true"), "{name}"),
                    Err(error) => assert!(error.to_string().contains(why), "{error}"),
                }
                for value in taken {
                    assert!(parsed(verb, &format!("--{name}={value}")).is_ok(), "--{name}={value}");
                }
            }
        }
    }
}
