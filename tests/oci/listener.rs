//! Calls that a listener of the caller's decides.

use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};

use super::{for_both, received};
use crate::support::{all, run};

#[test]
fn calls_are_left_to_the_listener_of_the_bundle() {
    for_both("calls_are_left_to_the_listener_of_the_bundle", |mut bundle| {
        let path = bundle.folder.join("listener");
        let listener = UnixListener::bind(&path).unwrap();
        run(Command::new("chmod").arg("777").arg(&path)).unwrap();
        // Also what would send the descriptor.
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "listenerMetadata": "who", "syscalls": [
                {"names": ["mkdir", "mkdirat", "sendmsg", "sendto", "wait4"], "action": "SCMP_ACT_NOTIFY"}]});
        // One that is closed answers that there is no such call.
        let agent = std::thread::spawn(move || {
            let one = || received(&listener.accept().unwrap().0.into()).0;
            [(); 2].map(|()| serde_json::from_slice::<Value>(&one()).unwrap())
        });
        bundle.shell("exec sleep 1000");
        bundle.write();
        bundle.ok(&["create", "box"]);
        bundle.ok(&["start", "box"]);
        let told = bundle.oci(&["exec", "box", "mkdir", "/tmp/x"]);
        assert!(all(&told).contains("Function not implemented"), "{}", all(&told));
        let [first, second] = agent.join().unwrap();
        assert_eq!(first["pid"], bundle.state("box")["pid"]);
        assert_eq!((&first["fds"], &first["metadata"]), (&json!(["seccompFd"]), &json!("who")), "{first}");
        assert_eq!((&first["state"]["id"], &second["state"]["status"]), (&json!("box"), &json!("running")));
        assert_ne!(second["pid"], first["pid"], "a command that joins has a filter of its own");
        // Nobody listens any more.
        let told = bundle.oci(&["exec", "box", "true"]);
        assert!(!told.status.success() && all(&told).contains("listenerPath"), "{}", all(&told));
        bundle.ok(&["delete", "--force", "box"]);
    });
}
