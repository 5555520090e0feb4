//! Run by root everything works too, on root's own store.

use crate::need;
use crate::support::image::{Image, Packing, debian, everything};
use crate::support::registry::Registry;
use crate::support::{Env, all, said};

#[test]
fn root_pulls_runs_and_collects() {
    let registry = need!("root_pulls_runs", Registry::start());
    let env = need!("root_pulls_runs", Env::root());
    let tar = need!("root_pulls_runs", debian());
    let name = registry.push(&Image::new(&[std::fs::read(tar).unwrap()], Packing::Zstd), "debian:12");
    env.ok(&["pull", "-q", &name]);
    let output = env.lrun(&[
        "run",
        "--rm",
        &name,
        "sh",
        "-c",
        "cat /proc/self/uid_map; grep CapEff /proc/1/status; ls /sys/class/net",
    ]);
    let told = said(&output);
    assert!(told.contains("4294967295") && told.contains("00000000a80425fb") && told.ends_with("lo\n"), "{told}");
    // Root can make devices; in a container's root they open nothing.
    let device = env.lrun(&["run", "--rm", &name, "sh", "-c", "mknod /zero c 1 5 && head -c 1 /zero"]);
    assert!(!device.status.success(), "{}", all(&device));
    env.ok(&["fsck"]);
    env.ok(&["rmi", "-a"]);
    env.ok(&["gc"]);
    assert_eq!(env.pool_files(), 0);
}

#[test]
fn root_keeps_devices_of_an_image() {
    let registry = need!("root_keeps_devices", Registry::start());
    let env = need!("root_keeps_devices", Env::root());
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "everything:1");
    let output = env.lstore(&["pull", &name]);
    assert!(output.status.success() && !all(&output).contains("device files were left out"), "{}", all(&output));
}
