//! The process that keeps the caller's ids mapped: how a container could have itself taken for it.

use crate::background::eventually;
use crate::containers::debian;
use crate::need;
use crate::support::said;

#[test]
fn a_record_that_names_a_containers_process_is_not_believed() {
    let (env, image) = need!("a_record_that_names", debian());
    // In memory, as the runtime directory of a login is: there the number of a process was believed alone.
    let runtime = tempfile::Builder::new().prefix("lstest-").tempdir_in("/dev/shm").unwrap();
    let user = env.user.clone().unwrap();
    std::os::unix::fs::chown(runtime.path(), Some(user.uid), Some(user.gid)).unwrap();
    let lrun =
        |words: &[&str]| env.command("lrun").env("XDG_RUNTIME_DIR", runtime.path()).args(words).output().unwrap();
    let record = runtime.path().join("lrun/holder");
    // In a user namespace that it makes, with the very maps that a holder has.
    let (uid, gid) = (user.uid, user.gid);
    let script = format!(
        "unshare -U sleep 1000 & sleep 0.5; printf '{uid} 0 1\\n2000000 1 65536\\n' > /u; printf '{gid} 0 1\\n2000000 1 65536\\n' > /g; \
         cat /u > /proc/$!/uid_map && cat /g > /proc/$!/gid_map && echo made; wait"
    );
    let words = ["run", "-d", "--name", "box", "--security-opt", "seccomp=unconfined", &image, "bash", "-c", &script];
    said(&lrun(&words));
    eventually("the maps", || said(&lrun(&["logs", "box"])) == "made\n");
    let inspect = said(&lrun(&["inspect", "--format", "{{.State.Pid}}", "box"]));
    let first: i32 = inspect.trim().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    let child: i32 = children.split_ascii_whitespace().next().unwrap().parse().unwrap();
    let text = std::fs::read_to_string(&record).unwrap();
    let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
    let holder: i32 = lines[1].parse().unwrap();
    let map = std::fs::read_to_string(format!("/proc/{child}/uid_map")).unwrap();
    let same: Vec<_> = map.split_ascii_whitespace().collect();
    assert_eq!(same, [&*uid.to_string(), &*uid.to_string(), "1", "2000000", "2000000", "65536"], "as the holder's");
    for planted in [first, child] {
        let number = |id: i32| {
            let pidfd = rustix::process::pidfd_open(
                rustix::process::Pid::from_raw(id).unwrap(),
                rustix::process::PidfdFlags::empty(),
            );
            rustix::fs::fstat(pidfd.unwrap()).unwrap().st_ino
        };
        // By the number that tells it from all others, and without.
        for unique in [number(planted), 0] {
            lines[1] = planted.to_string();
            lines[2] = unique.to_string();
            std::fs::write(&record, lines.join("\n") + "\n").unwrap();
            std::os::unix::fs::chown(&record, Some(user.uid), Some(user.gid)).unwrap();
            let told = said(&lrun(&["run", "--rm", &image, "cat", "/proc/self/uid_map"]));
            let map: Vec<_> = told.split_ascii_whitespace().collect();
            assert_eq!(map, ["0", &*uid.to_string(), "1", "1", "2000000", "65536"]);
            let now = std::fs::read_to_string(&record).unwrap();
            let now: i32 = now.lines().nth(1).unwrap().parse().unwrap();
            assert!(now != planted && now != holder, "{now} is another holder than {planted}");
        }
    }
    said(&lrun(&["rm", "-f", "-t", "0", "box"]));
    std::fs::remove_file(&record).unwrap();
}
