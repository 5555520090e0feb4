//! Registries that ask who one is, and those that speak TLS, as Debian's docker-registry does both.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use base64::Engine;

use crate::need;
use crate::support::image::{Image, Packing, file, layer};
use crate::support::registry::{Access, LOGIN, Registry};
use crate::support::{Env, all};

fn image() -> Image {
    Image::new(&[layer(&[file("secret", b"for those who may read")])], Packing::Gzip)
}

/// Pulls with these variables besides the usual ones.
fn pull(env: &Env, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = env.command("lstore");
    command.args(["pull", "-q"]).args(words).envs(variables.iter().copied()).output().unwrap()
}

fn assert_refused(output: &Output, reason: &str) {
    assert!(!output.status.success() && all(output).contains(reason), "{}", all(output));
}

fn assert_pulled(env: &Env, output: &Output) {
    assert!(output.status.success(), "{}", all(output));
    let images = env.json(&["images", "--format", "json"]);
    assert_eq!(images.as_array().unwrap().len(), 1, "{images}");
    // The next pull begins with nothing.
    env.ok(&["rmi", images[0]["Id"].as_str().unwrap()]);
    env.ok(&["gc"]);
}

fn auth_file(env: &Env, name: &str, address: &str, password: &str) -> String {
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", LOGIN.0));
    let path = env.scratch.join(name);
    std::fs::write(&path, serde_json::json!({"auths": {address: {"auth": login}}}).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_login_is_taken_from_where_podman_and_docker_keep_it() {
    let registry = need!("a_login_is_taken", Registry::guarded(Access { login: true, ..Access::default() }));
    let env = need!("a_login_is_taken", Env::new());
    let name = registry.push(&image(), "private:1");
    assert_refused(&pull(&env, &[&name], &[]), "podman login");

    let wrong = auth_file(&env, "wrong.json", &registry.address, "guessed");
    assert_refused(&pull(&env, &[&name], &[("REGISTRY_AUTH_FILE", &wrong)]), "podman login");
    let right = auth_file(&env, "right.json", &registry.address, LOGIN.1);
    assert_pulled(&env, &pull(&env, &[&name], &[("REGISTRY_AUTH_FILE", &right)]));
    assert_pulled(&env, &pull(&env, &["--authfile", &right, &name], &[("REGISTRY_AUTH_FILE", &wrong)]));

    // A helper is a program that is asked on its standard input and answers in JSON.
    let folder = env.scratch.join("docker");
    std::fs::create_dir(&folder).unwrap();
    let answer = serde_json::json!({"ServerURL": registry.address, "Username": LOGIN.0, "Secret": LOGIN.1});
    let script =
        format!("#!/bin/sh\nread -r asked\n[ \"$1 $asked\" = 'get {}' ] && echo '{answer}'\n", registry.address);
    let helper = env.scratch.join("docker-credential-test");
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let config = serde_json::json!({"credHelpers": {&registry.address: "test"}});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut command = env.command("lstore");
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_str().unwrap().to_owned();
    command.env("PATH", format!("{path}:{}", env.scratch.display())).env("DOCKER_CONFIG", &folder);
    assert_pulled(&env, &command.args(["pull", "-q", &name]).output().unwrap());
}

#[test]
fn tls_is_spoken_to_whom_speaks_it_and_verified_unless_said_otherwise() {
    let registry = need!("tls_is_spoken", Registry::guarded(Access { tls: true, login: true }));
    let env = need!("tls_is_spoken", Env::new());
    let name = registry.push(&image(), "private:1");
    let login = auth_file(&env, "auth.json", &registry.address, LOGIN.1);
    let login = ("REGISTRY_AUTH_FILE", login.as_str());

    assert_refused(&pull(&env, &[&name], &[login]), "invalid peer certificate");
    let authority = registry.authority();
    assert_pulled(&env, &pull(&env, &[&name], &[login, ("SSL_CERT_FILE", authority.to_str().unwrap())]));
    assert_pulled(&env, &pull(&env, &["--tls-verify=false", &name], &[login]));
    // No login went out where the certificate was in doubt: the registry has seen it in the two good pulls alone.
    let refused = registry.log().lines().filter(|line| line.contains("\" 401 ")).count();
    assert_eq!(refused, 2, "{}", registry.log());
}

#[test]
fn plain_http_is_spoken_to_who_speaks_nothing_else() {
    let registry = need!("plain_http_is_spoken", Registry::start());
    let env = need!("plain_http_is_spoken", Env::new());
    let name = registry.push(&image(), "open:1");
    assert_pulled(&env, &pull(&env, &[&name], &[]));
    assert_pulled(&env, &pull(&env, &["--tls-verify=false", &name], &[]));
    let elsewhere = "name.invalid:5000/open:1";
    assert_refused(&pull(&env, &["--tls-verify=false", elsewhere], &[]), "cannot reach the registry");
}
