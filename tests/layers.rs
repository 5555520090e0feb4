//! Layers come back bit for bit, with the compressed blobs long gone.

use crate::need;
use crate::support::Env;
use crate::support::image::{Image, Packing, everything, sha256};
use crate::support::registry::{Registry, corpus};

fn every_layer_reproduces_its_diff_id(env: &Env, name: &str) {
    let image = &env.json(&["inspect", name])[0];
    for diff_id in image["RootFS"]["Layers"].as_array().unwrap() {
        let diff_id = diff_id.as_str().unwrap();
        let exported = env.lstore(&["export", "--layer", diff_id]);
        assert!(exported.status.success());
        assert_eq!(sha256(&exported.stdout), diff_id, "{name}");
    }
}

#[test]
fn layers_of_every_packing_reproduce_their_diff_ids() {
    let registry = need!("layers_of_every_packing", Registry::start());
    for packing in [Packing::Gzip, Packing::Zstd, Packing::Plain] {
        let env = need!("layers_of_every_packing", Env::new());
        let name = registry.push(&Image::new(&everything(), packing), &format!("everything:{packing:?}"));
        env.ok(&["pull", "-q", &name]);
        every_layer_reproduces_its_diff_id(&env, &name);
    }
}

#[test]
fn layers_of_real_images_reproduce_their_diff_ids() {
    let (_, names) = need!("layers_of_real_images", corpus());
    let env = need!("layers_of_real_images", Env::new());
    for name in names {
        env.ok(&["pull", "-q", &name]);
        every_layer_reproduces_its_diff_id(&env, &name);
    }
    env.ok(&["fsck"]);
}

#[test]
fn an_exported_root_file_system_is_the_image_again() {
    let registry = need!("an_exported_root", Registry::start());
    let env = need!("an_exported_root", Env::new());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    env.ok(&["pull", "-q", &name]);
    let path = env.scratch.join("rootfs.tar");
    env.ok(&["export", "-o", path.to_str().unwrap(), &name]);
    env.ok(&["import", "-q", path.to_str().unwrap(), "again:1"]);
    let again = env.scratch.join("again.tar");
    env.ok(&["export", "-o", again.to_str().unwrap(), "again:1"]);
    assert!(std::fs::read(path).unwrap() == std::fs::read(again).unwrap());
}
