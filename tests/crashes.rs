//! Killed at any moment: the store opens, is sound, and the next pull succeeds.

use std::time::{Duration, Instant};

use crate::need;
use crate::support::image::{Image, Member, Packing, dir, file, layer};
use crate::support::registry::Registry;
use crate::support::{Env, all, said};

/// Deaths per run of the test.
const KILLS: u64 = 50;

#[test]
fn a_pull_killed_at_fifty_random_moments_leaves_a_sound_store() {
    let registry = need!("killed_at_random", Registry::start());
    let bodies: Vec<Vec<u8>> = (0..2000_u32).map(|number| number.to_le_bytes().repeat(600)).collect();
    let paths: Vec<String> = (0..2000).map(|number| format!("d{}/f{number}", number % 40)).collect();
    let layers: Vec<_> = paths
        .chunks(700)
        .zip(bodies.chunks(700))
        .map(|(paths, bodies)| {
            layer(&paths.iter().zip(bodies).map(|(path, body)| file(path, body)).collect::<Vec<_>>())
        })
        .collect();
    let name = registry.push(&Image::new(&layers, Packing::Gzip), "killed:1");

    let measured = need!("killed_at_random", Env::new());
    let begin = Instant::now();
    measured.ok(&["pull", "-q", &name]);
    let whole = begin.elapsed();
    let objects = measured.pool_files();

    let mut random = u64::from(std::process::id());
    let env = need!("killed_at_random", Env::new());
    for kill in 0..KILLS {
        let mut pull = env.spawn("lstore", &["pull", "-q", &name]);
        // A step of a linear congruential generator: moments differ from run to run and are told on failure.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = whole.mul_f64(f64::from(u32::try_from((random >> 33) % 1000).unwrap()) / 950.0);
        std::thread::sleep(moment.max(Duration::from_millis(1)));
        pull.kill().unwrap();
        pull.wait().unwrap();
        let fsck = env.lstore(&["fsck"]);
        assert!(fsck.status.success(), "kill {kill} after {moment:?}: {}", crate::support::all(&fsck));
        if kill % 5 == 4 {
            env.ok(&["pull", "-q", &name]);
            env.ok(&["gc"]);
            env.assert_no_trace();
            assert_eq!(env.pool_files(), objects, "kill {kill} after {moment:?}");
            env.ok(&["rmi", &name]);
            env.ok(&["gc"]);
            assert_eq!(env.shared_inodes(), 0, "kill {kill} after {moment:?}");
        }
    }
}

#[test]
fn damage_is_found_and_the_next_pull_heals_it() {
    let registry = need!("damage_is_found", Registry::start());
    let env = need!("damage_is_found", Env::new());
    let image = Image::new(&[layer(&[file("a", &[1; 5000]), file("b", &[2; 5000])])], Packing::Gzip);
    let name = registry.push(&image, "damaged:1");
    env.ok(&["pull", "-q", &name]);
    let folder = std::fs::read_dir(env.store.join("objects")).unwrap().next().unwrap().unwrap().path();
    let object = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&object, [3; 5000]).unwrap();
    let fsck = env.lstore(&["fsck"]);
    let told = crate::support::all(&fsck);
    assert_eq!(fsck.status.code(), Some(1));
    assert!(told.contains("object ") && told.contains("layer sha256:") && told.contains("--repair"), "{told}");
    env.ok(&["fsck", "--repair"]);
    env.ok(&["pull", "-q", &name]);
    env.ok(&["fsck"]);
}

#[test]
fn a_full_pool_without_its_index_is_not_taken_for_empty() {
    let registry = need!("a_full_pool", Registry::start());
    let env = need!("a_full_pool", Env::new());
    let name = registry.push(&Image::new(&[layer(&[file("a", b"x")])], Packing::Gzip), "indexed:1");
    env.ok(&["pull", "-q", &name]);
    for file in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(env.store.join(file));
    }
    let output = env.lstore(&["pull", "-q", &name]);
    assert!(!output.status.success());
    assert!(crate::support::all(&output).contains("its index is missing"));
    assert_eq!(env.pool_files(), 1);
}

#[test]
fn layers_of_an_unclean_boot_are_hashed_before_use() {
    let registry = need!("an_unclean_boot", Registry::start());
    let env = need!("an_unclean_boot", Env::new());
    let name = registry.push(&Image::new(&[layer(&[file("a", &[1; 5000])])], Packing::Gzip), "boot:1");
    env.ok(&["pull", "-q", &name]);
    // As after a power cut: another boot, and a file whose bytes never reached the disk.
    let sql = "UPDATE layer SET boot = 'another boot'";
    let python = format!(
        "import sqlite3; c = sqlite3.connect('{}'); c.execute(\"{sql}\"); c.commit()",
        env.store.join("index.db").display()
    );
    need!("an_unclean_boot", crate::support::run(std::process::Command::new("python3").args(["-c", &python])));
    let folder = std::fs::read_dir(env.store.join("objects")).unwrap().next().unwrap().unwrap().path();
    let object = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&object, b"").unwrap();
    env.ok(&["pull", "-q", &name]);
    env.ok(&["fsck"]);
    let exported = env.scratch.join("a.tar");
    env.ok(&["export", "-o", exported.to_str().unwrap(), &name]);
    assert!(std::fs::metadata(exported).unwrap().len() > 5000);
}

#[test]
fn one_collection_after_a_kill_leaves_nothing() {
    let registry = need!("one_collection_after_a_kill", Registry::start());
    let bodies: Vec<Vec<u8>> = (0..3000_u32).map(|number| number.to_le_bytes().repeat(40)).collect();
    let paths: Vec<String> = (0..3000).map(|number| format!("f{number}")).collect();
    let members: Vec<_> = paths.iter().zip(&bodies).map(|(path, body)| file(path, body)).collect();
    let name = registry.push(&Image::new(&[layer(&members)], Packing::Gzip), "collected:1");
    let mut caught = 0;
    for _ in 0..20 {
        let env = need!("one_collection_after_a_kill", Env::new());
        let mut pull = env.spawn("lstore", &["pull", "-q", &name]);
        // Killed while the checkout is in the making: its folder is in tmp/, and shares inodes already.
        let half_made = || std::fs::read_dir(env.store.join("nodes")).is_ok_and(|mut nodes| nodes.next().is_some());
        while !half_made() && pull.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        pull.kill().unwrap();
        pull.wait().unwrap();
        if std::fs::read_dir(env.store.join("trees")).unwrap().next().is_some() {
            continue;
        }
        caught += 1;
        env.ok(&["gc"]);
        assert_eq!(env.shared_inodes(), 0);
        env.assert_no_trace();
        if caught == 3 {
            return;
        }
    }
    assert!(caught > 0, "no kill met a checkout in the making");
}

/// As after a power cut: another boot, and files of the pool whose bytes never reached the disk.
fn tear(env: &Env, size: u64) -> Result<(), String> {
    let sql = "UPDATE layer SET boot = 'another boot'";
    let python = format!(
        "import sqlite3; c = sqlite3.connect('{}'); c.execute(\"{sql}\"); c.commit()",
        env.store.join("index.db").display()
    );
    crate::support::run(env.command("python3").args(["-c", &python]))?;
    for folder in std::fs::read_dir(env.store.join("objects")).unwrap() {
        for object in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let object = object.unwrap();
            if object.metadata().unwrap().len() == size {
                std::fs::write(object.path(), b"").unwrap();
            }
        }
    }
    Ok(())
}

/// An image of two layers with a program that needs nothing beside it; the second layer has a file of 5000 bytes.
fn runnable() -> Result<Image, String> {
    let program = std::fs::read("/sbin/ldconfig").map_err(|error| format!("/sbin/ldconfig: {error}"))?;
    let tool = Member { mode: 0o755, ..file("bin/tool", &program) };
    let lower = layer(&[dir("./"), dir("bin"), tool]);
    Ok(Image::new(&[lower, layer(&[file("a", &[1; 5000])])], Packing::Gzip))
}

#[test]
fn an_image_that_was_torn_is_incomplete_and_fetched_again_when_it_is_needed() {
    let registry = need!("an_image_that_was_torn", Registry::start());
    let env = need!("an_image_that_was_torn", Env::new());
    let image = need!("an_image_that_was_torn", runnable());
    let name = registry.push(&image, "torn:1");
    let run = |env: &Env| env.lrun(&["run", "--rm", &name, "/bin/tool", "--version"]);
    env.ok(&["pull", "-q", &name]);
    said(&run(&env));
    need!("an_image_that_was_torn", tear(&env, 5000));
    let told = env.lstore(&["images"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("(incomplete)"), "{}", all(&told));
    assert!(String::from_utf8_lossy(&told.stderr).contains("1 layers were torn"), "{}", all(&told));
    assert_eq!(env.json(&["images", "--format", "json"])[0]["Incomplete"], true);
    let inspected = env.json(&["inspect", &name]);
    assert_eq!(inspected[0]["Incomplete"], true);
    assert_eq!(inspected[0]["MissingLayers"].as_array().unwrap().len(), 1);
    let told = env.ok(&["fsck"]);
    assert!(told.contains("1 of its layers are missing") && told.contains("1 incomplete images: clean"), "{told}");
    // The layer that is whole is not fetched again.
    said(&run(&env));
    let digests: Vec<&String> = image.blobs.iter().map(|(digest, _)| digest).collect();
    assert_eq!((registry.fetches(digests[0]), registry.fetches(digests[1])), (1, 2));
    assert_eq!(env.json(&["images", "--format", "json"])[0]["Incomplete"], false);
    assert!(env.ok(&["fsck"]).ends_with("checkouts: clean\n"));

    // A start that is the first to look after the cut.
    need!("an_image_that_was_torn", tear(&env, 5000));
    said(&run(&env));
    assert_eq!(registry.fetches(digests[1]), 3);
    need!("an_image_that_was_torn", tear(&env, 5000));
    let refused = env.lrun(&["run", "--rm", "--pull=never", &name, "/bin/tool", "--version"]);
    assert!(!refused.status.success() && all(&refused).contains("layers are missing"), "{}", all(&refused));
    // So is a pull, and a repair forgets what nobody fetched.
    env.ok(&["pull", "-q", &name]);
    assert_eq!(env.json(&["images", "--format", "json"])[0]["Incomplete"], false);
    need!("an_image_that_was_torn", tear(&env, 5000));
    let told = env.ok(&["fsck", "--repair"]);
    assert!(told.contains(&format!("repaired: incomplete image {name} forgotten: pull it again")), "{told}");
    assert_eq!(env.json(&["images", "--format", "json"]).as_array().unwrap().len(), 0);
    env.ok(&["fsck"]);
}

#[test]
fn a_container_is_started_again_after_its_image_was_torn() {
    let registry = need!("a_container_is_started_again", Registry::start());
    let env = need!("a_container_is_started_again", Env::new());
    let name = registry.push(&need!("a_container_is_started_again", runnable()), "torn:2");
    env.ok(&["pull", "-q", &name]);
    said(&env.lrun(&["create", "--name", "box", &name, "/bin/tool", "--version"]));
    need!("a_container_is_started_again", tear(&env, 5000));
    let told = said(&env.lrun(&["start", "-a", "box"]));
    assert!(told.contains("ldconfig"), "{told}");
}

#[test]
fn a_checkout_that_cannot_be_made_leaves_the_old_image_under_the_name() {
    let registry = need!("a_checkout_that_cannot_be_made", Registry::start());
    let env = need!("a_checkout_that_cannot_be_made", Env::new());
    let good = Image::new(&[layer(&[file("a", b"old")])], Packing::Gzip);
    let name = registry.push(&good, "moved:1");
    env.ok(&["pull", "-q", &name]);
    let before = env.json(&["images", "--format", "json"]);
    // No range of subordinate ids reaches that far.
    let foreign = Member { owner: (9_000_000, 0), ..file("a", b"new") };
    registry.push(&Image::new(&[layer(&[foreign])], Packing::Gzip), "moved:1");
    let refused = env.lstore(&["pull", "-q", &name]);
    assert!(!refused.status.success() && all(&refused).contains("9000000"), "{}", all(&refused));
    assert_eq!(env.json(&["images", "--format", "json"]), before);
    env.ok(&["gc"]);
    env.assert_no_trace();
    assert_eq!(env.pool_files(), 1);
}

#[test]
fn fsck_reads_what_checkouts_have_beside_the_pool() {
    let registry = need!("fsck_reads", Registry::start());
    let env = need!("fsck_reads", Env::new());
    let image = Image::new(&[layer(&[dir("./"), file("a", &[1; 5000]), file("b", &[2; 5000])])], Packing::Gzip);
    let name = registry.push(&image, "read:1");
    env.ok(&["--placement", "copy", "pull", "-q", &name]);
    env.ok(&["fsck"]);
    let tree = || {
        let trees = std::fs::read_dir(env.store.join("trees")).unwrap().map(|entry| entry.unwrap().path());
        trees.max().unwrap().join("root")
    };
    let refused = |problem: &str| {
        let fsck = env.lstore(&["fsck"]);
        assert_eq!(fsck.status.code(), Some(1), "{}", all(&fsck));
        assert!(all(&fsck).contains(problem), "{}", all(&fsck));
        env.ok(&["fsck", "--repair"]);
        env.ok(&["fsck"]);
        env.ok(&["--placement", "copy", "prepare", &name]);
        env.ok(&["fsck"]);
    };
    // Of the right length and age, as a power cut leaves files whose bytes were never written.
    let path = tree().join("a");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, [0; 5000]).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    refused("a: has another content");
    let times = std::fs::metadata(tree()).unwrap().modified().unwrap();
    std::fs::write(tree().join("more"), b"").unwrap();
    std::fs::File::open(tree()).unwrap().set_modified(times).unwrap();
    refused("more: is not in the image");
    std::fs::remove_file(tree().join("b")).unwrap();
    std::fs::hard_link(tree().join("a"), tree().join("b")).unwrap();
    std::fs::File::open(tree()).unwrap().set_modified(times).unwrap();
    refused("b: is one with another file");
}

#[test]
fn what_the_kernel_has_long_written_is_settled_by_the_next_command_that_takes_its_time() {
    let registry = need!("what_the_kernel_has_long_written", Registry::start());
    let env = need!("what_the_kernel_has_long_written", Env::new());
    let name = registry.push(&Image::new(&[layer(&[file("a", &[1; 5000])])], Packing::Gzip), "old:1");
    let said_of = |path: &str| std::fs::read_to_string(env.store.join(path)).unwrap();
    let unsettled = || {
        let ask = "import sqlite3, sys; \
            print(sqlite3.connect(sys.argv[1]).execute('SELECT count(boot) FROM layer').fetchone()[0])";
        let index = env.store.join("index.db");
        said(&env.command("python3").args(["-c", ask]).arg(index).output().unwrap())
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for command in [&["gc"][..], &["pull", "-q", &name]] {
        env.ok(&["pull", "-q", &name]);
        let tree = std::fs::read_dir(env.store.join("trees")).unwrap().next().unwrap().unwrap().path().join("boot");
        let tree = tree.strip_prefix(&env.store).unwrap().to_str().unwrap().to_owned();
        env.ok(&["gc"]);
        assert_eq!([said_of("boot"), said_of(&tree), unsettled()], [boot.as_str(), &boot, "1\n"], "fresh: {command:?}");
        let age = "for file in boot trees/*/boot layers/*; do touch -d '2 minutes ago' $file; done";
        said(&env.command("sh").args(["-c", age]).current_dir(&env.store).output().unwrap());
        env.ok(command);
        assert_eq!([said_of("boot"), said_of(&tree), unsettled()], ["settled\n", "settled\n", "0\n"], "{command:?}");
        // What comes next is not.
        env.ok(&["rmi", &name]);
        env.ok(&["gc"]);
        env.ok(&["pull", "-q", &name]);
        assert_eq!([said_of("boot"), unsettled()], [boot.as_str(), "1\n"]);
    }
    // What was asked to be synced is settled at once.
    env.ok(&["rmi", &name]);
    env.ok(&["gc"]);
    env.ok(&["pull", "-q", "--sync", &name]);
    let tree = std::fs::read_dir(env.store.join("trees")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(
        (std::fs::read_to_string(tree.join("boot")).unwrap().as_str(), unsettled().as_str()),
        ("settled\n", "0\n")
    );
}
