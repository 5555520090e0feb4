//! Credentials as docker and podman keep them: files of `auths`, and helper programs.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use lstore::registry::Credentials;
use serde::Deserialize;

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

/// Looks a registry up in the files, the first that knows it. A file that cannot be read or understood is passed over,
/// as an anonymous pull may do.
pub fn look_up(files: &[PathBuf], registry: &str) -> Credentials {
    files.iter().find_map(|file| in_file(file, registry)).unwrap_or(Credentials::Anonymous)
}

fn in_file(path: &Path, registry: &str) -> Option<Credentials> {
    let file: AuthFile = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let keys = keys(registry);
    if let Some(helper) = keys.iter().find_map(|key| file.cred_helpers.get(key)) {
        return from_helper(helper, &keys);
    }
    if let Some(auth) = keys.iter().find_map(|key| file.auths.get(key))
        && let Some(credentials) = from_auth(auth)
    {
        return Some(credentials);
    }
    file.creds_store.as_ref().and_then(|helper| from_helper(helper, &keys))
}

/// The names under which a registry's credentials are kept. Docker Hub has an old one.
fn keys(registry: &str) -> Vec<String> {
    let mut keys = vec![registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/")];
    if registry == "docker.io" {
        keys.extend(["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    keys
}

fn from_auth(auth: &Auth) -> Option<Credentials> {
    if !auth.registrytoken.is_empty() {
        return Some(Credentials::Bearer(auth.registrytoken.clone()));
    }
    let (username, password) = if auth.encoded.is_empty() {
        (auth.username.clone(), auth.password.clone())
    } else {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.encoded.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    if username.is_empty() {
        return None;
    }
    let password = if auth.identitytoken.is_empty() { password } else { auth.identitytoken.clone() };
    Some(Credentials::Basic { username, password })
}

/// Asks `docker-credential-NAME get`, which reads the registry from standard input.
fn from_helper(helper: &str, keys: &[String]) -> Option<Credentials> {
    // The name is part of a program's name and nothing else.
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return None;
    }
    keys.iter().find_map(|key| {
        let mut child = Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(key.as_bytes()).ok()?;
        let output = child.wait_with_output().ok().filter(|output| output.status.success())?;
        let answer: HelperAnswer = serde_json::from_slice(&output.stdout).ok()?;
        // A helper says by this name that its secret is a token.
        let username = if answer.username == "<token>" { "oauth2accesstoken".to_owned() } else { answer.username };
        Some(Credentials::Basic { username, password: answer.secret })
    })
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

    #[test]
    fn the_first_file_that_knows_the_registry_decides() {
        // "alice:secret" and "bob:word".
        let (_one, first) = file(r#"{"auths": {"r.example": {"auth": "YWxpY2U6c2VjcmV0"}}}"#);
        let (_two, second) =
            file(r#"{"auths": {"r.example": {}, "https://index.docker.io/v1/": {"auth": "Ym9iOndvcmQ="}}}"#);
        let files = [PathBuf::from("/missing"), first, second];
        assert_eq!(look_up(&files, "r.example"), basic("alice", "secret"));
        assert_eq!(look_up(&files, "docker.io"), basic("bob", "word"));
        assert_eq!(look_up(&files, "other.example"), Credentials::Anonymous);
    }

    #[test]
    fn a_helper_name_cannot_be_a_path() {
        let (_scratch, path) = file(r#"{"credHelpers": {"r.example": "../../bin/sh"}}"#);
        assert_eq!(look_up(&[path], "r.example"), Credentials::Anonymous);
    }
}
