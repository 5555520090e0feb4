//! Bad input: one clear line, a failure, nothing left behind, and the good image then pulls.

use std::path::Path;

use crate::need;
use crate::support::Env;
use crate::support::image::{Image, Member, Packing, file, layer, link, pack, sha256};
use crate::support::loop_device::LoopDevice;
use crate::support::registry::Registry;
use crate::support::server::{Answer, Server};

fn good() -> Image {
    Image::new(&[layer(&[file("good", b"good content")])], Packing::Gzip)
}

/// Serves an image changed for the worse; its refusal must name `reason`. Then the good one pulls into the same store.
fn refused(image: &Image, reason: &str, change: impl FnOnce(&mut std::collections::HashMap<String, Answer>)) {
    let env = need!(reason, Env::new());
    let canary = env.scratch.join("canary");
    std::fs::write(&canary, b"alive").unwrap();
    let server = Server::of(image, change);
    let said = env.refuses(&["pull", &server.name()]);
    assert!(said.contains(reason), "{reason}: {said}");
    assert_eq!(std::fs::read(&canary).unwrap(), b"alive");
    assert!(env.json(&["images", "--format", "json"]).as_array().unwrap().is_empty());
    assert_eq!(env.pool_files(), 0, "{reason}");
    let server = Server::of(&good(), |_| {});
    env.ok(&["pull", "-q", &server.name()]);
    env.assert_no_trace();
}

fn blob_path(image: &Image) -> String {
    format!("/v2/bad/blobs/{}", image.blobs[0].0)
}

#[test]
fn a_blob_of_another_digest() {
    let image = good();
    let mut other = image.blobs[0].1.clone();
    let last = other.len() - 9;
    other[last] ^= 1;
    refused(&image, "sha256:", |answers| {
        answers.insert(blob_path(&image), Answer::ok(&other));
    });
    // The same length and a valid stream, but not the promised one.
    let plain = Image::new(&[layer(&[file("good", b"good content")])], Packing::Plain);
    let lie = layer(&[file("good", b"evil content")]);
    refused(&plain, "digest", |answers| {
        answers.insert(blob_path(&plain), Answer::ok(&lie));
    });
}

#[test]
fn a_blob_that_is_cut_short() {
    let image = good();
    let cut = image.blobs[0].1.len() / 2;
    refused(&image, &image.blobs[0].0, |answers| {
        answers.insert(blob_path(&image), Answer { cut: Some(cut), ..Answer::ok(&image.blobs[0].1) });
    });
    refused(&image, "bytes came instead of", |answers| {
        answers.insert(blob_path(&image), Answer::ok(&image.blobs[0].1[..cut]));
    });
    let longer = [image.blobs[0].1.clone(), vec![0; 1000]].concat();
    refused(&image, "bytes came instead of", |answers| {
        answers.insert(blob_path(&image), Answer::ok(&longer));
    });
}

#[test]
fn paths_that_lead_out_of_the_root() {
    for tar in [
        layer(&[file("../../outside", b"x")]),
        layer(&[file("a/../../outside", b"x")]),
        layer(&[link("hard", "../../etc/passwd", tar::EntryType::Link)]),
    ] {
        refused(&Image::new(&[tar], Packing::Gzip), "leads upwards", |_| {});
    }
    let tar = layer(&[link("hard", "/etc/shadow", tar::EntryType::Link)]);
    refused(&Image::new(&[tar], Packing::Gzip), "is not there", |_| {});
}

#[test]
fn a_link_to_the_host_and_a_file_through_it_stay_inside() {
    let env = need!("a_link_to_the_host", Env::new());
    let outside = env.scratch.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let tar =
        layer(&[link("d", outside.to_str().unwrap(), tar::EntryType::Symlink), file("d/passwd", b"would be outside")]);
    let server = Server::of(&Image::new(&[tar], Packing::Gzip), |_| {});
    env.ok(&["--placement", "copy", "pull", "-q", &server.name()]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let tree = std::fs::read_dir(env.store.join("trees")).unwrap().next().unwrap().unwrap().path().join("root");
    let inside = tree.join(outside.strip_prefix("/").unwrap()).join("passwd");
    assert!(Path::new(&inside).exists());
}

#[test]
fn a_decompression_bomb() {
    let zeros = vec![0; 700 << 20];
    let packed = pack(&layer(&[file("zeros", &zeros)]), Packing::Zstd);
    let diff_id = sha256(b"never reached");
    refused(&Image::from_parts(&[diff_id], vec![packed]), "bomb", |_| {});
}

#[test]
fn compressions_that_are_unknown_or_misdeclared() {
    let tar = layer(&[file("a", b"x")]);
    let diff_id = sha256(&tar);
    let xz = [&[0xfd, b'7', b'z', b'X', b'Z', 0][..], &[1; 100]].concat();
    let gzip_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    refused(&Image::from_parts(std::slice::from_ref(&diff_id), vec![(xz, gzip_type)]), "xz is not supported", |_| {});
    let (zstd, _) = pack(&tar, Packing::Zstd);
    refused(&Image::from_parts(&[diff_id], vec![(zstd, gzip_type)]), "media type says gzip", |_| {});
}

#[test]
fn a_config_that_promises_another_diff_id() {
    let (packed, media_type) = pack(&layer(&[file("a", b"x")]), Packing::Gzip);
    let image = Image::from_parts(&[sha256(b"another tar")], vec![(packed, media_type)]);
    refused(&image, "the image's config promises", |_| {});
}

#[test]
fn attributes_that_would_forge_what_the_overlay_trusts() {
    for name in ["SCHILY.xattr.user.overlay.redirect", "SCHILY.xattr.trusted.overlay.opaque"] {
        let tar = layer(&[Member { pax: &[(name, b"/1/0")], ..file("a", b"x") }]);
        refused(&Image::new(&[tar], Packing::Gzip), "forge", |_| {});
    }
}

#[test]
fn a_manifest_that_is_not_the_pinned_one() {
    let env = need!("not_the_pinned_one", Env::new());
    let image = good();
    let pinned = sha256(b"another manifest");
    let server = Server::of(&image, |answers| {
        let answer = answers["/v2/bad/manifests/1"].clone();
        answers.insert(format!("/v2/bad/manifests/{pinned}"), answer);
    });
    env.refuses(&["pull", &format!("{}/bad@{pinned}", server.address)]);
}

#[test]
fn registries_that_refuse_or_are_not_there() {
    let env = need!("registries_that_refuse", Env::new());
    for (status, reason) in [(401, "podman login"), (403, "denies access"), (404, "not found"), (500, "500")] {
        let server = Server::of(&good(), |answers| {
            answers.insert("/v2/bad/manifests/1".to_owned(), Answer::status(status));
        });
        let said = env.refuses(&["pull", &server.name()]);
        assert!(said.contains(reason), "{said}");
    }
    // Nothing listens on the port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = env.refuses(&["pull", &format!("127.0.0.1:{port}/x:1")]);
    assert!(said.contains("cannot reach the registry"), "{said}");
}

#[test]
fn credentials_do_not_follow_a_challenge_into_our_surroundings() {
    let env = need!("credentials_do_not_follow", Env::new());
    std::fs::write(env.scratch.join("auth.json"), r#"{"auths": {}}"#).unwrap();
    let server = Server::of(&good(), |answers| {
        let mut answer = Answer::status(401);
        answer.headers.push(("WWW-Authenticate", "Bearer realm=\"http://169.254.169.254/token\"".to_owned()));
        answers.insert("/v2/bad/manifests/1".to_owned(), answer);
    });
    let said = env.refuses(&["pull", &server.name()]);
    assert!(said.contains("not a place for a token server"), "{said}");
    assert_eq!(server.asked().len(), 1, "nothing more is asked");
}

#[test]
fn names_that_no_registry_could_have() {
    let env = need!("names_that_no_registry", Env::new());
    for name in ["../../etc", "UPPER/case", "a b", "host/x@sha256:short", "user@host/x", "x:tag\r\nHost: evil", ""] {
        let said = env.refuses(&["pull", name]);
        assert!(!said.contains("\r\n"), "{said}");
    }
}

#[test]
fn a_full_disk() {
    let device = need!("a_full_disk", LoopDevice::new("ext4", 48));
    let registry = need!("a_full_disk", Registry::start());
    let env = need!("a_full_disk", Env::at(&device.store()));
    // Bytes that neither compress nor repeat, more than the file system holds.
    let mut state = 1_u64;
    let bulk: Vec<u8> = (0..8_000_000)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        })
        .collect();
    let too_much = registry.push(&Image::new(&[layer(&[file("bulk", &bulk)])], Packing::Plain), "big:1");
    let said = env.refuses(&["pull", &too_much]);
    assert!(said.contains("No space left") && said.contains("lstore gc"), "{said}");
    let good = registry.push(&good(), "good:1");
    env.ok(&["pull", "-q", &good]);
    env.ok(&["gc"]);
    env.assert_no_trace();
}

#[test]
fn archives_that_are_broken() {
    let env = need!("archives_that_are_broken", Env::new());
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(env.scratch.join(name), bytes).unwrap();
        name.to_owned()
    };
    let mut cut = layer(&[file("a", &[1; 5000])]);
    cut.truncate(3000);
    let cut = write("cut.tar", &cut);
    let text = write("text.tar", &b"this is no archive at all\n".repeat(100));
    let outside = layer(&[file("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":["../../x"]}]"#)]);
    let outside = write("outside.tar", &outside);
    for name in [cut.as_str(), &text, &outside, "missing.tar"] {
        env.refuses(&["import", name, "broken:1"]);
    }
}

#[test]
fn limits_are_told_by_name_and_can_be_set() {
    let env = need!("limits_are_told", Env::new());
    std::fs::write(env.scratch.join("three.tar"), layer(&[file("a", b"a"), file("b", b"b"), file("c", b"c")])).unwrap();
    let import = |limits: &str| {
        let mut command = env.command(crate::support::programs().join("lstore"));
        let output = command.env("LSTORE_LIMITS", limits).args(["import", "three.tar", "three"]).output().unwrap();
        (output.status.success(), crate::support::all(&output))
    };
    for (limits, reason) in [
        ("members=2", "the limit of 2 members; LSTORE_LIMITS"),
        ("metadata=300", "the limit of 300 bytes of names and metadata; LSTORE_LIMITS"),
        ("bytes=1000", "the limit of 1000 bytes; LSTORE_LIMITS"),
        ("size=1", "LSTORE_LIMITS: \"size=1\" is no limit"),
    ] {
        let (is_in, said) = import(limits);
        assert!(!is_in && said.contains(reason), "{limits}: {said}");
        env.assert_no_trace();
    }
    let (is_in, said) = import("members=3, metadata=1000");
    assert!(is_in, "{said}");
}
