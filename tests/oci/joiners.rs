//! Whoever joins a container is out of the reach of what runs in it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Bundle;
use super::bare::PROGRAM;
use crate::need;
use crate::support::{all, said};

/// How often a container is joined.
const JOINS: usize = 200;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(4);

/// A container whose process 1 lies in wait, with the power to trace whoever is in its user namespace.
struct Trap {
    bundle: Bundle,
    log: PathBuf,
    end: Instant,
}

impl Trap {
    fn set(is_root: bool) -> Result<Self, String> {
        let mut bundle = Bundle::bare(is_root)?;
        let told = bundle.folder.join("told");
        bundle.mount(json!({"destination": "/told", "type": "bind", "source": told, "options": ["rbind"]}));
        let powers = json!(["CAP_SYS_PTRACE"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": powers, "effective": powers, "permitted": powers});
        bundle.config["process"]["args"] = json!([PROGRAM, "race", "/told/log"]);
        bundle.write();
        bundle.ok(&["create", "box"]);
        bundle.ok(&["start", "box"]);
        let trap = Self { bundle, log: told.join("log"), end: Instant::now() + PATIENCE };
        while !trap.told().contains("begun") {
            trap.check_time();
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(trap)
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn check_time(&self) {
        assert!(Instant::now() < self.end, "it takes too long");
    }

    /// Goes by it many times.
    fn pass(&self, words: &[&str]) {
        for _ in 0..JOINS {
            let output = self.bundle.oci(words);
            assert!(output.status.success(), "{}", all(&output));
            self.check_time();
        }
    }
}

impl Drop for Trap {
    /// Whatever it has caught, it ends.
    fn drop(&mut self) {
        let _ = self.bundle.oci(&["delete", "--force", "box"]);
    }
}

/// Nobody was caught.
fn is_empty(trap: &Trap, who: &str) {
    let told = trap.told();
    let caught: BTreeSet<&str> = told.lines().filter(|line| *line != "begun").collect();
    assert!(caught.is_empty(), "{who}, {} times: {caught:#?}", told.lines().count() - 1);
}

/// Before the mend 2,493 lines in 200 joins, by who is not root: seized with all capabilities of the container's user namespace,
/// its memory opened, and the descriptors that the caller had inherited.
#[test]
fn s6_who_joins_a_container_is_not_caught_by_its_process_1() {
    for is_root in [false, true] {
        let trap = need!("s6_who_joins_a_container", Trap::set(is_root));
        trap.pass(&["exec", "box", PROGRAM, "nothing"]);
        is_empty(&trap, &format!("exec, by root: {is_root}"));
    }
}

/// As the containers of a pod do. Before the mend 42,047 lines in 200 starts, with the host's root among them.
#[test]
fn s6_a_container_that_joins_the_processes_of_another_is_not_caught_by_them() {
    for is_root in [false, true] {
        let mut trap = need!("s6_a_container_that_joins", Trap::set(is_root));
        let pid = trap.bundle.state("box")["pid"].to_string();
        let there = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
        let config = &mut trap.bundle.config;
        config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
            there("pid", "pid"), there("user", "user")]);
        config["linux"]["uidMappings"] = json!([]);
        config["linux"]["gidMappings"] = json!([]);
        config["process"]["args"] = json!([PROGRAM, "nothing"]);
        config["process"]["oomScoreAdj"] = json!(100);
        trap.bundle.write();
        trap.pass(&["run", "next"]);
        is_empty(&trap, &format!("run, by root: {is_root}"));
    }
}

/// Not even if the namespace that it is led into denies their choice for good.
#[test]
fn who_joins_a_container_leaves_the_callers_groups_outside() {
    for is_root in [false, true] {
        let mut bundle = need!("who_joins_leaves_the_groups", Bundle::bare(is_root));
        // By one with a further group.
        let oci = |bundle: &Bundle, words: &[&str]| {
            let whose = bundle.whose("--groups=4", words);
            let mut command = bundle.by_root(&whose[0]);
            command.args(&whose[1..]);
            bundle.output(command)
        };
        for process in ["wait", "nested"] {
            bundle.config["process"]["args"] = json!([PROGRAM, process]);
            bundle.write();
            said(&oci(&bundle, &["create", "box"]));
            said(&oci(&bundle, &["start", "box"]));
            let end = Instant::now() + PATIENCE;
            let file = format!("/proc/{}/setgroups", bundle.state("box")["pid"]);
            while process == "nested" && std::fs::read_to_string(&file).unwrap() != "deny\n" {
                assert!(Instant::now() < end, "process 1 makes no user namespace");
            }
            assert_eq!(
                said(&oci(&bundle, &["exec", "box", PROGRAM, "groups"])),
                "0\n",
                "{process}, by root: {is_root}"
            );
            bundle.ok(&["delete", "--force", "box"]);
        }
    }
}
