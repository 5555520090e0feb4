//! What a process can read of its own confinement, as names and values that do not tell of the moment: no numbers that the
//! kernel counts up, no paths of the host, no order.

use std::collections::BTreeMap;

/// Shows all of it. What moves with the moment is read by processes that do nothing but read: a shell blocks signals
/// while it forks.
pub const SCRIPT: &str = r#"
    for file in mountinfo status limits uid_map gid_map setgroups cgroup oom_score_adj; do
        echo "@$file"; cat "/proc/self/$file"
    done
    echo @fd; ls -l "/proc/$$/fd"
    echo @dev; stat -c '%n %A %u:%g %t:%T %N' /dev/* /dev/pts/*
    echo @env; env
    echo @ns; cd /proc/self/ns; for name in *; do echo "$name $(readlink "$name")"; done; cd "$OLDPWD"
    echo @value
    echo "cwd $(readlink /proc/self/cwd)"; echo "root $(readlink /proc/self/root)"
    echo "umask $(umask)"; echo "hostname $(cat /proc/sys/kernel/hostname)"; echo "id $(id)"
    echo network $(ls /sys/class/net)
    for place in / /tmp /run /var/tmp /dev /dev/shm /sys /proc/sys /sys/fs/cgroup; do
        (echo > "$place/written") 2> /dev/null && echo "$place is writable" || echo "$place is not writable"
    done
"#;

/// Name and value of each thing shown.
pub type Portrait = BTreeMap<String, String>;

/// Takes apart what [`SCRIPT`] printed.
pub fn parse(text: &str) -> Portrait {
    let mut portrait = Portrait::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('@') {
            section = name;
            continue;
        }
        for (name, value) in one(section, line) {
            // A second one of that name, such as a mount on a mount, stands beside the first.
            let place = portrait.entry(name).or_default();
            if !place.is_empty() {
                place.push_str(" + ");
            }
            place.push_str(&value);
        }
    }
    portrait
}

fn one(section: &str, line: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let pair = |name: &str, value: &str| vec![(format!("{section} {name}"), without_ids(value))];
    match section {
        "mountinfo" => mount(&words),
        "status" => match line.split_once(':') {
            Some((name, value)) if is_lasting(name) => pair(name, value.trim()),
            _ => Vec::new(),
        },
        // Names have up to 26 letters, spaces among them.
        "limits" if !line.starts_with("Limit") => {
            let (name, values) = line.split_at(26);
            pair(name.trim(), &values.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        "uid_map" | "gid_map" | "dev" => pair(words[0], &words[1..].join(" ")),
        "fd" => match line.split_once(" -> ") {
            Some((before, target)) => {
                pair(before.rsplit(' ').next().unwrap(), target.split(':').next().unwrap_or_default())
            }
            None => Vec::new(),
        },
        "ns" => {
            let host = std::fs::read_link(format!("/proc/self/ns/{}", words[0])).unwrap();
            pair(words[0], if host.to_str() == Some(words[1]) { "the host's" } else { "its own" })
        }
        "env" => line.split_once('=').map_or_else(Vec::new, |(name, value)| pair(name, value)),
        "value" => {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            pair(name, value)
        }
        "limits" => Vec::new(),
        _ => pair("", line),
    }
}

/// A mount's kind, the part of its file system that is shown, options, propagation and the file system's own options.
fn mount(words: &[&str]) -> Vec<(String, String)> {
    let end = words.iter().position(|word| *word == "-").unwrap();
    let (shown, target, options, kind) = (words[3], words[4], words[5], words[end + 1]);
    let propagation: Vec<&str> = words[6..end].iter().map(|word| word.split(':').next().unwrap()).collect();
    let propagation = if propagation.is_empty() { "private".to_owned() } else { propagation.join(",") };
    // A file system of the kernel has paths of its own; those of others are the host's.
    let shown = match kind {
        "proc" | "sysfs" | "cgroup2" | "devpts" | "mqueue" | "tmpfs" | "devtmpfs" => shown.to_owned(),
        _ => format!("…/{}", shown.rsplit('/').next().unwrap()),
    };
    let sorted = |options: &str| {
        let mut options: Vec<&str> = options.split(',').map(without_paths).collect();
        options.sort_unstable();
        options.dedup();
        options.join(",")
    };
    [("kind", kind.to_owned()), ("shows", shown), ("options", sorted(options)), ("propagation", propagation)]
        .into_iter()
        .chain([("of the file system", sorted(words[end + 3]))])
        .map(|(name, value)| (format!("mount {target} {name}"), value))
        .collect()
}

/// An overlay's option without the directories that it names.
fn without_paths(option: &str) -> &str {
    match option.split_once('=') {
        Some((name, _)) if name.contains("dir") && name != "redirect_dir" => name,
        _ => option,
    }
}

/// What a random id stands in.
fn without_ids(value: &str) -> String {
    let is_id = |word: &str| matches!(word.len(), 12 | 64) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id(value) { "an id".to_owned() } else { value.to_owned() }
}

/// Of `/proc/self/status` what does not count.
fn is_lasting(name: &str) -> bool {
    const LASTING: [&str; 12] = [
        "Umask",
        "TracerPid",
        "Uid",
        "Gid",
        "Groups",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ];
    LASTING.contains(&name) || name.starts_with("Cap") || name.starts_with("Specul")
}

/// Name, one value and the other, of what is not the same; `-` for nothing.
pub fn differences(one: &Portrait, other: &Portrait) -> Vec<(String, String, String)> {
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let value = |portrait: &Portrait, name: &String| portrait.get(name).map_or("-".to_owned(), Clone::clone);
    names
        .into_iter()
        .map(|name| (name.clone(), value(one, name), value(other, name)))
        .filter(|(_, one, other)| one != other)
        .collect()
}

/// Whether a text is what a pattern says, in which `*` stands for any text.
pub fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
