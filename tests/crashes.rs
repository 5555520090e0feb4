//! Killed at any moment: the store opens, is sound, and the next pull succeeds.

use std::time::{Duration, Instant};

use crate::need;
use crate::support::Env;
use crate::support::image::{Image, Packing, file, layer};
use crate::support::registry::Registry;

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
