//! Every placement shows what GNU tar, run as root, extracts and merges: entry by entry.

use std::path::Path;

use crate::need;
use crate::support::Env;
use crate::support::image::{Image, Packing, everything};
use crate::support::listing::{Listing, differences, of_directory, of_layers, of_stubs};
use crate::support::loop_device::LoopDevice;
use crate::support::registry::{Registry, corpus};

const PLACEMENTS: [&str; 4] = ["stub", "hardlink", "reflink", "copy"];

/// Pulls with a placement and lists the checkout.
fn checkout(env: &Env, name: &str, placement: &str) -> Result<Listing, String> {
    let reason = works(env, placement);
    if !reason.contains("works here") {
        return Err(reason);
    }
    env.ok(&["--placement", placement, "pull", "-q", name]);
    let newest = std::fs::read_dir(env.store.join("trees")).unwrap().map(|entry| entry.unwrap().path());
    let tree = newest.max_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap()).unwrap();
    let root = tree.join("root");
    Ok(match placement {
        "stub" => of_stubs(&root, &env.store.join("objects"), &env.scratch),
        _ => of_directory(&root),
    })
}

/// What `info` says of a placement where the store is to be: it tries in a store, so that there has to be one beside.
fn works(env: &Env, placement: &str) -> String {
    let beside = env.store.with_extension("beside");
    let at = ["--root", beside.to_str().unwrap()];
    let empty = env.scratch.join("empty.tar");
    std::fs::write(&empty, [0; 1024]).unwrap();
    env.ok(&[&at[..], &["import", "-q", empty.to_str().unwrap(), "empty:1"]].concat());
    let told = env.json(&[&at[..], &["info", "--format", "json"]].concat());
    std::fs::remove_dir_all(&beside).unwrap();
    told["Placements"][capitalised(placement)].to_string()
}

fn capitalised(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

/// What the oracle's listing must be for this user: owners shifted, devices left out, capabilities with their namespace.
fn expected(oracle: &Listing, env: &Env) -> Listing {
    let Some(user) = &env.user else { return oracle.clone() };
    let mut expected = Listing::new();
    for (path, entry) in oracle {
        if entry.kind == b'3' || entry.kind == b'4' {
            continue;
        }
        let mut entry = entry.clone();
        let shift = |id: u64, own| u64::from(env.shifted(u32::try_from(id).unwrap(), own));
        entry.owner = (shift(entry.owner.0, user.uid), shift(entry.owner.1, user.gid));
        expected.insert(path.clone(), entry);
    }
    expected
}

/// File capabilities carry the namespace's root on disk: their presence is what can be compared.
fn without_capability_values(mut listing: Listing) -> Listing {
    for entry in listing.values_mut() {
        if let Some(value) = entry.xattrs.get_mut("security.capability") {
            value.clear();
        }
    }
    listing
}

fn compare(env: &Env, name: &str, oracle: &Listing, placement: &str) -> Result<(), String> {
    let found = without_capability_values(checkout(env, name, placement)?);
    let wanted = without_capability_values(expected(oracle, env));
    assert!(wanted.len() > 3, "the oracle has an image to show");
    let differences = differences(&wanted, &found);
    assert!(differences.is_empty(), "{placement}: {}", differences.join("\n"));
    Ok(())
}

fn all_placements(test: &str, env: &Env, name: &str, oracle: &Listing) {
    for placement in PLACEMENTS {
        if let Err(reason) = compare(env, name, oracle, placement) {
            crate::support::skip(&format!("{test} ({placement})"), &reason);
        }
    }
    env.ok(&["fsck"]);
}

#[test]
fn every_placement_equals_gnu_tar() {
    let registry = need!("every_placement", Registry::start());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    for env in [need!("every_placement", Env::new()), need!("every_placement", Env::root())] {
        let oracle = of_layers(&everything(), &env.scratch);
        all_placements("every_placement", &env, &name, &oracle);
    }
}

#[test]
fn reflinks_on_xfs_and_btrfs_equal_gnu_tar() {
    let registry = need!("reflinks", Registry::start());
    let name = registry.push(&Image::new(&everything(), Packing::Zstd), "everything:1");
    for kind in ["xfs", "btrfs"] {
        let device = match LoopDevice::new(kind, 512) {
            Ok(device) => device,
            Err(reason) => {
                crate::support::skip(&format!("reflinks on {kind}"), &reason);
                continue;
            }
        };
        let env = need!("reflinks", Env::at(&device.store()));
        let oracle = of_layers(&everything(), &env.scratch);
        for placement in PLACEMENTS {
            compare(&env, &name, &oracle, placement).unwrap_or_else(|reason| panic!("{kind} {placement}: {reason}"));
        }
        env.ok(&["fsck"]);
    }
}

#[test]
fn real_images_equal_gnu_tar_by_every_placement() {
    let (_, names) = need!("real_images_equal_gnu_tar", corpus());
    let env = need!("real_images_equal_gnu_tar", Env::new());
    for name in names {
        env.ok(&["pull", "-q", &name]);
        let image = &env.json(&["inspect", &name])[0];
        let scratch = tempfile::tempdir().unwrap();
        let layers = image["RootFS"]["Layers"].as_array().unwrap().iter();
        let layers: Vec<Vec<u8>> =
            layers.map(|diff_id| env.lstore(&["export", "--layer", diff_id.as_str().unwrap()]).stdout).collect();
        let oracle = of_layers(&layers, scratch.path());
        all_placements("real_images_equal_gnu_tar", &env, &name, &oracle);
    }
}

#[test]
fn a_checkout_of_the_users_is_independent_and_writable() {
    let registry = need!("a_checkout_of_the_users", Registry::start());
    let env = need!("a_checkout_of_the_users", Env::new());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    env.ok(&["pull", "-q", &name]);
    env.ok(&["checkout", &name, "rootfs"]);
    let found = without_capability_values(of_directory(&env.scratch.join("rootfs")));
    let mut wanted = without_capability_values(expected(&of_layers(&everything(), &env.scratch), &env));
    wanted.get_mut(b"./bin/setuid".as_slice()).unwrap().mode = 0o755;
    assert_eq!(differences(&wanted, &found), Vec::<String>::new());
    std::fs::write(env.scratch.join("rootfs/twin1"), b"changed").unwrap();
    env.ok(&["fsck"]);

    let error = env.refuses(&["checkout", &name, "rootfs"]);
    assert!(error.contains("not empty"), "{error}");
    env.ok(&["unshare", "rm", "-r", "rootfs"]);
    assert!(!Path::new(&env.scratch.join("rootfs")).exists());
}

/// Modes of the programs that set ids.
fn modes(env: &Env, folder: &str) -> [u32; 2] {
    ["bin/setuid", "bin/setgid"].map(|name| {
        let path = env.scratch.join(folder).join(name);
        std::os::unix::fs::MetadataExt::mode(&std::fs::symlink_metadata(path).unwrap()) & 0o7777
    })
}

#[test]
fn a_checkout_lends_nobody_the_rights_of_who_made_it() {
    let registry = need!("a_checkout_lends_nobody", Registry::start());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    let env = need!("a_checkout_lends_nobody", Env::new());
    env.ok(&["--placement", "hardlink", "pull", "-q", &name]);
    for (folder, options) in [("plain", &[][..]), ("linked", &["--hardlink"])] {
        let output = env.lstore(&[&["checkout"][..], options, &[&name, folder]].concat());
        let told = crate::support::all(&output);
        assert!(output.status.success() && told.contains("1 programs lost their setuid"), "{told}");
        assert_eq!(modes(&env, folder), [0o755, 0o2755], "{folder}");
    }
    // A container still has it: what is in the store is not touched.
    let tree = std::fs::read_dir(env.store.join("trees")).unwrap().next().unwrap().unwrap().path();
    let own = tree.strip_prefix(&env.scratch).unwrap().join("root");
    assert_eq!(modes(&env, own.to_str().unwrap()), [0o4755, 0o2755]);
    assert!(env.refuses(&["checkout", "--set-id", &name, "asked"]).contains("root alone"));
    assert!(!env.scratch.join("asked").exists());
    let root = need!("a_checkout_lends_nobody", Env::root());
    root.ok(&["pull", "-q", &name]);
    let output = root.lstore(&["checkout", &name, "plain"]);
    let told = crate::support::all(&output);
    assert!(output.status.success() && told.contains("--set-id"), "{told}");
    assert_eq!(modes(&root, "plain"), [0o755, 0o755]);
    root.ok(&["checkout", "--set-id", &name, "asked"]);
    assert_eq!(modes(&root, "asked"), [0o4755, 0o2755]);
}

#[test]
fn without_a_subordinate_range_it_works_and_says_what_is_lost() {
    let registry = need!("without_a_range", Registry::start());
    let mut env = need!("without_a_range", Env::new());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    // Nobody has a range of subordinate ids.
    let nobody = crate::support::User { uid: 65_534, gid: 65_534, home: "/nonexistent".into() };
    std::os::unix::fs::chown(&env.scratch, Some(nobody.uid), Some(nobody.gid)).unwrap();
    env.user = Some(nobody);
    let output = env.lstore(&["pull", &name]);
    let told = crate::support::all(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("belong to you instead of their owners"), "{told}");
    assert!(told.contains("setuid or setgid"), "{told}");
    env.ok(&["fsck"]);
    let diff_id = env.json(&["inspect", &name])[0]["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    let exported = env.lstore(&["export", "--layer", &diff_id]);
    assert_eq!(crate::support::image::sha256(&exported.stdout), diff_id);
}
