//! Many processes, one store.

use crate::need;
use crate::support::Env;
use crate::support::image::{Image, Packing, everything, file, layer};
use crate::support::registry::Registry;

#[test]
fn eight_pulls_of_one_image_fetch_each_blob_once() {
    let registry = need!("eight_pulls", Registry::start());
    let env = need!("eight_pulls", Env::new());
    let bulk: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut layers = everything();
    layers.push(layer(&[file("bulk", &bulk)]));
    let image = Image::new(&layers, Packing::Gzip);
    let name = registry.push(&image, "many:1");
    let running: Vec<_> = (0..8).map(|_| env.spawn("lstore", &["pull", "-q", &name])).collect();
    for process in running {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for (digest, _) in &image.blobs {
        assert_eq!(registry.fetches(digest), 1, "{digest}");
    }
    env.assert_no_trace();
    let trees = std::fs::read_dir(env.store.join("trees")).unwrap().count();
    assert_eq!(trees, 1, "one checkout serves all");
}

#[test]
fn different_images_with_equal_contents_can_be_pulled_at_once() {
    let registry = need!("different_images_at_once", Registry::start());
    let env = need!("different_images_at_once", Env::new());
    let bodies: Vec<Vec<u8>> = (0..300_u32).map(|number| number.to_le_bytes().repeat(500)).collect();
    let paths: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
    let names: Vec<String> = (0..4_u8)
        .map(|tag| {
            let mut members: Vec<_> = paths.iter().zip(&bodies).map(|(path, body)| file(path, body)).collect();
            let own = [tag; 10];
            members.push(file("own", &own));
            registry.push(&Image::new(&[layer(&members)], Packing::Gzip), &format!("alike:{tag}"))
        })
        .collect();
    let running: Vec<_> = names.iter().map(|name| env.spawn("lstore", &["pull", "-q", name])).collect();
    for process in running {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    env.assert_no_trace();
    assert_eq!(env.pool_files(), 304, "each content is there once, whoever was first");
}

#[test]
fn gc_beside_pulls_takes_nothing_that_is_needed() {
    let registry = need!("gc_beside_pulls", Registry::start());
    let env = need!("gc_beside_pulls", Env::new());
    let names: Vec<String> = (0..3_u8)
        .map(|tag| {
            let (own, shared) = (vec![tag; 200_000], vec![9; 100_000]);
            let tar = layer(&[file("own", &own), file("shared", &shared)]);
            registry.push(&Image::new(&[tar], Packing::Gzip), &format!("churn:{tag}"))
        })
        .collect();
    for _ in 0..6 {
        let mut running: Vec<_> = names.iter().map(|name| env.spawn("lstore", &["pull", "-q", name])).collect();
        running.push(env.spawn("lstore", &["gc"]));
        running.push(env.spawn("lstore", &["rmi", "-f", &names[0]]));
        running.push(env.spawn("lstore", &["gc"]));
        for process in running {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        env.ok(&["fsck"]);
    }
    env.ok(&["gc"]);
    env.assert_no_trace();
}
