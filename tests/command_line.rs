//! The command line: formats, quiet output, help, completions, manual pages, archives.

use crate::need;
use crate::support::image::{Image, Packing, everything, file, layer};
use crate::support::registry::Registry;
use crate::support::{Env, all, said};

fn with_image(test: &str) -> Result<(Registry, Env, String), String> {
    let registry = Registry::start().map_err(|reason| format!("{test}: {reason}"))?;
    let env = Env::new()?;
    let name = registry.push(&Image::new(&everything(), Packing::Gzip), "team/app:1");
    env.ok(&["pull", "-q", &name]);
    Ok((registry, env, name))
}

#[test]
fn quiet_prints_ids_only() {
    let (_registry, env, name) = need!("quiet", with_image("quiet"));
    let output = env.lstore(&["pull", "-q", &name]);
    let id = said(&output).trim().to_owned();
    assert!(id.len() == 64 && output.stderr.is_empty(), "{}", all(&output));
    assert_eq!(env.ok(&["images", "-q"]).trim(), &id[..12]);
    assert_eq!(env.ok(&["images", "-q", "--no-trunc"]).trim(), format!("sha256:{id}"));
    for short in [&id[..12], &id[..3], name.as_str()] {
        assert_eq!(env.json(&["inspect", short])[0]["Id"], id.as_str());
    }
}

#[test]
fn formats_are_tables_json_and_templates() {
    let (registry, env, name) = need!("formats", with_image("formats"));
    let repository = format!("{}/team/app", registry.address);
    let table = env.ok(&["images"]);
    assert!(table.starts_with("REPOSITORY") && table.contains(&repository) && table.contains("IMAGE ID"), "{table}");
    assert_eq!(env.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), format!("{repository}:1\n"));
    assert_eq!(env.json(&["images", "--format", "json"])[0]["Repository"], repository.as_str());
    assert_eq!(env.ok(&["inspect", "--format", "{{index .Config.Cmd 0}}", &name]), "/bin/sh\n");
    for command in ["info", "du", "fsck"] {
        assert!(env.json(&[command, "--format", "json"]).is_object(), "{command}");
    }
    assert_eq!(env.ok(&["info", "--format", "{{.Images}}"]), "1\n");
    let broken = env.lstore(&["images", "--format", "{{.Repo"]);
    assert_eq!(String::from_utf8_lossy(&broken.stderr).lines().count(), 1);
}

#[test]
fn names_are_given_and_taken() {
    let (_registry, env, name) = need!("names", with_image("names"));
    env.ok(&["tag", &name, "base:stable", "registry.example/base:2"]);
    let names = env.json(&["inspect", "base:stable"])[0]["RepoTags"].to_string();
    assert!(names.contains("docker.io/library/base:stable") && names.contains("registry.example/base:2"), "{names}");
    let id = env.ok(&["images", "-q"]).lines().next().unwrap().to_owned();
    let error = env.refuses(&["rmi", &id]);
    assert!(error.contains("--force"), "{error}");
    assert!(env.ok(&["rmi", "base:stable"]).contains("Untagged"));
    assert!(env.lstore(&["inspect", "base:stable"]).status.code() == Some(1));
    assert!(env.ok(&["rmi", "-f", &id]).contains("Deleted"));
    let error = env.refuses(&["inspect", &name]);
    assert!(error.contains("not known") && error.contains("lstore pull"), "{error}");
}

#[test]
fn archives_of_every_kind_are_imported() {
    let (registry, env, name) = need!("archives", with_image("archives"));
    let tar = layer(&[file("a", b"imported")]);
    std::fs::write(env.scratch.join("root.tar"), &tar).unwrap();
    let id = env.ok(&["import", "-q", "-c", "ENV A=1", "root.tar", "plain:1"]);
    assert_eq!(env.json(&["inspect", id.trim()])[0]["Config"]["Env"][0], "A=1");
    let mut piped = env.command("sh");
    let piped = piped.args(["-c", "gzip -c root.tar | lstore import -q - piped:1"]).output().unwrap();
    assert_eq!(said(&piped).trim().len(), 64);
    assert_eq!(
        env.json(&["inspect", "piped:1"])[0]["RootFS"]["Layers"],
        env.json(&["inspect", "plain:1"])[0]["RootFS"]["Layers"]
    );

    need!("archives (skopeo)", crate::support::has("skopeo"));
    let wanted = env.json(&["inspect", &name])[0].clone();
    let source = format!("docker://{name}");
    for (target, path) in [
        ("oci:layout:team/app:1", "layout"),
        ("oci-archive:oci.tar:team/app:1", "oci.tar"),
        ("docker-archive:docker.tar:team/app:1", "docker.tar"),
    ] {
        let mut copy = std::process::Command::new("skopeo");
        copy.current_dir(&env.scratch).args(["copy", "-q", "--src-tls-verify=false", &source, target]);
        crate::support::run(&mut copy).unwrap();
        let fresh = Env::new().unwrap();
        let path = env.scratch.join(path);
        fresh.ok(&["import", "-q", path.to_str().unwrap(), "again:1"]);
        let found = &fresh.json(&["inspect", "again:1"])[0];
        assert_eq!(found["Id"], wanted["Id"], "{target}");
        assert_eq!(found["RootFS"], wanted["RootFS"], "{target}");
        fresh.ok(&["fsck"]);
    }
    drop(registry);
}

#[test]
fn help_teaches_and_pages_can_be_made() {
    let env = need!("help", Env::new());
    for command in ["pull", "images", "import", "export", "checkout", "du", "gc", "fsck"] {
        let help = env.ok(&[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("lstore {command}")), "{command}");
    }
    assert!(said(&env.lrun(&["run", "--help"])).contains("Exit status"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(env.ok(&["completions", shell]).contains("lstore"));
        assert!(said(&env.lrun(&["completions", shell])).contains("lrun"));
    }
    std::fs::create_dir(env.scratch.join("man")).unwrap();
    let user = env.user.clone().unwrap();
    std::os::unix::fs::chown(env.scratch.join("man"), Some(user.uid), Some(user.gid)).unwrap();
    env.ok(&["man", "man"]);
    assert!(std::fs::read_to_string(env.scratch.join("man/lstore-pull.1")).unwrap().contains(".TH"));
}

#[test]
fn a_broken_pipe_is_no_failure() {
    let (_registry, env, _) = need!("a_broken_pipe", with_image("a_broken_pipe"));
    let output = env.command("bash").args(["-c", "set -o pipefail; lstore info | true"]).output().unwrap();
    assert!(output.status.success(), "{}", all(&output));
}
