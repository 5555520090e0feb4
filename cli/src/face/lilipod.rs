//! Flags of lilipod that mean the same as others of `lrun`.

use std::ffi::OsString;

/// Its flags of `run` and `create` that take a value: behind them the next word is no flag.
const WITH_VALUE: [&str; 17] = [
    "--name",
    "--hostname",
    "-h",
    "--user",
    "-u",
    "--userns",
    "--network",
    "--pid",
    "--ipc",
    "--cgroupns",
    "--entrypoint",
    "--env",
    "-e",
    "--label",
    "--volume",
    "-v",
    "--mount",
];
/// The same, of no use but to be walked past.
const OTHERS_WITH_VALUE: [&str; 3] = ["--stop-signal", "--security-opt", "--pids-limit"];
/// Its flags of `run` and `create` without a value.
const SWITCHES: [&str; 9] = ["--privileged", "--rm", "-i", "--interactive", "-t", "--tty", "-it", "-ti", "--pull"];

/// Puts flags of `lrun` in their place, behind the verb at `at`. What is not known is left as it is, and with it, where values
/// and flags cannot be told apart, all that follows.
pub(super) fn translate(words: &mut Vec<OsString>, at: usize) {
    match words.get(at).and_then(|verb| verb.to_str()) {
        Some("run" | "create") => making(words, at + 1),
        Some("start") => starting(words, at + 1),
        Some("stop") => stopping(&mut words[at + 1..]),
        Some("update") => updating(words, at),
        _ => {}
    }
}

/// `--pull` has no value: the image is fetched. Clocks have another flag here, and a private network is one with nothing but
/// lo.
fn making(words: &mut [OsString], mut at: usize) {
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        if word == "--pull" {
            words[at] = "--pull=always".into();
        }
        let next = words.get(at + 1).and_then(|value| value.to_str());
        match words[at].to_str().unwrap_or_default() {
            "--time=host" => words[at] = "--timens=host".into(),
            "--time=private" => words[at] = "--timens=private".into(),
            "--time" => {
                words[at] = "--timens".into();
                at += 2;
            }
            "--network=private" => words[at] = "--network=none".into(),
            "--network" if next == Some("private") => words[at + 1] = "none".into(),
            word if WITH_VALUE.contains(&word) || OTHERS_WITH_VALUE.contains(&word) => at += 2,
            word if SWITCHES.contains(&word) || word.starts_with('-') && word.contains('=') => at += 1,
            _ => return,
        }
    }
}

/// `-i` and `-t` join the container, each alone; whether it has a terminal was said when it was made.
fn starting(words: &mut Vec<OsString>, at: usize) {
    let (mut attaches, mut is_interactive) = (false, false);
    let mut rest = Vec::new();
    for word in words.drain(at..) {
        match word.to_str() {
            Some("-a" | "--attach" | "-t" | "--tty" | "-at" | "-ta") => attaches = true,
            Some("-i" | "--interactive" | "-it" | "-ti" | "-ai" | "-ia") => (attaches, is_interactive) = (true, true),
            _ => rest.push(word),
        }
    }
    words.extend(attaches.then(|| "--attach".into()));
    words.extend(is_interactive.then(|| "--interactive".into()));
    words.append(&mut rest);
}

/// Namespaces have other flags here, `--privileged` a value behind it, and the entrypoint is a line of words. A look at
/// what there is, is `inspect`.
fn updating(words: &mut Vec<OsString>, at: usize) {
    if words[at..].iter().any(|word| word == "--config-dump") {
        words.retain(|word| word != "--config-dump");
        words[at] = "inspect".into();
        return;
    }
    let mut place = at;
    while place + 1 < words.len() {
        place += 1;
        let text = words[place].to_string_lossy().into_owned();
        let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
        let renamed = match name {
            "--cgroup" => "--cgroupns",
            "--time" => "--timens",
            "--network" | "--entrypoint" | "--privileged" => name,
            _ => continue,
        };
        let (value, is_next) = match (value, words.get(place + 1)) {
            (Some(value), _) => (value.to_owned(), false),
            (None, Some(next)) => (next.to_string_lossy().into_owned(), true),
            (None, None) => return,
        };
        let value = match (name, value.as_str()) {
            ("--network", "private") => "none".to_owned(),
            ("--entrypoint", line) => serde_json::json!(line.split(' ').collect::<Vec<_>>()).to_string(),
            _ => value,
        };
        words[place] = format!("{renamed}={value}").into();
        if is_next {
            // An empty word would be a container.
            words.remove(place + 1);
        }
    }
}

/// `-f` does not wait.
fn stopping(words: &mut [OsString]) {
    for word in words {
        if word == "-f" || word == "--force" {
            *word = "--time=0".into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_those_of_lrun_in_their_place() {
        for (line, wanted) in [
            ("create --pull --name --pull -h x i --pull", "create --pull=always --name --pull -h x i --pull"),
            (
                "create --time host --time=private --rm i --time host",
                "create --timens host --timens=private --rm i --time host",
            ),
            ("run --network=private --network private i", "run --network=none --network none i"),
            ("run --unknown --pull i", "run --unknown --pull i"),
            ("start -i -t c", "start --attach --interactive c"),
            ("start -a c", "start --attach c"),
            ("start c d", "start c d"),
            ("stop -f c", "stop --time=0 c"),
            ("update --cgroup host --time=private c", "update --cgroupns=host --timens=private c"),
            ("update -e A=b --privileged true --network private c", "update -e A=b --privileged=true --network=none c"),
            ("update --entrypoint /bin/x c", "update --entrypoint=[\"/bin/x\"] c"),
            ("update --config-dump c", "inspect c"),
            ("exec c stop -f", "exec c stop -f"),
        ] {
            let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            translate(&mut words, 0);
            let wanted: Vec<OsString> = wanted.split(' ').map(OsString::from).collect();
            assert_eq!(words, wanted, "{line}");
        }
    }
}
