//! Debian's docker-registry, on a port and a folder of a test's own, ended by process id.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::image::{Image, sha256};

/// The user of a registry that asks who one is, its password, and both as htpasswd has them.
pub const LOGIN: (&str, &str) = ("reader", "open sesame");
const HTPASSWD: &str = "reader:$2y$05$lstestlstestlstestlstu81IJMYoQyMujxTZaQtzKp8VP16F..Nm";

/// How a registry is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Access {
    /// Over TLS, with a certificate of an authority of its own.
    pub tls: bool,
    /// By [`LOGIN`] alone.
    pub login: bool,
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    folder: tempfile::TempDir,
    access: Access,
    pub address: String,
}

impl Registry {
    /// One that is open to all, over plain HTTP.
    pub fn start() -> Result<Self, String> {
        Self::guarded(Access::default())
    }

    pub fn guarded(access: Access) -> Result<Self, String> {
        super::has("docker-registry")?;
        super::has("curl")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = format!("127.0.0.1:{}", port.map_err(|error| error.to_string())?.port());
        let config = folder.path().join("config.yml");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut http = format!("addr: {address}");
        if access.tls {
            certify(folder.path())?;
            http = format!("{http}, tls: {{certificate: {}, key: {}}}", at("cert.pem"), at("key.pem"));
        }
        let mut text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{{http}}}\nlog: {{level: info}}\n",
            at("data")
        );
        if access.login {
            std::fs::write(at("htpasswd"), HTPASSWD).map_err(|error| error.to_string())?;
            text = format!("{text}auth: {{htpasswd: {{realm: test, path: {}}}}}\n", at("htpasswd"));
        }
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let log = std::fs::File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(|error| error.to_string())?;
        let registry = Self { process, folder, access, address };
        for _ in 0..100 {
            if std::net::TcpStream::connect(&registry.address).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("docker-registry does not answer".to_owned())
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn url(&self) -> String {
        format!("{}://{}", if self.access.tls { "https" } else { "http" }, self.address)
    }

    /// What was asked of it.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How often a blob was fetched.
    pub fn fetches(&self, digest: &str) -> usize {
        let wanted = format!("blobs/{digest} HTTP");
        self.log().lines().filter(|line| line.contains("\"GET ") && line.contains(&wanted)).count()
    }

    /// Puts an image in; its full name.
    pub fn push(&self, image: &Image, name: &str) -> String {
        let (repository, tag) = name.split_once(':').unwrap();
        self.push_blob(repository, &image.config);
        for (_, bytes) in &image.blobs {
            self.push_blob(repository, bytes);
        }
        let manifest = image.manifest.to_string();
        let url = format!("{}/v2/{repository}/manifests/{tag}", self.url());
        let media_type = image.manifest["mediaType"].as_str().unwrap();
        self.curl(&["-X", "PUT", "-H", &format!("Content-Type: {media_type}"), &url], manifest.as_bytes());
        format!("{}/{name}", self.address)
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let url = format!("{}/v2/{repository}/blobs/uploads/", self.url());
        let head = self.curl(&["-X", "POST", "-D", "-", "-o", "/dev/null", &url], b"");
        let location = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let url = format!("{}&digest={}", location.unwrap(), sha256(bytes));
        self.curl(&["-X", "PUT", "-H", "Content-Type: application/octet-stream", &url], bytes);
    }

    fn curl(&self, words: &[&str], body: &[u8]) -> String {
        let path = self.folder.path().join(format!("body-{}", sha256(body).len() + body.len()));
        std::fs::write(&path, body).unwrap();
        let data = format!("@{}", path.display());
        let login = format!("{}:{}", LOGIN.0, LOGIN.1);
        let output =
            Command::new("curl").args(["-fsSk", "-u", &login, "--data-binary", &data]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes an authority, `ca.pem`, and what it vouches for: `cert.pem` with `key.pem`.
pub fn certify(folder: &Path) -> Result<(), String> {
    super::has("openssl")?;
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").map_err(|error| error.to_string())?;
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for words in [
        format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
        format!("req {key} -subj /CN=registry -keyout key.pem -out request.pem"),
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem"
            .to_owned(),
    ] {
        super::run(Command::new("openssl").args(words.split(' ')).current_dir(folder))?;
    }
    // Its reader is another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, open).map_err(|error| error.to_string())
}

/// The developer's registry of larger real images, if it runs (`tests/corpus` fills one).
pub fn corpus() -> Result<(String, Vec<String>), String> {
    let address = std::env::var("LSTORE_CORPUS").unwrap_or_else(|_| "127.0.0.1:5000".to_owned());
    let parsed = address.parse().map_err(|_| format!("LSTORE_CORPUS={address} is no address"))?;
    std::net::TcpStream::connect_timeout(&parsed, Duration::from_millis(300))
        .map_err(|_| format!("no registry of real images at {address}; set LSTORE_CORPUS"))?;
    let mut names = Vec::new();
    for name in ["debian:12", "python:3.11", "app-py:1", "app-py:2", "app-py:3"] {
        let (repository, tag) = name.split_once(':').unwrap_or_default();
        let url = format!("http://{address}/v2/{repository}/manifests/{tag}");
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        if super::run(Command::new("curl").args(["-fsS", "-o", "/dev/null", "-H", accept, &url])).is_ok() {
            names.push(format!("{address}/{name}"));
        }
    }
    if names.is_empty() {
        Err(format!("the registry at {address} has none of the real images"))
    } else {
        Ok((address, names))
    }
}
