//! Secrets: kept for the user alone, shown to a container in memory or in a variable, and written nowhere else.

use std::os::unix::fs::PermissionsExt;

use crate::containers::{debian, inside};
use crate::need;
use crate::support::{Env, all, said};

fn ok(env: &Env, words: &[&str]) -> String {
    said(&env.lrun(words))
}

/// Whether a text is anywhere in a folder's files, as root reads them.
fn is_in(folder: &std::path::Path, text: &str) -> bool {
    let found = std::process::Command::new("grep").args(["-rqF", text]).arg(folder).status().unwrap();
    found.success()
}

#[test]
fn a_secret_is_kept_listed_shown_on_demand_and_removed() {
    let env = need!("a_secret_is_kept", Env::new());
    std::fs::write(env.scratch.join("key"), "s3cret\n").unwrap();
    let id = ok(&env, &["secret", "create", "-l", "job=7", "key", "key"]);
    assert_eq!(id.trim().len(), 25);
    for entry in std::fs::read_dir(env.store.join("secrets")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let piped = env.command("sh").args(["-c", "printf other | lrun secret create token -"]).output().unwrap();
    said(&piped);
    ok(&env, &["secret", "create", "--env", "home", "HOME"]);
    assert_eq!(ok(&env, &["secret", "ls", "--format", "{{.Name}} {{.Driver}}"]), "home file\nkey file\ntoken file\n");
    assert_eq!(ok(&env, &["secret", "ls", "-q", "--filter", "name=key"]), id);
    let shown = ok(&env, &["secret", "inspect", "key"]);
    assert!(shown.contains("\"job\": \"7\"") && !shown.contains("s3cret"), "{shown}");
    assert_eq!(ok(&env, &["secret", "inspect", "--showsecret", "--format", "{{.SecretData}}", "key"]), "s3cret\n");
    let taken = env.lrun(&["secret", "create", "key", "key"]);
    assert_eq!((taken.status.code(), all(&taken).contains("secret name in use")), (Some(125), true));
    assert_eq!(env.lrun(&["secret", "exists", "nobody"]).status.code(), Some(1));
    let missing = env.lrun(&["secret", "rm", "nobody", "token"]);
    assert_eq!((missing.status.code(), all(&missing).contains("no such secret")), (Some(125), true));
    assert_eq!(env.lrun(&["secret", "exists", "token"]).status.code(), Some(1), "the others are removed");
    ok(&env, &["secret", "rm", "--all"]);
    assert_eq!(std::fs::read_dir(env.store.join("secrets")).unwrap().count(), 0);
}

#[test]
fn a_container_sees_its_secrets_and_nothing_else_does() {
    let (env, image) = need!("a_container_sees_its_secrets", debian());
    std::fs::write(env.scratch.join("key"), "s3cret-7f1\n").unwrap();
    ok(&env, &["secret", "create", "key", "key"]);
    let run = |flags: &[&str], script: &str| inside(&env, &image, flags, script);
    let script = "cat /run/secrets/key; stat -c '%a %u' /run/secrets/key; stat -fc %T /run/secrets; ls -A /run/secrets";
    assert_eq!(run(&["--secret", "key"], script), "s3cret-7f1\n444 0\ntmpfs\nkey\n");
    assert_eq!(run(&["--read-only", "--secret", "key"], "cat /run/secrets/key"), "s3cret-7f1\n");
    let elsewhere = ["--secret", "key,target=/etc/app/k,uid=33,gid=33,mode=0400"];
    let script = "cat /etc/app/k; stat -c '%a %U' /etc/app/k; ls -A /run/secrets";
    assert_eq!(run(&elsewhere, script), "s3cret-7f1\n400 www-data\n");
    assert_eq!(
        run(&["--secret", "key,type=env,target=KEY"], "echo $KEY; ls /run/secrets 2>/dev/null; true"),
        "s3cret-7f1\n"
    );

    // In the background: restarted and joined; in no file of the store but its own, and in no record.
    let flags = ["--secret", "key", "--secret", "key,type=env,target=KEY", "--secret", "key,target=/opt/k"];
    ok(&env, &[&["run", "-d", "--name", "box"], &flags[..], &[&image, "sleep", "1000"]].concat());
    ok(&env, &["restart", "-t", "0", "box"]);
    assert_eq!(
        ok(&env, &["exec", "box", "sh", "-c", "echo $KEY; cat /run/secrets/key /opt/k"]),
        "s3cret-7f1\n".repeat(3)
    );
    assert!(is_in(&env.store.join("secrets"), "s3cret-7f1"));
    assert!(!is_in(&env.store.join("containers"), "s3cret-7f1"));
    // A check has the variables too.
    ok(
        &env,
        &[
            "run",
            "-d",
            "--name",
            "checked",
            "--secret",
            "key,type=env,target=KEY",
            "--health-interval",
            "disable",
            "--health-cmd",
            "test $KEY",
            &image,
            "sleep",
            "1000",
        ],
    );
    ok(&env, &["healthcheck", "run", "checked"]);
    let shown = ok(&env, &["inspect", "box"]);
    assert!(shown.contains("\"Name\": \"key\"") && !shown.contains("s3cret-7f1"), "{shown}");
    ok(&env, &["commit", "-q", "box", "localhost/kept:1"]);
    let kept = ok(&env, &["run", "--rm", "localhost/kept:1", "sh", "-c", "env; cat /run/secrets/* /opt/k; true"]);
    assert!(!kept.contains("s3cret-7f1"), "{kept}");

    ok(&env, &["stop", "-t", "0", "box"]);
    ok(&env, &["secret", "rm", "key"]);
    let gone = env.lrun(&["start", "box"]);
    assert_eq!((gone.status.code(), all(&gone).contains("no such secret")), (Some(125), true), "{}", all(&gone));
    let missing = env.lrun(&["run", "--rm", "--secret", "key", &image, "true"]);
    assert_eq!((missing.status.code(), all(&missing).contains("no such secret")), (Some(125), true));
    ok(&env, &["rm", "-f", "-t", "0", "box", "checked"]);
}
