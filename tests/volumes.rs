//! Volumes: directories that outlive containers, by name or of one container alone.

use serde_json::Value;

use crate::background::eventually;
use crate::containers::{debian, inside};
use crate::need;
use crate::support::{Env, all, said};

fn names(env: &Env) -> Vec<String> {
    said(&env.lrun(&["volume", "ls", "-q"])).lines().map(str::to_owned).collect()
}

/// The code, and the one line that says why.
fn refused(env: &Env, words: &[&str]) -> (i32, String) {
    let output = env.lrun(words);
    let told = all(&output);
    assert_eq!(told.lines().count(), 1, "{words:?}: {told}");
    (output.status.code().unwrap(), told)
}

#[test]
fn a_named_volume_begins_with_the_images_files_and_outlives_containers() {
    let (env, image) = need!("a_named_volume", debian());
    said(&env.lrun(&["create", "--name", "first", "-v", "early:/etc/apt", &image, "true"]));
    said(&env.lrun(&["start", "-a", "first"]));
    let look = "cd $1 && find . -printf '%p %y %m %U:%G %l %s %T@\\n' | grep -v '^. ' | sort";
    let shown = |at: &str, flags: &[&str]| {
        said(&env.lrun(&[&["run", "--rm"], flags, &[&image, "sh", "-c", look, "sh", at]].concat()))
    };
    assert_eq!(shown("/v", &["-v", "early:/v"]), shown("/etc/apt", &[]), "what the image has there");
    assert_eq!(shown("/v", &["-v", "new:/v"]), "");
    assert_eq!(shown("/etc/apt", &["-v", "bare:/etc/apt:nocopy"]), "", "nocopy");
    assert_eq!(shown("/etc/apt", &["-v", "new:/etc/apt"]), "", "it is not new any more");
    assert_eq!(inside(&env, &image, &["-v", "mail:/var/mail"], "stat -c '%a %U:%G' /var/mail"), "2775 root:mail\n");

    let write = "echo kept > /v/file && chown 33:33 /v/file";
    inside(&env, &image, &["--mount", "type=volume,source=data,target=/v"], write);
    let read = "stat -c %u /v/file; cat /v/file; touch /v/x";
    let again = env.lrun(&["run", "--rm", "-v", "data:/v:ro", &image, "sh", "-c", read]);
    assert!(String::from_utf8_lossy(&again.stdout) == "33\nkept\n" && !again.status.success(), "{}", all(&again));
    assert_eq!(names(&env), ["bare", "data", "early", "mail", "new"]);
    let (code, told) = refused(&env, &["volume", "rm", "early"]);
    assert!(code == 2 && told.contains("used by: first"), "{told}");
    said(&env.lrun(&["rm", "-v", "first"]));
    assert_eq!(
        said(&env.lrun(&["volume", "rm", "early", "mail"])),
        "early\nmail\n",
        "one with a name stays until then"
    );
    assert_eq!(refused(&env, &["volume", "rm", "early"]).0, 1);

    // Storage knows them: collection leaves them, and they are counted.
    env.ok(&["gc", "--checkouts"]);
    let usage = env.json(&["du", "--format", "json"]);
    let disk = said(&env.command("lstore").args(["unshare", "du", "-s", "-B1"]).arg(&env.store).output().unwrap());
    assert!(usage["Volumes"].as_u64().unwrap() >= 4096);
    assert_eq!(usage["Total"].to_string(), disk.split_whitespace().next().unwrap());
    assert_eq!(inside(&env, &image, &["-v", "data:/v"], "cat /v/file"), "kept\n");
    env.ok(&["fsck"]);
}

#[test]
fn a_volume_without_a_name_goes_with_its_container() {
    let (env, _) = need!("a_volume_without_a_name", debian());
    env.ok(&["import", "-q", "-c", "VOLUME [\"/var/cache\", \"/srv\"]", "debian.tar", "vol:1"]);
    let image = "vol:1";
    assert_eq!(inside(&env, image, &["-v", "/x"], "ls -d /x /srv; ls -d /var/cache/apt"), "/srv\n/x\n/var/cache/apt\n");
    eventually("--rm", || names(&env).is_empty());
    assert!(!env.lrun(&["run", "--name", "bad", "-v", "/x", image, "no-such-command"]).status.success());
    eventually("a start that failed", || names(&env).is_empty());

    said(&env.lrun(&[
        "create",
        "--name",
        "box",
        "-v",
        "data:/srv",
        "-v",
        "/x",
        image,
        "sh",
        "-c",
        "ls /x; echo 1 > /x/f",
    ]));
    assert_eq!(names(&env).len(), 3, "the caller's mount takes the place of the image's");
    let mounts: Value = serde_json::from_str(&said(&env.lrun(&["inspect", "box"]))).unwrap();
    assert_eq!(mounts[0]["Mounts"][0]["Name"], "data");
    assert_eq!(mounts[0]["Mounts"][0]["Type"], "volume");
    assert_eq!(said(&env.lrun(&["start", "-a", "box"])), "");
    assert_eq!(said(&env.lrun(&["start", "-a", "box"])), "f\n", "it is the container's until that is removed");
    said(&env.lrun(&["rm", "box"]));
    assert_eq!(names(&env).len(), 3, "rm alone leaves volumes");
    said(&env.lrun(&["create", "--name", "box", "-v", "/x", image, "true"]));
    assert_eq!(names(&env).len(), 6);
    said(&env.lrun(&["rm", "--volumes", "box"]));
    assert_eq!(names(&env).len(), 3);
    let pruned = said(&env.lrun(&["volume", "prune", "-f", "--filter", "anonymous=true"]));
    assert_eq!((pruned.lines().count(), names(&env)), (2, vec!["data".to_owned()]));
}

#[test]
fn volumes_are_made_listed_and_looked_at_as_by_podman() {
    let (env, image) = need!("volumes_are_made", debian());
    assert_eq!(said(&env.lrun(&["volume", "create", "--label", "a=1", "one"])), "one\n");
    assert_eq!(refused(&env, &["volume", "create", "one"]).0, 125);
    assert_eq!(said(&env.lrun(&["volume", "create", "--ignore", "one"])), "one\n");
    assert_eq!(said(&env.lrun(&["volume", "create"])).trim().len(), 64);
    assert_eq!(said(&env.lrun(&["volume", "ls", "--filter", "label=a"])), "DRIVER      VOLUME NAME\nlocal       one\n");
    let template = ["volume", "inspect", "--format", "{{.Name}} {{.Anonymous}} {{.Labels.a}} {{.Mountpoint}}", "one"];
    let data = env.store.join("volumes/one/data");
    assert_eq!(said(&env.lrun(&template)), format!("one false 1 {}\n", data.display()));
    assert_eq!(env.lrun(&["volume", "exists", "one"]).status.code(), Some(0));
    assert_eq!(env.lrun(&["volume", "exists", "two"]).status.code(), Some(1));
    said(&env.lrun(&["create", "--name", "box", "-v", "one:/v", &image, "true"]));
    let list = |flags: &[&str]| said(&env.lrun(&[&["volume", "ls", "-q"], flags].concat())).lines().count();
    assert_eq!((list(&["--filter", "dangling=true"]), list(&["--filter", "dangling=false"])), (1, 1));
    assert_eq!(said(&env.lrun(&["volume", "prune", "-f"])).lines().count(), 1);
    assert_eq!(names(&env), ["one"]);
    for wrong in [
        &["run", "--rm", "-v", "a/b:/x", &image, "true"][..],
        &["run", "--rm", "-v", "one:/x:rslave", &image, "true"],
        &["run", "--rm", "--rootfs", "-v", "/x", "/", "true"],
        &["volume", "inspect", "../containers"],
        &["volume", "rm", "nobody"],
    ] {
        refused_or_listed(&env, wrong);
    }
    assert_eq!(names(&env), ["one"]);
}

fn refused_or_listed(env: &Env, words: &[&str]) {
    let output = env.lrun(words);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).lines().count() == 1,
        "{}",
        all(&output)
    );
}

#[test]
fn an_image_gets_no_volume_out_of_bounds() {
    let env = need!("an_image_gets_no_volume", Env::new());
    // An image that has links where it declares volumes, and one that wants to cover /proc.
    let victim = env.scratch.join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("secret"), "secret").unwrap();
    let make = format!(
        "mkdir t && cd t && cp $(command -v lrun) runner && ln -s {} out && ln -s /proc kernel && mkdir in && \
         ln -s {}/secret in/link && tar -cf ../t.tar . && cd .. && \
         for at in /out /kernel /proc/sys /in; do \
           lstore import -q -c 'CMD [\"/runner\", \"--version\"]' -c \"VOLUME $at\" t.tar t$at:1; done",
        victim.display(),
        victim.display()
    );
    said(&env.command("sh").args(["-c", &make]).output().unwrap());
    for (image, why) in
        [("t/out:1", "mount /out"), ("t/kernel:1", "symbolic link to /proc"), ("t/proc/sys:1", "declares a volume")]
    {
        let (code, told) = refused(&env, &["run", "--rm", image]);
        assert!(code == 125 && told.contains(why), "{told}");
    }
    said(&env.lrun(&["create", "--name", "in", "t/in:1"]));
    said(&env.lrun(&["start", "-a", "in"]));
    let volume = env.store.join("volumes").join(&names(&env)[0]).join("data");
    assert_eq!(std::fs::read_link(volume.join("link")).unwrap(), victim.join("secret"), "copied as a link");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1);
    said(&env.lrun(&["rm", "-v", "in"]));
    eventually("the volumes", || names(&env).is_empty());
}

#[test]
fn a_volume_is_removed_with_the_containers_that_use_it_where_that_is_asked_for() {
    let (env, image) = need!("a_volume_is_removed_with", debian());
    said(&env.lrun(&["run", "-d", "--name", "user", "-v", "data:/d", &image, "sleep", "1000"]));
    said(&env.lrun(&["create", "--name", "maker", "-v", "data:/d", &image, "true"]));
    said(&env.lrun(&["create", "--name", "other", &image, "true"]));
    let refused = env.lrun(&["volume", "rm", "data"]);
    assert_eq!((refused.status.code(), all(&refused).contains("being used by")), (Some(2), true));
    assert_eq!(said(&env.lrun(&["volume", "rm", "--force", "-t", "0", "data", "nobody"])), "data\n");
    assert_eq!(said(&env.lrun(&["ps", "-a", "--format", "{{.Names}}"])), "other\n");
    assert_eq!(env.lrun(&["volume", "exists", "data"]).status.code(), Some(1));
    said(&env.lrun(&["rm", "other"]));
}

#[test]
fn what_is_mounted_can_be_given_to_the_user() {
    let (env, image) = need!("what_is_mounted_can_be_given", debian());
    std::fs::create_dir_all(env.scratch.join("own/deep")).unwrap();
    std::fs::write(env.scratch.join("own/deep/f"), "f").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", env.scratch.join("own/link")).unwrap();
    let user = env.user.clone().unwrap();
    for path in ["own", "own/deep", "own/deep/f"] {
        std::os::unix::fs::chown(env.scratch.join(path), Some(user.uid), Some(user.gid)).unwrap();
    }
    std::os::unix::fs::lchown(env.scratch.join("own/link"), Some(user.uid), Some(user.gid)).unwrap();
    let own = env.scratch.join("own");
    let script =
        "stat -c '%U:%G' /own /own/deep/f /own/link /data /mem; stat -c %U /etc/passwd; touch /own/new /data/new";
    let bind = format!("{}:/own:U", own.display());
    let flags =
        ["-u", "www-data", "-v", &bind, "--mount", "type=volume,src=data,dst=/data,U=true", "--tmpfs", "/mem:U"];
    let told = inside(&env, &image, &flags, script);
    assert_eq!(told, format!("{}root\n", "www-data:www-data\n".repeat(5)));
    for (flag, reason) in [
        (format!("{}:/own:ro,U", own.display()), "contradicts"),
        ("/usr:/own:U".to_owned(), "a folder of the system is not given away"),
        ("/usr/share:/own:U".to_owned(), "not yours to give away"),
        (format!("{}:/own:idmap", own.display()), "only root has"),
    ] {
        let output = env.lrun(&["run", "--rm", "-v", &flag, &image, "true"]);
        assert_eq!(
            (output.status.code(), all(&output).contains(reason)),
            (Some(125), true),
            "{flag}: {}",
            all(&output)
        );
    }
}
