//! What a container was made from stays for as long as there is the container, whether it runs or not.

use std::path::PathBuf;

use crate::containers::debian;
use crate::need;
use crate::support::image::{Image, Packing, file, layer};
use crate::support::registry::Registry;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

fn roots(env: &Env) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(env.store.join("roots")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The name of the image goes to another one.
fn move_the_name(env: &Env, image: &str) {
    let tar = env.scratch.join("other.tar");
    std::fs::write(&tar, layer(&[file("other", b"other")])).unwrap();
    env.ok(&["import", "-q", tar.to_str().unwrap(), image]);
}

#[test]
fn a_stopped_container_keeps_the_image_that_lost_its_name() {
    let (env, image) = need!("a_stopped_container_keeps", debian());
    ok(&env, &["create", "--name", "box", &image, "cat", "/etc/debian_version"]);
    ok(&env, &["run", "--name", "used", &image, "sh", "-c", "echo own > /own"]);
    ok(&env, &["create", "--rm", "--name", "once", &image, "cat", "/etc/debian_version"]);
    move_the_name(&env, &image);
    env.ok(&["gc"]);
    env.ok(&["gc", "--cold"]);
    env.assert_no_trace();
    ok(&env, &["cp", "used:/own", "own"]);
    assert_eq!(std::fs::read_to_string(env.scratch.join("own")).unwrap(), "own\n");
    ok(&env, &["cp", "used:/etc/debian_version", "version"]);
    ok(&env, &["export", "-o", "box.tar", "box"]);
    for name in ["box", "once"] {
        assert!(ok(&env, &["start", "-a", name]).starts_with("12"), "{name}");
    }
    ok(&env, &["rm", "box", "used"]);
    assert_eq!(roots(&env), Vec::<PathBuf>::new());
    env.ok(&["gc"]);
    let layers = std::fs::read_dir(env.store.join("layers")).unwrap().count();
    assert_eq!(layers, 1, "with its last container the image goes");
}

#[test]
fn an_image_in_use_is_removed_by_force_alone_and_then_with_its_containers() {
    let (env, image) = need!("an_image_in_use", debian());
    ok(&env, &["create", "--name", "rests", &image, "true"]);
    ok(&env, &["run", "-d", "--name", "runs", &image, "sleep", "600"]);
    ok(&env, &["run", "-d", "--rm", "--name", "once", &image, "sleep", "600"]);
    ok(&env, &["rename", "rests", "renamed"]);
    let id = env.json(&["inspect", &image])[0]["Id"].as_str().unwrap().to_owned();
    for name in [image.as_str(), &id] {
        let refused = env.refuses(&["rmi", name]);
        for container in ["container renamed", "container runs", "container once"] {
            assert!(refused.contains(container), "{refused}");
        }
    }
    env.refuses(&["rmi", "-a"]);
    env.ok(&["tag", &image, "further:1"]);
    env.ok(&["rmi", &image]);
    let another = env.scratch.join("another.tar");
    std::fs::write(&another, layer(&[file("a", b"another")])).unwrap();
    env.ok(&["import", "-q", another.to_str().unwrap(), "another:1"]);
    let told = env.lstore(&["rmi", "-a"]);
    assert!(!told.status.success() && all(&told).contains("container runs"), "{}", all(&told));
    assert!(!env.lstore(&["inspect", "another:1"]).status.success(), "the others go all the same");
    assert_eq!(ok(&env, &["ps", "-aq"]).lines().count(), 3);

    env.ok(&["tag", "further:1", "last:1"]);
    env.ok(&["rmi", "-f", "further:1", "last:1"]);
    assert_eq!(ok(&env, &["ps", "-aq"]), "");
    assert_eq!(roots(&env), Vec::<PathBuf>::new());
    env.ok(&["gc"]);
    assert_eq!(env.pool_files(), 0);
    env.assert_no_trace();
}

#[test]
fn containers_of_versions_without_roots_get_theirs() {
    let (env, image) = need!("containers_of_versions_without_roots", debian());
    for name in ["one", "two"] {
        ok(&env, &["create", "--name", name, &image, "cat", "/etc/debian_version"]);
    }
    // As those versions left it.
    std::fs::remove_dir_all(env.store.join("roots")).unwrap();
    let refused = env.refuses(&["rmi", &image]);
    assert!(refused.contains("container one") && refused.contains("container two"), "{refused}");
    std::fs::remove_dir_all(env.store.join("roots")).unwrap();
    move_the_name(&env, &image);
    let told = env.json(&["gc", "-n", "--format", "json"]);
    assert_eq!((&told["Images"], roots(&env).len()), (&0.into(), 0), "{told}");
    env.ok(&["gc"]);
    assert_eq!(roots(&env).len(), 2);
    assert!(ok(&env, &["start", "-a", "one"]).starts_with("12"));
    // Torn by a power cut: written again.
    for root in roots(&env) {
        std::fs::write(root, "").unwrap();
    }
    env.ok(&["gc"]);
    assert!(ok(&env, &["start", "-a", "two"]).starts_with("12"));
}

#[test]
fn a_root_without_its_container_is_swept_and_nothing_else() {
    let (env, image) = need!("a_root_without_its_container", debian());
    let id = ok(&env, &["create", "--name", "gone", &image, "true"]);
    let other = ok(&env, &["create", "--name", "stays", &image, "true"]);
    let shown = |id: &str| env.store.join("roots").join(format!("container-{}", id.trim()));
    assert!(shown(&id).exists());
    // As when the removal was killed before its last step; and what is none of the store's.
    env.ok(&["unshare", "rm", "-rf", env.store.join("containers/gone").to_str().unwrap()]);
    let foreign = env.store.join("roots/thesis");
    std::fs::write(&foreign, "mine").unwrap();
    std::fs::write(env.store.join(format!("roots/container-{}.77.new", id.trim())), "lstore ro").unwrap();
    env.ok(&["gc"]);
    let mut left = roots(&env);
    left.sort();
    assert_eq!(left, [shown(&other), foreign]);
    let failed = env.lrun(&["run", "--name", "fails", &image, "/no/such/command"]);
    assert_eq!(failed.status.code(), Some(127), "{}", all(&failed));
    assert_eq!(roots(&env).len(), 2, "a container that never ran leaves nothing");
}

#[test]
fn the_image_that_is_removed_while_a_container_is_made_is_kept_or_missed() {
    let registry = need!("removed_while_a_container_is_made", Registry::start());
    let env = need!("removed_while_a_container_is_made", Env::new());
    let name = registry.push(&Image::new(&[layer(&[file("a", b"x")])], Packing::Gzip), "raced:1");
    for round in 0..20 {
        env.ok(&["pull", "-q", &name]);
        let create = env.spawn("lrun", &["create", "--pull=never", "--name", "box", &name, "/a"]);
        let remove = env.spawn("lstore", &["rmi", &name]);
        let collect = env.spawn("lstore", &["gc"]);
        let [create, remove, collect] = [create, remove, collect].map(|child| child.wait_with_output().unwrap());
        assert!(collect.status.success(), "{round}: {}", all(&collect));
        assert!(create.status.success() != remove.status.success(), "{round}: {} {}", all(&create), all(&remove));
        env.ok(&["gc"]);
        if create.status.success() {
            ok(&env, &["cp", "box:/a", "a"]);
            ok(&env, &["rm", "box"]);
        } else {
            assert_eq!(env.pool_files(), 0, "{round}");
        }
        assert_eq!(roots(&env), Vec::<PathBuf>::new(), "{round}");
        env.assert_no_trace();
    }
}
