//! What lilipod offers, command by command and flag by flag, over a link of that name: the table of the README, row by row.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use crate::need;
use crate::support::image::{Image, Packing, debian};
use crate::support::registry::Registry;
use crate::support::{Env, all, programs};

/// A command, one of its flags, what is done with it, and what that prints. `$I` is an image; `up` makes a container that runs.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("", "--log-level", "lilipod --log-level debug ps --noheading", ""),
    ("", "-v", "lilipod -v | cut -d: -f1", "lilipod version"),
    ("", "--version", "lilipod --version | cut -d: -f1", "lilipod version"),
    ("version", "", "lilipod version | cut -d: -f1", "lilipod version"),
    ("pull", "", "lilipod rmi $I > rmi; lilipod pull $I > pull 2>&1; lilipod images -q | wc -l", "1"),
    ("pull", "-q", "lilipod pull -q $I 2>&1 | wc -l", "1"),
    ("images", "", "lilipod images | grep -c 127.0.0.1", "1"),
    ("images", "--digests", "lilipod images --digests | grep -c sha256:", "1"),
    ("images", "--no-trunc", "lilipod images -q --no-trunc | wc -c", "72"),
    ("images", "-q", "lilipod images -q | wc -c", "13"),
    ("create, run", "", "lilipod create $I true | wc -c; lilipod run $I id -u", "65\n$UID"),
    ("create, run", "--name", "lilipod create --name n $I true > id; lilipod ps -a --format '{{.Names}}'", "n"),
    ("create, run", "--hostname", "lilipod run --rm --hostname box $I hostname", "box"),
    ("create, run", "-h", "lilipod run --rm -h box $I hostname", "box"),
    ("create, run", "--user", "lilipod run --rm --user root:root $I id -u", "0"),
    ("create, run", "-u", "lilipod run --rm -u nobody $I id -un", "nobody"),
    (
        "create, run",
        "--userns",
        "lilipod run --rm --userns keep-id $I id -u; lilipod run --userns host $I id -u",
        "$UID\n0",
    ),
    (
        "create, run",
        "--network",
        "lilipod run --network private $I ls /sys/class/net; shares network net",
        "lo\nshared",
    ),
    ("create, run", "--pid", "lilipod run --pid private $I sh -c 'echo $$'; shares pid pid", "1\nshared"),
    ("create, run", "--ipc", "shares ipc ipc", "shared"),
    ("create, run", "--cgroupns", "shares cgroupns cgroup", "shared"),
    (
        "create, run",
        "--time",
        "lilipod run --rm --time private $I readlink /proc/self/ns/time > t
         readlink /proc/self/ns/time | cmp -s - t || echo own; shares time time",
        "own\nshared",
    ),
    ("create, run", "--entrypoint", "lilipod run --rm --entrypoint echo $I given", "given"),
    ("create, run", "--env", "lilipod run --rm --env A=b $I sh -c 'echo $A'", "b"),
    ("create, run", "-e", "lilipod run --rm -e A=b -e A=c $I sh -c 'echo $A'", "c"),
    (
        "create, run",
        "--label",
        "lilipod create --label a=b $I true > id; lilipod inspect --format '{{.Config.Labels.a}}' $(cat id)",
        "b",
    ),
    (
        "create, run",
        "--volume",
        "echo x > f; lilipod run --volume $PWD/f:/f:ro $I sh -c 'cat /f; (echo y > /f) 2>&- || true'; cat f",
        "x\nx",
    ),
    ("create, run", "-v", "echo x > f; lilipod run --rm -v $PWD/f:/f $I sh -c 'echo y > /f'; cat f", "y"),
    ("create, run", "--mount", "lilipod run --mount type=tmpfs,destination=/m $I stat -fc %T /m", "tmpfs"),
    (
        "create, run",
        "--privileged",
        "lilipod run --privileged -u root $I sh -c 'mount -t tmpfs x /mnt && echo mounted'",
        "mounted",
    ),
    (
        "create, run",
        "--pull",
        "lilipod tag $I 127.0.0.1:1/x:1; lilipod run 127.0.0.1:1/x:1 echo kept; \
        lilipod run --pull 127.0.0.1:1/x:1 true 2> told || echo asked; lilipod rmi 127.0.0.1:1/x:1 > told",
        "kept\nasked",
    ),
    (
        "create, run",
        "--stop-signal",
        "lilipod create --stop-signal INT --name n $I sh -c \
        'trap \"exit 5\" INT; echo up; while :; do sleep 0.05; done' > id; lilipod start n > id; \
        until lilipod logs n | grep -q up; do :; done; lilipod stop n > id; lilipod inspect --format '{{.State.ExitCode}}' n",
        "5",
    ),
    (
        "create, run",
        "--security-opt",
        "lilipod run --security-opt no-new-privileges $I grep NoNewPrivs /proc/self/status | cut -f2",
        "1",
    ),
    ("create, run", "--pids-limit -1", "lilipod create --pids-limit -1 $I true | wc -c", "65"),
    ("run", "--rm", "lilipod run --rm $I true; lilipod ps -aq", ""),
    ("run", "-i", "echo x | lilipod run -i $I cat; echo x | lilipod run $I cat", "x"),
    ("run", "-t", "lilipod run -t $I sh -c 'test -t 1 && tty' | tr -d '\\r'", "/dev/pts/0"),
    ("start", "", "up; lilipod inspect --format '{{.State.Status}}' n", "running"),
    ("start", "-a", "lilipod create --name n $I sh -c 'echo x; exit 3' > id; lilipod start -a n || echo $?", "x\n3"),
    ("start", "-i", "lilipod create -i --name n $I cat > id; echo x | lilipod start -i n", "x"),
    ("start", "-t", "lilipod create -t --name n $I tty > id; lilipod start -t n | tr -d '\\r'", "/dev/pts/0"),
    ("stop", "", "up; lilipod stop n > id; lilipod ps -q", ""),
    ("stop", "-a", "up; lilipod stop -a > id; lilipod ps -q", ""),
    ("stop", "-f", "up; lilipod stop -f n > id; lilipod ps -q", ""),
    ("stop", "-t", "up; lilipod stop -t 1 n > id; lilipod ps -q", ""),
    ("stop", "--timeout", "up; lilipod stop --timeout 1 n > id; lilipod ps -q", ""),
    ("exec", "", "up; lilipod exec n sh -c 'echo x; exit 4' || echo $?", "x\n4"),
    (
        "exec",
        "-d",
        "up; lilipod exec -d n sh -c 'sleep 0.1; echo x > /tmp/x'; lilipod exec n sh -c 'test ! -e /tmp/x; \
        until test -s /tmp/x; do sleep 0.05; done; cat /tmp/x'; lilipod exec -d n nothing 2> told || echo $?",
        "x\n127",
    ),
    ("exec", "-i", "up; echo x | lilipod exec -i n cat; echo x | lilipod exec n cat", "x"),
    ("exec", "-t", "up; lilipod exec -t n sh -c 'test -t 1 && echo terminal' | tr -d '\\r'", "terminal"),
    ("exec", "-e", "up; lilipod exec -e A=b n sh -c 'echo $A'", "b"),
    ("exec", "-u", "up; lilipod exec -u nobody n id -un", "nobody"),
    ("exec", "-w", "up; lilipod exec -w /usr n pwd", "/usr"),
    ("exec", "--detach-keys", "up; lilipod exec --detach-keys= n echo x", "x"),
    ("update", "-e", "make; lilipod update -e A=b n > id; lilipod start -a n", "b box / private"),
    ("update", "--env", "make; lilipod update --env A=c n > id; lilipod start -a n", "c box / private"),
    (
        "update",
        "--label",
        "make; lilipod update --label a=b n > id; lilipod inspect --format '{{.Config.Labels.a}}' n",
        "b",
    ),
    (
        "update",
        "--volume",
        "make; echo x > f; lilipod update --volume $PWD/f:/f --entrypoint 'cat /f' n > id; lilipod start -a n",
        "x",
    ),
    (
        "update",
        "-v",
        "make; mkdir -p d/x; lilipod update -v $PWD/d:/mnt n > id; lilipod start -a n",
        "a box x / private",
    ),
    ("update", "-h", "make; lilipod update -h other n > id; lilipod start -a n", "a other / private"),
    ("update", "--hostname", "make; lilipod update --hostname other n > id; lilipod start -a n", "a other / private"),
    ("update", "--entrypoint", "make; lilipod update --entrypoint 'echo x y' n > id; lilipod start -a n", "x y"),
    ("update", "--network", "make; lilipod update --network host n > id; lilipod start -a n", "a box / host"),
    ("update", "--pid", "becomes pid pid", "shared"),
    ("update", "--ipc", "becomes ipc ipc", "shared"),
    ("update", "--cgroup", "becomes cgroup cgroup", "shared"),
    ("update", "--time", "becomes time time", "shared"),
    (
        "update",
        "--privileged",
        "lilipod create -u root --name n $I sh -c 'mount -t tmpfs x /mnt 2> /dev/null && echo mounted || echo not' > id
         lilipod update --privileged true n > id; lilipod start -a n
         lilipod update --privileged false n > id; lilipod start -a n",
        "mounted\nnot",
    ),
    ("update", "--config-dump", "make; lilipod update --config-dump n | grep -c '\"Hostname\": \"box\"'", "1"),
    ("update", "", "up; lilipod update -e A=b n 2>&1 | grep -c 'stop n. first'", "1"),
    ("ps", "", "up; lilipod create $I true > id; lilipod ps | wc -l", "2"),
    ("ps", "-a", "lilipod create $I true > id; lilipod ps -a | wc -l", "2"),
    ("ps", "-s", "up; lilipod ps -s | grep -c SIZE", "1"),
    ("ps", "--no-trunc", "up; lilipod ps -q --no-trunc | wc -c", "65"),
    ("ps", "--noheading", "up; lilipod ps --noheading | wc -l", "1"),
    ("ps", "-q", "up; lilipod ps -q | wc -c", "13"),
    ("ps", "--format", "up; lilipod ps --format '{{.Names}} {{.Image}}'", "n $I"),
    (
        "ps",
        "--filter",
        "up; lilipod ps -a --noheading --filter name=other; lilipod ps --filter status=running --format '{{.Names}}'",
        "n",
    ),
    (
        "ps",
        "-f",
        "lilipod create --label a=b --name m $I true > id; up; lilipod ps -a -f label=a=b --format '{{.Names}}'",
        "m",
    ),
    ("inspect", "", "up; lilipod inspect n | grep -c '\"Status\": \"running\"'", "1"),
    (
        "inspect",
        "--type",
        "up; lilipod inspect --type container n > told; lilipod inspect --type image n > told 2>&1 || echo none",
        "none",
    ),
    ("inspect", "-t", "lilipod inspect -t image $I | grep -c RootFS", "1"),
    ("inspect", "--format", "up; lilipod inspect --format '{{.Name}}' n", "n"),
    ("logs", "", "wrote; lilipod logs n; lilipod logs n", "x\nx"),
    (
        "logs",
        "-f",
        "up; lilipod exec n sh -c 'echo x > /proc/1/fd/1'; (sleep 0.3; lilipod stop -t 0 n > id) & lilipod logs -f n; wait",
        "x",
    ),
    ("logs", "-t", "wrote; lilipod logs -t n | grep -c '^20.*T.* x$'", "1"),
    (
        "logs",
        "--since",
        "wrote; lilipod logs --since 2020-01-01T00:00:00Z n; lilipod logs --since 2099-01-01T00:00:00Z n",
        "x",
    ),
    (
        "logs",
        "--until",
        "wrote; lilipod logs --until 2020-01-01T00:00:00Z n; lilipod logs --until 2099-01-01T00:00:00Z n",
        "x",
    ),
    ("cp", "", "up; echo x > f; lilipod cp f n:/tmp/g; lilipod cp n:/tmp/g h; cat h", "x"),
    ("rename", "", "up; lilipod rename n m; lilipod ps --format '{{.Names}}'", "m"),
    ("rm", "", "lilipod create --name n $I true > id; lilipod rm n; lilipod ps -aq", "n"),
    ("rm", "-f", "up; lilipod rm n 2> told || lilipod rm -f n; lilipod ps -aq", "n"),
    ("rm", "-a", "lilipod create $I true > id; lilipod create $I true > id; lilipod rm -a > id; lilipod ps -aq", ""),
    ("rmi", "", "lilipod rmi $I > id; lilipod images -q; lilipod pull -q $I > id", ""),
    ("rmi", "-a", "lilipod rmi -a > id; lilipod images -q; lilipod pull -q $I > id", ""),
];

const BEGIN: &str = r#"
set -eu
up() { lilipod create --name n "$I" sh -c "trap exit TERM; while :; do sleep 0.05; done" > id; lilipod start n > id; }
wrote() { lilipod create --name n "$I" echo x > id; lilipod start n > id; until lilipod logs n | grep -q x; do :; done; }
made='echo $A $HOSTNAME $(ls /mnt | head -n 1) / $(test -e /sys/class/net/lo -a $(ls /sys/class/net | wc -l) = 1 && echo private || echo host)'
make() { lilipod create --name n -h box -e A=a "$I" sh -c "$made" > id; }
becomes() {
  lilipod create --name n "$I" readlink "/proc/self/ns/$2" > id; lilipod update "--$1" host n > id
  test "$(lilipod start -a n)" = "$(readlink "/proc/self/ns/$2")" && echo shared
}
shares() { test "$(lilipod run "--$1" host "$I" readlink "/proc/self/ns/$2")" = "$(readlink "/proc/self/ns/$2")" && echo shared; }
"#;

/// The pairs of command and flag that the README tells.
fn told() -> BTreeSet<(String, String)> {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let table = text.split("### lilipod, flag by flag").nth(1).unwrap().split("\n#").next().unwrap();
    let mut pairs = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let command = if cells[0] == "of every command" { "" } else { cells[0].as_str() };
        let flags = cells[1].split(", ").map(|flag| if flag == "alone" { "" } else { flag });
        pairs.extend(flags.map(|flag| (command.to_owned(), flag.to_owned())));
    }
    pairs
}

#[test]
fn what_lilipod_offers_works_row_by_row() {
    let registry = need!("what_lilipod_offers", Registry::start());
    let env = need!("what_lilipod_offers", Env::new());
    let tar = need!("what_lilipod_offers", debian());
    let cases: BTreeSet<_> =
        CASES.iter().map(|(command, flag, ..)| ((*command).to_owned(), (*flag).to_owned())).collect();
    assert_eq!(cases, told(), "each row of the README has its case, and each case its row");

    let image = registry.push(&Image::new(&[std::fs::read(tar).unwrap()], Packing::Zstd), "debian:12");
    symlink(programs().join("lrun"), env.scratch.join("lilipod")).unwrap();
    let uid = env.user.as_ref().unwrap().uid.to_string();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", env.scratch.display());
    let run = |script: &str| {
        let mut command = env.command("bash");
        command.env("PATH", &path).env("I", &image).arg("-c").arg(script);
        command.output().unwrap()
    };
    assert!(run("lilipod pull -q $I").status.success());
    for (command, flag, script, wanted) in CASES {
        let output = run(&format!("{BEGIN}{script}"));
        let wanted = wanted.replace("$UID", &uid).replace("$I", &image);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), wanted, "{command} {flag}: {}", all(&output));
        let cleared = run("lilipod rm -f -a");
        assert!(cleared.status.success(), "{command} {flag}: {}", all(&cleared));
    }
}
