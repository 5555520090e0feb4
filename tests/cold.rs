//! Packed contents: what no checkout shows takes less disk, is as whole as before, and comes back when it is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::containers::debian;
use crate::need;
use crate::support::image::{Image, Packing, file, layer, sha256};
use crate::support::registry::Registry;
use crate::support::{Env, all, run, said};

/// Contents of many sizes: small ones that share a frame, and one that has a frame of its own.
fn bodies(salt: u32) -> Vec<Vec<u8>> {
    let text = |number: u32, length: usize| -> Vec<u8> {
        let line = format!("{salt} {number}: a line that is much like the others\n");
        line.bytes().cycle().take(length).collect()
    };
    let mut bodies: Vec<Vec<u8>> =
        (0..600).map(|number| text(number, 100 + usize::try_from(number).unwrap() * 20)).collect();
    bodies.push(text(9999, 3 << 20));
    bodies
}

fn image(salts: &[u32]) -> Image {
    let layers: Vec<_> = salts
        .iter()
        .map(|salt| {
            let bodies = bodies(*salt);
            let paths: Vec<String> =
                (0..bodies.len()).map(|number| format!("d{}/s{salt}-{number}", number % 9)).collect();
            layer(&paths.iter().zip(&bodies).map(|(path, body)| file(path, body)).collect::<Vec<_>>())
        })
        .collect();
    Image::new(&layers, Packing::Gzip)
}

/// What GNU du says, which must be what `lstore du` says.
fn disk(env: &Env) -> u64 {
    let told = env.json(&["du", "--format", "json"])["Total"].as_u64().unwrap();
    let du = run(Command::new("du").args(["-s", "--block-size=1"]).arg(&env.store)).unwrap();
    let du: u64 = String::from_utf8_lossy(&du.stdout).split_ascii_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(told, du);
    du
}

fn packs(env: &Env) -> Vec<PathBuf> {
    std::fs::read_dir(env.store.join("packs")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The image's files as a tar, and each layer by its diff ID.
fn contents(env: &Env, name: &str) -> String {
    let layers = env.json(&["inspect", name])[0]["RootFS"]["Layers"].clone();
    for diff_id in layers.as_array().unwrap() {
        let diff_id = diff_id.as_str().unwrap();
        assert_eq!(sha256(&env.lstore(&["export", "--layer", diff_id]).stdout), diff_id);
    }
    sha256(&env.lstore(&["export", name]).stdout)
}

#[test]
fn a_cold_store_is_small_and_whole_and_comes_back() {
    let registry = need!("a_cold_store", Registry::start());
    for placement in ["stub", "hardlink", "copy"] {
        let env = need!("a_cold_store", Env::new());
        let one = registry.push(&image(&[1, 2]), "cold:1");
        let two = registry.push(&image(&[1, 3]), "cold:2");
        let make = |name: &str| env.lstore(&["--placement", placement, "pull", "-q", name]).status.success();
        if !make(&one) || !make(&two) {
            crate::support::skip(&format!("a_cold_store ({placement})"), "not available here");
            continue;
        }
        let (wanted, warm) = (contents(&env, &one), disk(&env));

        let told = env.json(&["gc", "--cold", "--dry-run", "--format", "json"]);
        assert_eq!(told["Packed"].as_u64().unwrap(), 3 * 601, "{told}");
        assert_eq!(env.pool_files(), 3 * 601, "a dry run leaves all as it is");

        env.ok(&["gc", "--cold"]);
        assert_eq!(env.pool_files(), 0);
        let cold = disk(&env);
        assert!(cold < warm / 2, "{placement}: {warm} became {cold}");
        env.assert_no_trace();
        assert_eq!(contents(&env, &one), wanted);
        env.ok(&["checkout", &one, "rootfs"]);
        assert_eq!(std::fs::read(env.scratch.join("rootfs/d4/s2-4")).unwrap(), bodies(2)[4]);
        env.ok(&["unshare", "rm", "-r", "rootfs"]);
        assert_eq!(env.pool_files(), 0, "reading brings no files back");

        // Contents that are packed are found by hash: a third image brings only what is new.
        let three = registry.push(&image(&[1, 2, 4]), "cold:3");
        env.ok(&["--placement", placement, "pull", "-q", &three]);
        assert_eq!(env.pool_files(), if placement == "copy" { 601 } else { 3 * 601 });
        env.ok(&["--placement", placement, "prepare", &one]);
        assert_eq!(contents(&env, &one), wanted);
        env.ok(&["fsck"]);
        env.ok(&["gc"]);
        env.assert_no_trace();
        disk(&env);

        env.ok(&["rmi", &three]);
        env.ok(&["gc", "--cold"]);
        assert_eq!(env.pool_files(), 0);
        // The index keeps the pages that it once needed.
        assert!(disk(&env).abs_diff(cold) <= 128 << 10, "{placement}: {cold} became {}", disk(&env));
        env.assert_no_trace();

        env.ok(&["rmi", "-a"]);
        env.ok(&["gc"]);
        assert_eq!(packs(&env), Vec::<PathBuf>::new(), "a pack goes with its last content");
    }
}

#[test]
fn a_running_container_keeps_its_files_and_a_cold_image_starts() {
    let (env, image) = need!("a_running_container", debian());
    let listing = "find / -xdev -type f ! -path '/etc/host*' -exec sha256sum {} + 2>/dev/null | sort | sha256sum";
    let list = || said(&env.lrun(&["run", "--rm", &image, "sh", "-c", listing]));
    let (wanted, files) = (list(), env.pool_files());

    said(&env.lrun(&["run", "-d", "--name", "busy", &image, "sleep", "600"]));
    env.ok(&["gc", "--cold"]);
    assert_eq!(env.pool_files(), files, "a container uses them");
    assert_eq!(said(&env.lrun(&["exec", "busy", "sh", "-c", listing])), wanted);
    said(&env.lrun(&["stop", "-t", "0", "busy"]));
    said(&env.lrun(&["rm", "busy"]));

    env.ok(&["gc", "--cold"]);
    assert_eq!(env.pool_files(), 0);
    disk(&env);
    assert_eq!(list(), wanted);
    assert_eq!(env.pool_files(), files);
    env.ok(&["fsck"]);
}

#[test]
fn damage_in_a_pack_is_found_and_taken_out_of_use() {
    let registry = need!("damage_in_a_pack", Registry::start());
    let env = need!("damage_in_a_pack", Env::new());
    let name = registry.push(&image(&[1]), "torn:1");
    env.ok(&["pull", "-q", &name]);
    let wanted = contents(&env, &name);
    env.ok(&["gc", "--cold"]);
    let pack = packs(&env).pop().unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let fsck = env.lstore(&["fsck"]);
    let told = all(&fsck);
    assert_eq!(fsck.status.code(), Some(1));
    assert!(told.contains("object ") && told.contains("layer sha256:") && told.contains("--repair"), "{told}");
    assert!(!env.lstore(&["prepare", &name]).status.success(), "what is damaged is not shown");
    env.ok(&["fsck", "--repair"]);
    env.ok(&["pull", "-q", &name]);
    env.ok(&["fsck"]);
    assert_eq!(contents(&env, &name), wanted);
    env.ok(&["gc", "--cold"]);
    env.assert_no_trace();
}

#[test]
fn killed_while_it_packs_or_unpacks_the_store_stays_sound() {
    let registry = need!("killed_while_it_packs", Registry::start());
    let env = need!("killed_while_it_packs", Env::new());
    let name = registry.push(&image(&[1, 2, 3, 4]), "killed:cold");
    env.ok(&["pull", "-q", &name]);
    let wanted = contents(&env, &name);
    let time = |words: &[&str]| {
        let begin = Instant::now();
        env.ok(words);
        begin.elapsed()
    };
    let whole = [time(&["gc", "--cold"]), time(&["prepare", &name])];
    for step in 0..12_u32 {
        for (words, whole) in [(vec!["gc", "--cold"], whole[0]), (vec!["prepare", name.as_str()], whole[1])] {
            let mut process = env.spawn("lstore", &words);
            std::thread::sleep((whole * step / 11).max(Duration::from_millis(1)));
            process.kill().unwrap();
            process.wait().unwrap();
            let fsck = env.lstore(&["fsck"]);
            assert!(fsck.status.success(), "{words:?} {step}: {}", all(&fsck));
        }
        if step % 4 == 3 {
            env.ok(&["prepare", &name]);
            assert_eq!(contents(&env, &name), wanted, "{step}");
            env.ok(&["gc"]);
            env.assert_no_trace();
            assert_eq!(env.pool_files(), 4 * 601);
            assert_eq!(packs(&env).len(), 0);
        }
    }
}

#[test]
fn packing_beside_pulls_and_checkouts_takes_no_file_from_under_them() {
    let registry = need!("packing_beside_pulls", Registry::start());
    let env = need!("packing_beside_pulls", Env::new());
    let names: Vec<String> = (1..=3).map(|own| registry.push(&image(&[9, own]), &format!("busy:{own}"))).collect();
    for _ in 0..5 {
        let mut running: Vec<_> = Vec::new();
        for name in &names {
            running.push(env.spawn("lstore", &["pull", "-q", name]));
            running.push(env.spawn("lstore", &["gc", "--cold"]));
            running.push(env.spawn("lstore", &["pull", "-q", name]));
        }
        running.push(env.spawn("lstore", &["rmi", "-f", &names[0]]));
        running.push(env.spawn("lstore", &["gc"]));
        for (number, process) in running.into_iter().enumerate() {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success() || number == 9, "{number}: {}", String::from_utf8_lossy(&output.stderr));
        }
        for name in &names {
            env.ok(&["pull", "-q", name]);
        }
        // Every stub that there is has its content as a file.
        let fsck = env.lstore(&["fsck"]);
        assert!(fsck.status.success(), "{}", all(&fsck));
        assert_eq!(missing(&env.store), Vec::<String>::new());
    }
    env.ok(&["gc"]);
    env.assert_no_trace();
}

/// Objects that stubs of checkouts point at and that are no files.
pub fn missing(store: &Path) -> Vec<String> {
    let script = "import os, sys
for top, _, names in os.walk(sys.argv[1] + '/trees'):
    for name in names:
        try: target = os.getxattr(os.path.join(top, name), 'user.overlay.redirect', follow_symlinks=False).decode()
        except OSError: continue
        if not os.path.isfile(sys.argv[1] + '/objects' + target): print(target)";
    let output = run(Command::new("python3").args(["-c", script]).arg(store)).unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
