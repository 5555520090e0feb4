//! Who asks, and where that may be told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use url::form_urlencoded::Serializer;

use super::reach::{Place, refusal};

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    Anonymous,
    /// Name and password.
    Basic {
        /// Name.
        username: String,
        /// Password or token.
        password: String,
    },
    /// A registry token, sent as it is.
    Bearer(String),
    /// An identity token, which a token server trades for a registry token. Nobody else ever gets it.
    Identity(String),
}

impl std::fmt::Debug for Credentials {
    /// Tells the kind alone: logs are no place for passwords.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
            Self::Identity(_) => "Identity(…)",
        })
    }
}

/// One way to log in that a registry offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lowercase: `bearer`, `basic`.
    pub(super) scheme: String,
    /// By lowercase name, in order.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a `WWW-Authenticate` header (RFC 9110, section 11.6.1): several challenges in any order, values with or without
/// quotes. What is no parameter of a challenge begins the next one.
pub(super) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        match (behind.trim_start().strip_prefix('='), found.last_mut()) {
            (Some(behind), Some(challenge)) => {
                let (value, behind) = value(behind.trim_start());
                challenge.parameters.push((word, value));
                rest = behind;
            }
            _ if word.is_empty() => return found,
            _ => {
                found.push(Challenge { scheme: word, parameters: Vec::new() });
                rest = behind;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// The value of an `Authorization` header for name and password (RFC 7617).
pub(super) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// What a token server is told so that it trades an identity token for one of the registry (RFC 6749, section 6, as
/// distribution's "OAuth2 Token Authentication" has it).
pub(super) fn refresh(identity: &str, service: Option<&str>, scope: &str) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", identity);
    form.append_pair("client_id", "lstore").append_pair("scope", scope);
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    form.finish()
}

/// The token server of a challenge, if a registry may send its clients there: over TLS where the registry is reached
/// over TLS itself, and never into the machine or its surroundings from outside of them, nor to a link-local address.
///
/// The host is judged as the URL parser understands it, by which the request goes out: `https://2130706433/` is loopback.
/// Where a name leads shows only when it is looked up, and is judged there.
pub(super) fn token_server(realm: &str, registry: &str, registry_is_plain: bool) -> Option<Url> {
    let url = Url::parse(realm).ok()?;
    let registry = Url::parse(&format!("https://{registry}")).ok()?;
    let (host, own) = (url.host_str()?, registry.host_str()?);
    let (place, own_place) = (Place::of_host(host), Place::of_host(own));
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => registry_is_plain && (host == own || place != Place::World),
        _ => false,
    };
    let is_clean = url.username().is_empty() && url.password().is_none();
    let is_reachable = host == own || place == Place::World || own_place != Place::World;
    (is_safe && is_clean && is_reachable && refusal(place, own_place).is_none()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_any_form() {
        let bearer = |realm: &str, service: Option<&str>| Challenge {
            scheme: "bearer".to_owned(),
            parameters: [("realm", Some(realm)), ("service", service)]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect(),
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        assert_eq!(challenges(hub), [bearer("https://auth.docker.io/token", Some("registry.docker.io"))]);
        assert_eq!(challenges("BEARER REALM = https://a/?b=c , Service=x"), [bearer("https://a/?b=c", Some("x"))]);
        assert_eq!(challenges(r#"bearer realm="a\"b, c""#), [bearer("a\"b, c", None)]);
        let both = challenges(r#"Basic realm="x", Bearer realm="y""#);
        assert_eq!((both[0].scheme.as_str(), both[0].parameter("realm")), ("basic", Some("x")));
        assert_eq!(both[1], bearer("y", None));
        for odd in ["", ",,", "=", "=x", "Bearer", r#"Bearer realm="unclosed"#, "Bearer =,=", r#"Bearer realm="\"#] {
            assert!(challenges(odd).iter().all(|challenge| challenge.parameter("service").is_none()), "{odd}");
        }
    }

    #[test]
    fn token_servers_are_not_in_our_own_surroundings() {
        let trusted = |realm: &str, registry: &str, plain| token_server(realm, registry, plain).is_some();
        for bad in [
            "http://169.254.169.254/latest",
            "https://169.254.169.254/latest",
            "https://127.0.0.1/token",
            "https://127.1/token",
            "https://2130706433/token",
            "https://0x7f.0.0.1/token",
            "https://%31%32%37.0.0.1/token",
            "https://[::1]:8080/token",
            "https://[::ffff:127.0.0.1]/token",
            "https://[fe80::1]/token",
            "https://10.0.0.1/token",
            "https://localhost/token",
            "https://localhost./token",
            "http://auth.example.com/token",
            "https://user@auth.example.com/",
            "https://auth.example.com:1@127.0.0.1/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!trusted(bad, "registry.example.com", false), "{bad}");
        }
        assert!(trusted("https://auth.docker.io/token", "registry-1.docker.io", false));
        assert!(trusted("http://localhost:5001/token", "127.0.0.1:5000", true));
        assert!(trusted("https://10.0.0.2/token", "10.0.0.1:5000", false));
        assert!(!trusted("http://169.254.169.254/", "10.0.0.1:5000", true));
        assert!(!trusted("https://127.0.0.1/token", "10.0.0.1:5000", false));
        assert!(!trusted("http://registry.example.com/token", "registry.example.com", false));
        assert!(!trusted("http://elsewhere.example.com/token", "registry.example.com", true));
    }

    #[test]
    fn an_identity_token_is_traded_in_a_form() {
        let form = refresh("a+b/c=&d", Some("reg istry"), "repository:org/app:pull");
        assert!(
            form.starts_with("grant_type=refresh_token&refresh_token=a%2Bb%2Fc%3D%26d&client_id=lstore&"),
            "{form}"
        );
        assert!(form.ends_with("&scope=repository%3Aorg%2Fapp%3Apull&service=reg+istry"), "{form}");
        assert!(!refresh("x", None, "y").contains("service"));
        assert_eq!(format!("{:?}", Credentials::Identity("x".to_owned())), "Identity(…)");
    }
}
