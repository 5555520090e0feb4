//! A command line of `run` with usual flags, taken apart by hand: to build the definition of all flags takes a start longer
//! than many of its steps. Whatever is not usual, be it another flag or a value that is wrong, is left to the definition,
//! which also has the words to tell it.

use std::ffi::OsString;

use super::network::network;
use super::run::{self, RunArguments};
use super::{Lrun, LrunCommand, container_name};
use crate::global::Global;

/// Parses the words of [`super::with_command`], if they are a faultless `run` with nothing unusual.
pub(super) fn parse(words: &[OsString]) -> Option<Lrun> {
    let mut line = Line { rest: words.get(1..)?.iter(), global: Global::default(), seen: Vec::new() };
    let mut arguments = RunArguments::default();
    loop {
        match line.rest.next()?.to_str()? {
            "run" => break,
            word => line.global(word.strip_prefix("--").or_else(|| word.strip_prefix('-').filter(|w| *w == "q"))?)?,
        }
    }
    let image = loop {
        let word = line.rest.next()?;
        if !word.as_encoded_bytes().starts_with(b"-") {
            break word;
        }
        let word = word.to_str()?;
        match word.strip_prefix("--") {
            Some(long) => line.long(long, &mut arguments)?,
            None => line.short(&word[1..], &mut arguments)?,
        }
    };
    arguments.words = std::iter::once(image).chain(line.rest).cloned().collect();
    Some(Lrun { global: line.global, help: None, command: LrunCommand::Run(Box::new(arguments)) })
}

/// The words that are left, and what was said for all commands.
struct Line<'a> {
    rest: std::slice::Iter<'a, OsString>,
    global: Global,
    /// Flags that may be given once and have been.
    seen: Vec<&'static str>,
}

impl<'a> Line<'a> {
    /// The value of a flag: what stands behind its `=`, or the next word. Those that could be flags are not for here.
    fn value(&mut self, attached: Option<&'a str>) -> Option<&'a str> {
        let value = match attached {
            Some(value) => value,
            None => self.rest.next()?.to_str().filter(|word| !word.starts_with('-'))?,
        };
        (!value.is_empty()).then_some(value)
    }

    fn once(&mut self, flag: &'static str) -> Option<()> {
        let is_first = !self.seen.contains(&flag);
        self.seen.push(flag);
        is_first.then_some(())
    }

    fn global(&mut self, word: &'a str) -> Option<()> {
        match split(word) {
            ("quiet" | "q", None) => on(&mut self.global.quiet),
            ("root", attached) => {
                let root = self.value(attached)?.into();
                set(&mut self.global.root, root)
            }
            _ => None,
        }
    }

    fn long(&mut self, word: &'a str, arguments: &mut RunArguments) -> Option<()> {
        let (name, attached) = split(word);
        if attached.is_none() && self.switch(name, arguments).is_some() {
            return Some(());
        }
        match name {
            "env" | "volume" | "mount" | "tmpfs" | "workdir" | "user" | "name" | "hostname" | "entrypoint"
            | "network" | "net" | "cap-add" | "cap-drop" | "security-opt" | "userns" => {
                let value = self.value(attached)?;
                self.assign(name, value, arguments)
            }
            "quiet" | "root" => self.global(word),
            _ => None,
        }
    }

    /// Some letters in one word, of which the last may have a value.
    fn short(&mut self, word: &'a str, arguments: &mut RunArguments) -> Option<()> {
        if word.is_empty() {
            return None;
        }
        for (at, letter) in word.char_indices() {
            let (switch, option) = match letter {
                'i' => ("interactive", ""),
                't' => ("tty", ""),
                'd' => ("detach", ""),
                'q' => ("quiet", ""),
                'e' => ("", "env"),
                'v' => ("", "volume"),
                'w' => ("", "workdir"),
                'u' => ("", "user"),
                'h' => ("", "hostname"),
                _ => return None,
            };
            if option.is_empty() {
                self.switch(switch, arguments)?;
                continue;
            }
            let rest = &word[at + 1..];
            let attached = (!rest.is_empty()).then_some(rest).filter(|rest| !rest.starts_with('='));
            if attached.is_none() && !rest.is_empty() {
                return None;
            }
            let value = self.value(attached)?;
            return self.assign(option, value, arguments);
        }
        Some(())
    }

    fn switch(&mut self, name: &str, arguments: &mut RunArguments) -> Option<()> {
        on(match name {
            "rm" => &mut arguments.rm,
            "interactive" => &mut arguments.interactive,
            "tty" => &mut arguments.tty,
            "detach" => &mut arguments.detach,
            "init" => &mut arguments.init,
            "read-only" => &mut arguments.read_only,
            "no-holder" => &mut arguments.no_holder,
            "quiet" => &mut self.global.quiet,
            _ => return None,
        })
    }

    fn assign(&mut self, name: &str, value: &str, arguments: &mut RunArguments) -> Option<()> {
        let list = |place: &mut Vec<String>| {
            place.extend(value.split(',').map(str::to_owned));
            place.iter().all(|part| !part.is_empty()).then_some(())
        };
        match name {
            "env" => arguments.env.push(value.into()),
            "volume" => arguments.volumes.push(value.into()),
            "mount" => arguments.mounts.push(value.into()),
            "tmpfs" => arguments.tmpfs.push(value.into()),
            "security-opt" => arguments.security.push(value.into()),
            "cap-add" => list(&mut arguments.cap_add)?,
            "cap-drop" => list(&mut arguments.cap_drop)?,
            "workdir" => set(&mut arguments.workdir, value.into())?,
            "user" => set(&mut arguments.user, value.into())?,
            "name" => set(&mut arguments.name, container_name(value).ok()?)?,
            "hostname" => set(&mut arguments.hostname, run::host_name(value).ok()?)?,
            "entrypoint" => set(&mut arguments.entrypoint, value.into())?,
            "network" | "net" => {
                self.once("network")?;
                arguments.network = network(value).ok()?;
            }
            "userns" => {
                self.once("userns")?;
                arguments.userns = run::user_namespace(value).ok()?;
            }
            _ => return None,
        }
        Some(())
    }
}

fn split(word: &str) -> (&str, Option<&str>) {
    word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)))
}

/// A flag may be given once.
fn on(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}

fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::lrun::args::with_command;

    fn words(line: &str) -> Vec<OsString> {
        with_command(std::iter::once("lrun").chain(line.split(' ')).map(OsString::from))
    }

    #[test]
    fn usual_flags_mean_what_their_definition_says() {
        for line in [
            "run debian",
            "debian ls -l --rm",
            "--root /s -q run --rm -it -h box debian sh -c x",
            "run --root=/s --name box -v a:b --volume=c:d:ro --net host -e A=1 -eB --env C i --help",
            "run --quiet --userns keep-id:uid=1,gid=2 --cap-add CHOWN,KILL --cap-drop=ALL --security-opt label=disable i -- x",
            "run -itd -w/src -u 0:0 --tmpfs /tmp --mount type=tmpfs,target=/x --entrypoint [\"a\"] --read-only --init i",
            "run -dite A --no-holder --hostname b --network=none -q i",
            "--rm --interactive --tty i -",
        ] {
            let full = Lrun::try_parse_from(words(line)).unwrap();
            assert_eq!(format!("{:?}", parse(&words(line)).unwrap()), format!("{full:?}"), "{line}");
        }
    }

    #[test]
    fn all_else_is_left_to_the_definition() {
        for line in [
            "run",
            "run --rm",
            "run --rm --rm i",
            "run -ii i",
            "run --name a --name b i",
            "run --name a/b i",
            "run --net host --network none i",
            "run --network bridge i",
            "run -w",
            "run -w= i",
            "run -w=x i",
            "run --env= i",
            "run -e -x i",
            "run --rm=true i",
            "run --help",
            "run --cap-add CHOWN,,KILL i",
            "run -- i",
            "run - i",
            "run --privileged i",
            "run --pull never i",
            "--placement copy run i",
            "--version",
            "info",
            "stop x",
        ] {
            assert!(parse(&words(line)).is_none(), "{line}");
        }
    }
}
