//! Whom a pull reaches, what it tells them, and how long it waits for them. All of them are on this machine.

use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use base64::Engine;

use crate::need;
use crate::support::image::{Image, Packing, file, layer, sha256};
use crate::support::site::{Site, Stream, Tls, reply, tls};
use crate::support::{Env, all, programs, said};

/// Names and values.
type Variables<'a> = &'a [(&'a str, &'a str)];

const TOKEN: &str = r#"{"token":"t0ken"}"#;

fn image() -> Image {
    Image::new(&[layer(&[file("a", b"what was asked for")])], Packing::Gzip)
}

/// Serves manifest and config of an image as `bad:1`; what else is asked for, such as the layer, `other` answers.
fn serve_image(request: &str, stream: &mut dyn Stream, image: &Image, other: impl FnOnce(&str, &mut dyn Stream)) {
    let path = path(request);
    let manifest = image.manifest.to_string();
    let config = format!("/v2/bad/blobs/{}", sha256(&image.config));
    if path == "/v2/bad/manifests/1" {
        let media_type = image.manifest["mediaType"].as_str().unwrap();
        reply(stream, 200, &[("Content-Type", media_type)], manifest.as_bytes());
    } else if path == config {
        reply(stream, 200, &[], &image.config);
    } else {
        other(path, stream);
    }
}

fn path(request: &str) -> &str {
    request.split(' ').nth(1).unwrap_or_default()
}

fn is_told(request: &str) -> bool {
    request.to_lowercase().contains("\r\nauthorization: ")
}

/// A file with a login for a registry.
fn login(env: &Env, address: &str) -> String {
    let login = base64::engine::general_purpose::STANDARD.encode("reader:open sesame");
    let path = env.scratch.join("auth.json");
    std::fs::write(&path, serde_json::json!({"auths": {address: {"auth": login}}}).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn pull(env: &Env, words: &[&str], variables: Variables<'_>) -> Output {
    let mut command = env.command(programs().join("lstore"));
    command.args(["pull", "-q", "--tls-verify=false"]).args(words).envs(variables.iter().copied()).output().unwrap()
}

/// One pull whose layer is behind redirects: `chain` names who answers after the registry, `a`, in order. All of them
/// on addresses of their own. What each was asked.
fn redirected(env: &Env, chain: &str, tls: Option<&Tls>, scheme: &'static str) -> Vec<(char, Vec<String>)> {
    let image = image();
    let layer = image.blobs[0].1.clone();
    let mut sites: Vec<(char, Site)> = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        .iter()
        .zip("abc".chars())
        .map(|(ip, name)| (name, Site::bind(ip, tls)))
        .collect();
    let url = |name: char, path: &str| sites.iter().find(|(known, _)| *known == name).unwrap().1.url(path);
    let hops: Vec<String> = chain.chars().enumerate().map(|(at, name)| url(name, &format!("/hop/{at}"))).collect();
    let token = url('a', "/token");
    let address = sites[0].1.address.to_string();
    for (name, site) in &mut sites {
        let (hops, layer, image, token, is_registry) =
            (hops.clone(), layer.clone(), self::image(), token.clone(), *name == 'a');
        site.serve(move |request, stream| {
            let next = match path(request).strip_prefix("/hop/").and_then(|at| at.parse::<usize>().ok()) {
                Some(at) => at + 1,
                None if !is_registry => return reply(stream, 404, &[], b""),
                None if path(request).starts_with("/token") => return reply(stream, 200, &[], TOKEN.as_bytes()),
                None if !is_told(request) => {
                    let bearer = format!("Bearer realm=\"{token}\"");
                    let challenge = if scheme == "Basic" { "Basic realm=\"x\"" } else { &bearer };
                    return reply(stream, 401, &[("WWW-Authenticate", challenge)], b"");
                }
                None => 0,
            };
            let on = |_: &str, stream: &mut dyn Stream| match hops.get(next) {
                Some(location) => reply(stream, if next == 0 { 307 } else { 302 }, &[("Location", location)], b""),
                None => reply(stream, 200, &[], &layer),
            };
            if next == 0 { serve_image(request, stream, &image, on) } else { on("", stream) }
        });
    }
    let output = pull(env, &["--authfile", &login(env, &address), &format!("{address}/bad:1")], &[]);
    let id = said(&output);
    env.ok(&["rmi", "-f", id.trim()]);
    env.ok(&["gc"]);
    sites.iter().map(|(name, site)| (*name, site.asked())).collect()
}

#[test]
fn a_login_stays_with_the_registry_whoever_it_redirects_to() {
    let env = need!("a_login_stays", Env::new());
    let folder = tempfile::tempdir().unwrap();
    let tls = need!("a_login_stays", tls(folder.path()));
    let mut leaks = Vec::new();
    for (tls, name) in [(None, "HTTP"), (Some(&tls), "TLS")] {
        for scheme in ["Basic", "Bearer"] {
            // Back at the registry, the login stays away too: whoever led there chose what is asked for.
            for chain in ["a", "b", "bb", "ba", "bcb"] {
                let asked = redirected(&env, chain, tls, scheme);
                let hops = asked.iter().flat_map(|(site, asked)| {
                    asked
                        .iter()
                        .filter(|request| path(request).starts_with("/hop/"))
                        .map(move |request| (site, request))
                });
                let mut count = 0;
                for (site, request) in hops {
                    count += 1;
                    let expected = chain == "a";
                    if is_told(request) != expected {
                        leaks.push(format!("{name} {scheme} a→{chain}: {site} {}", path(request)));
                    }
                }
                assert_eq!(count, chain.len(), "{name} {scheme} a→{chain}");
            }
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// A registry that asks for a login, and whoever it redirects to as well: that one's challenge is nobody's business.
#[test]
fn a_challenge_from_elsewhere_is_not_answered() {
    let env = need!("a_challenge_from_elsewhere", Env::new());
    let mut decoy = Site::bind("127.0.0.3", None);
    decoy.serve(|_, stream| reply(stream, 200, &[], TOKEN.as_bytes()));
    let mut elsewhere = Site::bind("127.0.0.2", None);
    let challenge = format!("Bearer realm=\"{}\"", decoy.url("/token"));
    elsewhere.serve(move |_, stream| reply(stream, 401, &[("WWW-Authenticate", &challenge)], b""));
    let mut registry = Site::bind("127.0.0.1", None);
    let location = elsewhere.url("/x");
    registry.serve(move |_, stream| reply(stream, 307, &[("Location", &location)], b""));
    let address = registry.address.to_string();
    let output = pull(&env, &["--authfile", &login(&env, &address), &format!("{address}/bad:1")], &[]);
    assert!(!output.status.success());
    assert!(decoy.asked().is_empty(), "{:?}", decoy.asked());
    assert!(all(&output).contains("127.0.0.2"), "{}", all(&output));
}

/// Runs `lstore pull` where names mean what a test says, in a mount namespace of its own. Nobody else is asked for names.
fn pull_with_hosts(env: &Env, hosts: &[(&str, &str)], words: &[&str], variables: Variables<'_>) -> Output {
    let at = |name: &str| env.scratch.join(name);
    // With an address of each kind, nobody has to be asked for the other.
    let lines = hosts.iter().map(|(ip, name)| format!("{ip} {name}\n::ffff:{ip} {name}\n"));
    std::fs::write(at("hosts"), lines.collect::<String>()).unwrap();
    std::fs::write(at("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let script = r#"mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf && exec "$@""#;
    let mut command = env.command("unshare");
    command.args(["--mount", "--", "sh", "-c", script, "sh"]).arg(programs().join("lstore"));
    command.args(["pull", "-q", "--tls-verify=false"]).args(words).envs(variables.iter().copied()).output().unwrap()
}

/// Whether anyone connects to a listener.
fn was_reached(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

#[test]
fn a_name_that_means_this_machine_is_not_reached_on_a_registrys_word() {
    let env = need!("a_name_that_means_this_machine", Env::root());
    let decoy = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = decoy.local_addr().unwrap().port();
    let hosts = &[("127.0.0.1", "registry.test"), ("127.0.0.2", "auth.test")];
    let cases = [
        (401, "WWW-Authenticate", format!("Bearer realm=\"https://auth.test:{port}/token\"")),
        (307, "Location", format!("http://auth.test:{port}/x")),
    ];
    for (status, header, value) in cases {
        let mut registry = Site::bind("127.0.0.1", None);
        let told = value.clone();
        registry.serve(move |_, stream| reply(stream, status, &[(header, &told)], b""));
        // The caller chose this name, wherever it leads.
        let name = format!("registry.test:{}/bad:1", registry.address.port());
        let output = pull_with_hosts(&env, hosts, &[&name], &[]);
        assert!(!output.status.success());
        assert!(registry.asked().iter().any(|request| request.starts_with("get /v2/bad")), "{}", all(&output));
        assert!(!was_reached(&decoy), "{value}");
        assert!(all(&output).contains("auth.test") && all(&output).contains("loopback"), "{}", all(&output));
    }
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let env = need!("a_body_that_trickles", Env::new());
    let image = image();
    let mut registry = Site::bind("127.0.0.1", None);
    let layer = image.blobs[0].1.clone();
    registry.serve(move |request, stream| {
        serve_image(request, stream, &image, |_, stream| {
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", layer.len());
            let _ = stream.write_all(head.as_bytes());
            for byte in &layer {
                if stream.write_all(&[*byte]).and_then(|()| stream.flush()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(300));
            }
        });
    });
    let name = format!("{}/bad:1", registry.address);
    let pulls: [(&[&str], Variables<'_>); 2] =
        [(&["--min-rate", "1000:1", &name], &[]), (&[&name], &[("LSTORE_MIN_RATE", "1000:1")])];
    std::thread::scope(|threads| {
        for (words, variables) in pulls {
            let env = &env;
            threads.spawn(move || {
                let began = Instant::now();
                let output = pull(env, words, variables);
                assert!(!output.status.success() && began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
                assert!(all(&output).contains("fewer than 1000 bytes a second came for 1 s"), "{}", all(&output));
            });
        }
    });
}

/// A proxy that has no way out: it tells whom it should have reached.
fn proxy() -> Site {
    let mut proxy = Site::bind("127.0.0.9", None);
    proxy.serve(|_, stream| reply(stream, 502, &[], b""));
    proxy
}

#[test]
fn a_registry_on_this_machine_is_reached_without_a_proxy() {
    let env = need!("a_registry_on_this_machine", Env::new());
    let proxy = proxy();
    let mut registry = Site::bind("127.0.0.1", None);
    let image = image();
    let layer = image.blobs[0].1.clone();
    registry.serve(move |request, stream| {
        if is_told(request) {
            serve_image(request, stream, &image, |_, stream| reply(stream, 200, &[], &layer));
        } else {
            reply(stream, 401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"");
        }
    });
    let port = registry.address.port();
    let url = proxy.url("/");
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        for host in ["127.0.0.1", "localhost"] {
            let address = format!("{host}:{port}");
            let file = login(&env, &address);
            let output = pull(&env, &["--authfile", &file, &format!("{address}/bad:1")], &[(variable, &url)]);
            assert!(proxy.asked().is_empty(), "{variable} {host}: {:?}", proxy.asked());
            assert!(output.status.success(), "{variable} {host}: {}", all(&output));
        }
    }
}

#[test]
fn other_registries_are_reached_through_the_proxy_that_is_named() {
    let env = need!("other_registries", Env::root());
    let mut registry = Site::bind("127.0.0.1", None);
    registry.serve(|_, stream| reply(stream, 404, &[], b""));
    let port = registry.address.port();
    let name = format!("registry.test:{port}/bad:1");
    let with_port = format!("registry.test:{port}");
    let of_another = format!("registry.test:{}", port ^ 1);
    let cases: &[(Variables<'_>, bool)] = &[
        (&[("http_proxy", "")], false),
        (&[("http_proxy", "P")], true),
        (&[("HTTP_PROXY", "P")], true),
        (&[("HTTP_PROXY", "P"), ("REQUEST_METHOD", "GET")], false),
        (&[("all_proxy", "P")], true),
        (&[("ALL_PROXY", "P"), ("no_proxy", "*")], false),
        (&[("all_proxy", "P"), ("NO_PROXY", "other, registry.test")], false),
        (&[("all_proxy", "P"), ("no_proxy", ".test")], false),
        (&[("all_proxy", "P"), ("no_proxy", &with_port)], false),
        (&[("all_proxy", "P"), ("no_proxy", &of_another)], true),
    ];
    for (variables, is_proxied) in cases {
        let proxy = proxy();
        let url = proxy.url("/");
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, if *value == "P" { url.as_str() } else { *value })).collect();
        // A try with TLS is heard as nothing by who speaks none.
        let heard = || registry.asked().iter().filter(|request| !request.is_empty()).count();
        let before = heard();
        // Only a name that says nothing of where it leads is a proxy's to look up.
        let output = pull_with_hosts(&env, &[("127.0.0.1", "registry.test")], &[&name], &variables);
        assert!(!output.status.success());
        assert_eq!(!proxy.asked().is_empty(), *is_proxied, "{variables:?}: {}", all(&output));
        assert_eq!(heard() > before, !*is_proxied, "{variables:?}: {}", all(&output));
    }
    let output = pull(&env, &[&name], &[("https_proxy", "socks5://me:secret@127.0.0.1:1")]);
    assert!(all(&output).contains("https_proxy") && !all(&output).contains("secret"), "{}", all(&output));
}
