//! Which containers a command is about, by filters, files and the last; and how `ps`, `logs`, `top` and `wait` tell of several.

use crate::containers::debian;
use crate::need;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join(" ")
}

#[test]
fn containers_are_chosen_by_filter_by_file_or_as_the_last() {
    let (env, image) = need!("containers_are_chosen", debian());
    let make = |name: &str, label: &str| {
        ok(&env, &["create", "--cidfile", name, "--name", name, "--label", label, &image, "sleep", "1000"]);
    };
    make("one", "k=a");
    make("two", "k=a");
    make("three", "k=b");
    assert_eq!(sorted(&ok(&env, &["start", "--filter", "label=k=a"])), "one two");
    assert_eq!(sorted(&ok(&env, &["ps", "--format", "{{.Names}}"])), "one two");
    assert_eq!(ok(&env, &["start", "-l"]), "three\n");
    assert_eq!(ok(&env, &["exec", "-l", "cat", "/proc/1/comm"]), "sleep\n");
    assert_eq!(ok(&env, &["exec", "--latest", "-e", "A=b", "sh", "-c", "echo $A"]), "b\n");
    let id = std::fs::read_to_string(env.scratch.join("one")).unwrap();
    assert_eq!(ok(&env, &["kill", "--cidfile", "one"]), format!("{id}\n"));
    assert_eq!(sorted(&ok(&env, &["restart", "-t", "0", "--filter", "status=running"])), "three two");
    assert_eq!(sorted(&ok(&env, &["stop", "-t", "0", "--filter", "label=k=a"])), "one two");
    assert_eq!(ok(&env, &["ps", "--sort", "names", "-a", "--format", "{{.Names}}"]), "one\nthree\ntwo\n");
    assert_eq!(ok(&env, &["ps", "--last", "2", "--format", "{{.Names}}"]), "three\ntwo\n");
    let first = |flag: &str| ok(&env, &["ps", flag]).lines().next().unwrap().to_owned();
    assert!(first("--size").ends_with("SIZE") && first("--ns").contains("USERNS"));
    // All that it wrote, also where only another of its ids may look; nothing for one that wrote nothing.
    let write =
        "mkdir -m 700 /srv/own && head -c 1000000 /dev/zero | tr '\\0' x > /srv/own/f && chown -R 33:33 /srv/own";
    ok(&env, &["exec", "three", "sh", "-c", write]);
    let sizes = ["ps", "-a", "--size", "--sort", "size", "--format", "{{.Names}} {{.Size}}"];
    assert_eq!(ok(&env, &sizes).lines().last(), Some("three 1 MB"));
    assert_eq!(ok(&env, &sizes).matches(" 0 B").count(), 2);
    let namespaces = ok(&env, &["ps", "--ns", "--noheading"]);
    let own = ok(&env, &["exec", "three", "readlink", "/proc/self/ns/net"]);
    assert!(namespaces.contains(own.trim().trim_matches(|letter: char| !letter.is_ascii_digit())), "{namespaces}");
    assert_eq!(ok(&env, &["rm", "--filter", "status=exited"]).lines().count(), 2);
    assert_eq!(ok(&env, &["rm", "-f", "--cidfile", "three"]).lines().count(), 1);
    for wrong in [
        &["stop"][..],
        &["stop", "--cidfile", "nobody"],
        &["stop", "--filter", "pod=x"],
        &["exec", "-l"],
        &["ps", "--pod"],
    ] {
        let refused = env.lrun(wrong);
        assert_eq!(refused.status.code(), Some(125), "{wrong:?}: {}", all(&refused));
    }
}

#[test]
fn several_are_told_apart_and_waited_for() {
    let (env, image) = need!("several_are_told_apart", debian());
    for name in ["one", "two"] {
        ok(&env, &["run", "-d", "--name", name, &image, "sh", "-c", &format!("echo {name} >&2; sleep 1000")]);
    }
    let both = |words: &[&str]| sorted(&all(&env.lrun(&[&["logs"], words, &["one", "two"]].concat())));
    crate::background::eventually("their lines", || both(&["--names"]) == "one one two two");
    let id = ok(&env, &["inspect", "--format", "{{.Id}}", "one"]);
    assert!(both(&[]).contains(&format!("{} one", &id[..12])));
    assert!(both(&["--color", "-n"]).contains("\x1b[31;1mone\x1b[0m one"));
    assert_eq!(all(&env.lrun(&["logs", "--names", "one"])), "one\n", "a single one needs no name");

    assert_eq!(
        ok(&env, &["top", "one", "pid", "comm"]).lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["1", "sh"]
    );
    assert!(ok(&env, &["top", "-l", "hpid,args"]).starts_with("HPID"));
    assert!(all(&env.lrun(&["top", "one", "bogus"])).contains("known are user, pid"));

    assert_eq!(ok(&env, &["wait", "--condition", "running", "--condition", "exited", "one"]), "-1\n");
    let mut waiting = env.spawn("lrun", &["wait", "--condition", "stopped", "--interval", "20ms", "one"]);
    ok(&env, &["kill", "one"]);
    assert!(waiting.wait().unwrap().success());
    assert!(all(&env.lrun(&["wait", "--condition", "bogus", "one"])).contains("possible values"));
    ok(&env, &["rm", "-f", "one", "two"]);
}
