//! Every environment variable that the commands read.
//!
//! The libraries read none: what they need is looked up here and handed to them. The process environment is copied
//! once, so the same code runs in tests on an environment of their own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lstore::registry::{Exceptions, Proxies, Proxy, ProxyError};

use crate::global::Global;
use crate::rate::{Rate, RateError};
use crate::report::Failure;

/// Where the store is; wins over every default but the flag `--root`.
pub const LSTORE_ROOT: &str = "LSTORE_ROOT";
/// How much a layer may be: `NAME=NUMBER,…`, see [`lstore::Limits`].
pub const LSTORE_LIMITS: &str = "LSTORE_LIMITS";
/// Base directory of user data (XDG Base Directory Specification); the store is its `lstore`.
pub const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// Per-login runtime directory (XDG Base Directory Specification); Podman keeps its logins below it.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// Base directory of user configuration (XDG Base Directory Specification).
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// Home directory, from which the XDG directories are derived when they are not set.
pub const HOME: &str = "HOME";
/// Path of a credentials file, as for Podman; the flag `--authfile` wins.
pub const REGISTRY_AUTH_FILE: &str = "REGISTRY_AUTH_FILE";
/// Directory of Docker's `config.json`.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// The rate below which a source of images is given up, as for `--min-rate`, which wins.
pub const LSTORE_MIN_RATE: &str = "LSTORE_MIN_RATE";
/// Proxy for what is asked in plain HTTP. In capitals, it is not believed in a CGI program: there it is what a client
/// sent as a header `Proxy`.
pub const HTTP_PROXY: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
/// Proxy for what is asked over TLS.
pub const HTTPS_PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
/// Proxy for both, where the others are not set.
pub const ALL_PROXY: [&str; 2] = ["ALL_PROXY", "all_proxy"];
/// Hosts that are reached without a proxy.
pub const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Is set for CGI programs (RFC 3875).
pub const REQUEST_METHOD: &str = "REQUEST_METHOD";
/// File of root certificates, in place of this machine's. The TLS library reads it, and the next, by itself.
pub const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
/// Directories of root certificates.
pub const SSL_CERT_DIR: &str = "SSL_CERT_DIR";
/// Where helper programs are looked for, by the system.
pub const PATH: &str = "PATH";
/// Turns colours off when set to anything but the empty string (no-color.org).
pub const NO_COLOR: &str = "NO_COLOR";
/// Kind of terminal; `dumb` cannot move its cursor, so it gets neither colours nor bars.
pub const TERM: &str = "TERM";
/// The shell that `lstore unshare` starts when no command is given.
pub const SHELL: &str = "SHELL";

/// The variables and their meaning, for the manual and the help text.
pub const VARIABLES: &[(&str, &str)] = &[
    (LSTORE_ROOT, "the store directory; --root wins over it"),
    (
        LSTORE_LIMITS,
        "how much a layer may be, NAME=NUMBER,…: members (10000000), bytes of its tar (1 TiB), logical bytes of its files, \
         holes counted (4 GiB), and ratio (64) more for each byte of the tar, bytes of metadata of all layers (1 GiB)",
    ),
    (XDG_DATA_HOME, "the store is $XDG_DATA_HOME/lstore when LSTORE_ROOT is not set"),
    (HOME, "the store is $HOME/.local/share/lstore when neither is set"),
    (REGISTRY_AUTH_FILE, "the file with registry credentials; --authfile wins over it"),
    (DOCKER_CONFIG, "the directory of Docker's config.json, read for credentials"),
    (XDG_RUNTIME_DIR, "its containers/auth.json is read for credentials; its lrun/ is where starts find the holder"),
    (XDG_CONFIG_HOME, "its containers/auth.json is read for credentials"),
    (PATH, "where docker-credential-NAME is, which keeps credentials"),
    (LSTORE_MIN_RATE, "BYTES[:SECONDS]: a source that is slower is given up; --min-rate wins over it"),
    (
        HTTP_PROXY[0],
        "the proxy for registries in plain HTTP, also in small letters; not heeded where REQUEST_METHOD is set",
    ),
    (HTTPS_PROXY[0], "the proxy for registries over TLS, also in small letters"),
    (ALL_PROXY[0], "the proxy for both, also in small letters"),
    (
        NO_PROXY[0],
        "who is reached without one: names, addresses, networks, with a port or not, '*'; also in small letters",
    ),
    (REQUEST_METHOD, "HTTP_PROXY is not heeded when set, as in a CGI program"),
    (SSL_CERT_FILE, "the file of root certificates, in place of the system's"),
    (SSL_CERT_DIR, "the directories of root certificates"),
    (NO_COLOR, "no colours when set and not empty"),
    (TERM, "no colours and no progress bars when 'dumb'"),
    (SHELL, "what 'lstore unshare' runs when it is given no command"),
];

/// The store of the system administrator, which is no user's data.
const SYSTEM_STORE: &str = "/var/lib/lstore";

/// Why a default could not be derived from the environment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvError {
    /// Neither a flag nor a variable names the store.
    #[error(
        "cannot tell where the store is: neither LSTORE_ROOT, XDG_DATA_HOME nor HOME is an absolute path; set LSTORE_ROOT or give --root DIR"
    )]
    NoStore,
    /// A variable names a proxy that cannot be one.
    #[error("{variable}: {source}")]
    Proxy {
        /// Its name.
        variable: &'static str,
        /// Why.
        source: ProxyError,
    },
    /// A variable holds a rate that is none.
    #[error("{LSTORE_MIN_RATE}: {0}")]
    Rate(RateError),
}

/// A copy of an environment: that of the process, or a test's own.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Copies the environment of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of `name`; the first one if it is set twice, as getenv(3).
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }

    /// All variables in the order of the environment.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(key, value)| (key.as_os_str(), value.as_os_str()))
    }

    /// The store directory: `flag`, else `LSTORE_ROOT`, else for root (`is_root`) `/var/lib/lstore`, else `lstore` in
    /// the user's data directory.
    ///
    /// Root's store ignores `XDG_DATA_HOME` and `HOME`: sudo may hand on those of the caller, and a store of root in a
    /// user's home would be one that the user can neither read nor remove. Errors: no variable helps. A relative
    /// `flag` or `LSTORE_ROOT` is left relative to the working directory.
    pub fn store_root(&self, flag: Option<&Path>, is_root: bool) -> Result<PathBuf, EnvError> {
        if let Some(path) = flag {
            return Ok(path.to_owned());
        }
        if let Some(path) = self.get(LSTORE_ROOT).filter(|path| !path.is_empty()) {
            return Ok(PathBuf::from(path));
        }
        if is_root {
            return Ok(PathBuf::from(SYSTEM_STORE));
        }
        self.directory(XDG_DATA_HOME)
            .or_else(|| Some(self.directory(HOME)?.join(".local/share")))
            .map(|data| data.join("lstore"))
            .ok_or(EnvError::NoStore)
    }

    /// How much a layer may be, by `LSTORE_LIMITS`.
    ///
    /// # Errors
    /// A name or number that is none.
    pub fn limits(&self) -> Result<lstore::Limits, Failure> {
        let text = self.get(LSTORE_LIMITS).unwrap_or_default().to_string_lossy().into_owned();
        text.parse().map_err(|error| format!("{LSTORE_LIMITS}: {error}").into())
    }

    /// The files that may hold registry credentials, best first; not all of them exist.
    ///
    /// The order is Podman's (containers-auth.json(5)): the login of this session, that of the user, then Docker's.
    /// A file named by `flag` or `REGISTRY_AUTH_FILE` is the only one, so that a job can be kept from other logins.
    pub fn credential_files(&self, flag: Option<&Path>) -> Vec<PathBuf> {
        if let Some(path) = flag {
            return vec![path.to_owned()];
        }
        if let Some(path) = self.get(REGISTRY_AUTH_FILE).filter(|path| !path.is_empty()) {
            return vec![PathBuf::from(path)];
        }
        let home = self.directory(HOME);
        let config = self.directory(XDG_CONFIG_HOME).or_else(|| Some(home.as_ref()?.join(".config")));
        let docker = self.directory(DOCKER_CONFIG).or_else(|| Some(home.as_ref()?.join(".docker")));
        [
            self.directory(XDG_RUNTIME_DIR).map(|dir| dir.join("containers/auth.json")),
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The proxies for registries.
    ///
    /// # Errors
    /// A variable that names none.
    pub fn proxies(&self) -> Result<Proxies, EnvError> {
        let is_cgi = self.get(REQUEST_METHOD).is_some();
        let http = if is_cgi { &HTTP_PROXY[1..] } else { &HTTP_PROXY };
        let exceptions = self.first(&NO_PROXY).map(|(_, list)| list.to_string_lossy()).unwrap_or_default();
        // Desktops set the one for all to what only some programs speak; where it is not needed it does no harm.
        let proxy = |names| self.proxy(names).transpose().or_else(|| self.proxy(&ALL_PROXY).transpose()).transpose();
        Ok(Proxies {
            http: proxy(http)?,
            https: proxy(&HTTPS_PROXY)?,
            exceptions: Exceptions::from(exceptions.as_ref()),
        })
    }

    fn proxy(&self, names: &[&'static str]) -> Result<Option<Proxy>, EnvError> {
        let Some((variable, value)) = self.first(names) else { return Ok(None) };
        let proxy = value.to_str().ok_or(ProxyError).and_then(str::parse);
        proxy.map(Some).map_err(|source| EnvError::Proxy { variable, source })
    }

    /// The first of some variables that is set and not empty.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, &OsStr)> {
        names.iter().find_map(|&name| Some((name, self.get(name).filter(|value| !value.is_empty())?)))
    }

    /// The rate below which a source is given up.
    ///
    /// # Errors
    /// A variable that holds none.
    pub fn minimum_rate(&self) -> Result<Rate, EnvError> {
        let Some(value) = self.get(LSTORE_MIN_RATE).filter(|value| !value.is_empty()) else {
            return Ok(Rate::default());
        };
        value.to_str().ok_or(RateError).and_then(str::parse).map_err(EnvError::Rate)
    }

    /// The store of this process's user, as an absolute path.
    ///
    /// # Errors
    /// [`EnvError`], or a working directory that has gone.
    pub fn store(&self, global: &Global) -> Result<PathBuf, Failure> {
        let is_root = rustix::process::geteuid().is_root();
        Ok(std::path::absolute(self.store_root(global.root.as_deref(), is_root)?)?)
    }

    /// The runtime directory of this login.
    pub fn runtime_folder(&self) -> Option<PathBuf> {
        self.directory(XDG_RUNTIME_DIR)
    }

    /// Whether coloured output is wanted on a stream that is a terminal or not.
    pub fn colours(&self, is_terminal: bool) -> bool {
        is_terminal && self.get(NO_COLOR).is_none_or(OsStr::is_empty) && !self.is_dumb()
    }

    /// Whether a stream that is a terminal or not can redraw progress bars.
    pub fn bars(&self, is_terminal: bool) -> bool {
        is_terminal && !self.is_dumb()
    }

    /// The user's shell, else `/bin/sh`.
    pub fn shell(&self) -> &OsStr {
        self.get(SHELL).filter(|shell| !shell.is_empty()).unwrap_or(OsStr::new("/bin/sh"))
    }

    fn is_dumb(&self) -> bool {
        self.get(TERM).is_some_and(|term| term == "dumb")
    }

    /// A directory named by a variable. Relative ones are ignored, as the XDG specification asks: they would name
    /// another directory in every working directory.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        let value = self.get(name)?;
        value.as_bytes().starts_with(b"/").then(|| PathBuf::from(value))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    fn root(variables: &[(&str, &str)], is_root: bool) -> Result<PathBuf, EnvError> {
        environment(variables).store_root(None, is_root)
    }

    #[test]
    fn the_store_is_the_first_of_flag_variable_data_directory_and_home() {
        let all = [(LSTORE_ROOT, "/one"), (XDG_DATA_HOME, "/two"), (HOME, "/home/u")];
        let flag = environment(&all).store_root(Some(Path::new("/zero")), false);
        assert_eq!(flag, Ok("/zero".into()));
        assert_eq!(root(&all, false), Ok("/one".into()));
        assert_eq!(root(&all[1..], false), Ok("/two/lstore".into()));
        assert_eq!(root(&all[2..], false), Ok("/home/u/.local/share/lstore".into()));
        assert_eq!(root(&[], false), Err(EnvError::NoStore));
    }

    #[test]
    fn the_store_of_root_is_the_systems_whatever_sudo_hands_on() {
        let user = [(XDG_DATA_HOME, "/home/u/data"), (HOME, "/home/u")];
        assert_eq!(root(&user, true), Ok("/var/lib/lstore".into()));
        assert_eq!(root(&[(LSTORE_ROOT, "/one")], true), Ok("/one".into()));
    }

    #[test]
    fn empty_and_relative_variables_count_as_unset() {
        let odd = [(LSTORE_ROOT, ""), (XDG_DATA_HOME, "data"), (HOME, "/h")];
        assert_eq!(root(&odd, false), Ok("/h/.local/share/lstore".into()));
    }

    #[test]
    fn credentials_are_looked_up_as_podman_does() {
        let files = environment(&[(HOME, "/h"), (XDG_RUNTIME_DIR, "/run/user/1")])
            .credential_files(None)
            .into_iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>();
        assert_eq!(
            files,
            ["/run/user/1/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
    }

    #[test]
    fn a_named_credentials_file_is_the_only_one() {
        let environment = environment(&[(HOME, "/h"), (REGISTRY_AUTH_FILE, "/job/auth.json")]);
        assert_eq!(environment.credential_files(None), [PathBuf::from("/job/auth.json")]);
        assert_eq!(environment.credential_files(Some(Path::new("mine"))), [PathBuf::from("mine")]);
    }

    #[test]
    fn colours_need_a_capable_terminal_that_does_not_refuse_them() {
        assert!(environment(&[(TERM, "xterm")]).colours(true));
        assert!(environment(&[(NO_COLOR, "")]).colours(true));
        assert!(!environment(&[]).colours(false));
        assert!(!environment(&[(NO_COLOR, "1")]).colours(true));
        assert!(!environment(&[(TERM, "dumb")]).colours(true));
        assert!(environment(&[(NO_COLOR, "1")]).bars(true));
        assert!(!environment(&[(TERM, "dumb")]).bars(true));
    }

    #[test]
    fn the_shell_has_a_default() {
        assert_eq!(environment(&[(SHELL, "/bin/zsh")]).shell(), "/bin/zsh");
        assert_eq!(environment(&[(SHELL, "")]).shell(), "/bin/sh");
    }

    #[test]
    fn proxies_are_those_of_their_variables() {
        let proxies = |variables: &[(&str, &str)]| environment(variables).proxies();
        let proxy = |text: &str| Some(text.parse::<Proxy>().unwrap());
        let none = proxies(&[("http_proxy", ""), ("ftp_proxy", "x")]).unwrap();
        assert_eq!((none.http, none.https), (None, None));
        let both = proxies(&[("all_proxy", "a"), ("https_proxy", "s"), ("NO_PROXY", "x,y")]).unwrap();
        assert_eq!((both.http, both.https, both.exceptions), (proxy("a"), proxy("s"), Exceptions::from("x,y")));
        let cgi = [(REQUEST_METHOD, "GET"), ("HTTP_PROXY", "evil")];
        assert_eq!(proxies(&cgi).unwrap().http, None);
        assert_eq!(proxies(&cgi[1..]).unwrap().http, proxy("evil"));
        assert!(proxies(&[("ALL_PROXY", "socks5://x"), ("http_proxy", "a"), ("https_proxy", "b")]).is_ok());
        let odd = proxies(&[("ALL_PROXY", "socks5://x")]).unwrap_err();
        assert_eq!(odd, EnvError::Proxy { variable: "ALL_PROXY", source: ProxyError });
    }

    #[test]
    fn the_rate_is_that_of_its_variable() {
        assert_eq!(environment(&[]).minimum_rate().unwrap().to_string(), "1000:60");
        assert_eq!(environment(&[(LSTORE_MIN_RATE, "5:6")]).minimum_rate().unwrap().to_string(), "5:6");
        assert!(environment(&[(LSTORE_MIN_RATE, "fast")]).minimum_rate().is_err());
    }

    #[test]
    fn every_variable_is_in_the_list() {
        let names =
            include_str!("env.rs").lines().filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1));
        for name in names {
            assert!(VARIABLES.iter().any(|(listed, _)| *listed == name), "{name}");
        }
    }
}
