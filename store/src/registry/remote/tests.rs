//! Against a server that says what a test tells it to, over real sockets.

use std::sync::{Arc, Mutex as Locked};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::blob::BlobReader;
use crate::manifest::Document;
use crate::registry::auth;

/// Answers each request by a function of its head, and keeps the heads.
struct Server {
    address: String,
    heads: Arc<Locked<Vec<String>>>,
}

impl Server {
    async fn start(ip: &str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Locked::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let answer = answer(&head);
                kept.lock().unwrap().push(head);
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn reference(&self) -> Reference {
        Reference::parse(&format!("{}/app:1", self.address)).unwrap()
    }

    fn remote(&self) -> Remote {
        self.remote_for(Credentials::Basic { username: "me".to_owned(), password: "secret".to_owned() })
    }

    fn remote_for(&self, credentials: Credentials) -> Remote {
        let credentials: LookUp = Arc::new(move |_| Ok(credentials.clone()));
        Remote::new(&self.reference(), RemoteOptions { credentials, ..RemoteOptions::default() })
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

fn unauthorized(challenge: &str) -> String {
    answer("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), "")
}

fn descriptor(content: &str) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        platform: None,
        urls: None,
        annotations: None,
    }
}

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

#[tokio::test]
async fn a_redirect_into_tls_is_followed_by_who_can_verify_it() {
    let server = Server::start("127.0.0.1", |_| {
        answer("307 Temporary Redirect", "Location: https://127.0.0.1:1/v2/app/manifests/1\r\n", "")
    })
    .await;
    // Nobody listens there, which is not to be had for who stops at the answer.
    let failure = server.remote().manifest(&server.reference()).await.unwrap_err();
    assert!(matches!(failure, RegistryError::Unreachable { .. }), "{failure:?}");
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn a_token_is_fetched_once_and_again_when_it_has_expired() {
    let tokens = Server::start("127.0.0.1", |_| answer("200 OK", "", r#"{"token":"t0ken"}"#)).await;
    let challenge = format!(r#"Bearer realm="http://{}/token",service="reg""#, tokens.address);
    let expired = Arc::new(Locked::new(false));
    let expires = Arc::clone(&expired);
    let registry = Server::start("127.0.0.1", move |head| {
        if head.contains("authorization: bearer t0ken") && !std::mem::take(&mut *expires.lock().unwrap()) {
            answer("200 OK", &format!("Content-Type: {OCI_MANIFEST}; charset=utf-8\r\n"), MANIFEST)
        } else {
            unauthorized(&challenge)
        }
    })
    .await;
    let remote = registry.remote();
    let manifest = remote.manifest(&registry.reference()).await.unwrap();
    assert_eq!((manifest.bytes.as_slice(), manifest.media_type.as_str()), (MANIFEST.as_bytes(), OCI_MANIFEST));
    remote.manifest(&registry.reference()).await.unwrap();
    let asked = tokens.heads();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("get /token?service=reg&scope=repository%3aapp%3apull "), "{}", asked[0]);
    assert!(asked[0].contains(&auth::basic("me", "secret").to_lowercase()));

    // The server takes the token back once.
    *expired.lock().unwrap() = true;
    remote.manifest(&registry.reference()).await.unwrap();
    assert_eq!(tokens.heads().len(), 2);
}

#[tokio::test]
async fn no_login_goes_where_none_can_be_meant() {
    let decoy = Server::start("127.0.0.1", |_| answer("200 OK", "", r#"{"token":"x"}"#)).await;
    let port = decoy.address.rsplit(':').next().unwrap();
    // Each is refused before a connection is made; those that name the decoy would be heard of there.
    for challenge in [
        "Bearer realm=\"http://169.254.169.254/latest\"".to_owned(),
        "Basic realm=\"x\", Bearer realm=\"http://169.254.169.254/latest\"".to_owned(),
        "Bearer realm=http://169.254.169.254/".to_owned(),
        format!("Bearer realm=\"http://me@127.0.0.1:{port}/\""),
        format!("Bearer realm=\"ftp://127.0.0.1:{port}/\""),
        "Bearer service=\"x\"".to_owned(),
    ] {
        let told = challenge.clone();
        let registry = Server::start("127.0.0.1", move |_| unauthorized(&told)).await;
        let error = registry.remote().manifest(&registry.reference()).await.unwrap_err();
        assert!(matches!(error, RegistryError::Realm { .. }), "{challenge}: {error}");
    }
    assert_eq!(decoy.heads(), [""; 0]);
}

#[tokio::test]
async fn a_token_server_does_not_pass_the_login_on() {
    let decoy = Server::start("127.0.0.1", |_| answer("200 OK", "", r#"{"token":"x"}"#)).await;
    let location = format!("Location: http://{}/\r\n", decoy.address);
    let tokens = Server::start("127.0.0.1", move |_| answer("307 Temporary Redirect", &location, "")).await;
    let challenge = format!("Bearer realm=\"http://{}/\"", tokens.address);
    let registry = Server::start("127.0.0.1", move |_| unauthorized(&challenge)).await;
    assert!(registry.remote().manifest(&registry.reference()).await.is_err());
    assert_eq!((tokens.heads().len(), decoy.heads().len()), (1, 0));
}

#[tokio::test]
async fn a_blob_elsewhere_is_fetched_without_the_login() {
    let store = Server::start("127.0.0.1", |_| answer("200 OK", "", "content")).await;
    let location = format!("Location: http://{}/x\r\n", store.address);
    let registry = Server::start("127.0.0.1", move |head| {
        if head.contains("authorization: basic ") {
            answer("307 Temporary Redirect", &location, "")
        } else {
            unauthorized("Basic realm=\"x\"")
        }
    })
    .await;
    let blob = descriptor("content");
    let stream = registry.remote().blob(&registry.reference(), &blob, 0).await.unwrap();
    assert_eq!(stream.into_bytes(&blob).await.unwrap(), b"content");
    assert!(!store.heads()[0].contains("authorization"), "{}", store.heads()[0]);
}

#[tokio::test]
async fn a_blob_is_resumed_by_range_or_from_its_beginning() {
    let registry = Server::start("127.0.0.1", |head| match head {
        _ if head.contains("range: bytes=3-") => {
            answer("206 Partial Content", "Content-Range: bytes 3-6/7\r\n", "tent")
        }
        _ if head.contains("range: bytes=4-") => answer("206 Partial Content", "Content-Range: bytes 0-6/7\r\n", "x"),
        _ => answer("200 OK", "", "content"),
    })
    .await;
    let (remote, reference, blob) = (registry.remote(), registry.reference(), descriptor("content"));
    for (asked, begins_at) in [(0, 0), (3, 3), (5, 0)] {
        assert_eq!(remote.blob(&reference, &blob, asked).await.unwrap().offset, begins_at);
    }
    assert!(matches!(remote.blob(&reference, &blob, 4).await, Err(RegistryError::Answer { .. })));
}

#[tokio::test]
async fn manifests_are_bounded_and_are_those_that_were_asked_for() {
    let large = " ".repeat(MAX_BYTES + 1);
    let registry = Server::start("127.0.0.1", move |head| {
        if head.contains("/manifests/1 ") { answer("200 OK", "", &large) } else { answer("200 OK", "", MANIFEST) }
    })
    .await;
    let (remote, reference) = (registry.remote(), registry.reference());
    let error = remote.manifest(&reference).await.unwrap_err();
    assert!(matches!(error, RegistryError::Manifest(ManifestError::TooLarge { .. })), "{error}");
    let pinned = Reference { digest: Some(Digest::of(b"other")), ..reference.clone() };
    assert!(matches!(remote.manifest(&pinned).await, Err(RegistryError::WrongManifest { .. })));
    let right = Digest::of(MANIFEST.as_bytes());
    assert_eq!(remote.manifest_by_digest(&reference, &right).await.unwrap().digest, right);
}

#[tokio::test]
async fn failures_say_what_to_do() {
    for (status, words) in [("404 Not Found", "not found"), ("403 Forbidden", "denies"), ("503 Busy", "status 503")] {
        let registry = Server::start("127.0.0.1", move |_| answer(status, "", "")).await;
        let error = registry.remote().manifest(&registry.reference()).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    }
    let looping = Server::start("127.0.0.1", |_| answer("302 Found", "Location: /v2/again\r\n", "")).await;
    let error = looping.remote().manifest(&looping.reference()).await.unwrap_err().to_string();
    assert!(error.contains("again and again"), "{error}");
    assert_eq!(looping.heads().len(), 6);
}

/// Against the registry of the test bed, when it runs.
#[tokio::test]
async fn a_whole_layer_arrives_from_a_real_registry() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let reference = Reference::parse("127.0.0.1:5000/debian:12").unwrap();
    let remote = Arc::new(Remote::new(&reference, RemoteOptions::default()));
    let raw = match remote.manifest(&reference).await {
        Ok(raw) => raw,
        Err(error) => return println!("SKIPPED: no registry to test with: {error}"),
    };
    let Document::Manifest(manifest) = Document::parse(&raw.bytes, &raw.media_type).unwrap() else {
        return println!("SKIPPED: the registry has an index there");
    };
    let layer = &manifest.layers[0];
    let mut reader = BlobReader::start(Arc::clone(&remote), reference.clone(), layer.clone(), |_| {});
    let received = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink()));
    assert_eq!(received.await.unwrap().unwrap(), layer.size);
    assert_eq!(remote.blob(&reference, layer, layer.size - 1).await.unwrap().offset, layer.size - 1);
}
