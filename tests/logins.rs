//! Registries that ask who one is, and those that speak TLS, as Debian's docker-registry does both.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use base64::Engine;

use crate::need;
use crate::support::image::sha256;
use crate::support::image::{Image, Packing, file, layer};
use crate::support::registry::{Access, LOGIN, Registry};
use crate::support::site::{Site, reply};
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
    let answer = serde_json::json!({"ServerURL": registry.address, "Username": LOGIN.0, "Secret": LOGIN.1});
    let script = format!("read -r asked\n[ \"$1 $asked\" = 'get {}' ] && echo '{answer}'\n", registry.address);
    assert_pulled(&env, &pull_with_helper(&env, &registry.address, &script, &name));
}

/// Pulls with the logins of a registry kept by a helper, a shell script.
fn pull_with_helper(env: &Env, address: &str, script: &str, name: &str) -> Output {
    let folder = env.scratch.join("docker");
    std::fs::create_dir_all(&folder).unwrap();
    let helper = env.scratch.join("docker-credential-test");
    std::fs::write(&helper, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let config = serde_json::json!({"credHelpers": {address: "test"}});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut command = env.command("lstore");
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_str().unwrap().to_owned();
    command.env("PATH", format!("{path}:{}", env.scratch.display())).env("DOCKER_CONFIG", &folder);
    command.args(["pull", "-q", name]).output().unwrap()
}

/// A registry of `org/team/app:1` that wants a token of a token server, which gives one for the identity token `1d+/&`
/// alone.
fn token_registry() -> (Site, Site) {
    let mut tokens = Site::bind("127.0.0.2", None);
    tokens.serve(|request, stream| {
        let form = "grant_type=refresh_token&refresh_token=1d%2B%2F%26&client_id=lstore\
                    &scope=repository%3Aorg%2Fteam%2Fapp%3Apull&service=reg";
        let is_refresh = request.starts_with("POST /token HTTP") && request.ends_with(&format!("\r\n\r\n{form}"));
        let typed = request.to_lowercase().contains("content-type: application/x-www-form-urlencoded\r\n");
        if is_refresh && typed {
            reply(stream, 200, &[], br#"{"access_token":"t0ken","refresh_token":"another"}"#);
        } else {
            reply(stream, 401, &[], b"{}");
        }
    });
    let challenge = format!("Bearer realm=\"{}\",service=\"reg\"", tokens.url("/token"));
    (serve(challenge, "Bearer t0ken"), tokens)
}

/// A registry of `org/team/app:1` with a challenge and the answer to it.
fn serve(challenge: String, authorization: &'static str) -> Site {
    let mut registry = Site::bind("127.0.0.1", None);
    let image = image();
    registry.serve(move |request, stream| {
        if !request.to_lowercase().contains(&format!("authorization: {authorization}\r\n").to_lowercase()) {
            return reply(stream, 401, &[("WWW-Authenticate", &challenge)], b"");
        }
        let asked = request.split(' ').nth(1).unwrap().strip_prefix("/v2/org/team/app/").unwrap_or_default();
        let media_type = image.manifest["mediaType"].as_str().unwrap();
        let blobs = image.blobs.iter().map(|(_, bytes)| bytes).chain([&image.config]);
        let mut blobs = blobs.map(|bytes| (format!("blobs/{}", sha256(bytes)), bytes));
        match blobs.find(|(path, _)| path == asked) {
            Some((_, bytes)) => reply(stream, 200, &[], bytes),
            None if asked == "manifests/1" => {
                reply(stream, 200, &[("Content-Type", media_type)], image.manifest.to_string().as_bytes());
            }
            None => reply(stream, 404, &[], b""),
        }
    });
    registry
}

#[test]
fn an_identity_token_is_traded_and_never_sent_as_a_password() {
    let env = need!("an_identity_token_is_traded", Env::new());
    let (registry, tokens) = token_registry();
    let address = registry.address.to_string();
    let name = format!("{address}/org/team/app:1");
    let path = env.scratch.join("identity.json");
    let login = serde_json::json!({"auth": "cmVhZGVyOg==", "identitytoken": "1d+/&"});
    std::fs::write(&path, serde_json::json!({"auths": {&address: login}}).to_string()).unwrap();
    let file = path.to_str().unwrap();
    assert_pulled(&env, &pull(&env, &["--authfile", file, &name], &[]));

    let script = r#"read -r asked; echo '{"ServerURL": "", "Username": "<token>", "Secret": "1d+/&"}'"#;
    assert_pulled(&env, &pull_with_helper(&env, &address, script, &name));
    assert!(tokens.asked().iter().all(|request| !request.contains("authorization")), "{:?}", tokens.asked());

    // Who wants a password gets none.
    let basic = serve("Basic realm=\"x\"".to_owned(), "nothing will do");
    let name = format!("{}/org/team/app:1", basic.address);
    assert_refused(&pull_with_helper(&env, &basic.address.to_string(), script, &name), "podman login");
    assert!(basic.asked().iter().all(|request| !request.contains("authorization")), "{:?}", basic.asked());
}

#[test]
fn a_login_for_a_part_of_a_registry_is_used_there() {
    let env = need!("a_login_for_a_part", Env::new());
    // "org:p".
    let registry = serve("Basic realm=\"x\"".to_owned(), "Basic b3JnOnA=");
    let at = |path: &str| format!("{}{path}", registry.address);
    let file = env.scratch.join("parts.json");
    let login = |name: &str| serde_json::json!({"username": name, "password": "p"});
    let auths = serde_json::json!({at(""): login("host"), at("/org"): login("org"), at("/org/te"): login("other")});
    std::fs::write(&file, serde_json::json!({"auths": auths}).to_string()).unwrap();
    assert_pulled(&env, &pull(&env, &["--authfile", file.to_str().unwrap(), &at("/org/team/app:1")], &[]));
}

#[test]
fn a_helper_that_ends_early_is_told_of() {
    let env = need!("a_helper_that_ends_early", Env::new());
    let registry = serve("Basic realm=\"x\"".to_owned(), "nothing will do");
    let address = registry.address.to_string();
    let name = format!("{address}/org/team/app:1");
    for (script, told) in [
        ("exec <&-; exit 3", "docker-credential-test fails with status 3"),
        ("kill -9 $$", "docker-credential-test is killed by signal 9"),
        ("exit 0", "docker-credential-test ends without an answer"),
    ] {
        assert_refused(&pull_with_helper(&env, &address, script, &name), told);
    }
    // One that has no login says so, and the registry has the last word.
    let script = "echo credentials not found in native keychain; exit 1";
    assert_refused(&pull_with_helper(&env, &address, script, &name), "podman login");
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
