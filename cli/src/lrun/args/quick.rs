//! A command line of `run`, parsed without the definitions of all other commands, which take a start longer to build than
//! its own words take to parse.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::{Lrun, LrunCommand, RunArguments, usual};
use crate::global::Global;

/// As much of [`Lrun`] as `run` needs. What it does not take, help included, is the full definition's to tell.
#[derive(Parser, Debug)]
#[command(name = "lrun", disable_help_subcommand = true, disable_help_flag = true)]
struct RunLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: RunOnly,
}

#[derive(Subcommand, Debug)]
enum RunOnly {
    #[command(disable_help_flag = true)]
    Run(Box<RunArguments>),
}

/// Parses the words of [`super::with_command`], if they are a faultless `run`.
pub fn parse_run(words: &[OsString]) -> Option<Lrun> {
    if let Some(parsed) = usual::parse(words) {
        return Some(parsed);
    }
    let RunLine { global, command: RunOnly::Run(arguments) } = RunLine::try_parse_from(words).ok()?;
    Some(Lrun { global, help: None, command: LrunCommand::Run(arguments) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lrun::args::with_command;

    fn words(line: &str) -> Vec<OsString> {
        with_command(std::iter::once("lrun").chain(line.split(' ')).map(OsString::from))
    }

    #[test]
    fn both_ways_understand_the_same() {
        for line in [
            "run debian",
            "debian ls -l",
            "--root /s -q run --rm -it -h box debian sh -c x",
            "run --network pasta:-T,auto -p 127.0.0.1:8080:80 --publish 53:53/udp i",
            "run --root /s --placement copy -v a:b --net host -e A=1 -e B i --help",
            "run --quiet --userns keep-id --cap-add CHOWN,KILL --security-opt label=disable -- i -- x",
            "--log-level debug run --privileged --pull never i",
            "run --umask 0077 --shm-size 1g --ulimit host -l a=b --restart always i",
            "--log-level debug run --rootfs ./rootfs /bin/sh --root x",
        ] {
            let full = Lrun::try_parse_from(words(line)).unwrap();
            assert_eq!(format!("{:?}", parse_run(&words(line)).unwrap()), format!("{full:?}"), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_faultless_run_is_left_to_the_full_definition() {
        for line in ["run", "run --help", "run --bogus i", "run --name a/b i", "--help", "--version", "info", "stop x"]
        {
            assert!(parse_run(&words(line)).is_none(), "{line}");
        }
    }
}
