//! Trees deeper and wider than a process may have files open.

use std::process::{Command, Output};

use crate::need;
use crate::support::image::{Image, Member, Packing, dir, file, layer};
use crate::support::{Env, all, programs, run};

/// `lstore` with the usual limit of open files.
fn lstore(env: &Env, words: &[&str]) -> Output {
    let mut command = env.command("sh");
    command.args(["-c", "ulimit -n 1024 && exec \"$@\"", "sh"]).arg(programs().join("lstore")).args(words);
    command.output().unwrap()
}

fn ok(env: &Env, words: &[&str]) -> String {
    let output = lstore(env, words);
    assert!(output.status.success(), "{words:?}: {}", all(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_tree_deeper_and_wider_than_the_limit_of_descriptors_is_an_image_as_any_other() {
    let env = need!("deeper_than_descriptors", Env::new());
    let deep = format!("{}/file", vec!["d"; 1100].join("/"));
    let hard = format!("{}/hard", vec!["d"; 1090].join("/"));
    let folders: Vec<String> = (0..1500).map(|number| format!("wide/{number}")).collect();
    let mut members = vec![dir("./"), dir("wide")];
    members.extend(folders.iter().map(|folder| dir(folder)));
    let deepest = [("path", deep.as_bytes())];
    members.push(Member { pax: &deepest, ..file("x", &[7; 9000]) });
    let pax = [("path", hard.as_bytes()), ("linkpath", deep.as_bytes())];
    members.push(Member { kind: tar::EntryType::Link, pax: &pax, ..file("y", b"") });
    let layout = env.scratch.join("layout");
    Image::new(&[layer(&members)], Packing::Zstd).write_layout(&layout);
    let layout = layout.to_str().unwrap();
    for placement in ["stub", "hardlink", "copy"] {
        let name = format!("localhost/deep:{placement}");
        ok(&env, &["--placement", placement, "import", "-q", layout, &name]);
        let seen =
            run(Command::new("find").arg(env.store.join("trees")).args(["-type", "f", "-name", "hard"])).unwrap();
        assert_eq!(seen.stdout.split(|&byte| byte == b'\n').count(), 2, "{placement}");
        let told = ok(&env, &["fsck"]);
        assert!(told.contains("1 checkouts: clean"), "{placement}: {told}");

        let usage: serde_json::Value = serde_json::from_str(&ok(&env, &["du", "--format", "json"])).unwrap();
        let du = run(Command::new("du").args(["-s", "-B1"]).arg(&env.store)).unwrap();
        let du: u64 = String::from_utf8_lossy(&du.stdout).split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(usage["Total"].as_u64(), Some(du), "{placement}: {usage}");

        ok(&env, &["rmi", &name]);
        ok(&env, &["gc"]);
        let left = std::fs::read_dir(env.store.join("trees")).unwrap();
        assert_eq!(left.count(), 0, "{placement}");
        env.assert_no_trace();
    }
}
