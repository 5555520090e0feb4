//! Images as mounts: their files for a container to read, or to change for itself.

use serde_json::Value;

use crate::containers::{debian, inside};
use crate::need;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

/// Debian to run, and a small image to mount, with a file, a link out of a folder, and a folder of others' to write to.
fn images() -> Result<(Env, String), String> {
    let (env, image) = debian()?;
    let script = "mkdir -p i/sub i/tmp; echo one > i/f; echo two > i/sub/g; ln -s ../../f i/sub/up; ln -s /sub i/abs
        chmod 1777 i/tmp; chmod 711 i; chmod 4755 i/f; tar -C i --owner=0 --group=33 --numeric-owner -cf i.tar .
        lstore import -q i.tar data:1";
    said(&env.command("sh").args(["-ec", script]).output().unwrap());
    Ok((env, image))
}

#[test]
fn an_image_is_mounted_read_only_or_with_changes_of_the_container() {
    let (env, image) = need!("an_image_is_mounted", images());
    let see = |options: &str, script: &str| {
        let mount = format!("type=image,source=data:1,destination=/i{options}");
        inside(&env, &image, &["--mount", &mount], script)
    };
    let script =
        "stat -c '%a %U:%G' /i /i/f; cat /i/f; touch /i/x 2>&1; grep -o ' /i ro,nosuid,nodev' /proc/self/mountinfo";
    let told = "711 root:www-data\n4755 root:www-data\none\ntouch: cannot touch '/i/x': Read-only file system\n \
                /i ro,nosuid,nodev\n";
    assert_eq!(see("", script), told);
    assert_eq!(see(",rw=true", "echo more >> /i/f; rm -r /i/sub; cat /i/f; ls /i"), "one\nmore\nabs\nf\ntmp\n");
    // A part: a folder, a file, and by links, which lead nowhere but into the image.
    assert_eq!(see(",subpath=/sub", "cat /i/g; ls /i"), "two\ng\nup\n");
    assert_eq!(see(",subpath=sub/up", "cat /i"), "one\n");
    assert_eq!(see(",subpath=abs,readwrite=true", "echo 3 > /i/g; cat /i/g"), "3\n");
    assert_eq!(see(",subpath=../../../..", "ls /i"), "abs\nf\nsub\ntmp\n");
    let keep = ["--userns", "keep-id", "--mount", "type=image,src=data:1,dst=/i,rw=true"];
    let script = "stat -c %U:%G /i /i/f; touch /i/tmp/mine; stat -c %U /i/tmp/mine; touch /i/x 2>/dev/null || echo no";
    assert_eq!(inside(&env, &image, &keep, script), "root:www-data\nroot:www-data\nlstest\nno\n");

    // Whoever may mount can take the attribute off, and still changes nothing that another sees.
    let power = ["--privileged", "--mount", "type=image,src=data:1,dst=/i"];
    let script = "mount -o remount,rw /i && echo evil > /i/f && echo evil >> /i/sub/g && cat /i/f";
    for placement in [&[][..], &["--placement", "hardlink"]] {
        let words = [placement, &["run", "--rm"], &power, &[&image, "sh", "-c", script]].concat();
        assert_eq!(ok(&env, &words), "evil\n", "{placement:?}");
        assert_eq!(see("", "cat /i/f /i/sub/g"), "one\ntwo\n", "{placement:?}");
    }
    env.ok(&["fsck"]);

    for (mount, why) in [
        ("type=image,source=data:1,dst=/i,subpath=none", "none of the image"),
        ("type=image,source=nobody:1,dst=/i", "nobody:1: image not known"),
        ("type=image,source=data:1,dst=/i,U", "unknown option"),
    ] {
        let output = env.lrun(&["run", "--rm", "--pull", "never", "--mount", mount, &image, "true"]);
        assert_eq!((output.status.code(), all(&output).contains(why)), (Some(125), true), "{}", all(&output));
    }
    assert_eq!(std::fs::read_dir(env.store.join("containers")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn changes_of_a_mounted_image_stay_as_long_as_its_container() {
    let (env, image) = need!("changes_of_a_mounted_image", images());
    let script = "echo again >> /i/f; echo own >> /j/f; cat /i/f; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let mounts = ["--mount", "type=image,source=data:1,dst=/i,rw=true", "--mount", "type=image,src=data:1,dst=/j,rw"];
    ok(&env, &[&["create", "--name", "box"], &mounts[..], &[&image, "sh", "-c", script]].concat());
    ok(&env, &["cp", "box:/i/sub/g", "out"]);
    ok(&env, &["cp", "out", "box:/i/new"]);
    let shown: Value = serde_json::from_str(&ok(&env, &["inspect", "box"])).unwrap();
    let of = |name: &str| shown[0]["Mounts"][0][name].clone();
    assert_eq!((of("Type"), of("Source"), of("Destination")), ("image".into(), "data:1".into(), "/i".into()));
    assert_eq!((of("RW"), of("SubPath")), (true.into(), Value::Null));

    ok(&env, &["start", "box"]);
    ok(&env, &["rename", "box", "other"]);
    ok(&env, &["restart", "other"]);
    // What is mounted is in use as well, and stays whole when its name goes to another image.
    let refused = env.refuses(&["rmi", "data:1"]);
    assert!(refused.contains("container other"), "{refused}");
    env.ok(&["tag", &image, "data:1"]);
    env.ok(&["gc", "--checkouts"]);
    assert_eq!(ok(&env, &["exec", "other", "cat", "/i/new", "/i/sub/g"]), "two\ntwo\n");
    assert_eq!(ok(&env, &["exec", "other", "cat", "/i/f"]), "one\nagain\nagain\n");
    assert_eq!(ok(&env, &["exec", "other", "cat", "/j/f"]), "one\nown\nown\n", "each mount has its own");
    assert_eq!(ok(&env, &["diff", "other"]), "", "they are no changes of the container's own image");
    ok(&env, &["stop", "other"]);
    env.ok(&["gc", "--checkouts"]);
    ok(&env, &["start", "other"]);
    assert_eq!(ok(&env, &["exec", "other", "cat", "/i/sub/g"]), "two\n");
    ok(&env, &["rm", "-f", "other"]);
    assert_eq!(std::fs::read_dir(env.store.join("containers")).unwrap().count(), 0);
}
