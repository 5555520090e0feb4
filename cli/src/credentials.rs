//! Credentials as docker and podman keep them: files of `auths`, and helper programs.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use base64::Engine as _;
use lstore::Reference;
use lstore::registry::Credentials;
use serde::Deserialize;

/// The name under which a helper answers with an identity token.
const TOKEN: &str = "<token>";
/// What a helper says when it knows nothing of a registry, which is no failure.
const NOT_FOUND: &str = "credentials not found";

/// A helper that does not do its work.
#[derive(Debug, thiserror::Error)]
#[error("the helper docker-credential-{helper} {problem}; `docker-credential-{helper} get` asks it by hand")]
pub struct HelperError {
    helper: String,
    problem: String,
}

/// `config.json` of docker, `auth.json` of podman.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    /// Name and password, joined by a colon, in base64.
    #[serde(rename = "auth")]
    encoded: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// What a helper answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Looks up who asks for an image: in the files, the first that knows. A file that cannot be read or understood is passed
/// over, as an anonymous pull may do, and so is a helper that is not installed.
///
/// # Errors
/// A helper that fails: whoever keeps logins there does not mean to go without.
pub fn look_up(files: &[PathBuf], reference: &Reference) -> Result<Credentials, HelperError> {
    for file in files {
        if let Some(credentials) = in_file(file, reference)? {
            return Ok(credentials);
        }
    }
    Ok(Credentials::Anonymous)
}

fn in_file(path: &Path, reference: &Reference) -> Result<Option<Credentials>, HelperError> {
    let file = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(file): Option<AuthFile> = file else { return Ok(None) };
    let hosts = hosts(&reference.registry);
    if let Some(helper) = hosts.iter().find_map(|host| file.cred_helpers.get(host)) {
        return from_helper(helper, &hosts);
    }
    let mut keys = paths(reference).into_iter().chain(hosts.iter().cloned());
    if let Some(credentials) = keys.find_map(|key| from_auth(file.auths.get(&key)?)) {
        return Ok(Some(credentials));
    }
    file.creds_store.as_ref().map_or(Ok(None), |helper| from_helper(helper, &hosts))
}

/// The names under which podman may keep a login for this repository, or for those around it: the longest first.
fn paths(reference: &Reference) -> Vec<String> {
    let whole = format!("{}/{}", reference.registry, reference.repository);
    let ends = whole.match_indices('/').map(|(at, _)| at).skip(1).chain([whole.len()]);
    let mut paths: Vec<String> = ends.map(|end| whole[..end].to_owned()).collect();
    paths.reverse();
    paths
}

/// The names under which a registry's credentials are kept. Docker Hub has an old one.
fn hosts(registry: &str) -> Vec<String> {
    let mut hosts = vec![registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/")];
    if registry == "docker.io" {
        hosts.extend(["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    hosts
}

fn from_auth(auth: &Auth) -> Option<Credentials> {
    if !auth.registrytoken.is_empty() {
        return Some(Credentials::Bearer(auth.registrytoken.clone()));
    }
    // Beside it there may be a name, with a password that is none.
    if !auth.identitytoken.is_empty() {
        return Some(Credentials::Identity(auth.identitytoken.clone()));
    }
    let (username, password) = if auth.encoded.is_empty() {
        (auth.username.clone(), auth.password.clone())
    } else {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.encoded.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    (!username.is_empty()).then_some(Credentials::Basic { username, password })
}

/// Asks a helper for the first name that it knows.
fn from_helper(helper: &str, hosts: &[String]) -> Result<Option<Credentials>, HelperError> {
    // The name is part of a program's name and nothing else.
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Ok(None);
    }
    for host in hosts {
        let mut program = Command::new(format!("docker-credential-{helper}"));
        let found =
            ask(program.arg("get"), host).map_err(|problem| HelperError { helper: helper.to_owned(), problem })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Asks a helper program for a host, which it reads from standard input. The error is what follows its name.
fn ask(program: &mut Command, host: &str) -> Result<Option<Credentials>, String> {
    let child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| format!("cannot be run: {error}"))?,
    };
    // One that ends without a look at what it is asked has said all that it has to say, and is waited for as any other.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(host.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("cannot be read from: {error}"))?;
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(format!("cannot be asked: {error}")),
        _ => {}
    }
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said: String = said.trim().lines().next().unwrap_or_default().chars().take(200).collect();
        return if said.contains(NOT_FOUND) { Ok(None) } else { Err(failed(output.status, &said)) };
    }
    let answer = serde_json::from_slice::<HelperAnswer>(&output.stdout);
    let HelperAnswer { username, secret } = answer.map_err(|_| {
        // What it did say may be half a secret.
        if said.trim().is_empty() { "ends without an answer" } else { "answers with what is no login" }
    })?;
    Ok(Some(if username == TOKEN {
        Credentials::Identity(secret)
    } else {
        Credentials::Basic { username, password: secret }
    }))
}

fn failed(status: ExitStatus, said: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("fails with status {code}"),
        (None, Some(signal)) => format!("is killed by signal {signal}"),
        (None, None) => "fails".to_owned(),
    };
    if said.is_empty() { format!("{end} and without a word") } else { format!("{end}: {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("auth.json");
        std::fs::write(&path, text).unwrap();
        (scratch, path)
    }

    fn found(files: &[PathBuf], reference: &str) -> Credentials {
        look_up(files, &Reference::parse(reference).unwrap()).unwrap()
    }

    #[test]
    fn the_first_file_that_knows_the_registry_decides() {
        // "alice:secret" and "bob:word".
        let (_one, first) = file(r#"{"auths": {"r.example": {"auth": "YWxpY2U6c2VjcmV0"}}}"#);
        let (_two, second) =
            file(r#"{"auths": {"r.example": {}, "https://index.docker.io/v1/": {"auth": "Ym9iOndvcmQ="}}}"#);
        let files = [PathBuf::from("/missing"), first, second];
        assert_eq!(found(&files, "r.example/app"), basic("alice", "secret"));
        assert_eq!(found(&files, "app"), basic("bob", "word"));
        assert_eq!(found(&files, "other.example/app"), Credentials::Anonymous);
    }

    #[test]
    fn the_longest_path_decides_and_then_the_host() {
        let login = |name: &str| serde_json::json!({"username": name, "password": "p"});
        let (_scratch, path) = file(
            &serde_json::json!({"auths": {
                "quay.io": login("host"),
                "quay.io/org": login("org"),
                "quay.io/org/team/app": login("app"),
                "quay.io/org/empty": {},
                "docker.io/library": login("official"),
                "https://index.docker.io/v1/": login("hub"),
            }})
            .to_string(),
        );
        for (reference, name) in [
            ("quay.io/org/team/app:1", "app"),
            ("quay.io/org/team/app/more", "app"),
            ("quay.io/org/team/application", "org"),
            ("quay.io/org/empty", "org"),
            ("quay.io/org", "org"),
            ("quay.io/organisation/app", "host"),
            ("quay.io/other/app", "host"),
            ("alpine", "official"),
            ("docker.io/me/app", "hub"),
        ] {
            assert_eq!(found(std::slice::from_ref(&path), reference), basic(name, "p"), "{reference}");
        }
    }

    #[test]
    fn an_identity_token_is_no_password() {
        let (_scratch, path) = file(r#"{"auths": {"r.example": {"auth": "YWxpY2U6", "identitytoken": "t"}}}"#);
        assert_eq!(found(&[path], "r.example/app"), Credentials::Identity("t".to_owned()));
    }

    #[test]
    fn a_helper_name_cannot_be_a_path() {
        let (_scratch, path) = file(r#"{"credHelpers": {"r.example": "../../bin/sh"}}"#);
        assert_eq!(found(&[path], "r.example/app"), Credentials::Anonymous);
    }

    #[test]
    fn a_helper_that_is_not_installed_is_passed_over() {
        let (_scratch, path) = file(r#"{"credsStore": "nobody-has-such-a-one"}"#);
        assert_eq!(found(&[path], "r.example/app"), Credentials::Anonymous);
    }

    #[test]
    fn a_helper_that_ends_early_is_told_of_and_leaves_no_process() {
        let scratch = tempfile::tempdir().unwrap();
        // More than a pipe holds, so that it is being written when the helper goes.
        let host = "h".repeat(1 << 20);
        for (end, told) in [
            ("exec <&-; sleep 0.2; exit 3", "fails with status 3 and without a word"),
            ("kill -9 $$", "is killed by signal 9"),
            ("echo 'it is locked'; exit 1", "fails with status 1: it is locked"),
            ("exec <&-; sleep 0.2", "ends without an answer"),
            ("echo '{\"Username\": \"secret'", "answers with what is no login"),
        ] {
            let script = format!("echo $$ > pid; {end}");
            let error = ask(Command::new("sh").args(["-c", &script]).current_dir(scratch.path()), &host).unwrap_err();
            assert!(error.starts_with(told) && !error.contains("secret"), "{end}: {error}");
            let pid = std::fs::read_to_string(scratch.path().join("pid")).unwrap();
            assert!(!Path::new("/proc").join(pid.trim()).exists(), "{end}");
        }
    }

    #[test]
    fn a_helper_says_what_it_has_and_what_it_has_not() {
        let asked = |script: &str| ask(Command::new("sh").args(["-c", script]), "r.example");
        assert_eq!(asked("echo credentials not found in native keychain; exit 1"), Ok(None));
        let answer = |name: &str| format!("echo '{{\"Username\": \"{name}\", \"Secret\": \"s\"}}'");
        assert_eq!(
            asked(&format!("read -r host; [ $host = r.example ] && {}", answer("me"))),
            Ok(Some(basic("me", "s")))
        );
        assert_eq!(asked(&answer("<token>")), Ok(Some(Credentials::Identity("s".to_owned()))));
    }
}
