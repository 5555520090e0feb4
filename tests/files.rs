//! The files of containers: copied in and out, told apart from the image's, exported, committed.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::background::eventually;
use crate::containers::debian;
use crate::need;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

/// The one line that says why.
fn refused(env: &Env, words: &[&str]) -> String {
    let output = env.lrun(words);
    assert_eq!(output.status.code(), Some(125), "{words:?}: {}", all(&output));
    assert_eq!(all(&output).lines().count(), 1, "{words:?}: {}", all(&output));
    all(&output)
}

/// A script of the user's, in the scratch folder.
fn sh(env: &Env, script: &str) -> String {
    said(&env.command("sh").args(["-ec", script]).output().unwrap())
}

#[test]
fn files_are_copied_as_by_podman_whether_the_container_runs_or_not() {
    let (env, image) = need!("files_are_copied", debian());
    sh(&env, "mkdir -p in/sub bound; echo one > in/f; echo two > in/sub/g; ln -s /etc/shadow in/link; chmod 750 in");
    let volume = format!("{}:/bound", env.scratch.join("bound").display());
    let sleep = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let flags = ["-v", "data:/data", "-v", &volume, "-w", "/srv", "-u", "www-data"];
    ok(&env, &[&["create", "--name", "box"][..], &flags, &[&image, "sh", "-c", sleep]].concat());
    for round in ["made", "running", "stopped"] {
        match round {
            "running" => drop(ok(&env, &["start", "box"])),
            "stopped" => drop(ok(&env, &["stop", "box"])),
            _ => {}
        }
        let to = |name: &str| format!("box:/opt/{round}-{name}");
        // As what is not there, into what is, and its contents.
        ok(&env, &["cp", "in", &to("as")]);
        ok(&env, &["cp", "in/", &to("as")]);
        ok(&env, &["cp", "in/sub/.", &to("as")]);
        ok(&env, &["cp", "in/f", &to("as/sub/h")]);
        ok(&env, &["cp", "in/f", &to("as/in/")]);
        ok(&env, &["cp", "in/f", "box:."]);
        ok(&env, &["cp", "--archive=false", "in/f", &to("mine")]);
        ok(&env, &["cp", "in/f", &format!("box:/data/{round}")]);
        ok(&env, &["cp", "in/f", &format!("box:/bound/{round}")]);
        assert_eq!(sh(&env, &format!("cat bound/{round}")), "one\n", "a bind is written to where it is");
        let _ = std::fs::remove_dir_all(env.scratch.join("out"));
        ok(&env, &["cp", &to("as"), "out"]);
        assert_eq!(
            sh(&env, "cd out; find . -printf '%p %m %u\\n' | sort; cat f sub/h g; readlink link"),
            ". 750 lstest\n./f 644 lstest\n./g 644 lstest\n./in 750 lstest\n./in/f 644 lstest\n./in/link 777 lstest\n\
             ./in/sub 755 lstest\n./in/sub/g 644 lstest\n./link 777 lstest\n./sub 755 lstest\n./sub/g 644 lstest\n\
             ./sub/h 644 lstest\none\none\ntwo\n/etc/shadow\n",
            "{round}"
        );
        ok(&env, &["cp", "box:f", "out/"]);
        ok(&env, &["cp", &format!("box:/data/{round}"), "out/volume"]);
        ok(&env, &["cp", "box:/etc/os-release", "out/os"]);
        assert!(sh(&env, "cat out/os out/volume").ends_with("one\n"), "a link as the source is followed");
        let mut wrongs = vec![
            (["box:/nobody", "out"], "nobody"),
            (["box:/etc/passwd/.", "out"], "directory"),
            (["box:/etc", "out/f"], "no directory"),
            (["in/f", "box:/no/such/place"], "No such file"),
            (["in/f", "box:/no-such-place/"], "No such file"),
            (["in", "box:/etc/passwd"], "no directory"),
            (["in/nobody", "box:/"], "in/nobody"),
            (["in/f", "out"], "must be a file of a container"),
        ];
        if round == "running" {
            wrongs.push((["box:/dev/null", "out"], "neither"));
        }
        for (wrong, why) in wrongs {
            let told = refused(&env, &["cp", wrong[0], wrong[1]]);
            assert!(told.contains(why), "{wrong:?}: {told}");
        }
    }
    ok(&env, &["start", "box"]);
    let owners = "stat -c '%n %U %G' /opt/running-as/f /opt/stopped-as/sub /opt/made-mine /srv/f; ls /data";
    assert_eq!(
        ok(&env, &["exec", "box", "sh", "-c", owners]),
        "/opt/running-as/f www-data www-data\n/opt/stopped-as/sub www-data www-data\n/opt/made-mine root root\n\
         /srv/f www-data www-data\nmade\nrunning\nstopped\n"
    );
    ok(&env, &["rm", "-f", "-t", "0", "box"]);

    // Where the caller is somebody else inside, the copies are still the caller's; and files of the caller's are open to
    // nobody but the caller, also where their group does not exist inside.
    sh(&env, "mkdir -m 700 own own/sub; echo own > own/sub/f; chmod 600 own/sub/f");
    for path in ["own", "own/sub", "own/sub/f"] {
        std::os::unix::fs::chown(env.scratch.join(path), None, Some(9)).unwrap();
    }
    ok(&env, &["create", "--name", "keep", "--userns", "keep-id", &image, "sleep", "1000"]);
    for round in ["resting", "running"] {
        ok(&env, &["cp", "in/f", "keep:/f"]);
        ok(&env, &["cp", "keep:/f", &format!("own/sub/{round}")]);
        let copy = std::fs::metadata(env.scratch.join("own/sub").join(round)).unwrap();
        assert_eq!((copy.uid(), copy.mode() & 0o7777), (env.user.clone().unwrap().uid, 0o644), "{round}");
        ok(&env, &["cp", "own", &format!("keep:/{round}")]);
        ok(&env, &["cp", "keep:/etc/apt", "own/sub"]);
        ok(&env, &["start", "keep"]);
        let look = format!("find /{round} ! -user lstest -o ! -group lstest; cat /{round}/sub/f");
        assert_eq!(ok(&env, &["exec", "-u", "0", "keep", "sh", "-c", &look]), "own\n", "{round}");
    }
    assert_eq!(sh(&env, "find own/sub/apt ! -user lstest; ls own/sub/apt | wc -l"), "7\n");
    ok(&env, &["rm", "-f", "-t", "0", "keep"]);
}

#[test]
fn a_container_that_swaps_links_gets_nothing_of_the_hosts_copied_or_changed() {
    let (env, image) = need!("a_container_that_swaps_links", debian());
    let victim = env.scratch.join("victim");
    sh(&env, "mkdir victim out; echo secret > victim/f; echo mine > mine");
    std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o777)).unwrap();
    // /d/x is now a directory, now a link to a path of the host's; /d/f a file, a link, a FIFO, a set-id file.
    let script = format!(
        "mkdir -p /d/y /d/z && cd /d && echo inner > y/f && mkfifo z/pipe && touch ready; while :; do \
           mv -T y x 2>/dev/null; ln -sfn {0} w; mv -T x y 2>/dev/null; mv -T w x 2>/dev/null; rm -f x; \
           ln -sf {0}/f f; rm -f f; mkfifo f; rm -f f; echo a > f; chmod 4755 f; done 2>/dev/null",
        victim.display()
    );
    ok(&env, &["run", "-d", "--rm", "--name", "evil", &image, "sh", "-c", &script]);
    eventually("it began", || env.lrun(&["cp", "evil:/d/ready", "out/ready"]).status.success());
    for _ in 0..12 {
        // Success or failure is the container's luck; what must not happen is below.
        for words in [["evil:/d/x/f", "out/f"], ["evil:/d", "out"], ["evil:/d/f", "out/g"], ["mine", "evil:/d/x/f"]] {
            let output = env.lrun(&["cp", words[0], words[1]]);
            assert!(matches!(output.status.code(), Some(0 | 125)), "{words:?}: {}", all(&output));
        }
        let copied = sh(&env, "find out -type f -exec cat {} +; find out -type f -perm /6000");
        assert!(!copied.contains("secret") && !copied.contains("out/"), "{copied}");
        assert_eq!(sh(&env, "cat victim/f; ls victim"), "secret\nf\n");
    }
    assert!(refused(&env, &["cp", "evil:/d/z/pipe", "out/pipe"]).contains("neither"));
    // A link that lies where the copy goes, perhaps since an earlier copy, is replaced and not written through.
    for to in ["out/", "out/passwd"] {
        let link = env.scratch.join("out/passwd");
        let _ = std::fs::remove_file(&link);
        symlink(victim.join("f"), &link).unwrap();
        ok(&env, &["cp", "evil:/etc/passwd", to]);
        assert_eq!(sh(&env, "cat victim/f; head -c 4 out/passwd"), "secret\nroot");
    }
    ok(&env, &["rm", "-f", "evil"]);
}

/// Changes of every kind over debian's files.
const CHANGES: &str = "cd / && echo new > /srv/new && echo more >> /etc/issue && rm /etc/issue.net && rm -r /etc/skel && \
    rm -r /var/mail && mkdir /var/mail && chmod 2775 /var/mail && rm -r /etc/apt && mkdir /etc/apt && echo x > /etc/apt/sources.list && \
    rm /etc/motd && mkdir /etc/motd && chown 33:34 /srv && chmod 700 /etc/hostname.d 2>/dev/null; \
    mkdir -p /opt/deep/er && ln /srv/new /opt/deep/er/hard && ln -s nowhere /opt/link && mkfifo /opt/fifo && \
    chmod 4711 /usr/bin/env && touch /opt/a && rm /opt/a && rm /usr/bin/mawk && echo y > /usr/bin/mawk && \
    truncate -s 5M /opt/hole && touch -d @5.25 /opt/deep && echo long > /opt/$(printf 'n%.0s' $(seq 200))";

#[test]
fn diff_tells_what_a_container_added_changed_and_deleted() {
    let (env, image) = need!("diff_tells", debian());
    ok(&env, &["run", "--name", "idle", "-v", "data:/data/here", "--tmpfs", "/t", &image, "true"]);
    assert_eq!(ok(&env, &["diff", "idle"]), "", "what the runner itself puts there is no change");
    ok(
        &env,
        &[
            "run",
            "--name",
            "box",
            "-v",
            "data:/data/here",
            &image,
            "sh",
            "-c",
            &format!("{CHANGES}; touch /data/here/f"),
        ],
    );
    let long = "n".repeat(200);
    let wanted = format!(
        "C /etc\nC /etc/apt\n{}C /etc/apt/sources.list\n{}C /etc/issue\nD /etc/issue.net\nC /etc/motd\nD /etc/skel\n\
         C /opt\nA /opt/deep\nA /opt/deep/er\nA /opt/deep/er/hard\nA /opt/fifo\nA /opt/hole\nA /opt/link\nA /opt/{long}\n\
         C /srv\nA /srv/new\nC /usr\nC /usr/bin\nC /usr/bin/env\nC /usr/bin/mawk\n",
        "D /etc/apt/apt.conf.d\nD /etc/apt/auth.conf.d\nD /etc/apt/keyrings\nD /etc/apt/preferences.d\n",
        "D /etc/apt/sources.list.d\nD /etc/apt/trusted.gpg.d\n",
    );
    let told = ok(&env, &["diff", "box"]);
    let told: Vec<&str> = told.lines().filter(|line| !line.starts_with("C /var")).collect();
    assert_eq!(told.join("\n") + "\n", wanted);
    let json: serde_json::Value = serde_json::from_str(&ok(&env, &["diff", "--format", "json", "box"])).unwrap();
    assert_eq!((&json["deleted"][0], &json["added"][0]), (&"/etc/apt/apt.conf.d".into(), &"/opt/deep".into()));
    assert_eq!(env.lrun(&["diff", "nobody"]).status.code(), Some(125));
    // As the container that runs has it, and as somebody else's ids.
    ok(
        &env,
        &[
            "run",
            "-d",
            "--name",
            "runs",
            "--userns",
            "keep-id",
            "--passwd=false",
            &image,
            "sh",
            "-c",
            "echo > /tmp/f; sleep 1000",
        ],
    );
    eventually("its file", || ok(&env, &["diff", "runs"]) == "C /tmp\nA /tmp/f\n");
    ok(&env, &["rm", "-f", "runs"]);
}

/// What a container sees of itself: each file's kind, owner, mode, target, and if it is regular its size, time and content.
/// What the runner puts there, and what is mounted, is left out.
const LOOK: &str = "look() { find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/run*' ! -path '/data*' ! -path / \\
    ! -path /etc/hosts ! -path /etc/hostname ! -path /etc/resolv.conf \"$@\"; }; look ! -type f -printf '%p %y %m %U:%G %l\\n' | sort; \\
    look -type f -printf '%p %m %U:%G %s %T@\\n' | sort; look -type f -exec md5sum {} + | sort";

#[test]
fn a_committed_container_is_an_image_like_every_other() {
    let (env, image) = need!("a_committed_container", debian());
    for (round, flags) in [("plain", &[][..]), ("keep", &["--userns", "keep-id", "-u", "0"])] {
        let name = format!("box-{round}");
        let create = ["run", "--name", &name, "-v", "data:/data/here", "-e", "A=1", "-w", "/srv", "--label", "a=1"];
        let script = if round == "keep" { CHANGES.to_owned() } else { format!("({CHANGES}) && {LOOK}") };
        let was = ok(&env, &[&create[..], flags, &[&image, "sh", "-c", &script]].concat());
        let new = format!("localhost/new-{round}:2");
        let change =
            ["-m", "why", "-a", "me", "-c", "CMD [\"cat\", \"/srv/new\"]", "-c", "ENV B=2", "--iidfile", &name];
        let id = ok(&env, &[&["commit"][..], &change, &[&name, &new]].concat());
        assert_eq!(sh(&env, &format!("cat {name}")), format!("sha256:{}", id.trim()));
        assert_eq!(ok(&env, &["run", "--rm", &new]), "new\n");

        if round == "keep" {
            let look = ["stat", "-c", "%U:%G", "/srv"];
            let shown = ok(&env, &[&["run", "--rm"][..], flags, &[&new], &look].concat());
            assert_eq!(shown, "www-data:backup\n", "ids are those of the container");
            continue;
        }
        let is = ok(&env, &[&["run", "--rm"][..], flags, &[&new, "sh", "-c", LOOK]].concat());
        let differing: Vec<_> = was.lines().zip(is.lines()).filter(|(was, is)| was != is).take(3).collect();
        assert!(
            was == is && was.lines().count() > 3000,
            "{} {} {differing:?}",
            was.lines().count(),
            is.lines().count()
        );

        let inspect = env.json(&["inspect", &new]);
        let inspect = inspect.get(0).unwrap_or(&inspect);
        let config = &inspect["Config"];
        assert_eq!((&config["WorkingDir"], &config["Labels"]["a"]), (&"/srv".into(), &"1".into()), "{inspect}");
        let env_of = config["Env"].to_string();
        assert!(env_of.contains("A=1") && env_of.contains("B=2") && !env_of.contains("HOSTNAME"), "{env_of}");
    }
    env.ok(&["fsck"]);
    // The container's own tar has what the image's has, but for what the runner puts there.
    sh(&env, "lrun export -o whole.tar box-plain; lstore export -o new.tar localhost/new-plain:2");
    let list = |tar: &str| {
        let own = "^d| (run|dev|proc|sys|data)/| etc/(hosts|hostname|resolv.conf)";
        let names = "tr -s ' ' | sed 's# [.]/# #g'";
        sh(&env, &format!("tar --numeric-owner --full-time -tvf {tar} | {names} | grep -Ev '{own}' | sort"))
    };
    let (whole, new) = (list("whole.tar"), list("new.tar"));
    let differing: Vec<_> = whole.lines().zip(new.lines()).filter(|(whole, new)| whole != new).take(3).collect();
    assert!(whole == new && whole.lines().count() > 3000, "{differing:?}");
    let sum = "tar -xOf whole.tar opt srv usr/bin | md5sum; tar -xOf new.tar ./opt ./srv ./usr/bin | md5sum";
    assert_eq!(sh(&env, &format!("({sum}) | uniq | wc -l")), "1\n");
    // Which its containers keep.
    ok(&env, &["rm", "box-plain", "box-keep"]);
    env.ok(&["rmi", &image]);
    assert_eq!(ok(&env, &["run", "--rm", "localhost/new-plain:2"]), "new\n", "it needs no other");
}

#[test]
fn tars_go_in_and_out_and_files_from_one_container_to_another() {
    let (env, image) = need!("tars_go_in_and_out", debian());
    sh(&env, "mkdir -p t/d/e; echo one > t/d/f; ln -s f t/d/l; ln t/d/f t/d/g; chmod 2750 t/d/e; tar -C t -cf t.tar d");
    ok(&env, &["create", "--name", "box", "-u", "www-data", &image, "sleep", "100"]);
    ok(&env, &["create", "--name", "other", "-v", "data:/data", &image, "sleep", "100"]);
    let program = crate::support::programs().join("lrun");
    let program = program.display();
    for round in ["resting", "running"] {
        let to = format!("/opt/{round}");
        sh(&env, &format!("mkdir -p empty; {program} cp empty box:{to}; {program} cp - box:{to} < t.tar"));
        // Out again as a tar: under its own name, a single file, and what is in a directory.
        let list = format!("{program} cp box:{to}/d - | tar -tf -; {program} cp box:{to}/d/f - | tar -xOf - f");
        assert_eq!(sh(&env, &list), "d/\nd/e/\nd/f\nd/g\nd/l\none\n", "{round}");
        assert_eq!(sh(&env, &format!("{program} cp box:{to}/d/e/. - | tar -tf -")), "./\n");
        let told = sh(&env, &format!("{program} cp box:{to}/d - | tar -tvf - | sed 's/ .*//'"));
        assert_eq!(told, "drwxr-xr-x\ndrwxr-s---\n-rw-r--r--\nhrw-r--r--\nlrwxrwxrwx\n", "{round}");
        ok(&env, &["cp", &format!("box:{to}/d"), &format!("other:/data/{round}")]);
        ok(&env, &["cp", &format!("box:{to}/d/."), "other:/srv"]);
        let told =
            sh(&env, &format!("{program} cp other:/data/{round} - | tar -tf -; {program} cp other:/srv/f - | tar -xO"));
        assert_eq!(told, format!("{round}/\n{round}/e/\n{round}/f\n{round}/g\n{round}/l\none\n"));
        assert!(refused(&env, &["cp", &format!("box:{to}/d"), "box:/etc/passwd"]).contains("no directory"));
        ok(&env, &["start", "box", "other"]);
    }
    let owners = "stat -c '%U %a' /opt/resting/d/f /opt/running/d/e; stat -c %h /opt/running/d/g";
    assert_eq!(ok(&env, &["exec", "box", "sh", "-c", owners]), "www-data 644\nwww-data 2750\n2\n");
    // Whose the archive says they are, and what stands in the way.
    sh(&env, &format!("tar -C t --owner=4:4 --numeric-owner -cf u.tar d; {program} cp -a=false - box:/mnt < u.tar"));
    assert_eq!(ok(&env, &["exec", "box", "stat", "-c", "%u", "/mnt/d/f"]), "4\n");
    assert!(refused(&env, &["cp", "t/d", "box:/mnt/d/f"]).contains("no directory"));
    ok(&env, &["cp", "--overwrite", "t/d", "box:/mnt/d/f"]);
    assert_eq!(ok(&env, &["exec", "box", "cat", "/mnt/d/f/f"]), "one\n");
    assert!(refused(&env, &["cp", "-", "box:/nowhere"]).contains("No such file"));
    assert_eq!(std::fs::read_dir(env.store.join("tmp")).unwrap().count(), 0);
    ok(&env, &["rm", "-f", "-t", "0", "box", "other"]);
}

#[test]
fn what_gnu_tar_packs_comes_out_in_a_container_as_gnu_tar_unpacks_it() {
    let (env, image) = need!("what_gnu_tar_packs", debian());
    ok(&env, &["create", "--name", "box", &image, "sleep", "100"]);
    sh(
        &env,
        "mkdir -p from/d; cd from; for at in 0 1 2 3 4 9; do printf data | dd of=sparse bs=1M seek=$at status=none; done; \
         truncate -s 16M sparse; truncate -s 3M hole; echo small > d/small; setfattr -n user.of.file -v 'a value' d/small; \
         setfattr -n user.of.folder -v x d; touch -d '2001-02-03 04:05:06.789012345' sparse d/small d",
    );
    let portrait = |folder: &str| {
        let list =
            "find . -mindepth 1 -printf '%P %y %m %s %T@\\n' | sort; sha256sum sparse hole d/small; getfattr -dR .";
        sh(&env, &format!("cd {folder}; {list}"))
    };
    let program = crate::support::programs().join("lrun");
    let program = program.display();
    let attributes = "--xattrs --xattrs-include=user.*";
    let formats = [
        "--format=gnu".to_owned(),
        "--format=gnu --sparse".to_owned(),
        format!("--format=pax {attributes} --sparse --sparse-version=0.0"),
        format!("--format=pax {attributes} --sparse --sparse-version=0.1"),
        format!("--format=pax {attributes} --sparse --sparse-version=1.0"),
    ];
    for (round, format) in formats.iter().enumerate() {
        sh(
            &env,
            &format!(
                "mkdir -p empty theirs{round} ours{round}; tar {format} -C from -cf {round}.tar .; \
                 tar {attributes} -xpf {round}.tar -C theirs{round}; {program} cp empty box:/opt/{round}; \
                 {program} cp - box:/opt/{round} < {round}.tar; \
                 {program} cp box:/opt/{round}/. - | tar {attributes} -xpf - -C ours{round}"
            ),
        );
        assert_eq!(portrait(&format!("ours{round}")), portrait(&format!("theirs{round}")), "{format}");
    }
    ok(&env, &["rm", "-f", "box"]);
}
