//! The image configuration (OCI image specification, `config.md`; Docker's is the same with nulls).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use super::{MAX_BYTES, ManifestError};
use crate::digest::Digest;

/// What an image is and how it wants to be run.
///
/// It serialises with the names of the specification; fields that the store does not know are left out, so the bytes
/// that came are what an image id is taken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Instruction set, in Go's words; empty where the image does not say.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Operating system, in Go's words; empty where the image does not say.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Generation of the instruction set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When it was built, as the image wrote it (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How to run it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// Its layers.
    rootfs: RootFs,
    /// The steps that made it, oldest first.
    #[serde(default, deserialize_with = "or_default")]
    pub history: Vec<History>,
}

/// How an image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// Environment, each `NAME=value`.
    #[serde(default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Program and first arguments; empty for none.
    #[serde(default, deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// Arguments after the entrypoint, or the program itself where there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    #[serde(default, deserialize_with = "or_default")]
    pub user: String,
    /// Directory to start in; empty for `/`.
    #[serde(default, deserialize_with = "or_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// Ports it listens on: `80`, `80/tcp`.
    #[serde(default, with = "keys")]
    pub exposed_ports: BTreeSet<String>,
    /// Directories for data of its own.
    #[serde(default, with = "keys")]
    pub volumes: BTreeSet<String>,
    /// Signal that ends it: `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How its health is checked (an extension of Docker's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// A health check. Zero times and counts are the runner's to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD` and words, or `CMD-SHELL` and a line.
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Nanoseconds between checks.
    pub interval: i64,
    /// Nanoseconds that a check may take.
    pub timeout: i64,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
}

/// One step of the making of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as the image wrote it (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ManifestError::TooLarge`], [`ManifestError::Json`], [`ManifestError::RootFs`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge { what: "image config", size: bytes.len() });
        }
        let config: Self =
            serde_json::from_slice(bytes).map_err(|source| ManifestError::Json { what: "image config", source })?;
        if config.rootfs.kind != "layers" {
            return Err(ManifestError::RootFs(config.rootfs.kind.chars().take(100).collect()));
        }
        Ok(config)
    }

    /// Digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }
}

/// Docker writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A set written as an object of empty objects: `{"80/tcp": {}}`.
mod keys {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, BTreeMap::<&str, &str>::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_iter().map(|(key, _)| key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_writes_null_where_oci_writes_nothing() {
        let layer = Digest::of(b"layer");
        let full = format!(
            r#"{{"architecture":"arm64","os":"linux","variant":"v8","created":"2024-01-01T00:00:00Z",
            "config":{{"Env":["A=b"],"Entrypoint":["/e"],"Cmd":null,"User":"1:2","WorkingDir":"/w","Labels":null,
            "ExposedPorts":{{"80/tcp":{{}}}},"Healthcheck":{{"Test":["CMD","x"],"Interval":5}},"Volumes":null,"StopSignal":"SIGINT","OnBuild":null}},
            "rootfs":{{"type":"layers","diff_ids":["{layer}"]}},
            "history":[{{"created_by":"RUN x"}},{{"empty_layer":true}}],"docker_version":"26"}}"#
        );
        let config = ImageConfig::parse(full.as_bytes()).unwrap();
        assert_eq!(config.diff_ids(), [layer]);
        assert_eq!((config.config.env, config.config.cmd), (vec!["A=b".to_owned()], vec![]));
        assert!(config.config.exposed_ports.contains("80/tcp") && config.config.volumes.is_empty());
        assert_eq!(config.config.healthcheck.map(|check| (check.test.len(), check.interval)), Some((2, 5)));
        assert!(config.history[1].empty_layer && !config.history[0].empty_layer);

        let bare = ImageConfig::parse(br#"{"rootfs":{"type":"layers","diff_ids":null},"config":null}"#).unwrap();
        assert_eq!((bare.diff_ids().len(), bare.os.as_str(), bare.config), (0, "", RunConfig::default()));
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = br#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"ExposedPorts":{"80":{}},"Env":["A=b"]}}"#;
        let config = ImageConfig::parse(text).unwrap();
        let written = serde_json::to_vec(&config).unwrap();
        assert_eq!(ImageConfig::parse(&written).unwrap(), config);
        assert!(String::from_utf8(written).unwrap().contains(r#""ExposedPorts":{"80":{}}"#));
    }

    #[test]
    fn no_layers_no_config() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"rootfs":{"type":"plugins","diff_ids":[]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#,
        ] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text} was accepted");
        }
    }
}
