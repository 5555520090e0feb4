//! Every distinct content once: in the pool, on the disk, in the page cache.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::need;
use crate::support::image::{Image, Member, Packing, file, layer};
use crate::support::registry::{Registry, corpus};
use crate::support::{Env, has, run, said};

#[test]
fn an_image_adds_only_contents_that_are_new() {
    let registry = need!("an_image_adds_only", Registry::start());
    let env = need!("an_image_adds_only", Env::new());
    let first = layer(&[file("a", b"one"), file("b", b"two"), file("same-as-a", b"one")]);
    // The same bytes under other names, modes, owners and times, as a rebuild gives them; and one that is new.
    let second = layer(&[
        Member { mtime: 1_800_000_000, ..file("a", b"one") },
        Member { mode: 0o600, owner: (5, 5), ..file("renamed", b"two") },
        file("c", b"three"),
    ]);
    let first = registry.push(&Image::new(&[first], Packing::Gzip), "rebuilt:1");
    let second = registry.push(&Image::new(&[second], Packing::Gzip), "rebuilt:2");
    env.ok(&["pull", "-q", &first]);
    assert_eq!(env.pool_files(), 2);
    env.ok(&["pull", "-q", &second]);
    assert_eq!(env.pool_files(), 3);
    let again = env.lstore(&["pull", &second]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already here"));
    assert_eq!(env.pool_files(), 3);
}

#[test]
fn du_agrees_with_du() {
    let registry = need!("du_agrees_with_du", Registry::start());
    let env = need!("du_agrees_with_du", Env::new());
    let shared = vec![7; 100_000];
    for tag in 1..=3_u8 {
        let own = vec![tag; 50_000];
        let tar = layer(&[file("shared", &shared), file("own", &own), file("small", &[tag])]);
        let name = registry.push(&Image::new(&[tar], Packing::Gzip), &format!("usage:{tag}"));
        env.ok(&["pull", "-q", &name]);
    }
    let usage = env.json(&["du", "--format", "json"]);
    let du = run(Command::new("du").args(["-s", "--block-size=1"]).arg(&env.store)).unwrap();
    let du: u64 = String::from_utf8_lossy(&du.stdout).split_ascii_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(usage["Total"].as_u64().unwrap(), du);
    assert_eq!(usage["Content"].as_u64().unwrap(), 100_000 + 3 * 50_000 + 3);
    for image in usage["Images"].as_array().unwrap() {
        let (own, shared) = (image["Exclusive"].as_u64().unwrap(), image["Shared"].as_u64().unwrap());
        assert!((50_000..70_000).contains(&own) && (100_000..110_000).contains(&shared), "{image}");
    }

    // What removing one frees is what it was said to free.
    let before = usage["Objects"].as_u64().unwrap();
    let promised = usage["Images"][0]["Reclaimable"].as_u64().unwrap();
    let name = usage["Images"][0]["Name"].as_str().unwrap().to_owned();
    env.ok(&["rmi", &name]);
    env.ok(&["gc"]);
    let after = env.json(&["du", "--format", "json"])["Objects"].as_u64().unwrap();
    let folders = 3 * 4096;
    assert!((before - after).abs_diff(promised) <= folders, "{before} {after} {promised}");
}

#[test]
fn gc_frees_everything_that_nothing_needs() {
    let registry = need!("gc_frees_everything", Registry::start());
    for placement in ["stub", "hardlink", "copy"] {
        let env = need!("gc_frees_everything", Env::new());
        let tar = layer(&[file("a", b"one"), file("b", &[1; 9000])]);
        let name = registry.push(&Image::new(&[tar], Packing::Gzip), "gone:1");
        if !env.lstore(&["--placement", placement, "pull", "-q", &name]).status.success() {
            crate::support::skip(&format!("gc_frees_everything ({placement})"), "not available here");
            continue;
        }
        env.ok(&["rmi", &name]);
        env.ok(&["gc"]);
        assert_eq!(env.pool_files(), 0, "{placement}");
        for folder in ["trees", "layers", "objects"] {
            assert_eq!(std::fs::read_dir(env.store.join(folder)).unwrap().count(), 0, "{folder} by {placement}");
        }
        let nodes = std::fs::read_dir(env.store.join("nodes")).unwrap();
        let left: usize = nodes.map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap().count()).sum();
        assert_eq!(left, 0, "{placement}");
        env.ok(&["pull", "-q", &name]);
        env.ok(&["fsck"]);
    }
}

#[test]
fn idle_checkouts_can_go_and_come_back() {
    let registry = need!("idle_checkouts_can_go", Registry::start());
    let env = need!("idle_checkouts_can_go", Env::new());
    let name =
        registry.push(&Image::new(&[layer(&[file("d/a", b"one"), file("b", &[1; 9000])])], Packing::Gzip), "i:1");
    env.ok(&["pull", "-q", &name]);
    let checkouts = || env.json(&["du", "--format", "json"])["Trees"].as_u64().unwrap();
    let before = checkouts();
    let promised = env.json(&["gc", "--checkouts", "--dry-run", "--format", "json"]);
    assert_eq!((promised["Trees"].as_u64(), checkouts()), (Some(1), before));
    let freed = env.json(&["gc", "--checkouts", "--format", "json"]);
    assert_eq!(freed, {
        let mut same = promised;
        same["DryRun"] = false.into();
        same
    });
    assert_eq!(before - checkouts(), freed["Bytes"].as_u64().unwrap());
    assert_eq!(env.pool_files(), 2, "contents stay");
    // No program is in it: to be told so, lrun must have made the checkout first.
    let output = env.lrun(&["run", "--rm", "--pull", "never", &name, "/no/such/program"]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    assert_eq!(checkouts(), before);
}

#[test]
fn images_that_differ_in_mtime_share_the_page_cache() {
    need!("share_the_page_cache", has("fincore"));
    let registry = need!("share_the_page_cache", Registry::start());
    let env = need!("share_the_page_cache", Env::new());
    let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut names = Vec::new();
    for (tag, mtime) in [(1, 1_600_000_000), (2, 1_700_000_000)] {
        let tar = layer(&[Member { mtime, ..file("data", &body) }]);
        names.push(registry.push(&Image::new(&[tar], Packing::Plain), &format!("cached:{tag}")));
    }
    for name in &names {
        if !env.lstore(&["--placement", "stub", "pull", "-q", name]).status.success() {
            return crate::support::skip("share_the_page_cache", "no stub placement on this kernel");
        }
    }
    // One namespace in which both are mounted: the first is read, the second asked what is resident.
    let trees: Vec<_> =
        std::fs::read_dir(env.store.join("trees")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (one, two) = (env.scratch.join("one"), env.scratch.join("two"));
    let mount = |tree: &Path, on: &Path| {
        std::fs::create_dir_all(on).unwrap();
        let lower = format!("{}/root::{}", tree.display(), env.store.join("objects").display());
        format!("mount -t overlay overlay -o ro,userxattr,lowerdir={lower} {}", on.display())
    };
    let script = format!(
        "{} && {} && sync && dd if={one}/data iflag=nocache count=0 status=none && fincore -bno RES {two}/data && cat {one}/data > /dev/null \
         && fincore -bno RES {two}/data && stat -c %Y {one}/data {two}/data",
        mount(&trees[0], &one),
        mount(&trees[1], &two),
        one = one.display(),
        two = two.display(),
    );
    let output = said(&run(Command::new("unshare").args(["-m", "sh", "-c", &script])).unwrap());
    let numbers: Vec<u64> = output.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers[0], 0, "nothing is resident before: {output}");
    assert!(numbers[1] >= body.len() as u64, "all is resident after the other was read: {output}");
    assert_ne!(numbers[2], numbers[3], "and yet each has its own time: {output}");
}

#[test]
fn rebuilt_real_images_share_what_is_equal() {
    let (_, names) = need!("rebuilt_real_images", corpus());
    let env = need!("rebuilt_real_images", Env::new());
    let mut pool = Vec::new();
    for name in &names {
        env.ok(&["pull", "-q", name]);
        pool.push(env.pool_files());
    }
    let mut distinct = std::collections::HashSet::new();
    let mut bytes = 0;
    for folder in std::fs::read_dir(env.store.join("objects")).unwrap() {
        for object in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            assert!(
                distinct.insert(crate::support::image::sha256(&std::fs::read(&path).unwrap())),
                "a content is there twice"
            );
            bytes += std::fs::metadata(&path).unwrap().size();
        }
    }
    let usage = env.json(&["du", "--format", "json"]);
    assert_eq!(usage["Content"].as_u64().unwrap(), bytes);
    assert!(pool.windows(2).all(|pair| pair[0] <= pair[1]));
    // Beside the blocks of the contents themselves, all that the store adds is small.
    env.ok(&["gc", "--checkouts"]);
    let usage = env.json(&["du", "--format", "json"]);
    let (total, objects) = (usage["Total"].as_f64().unwrap(), usage["Objects"].as_f64().unwrap());
    assert!(total <= 1.03 * objects, "{usage}");
}
