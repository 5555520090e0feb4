//! Manifests and indexes of the OCI image specification and of Docker's schema 2: from bytes to types, nothing fetched.
//!
//! What a document is, is said twice, by the media type under which it came and by its own field and shape. Where these
//! differ it is refused: a document that one reader takes for an index and another for a manifest is two images
//! (CVE-2021-41190).

mod config;
mod platform;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub use self::config::{Healthcheck, History, ImageConfig, RunConfig};
pub use self::platform::Platform;
use crate::blob::decompress::Compression;
use crate::digest::Digest;

/// Largest manifest, index or config that is read, in bytes. The distribution specification asks for 4 MiB at least.
pub const MAX_BYTES: usize = 8 << 20;

/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a Docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of a Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A manifest, index or config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_BYTES`].
    #[error("{what} has {size} bytes; at most {MAX_BYTES} are read")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its bytes.
        size: usize,
    },
    /// Not the JSON that it should be.
    #[error("{what} cannot be read: {source}; the image must be built or pushed again")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where it fails.
        source: serde_json::Error,
    },
    /// A media type that is none of an image.
    #[error("media type {0:?} is not that of a container image; the name may be that of another kind of artifact")]
    MediaType(String),
    /// Docker's first manifest format.
    #[error("the manifest is of Docker schema 1, which is not supported; pull and push it with a current engine")]
    Schema1,
    /// Several readings.
    #[error(
        "the document says it is {field:?} but came as {declared:?}; it is refused since it could be read both ways"
    )]
    Disagreement {
        /// What the document says of itself.
        field: String,
        /// Under which media type it came.
        declared: String,
    },
    /// Fields of a manifest and of an index in one.
    #[error("the document is a manifest and an index at once; it is refused since it could be read both ways")]
    Ambiguous,
    /// No entry for the platform.
    #[error("no image for {wanted}; the index has {offered}: choose one with --platform")]
    NoPlatform {
        /// The platform asked for.
        wanted: Platform,
        /// Those that there are, with commas.
        offered: String,
    },
    /// An index where a manifest should be.
    #[error("{0} is an index within an index, which is not supported; name the inner one by its digest")]
    NestedIndex(Digest),
    /// A layer that is elsewhere.
    #[error("layer {0} is to be fetched from another place than the registry, which is not supported")]
    Foreign(Digest),
    /// Layers and diff IDs do not pair.
    #[error("the manifest has {layers} layers and the config {diff_ids} diff IDs; the image is broken")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// A root file system that is not layers.
    #[error("root file system of type {0:?} is not supported; only \"layers\" is")]
    RootFs(String),
    /// Not a platform.
    #[error("{0:?} is not a platform; write os/architecture or os/architecture/variant, as linux/arm64/v8")]
    Platform(String),
}

/// Names some bytes (OCI image specification, `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: String,
    /// Their SHA-256.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// For what they are; in an index only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Other places to fetch them from; images that have any are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Remarks, as `org.opencontainers.image.ref.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI leaves it out at times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Images for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI leaves it out at times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its manifests, those to prefer first.
    pub manifests: Vec<Descriptor>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a registry answers for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image for one platform.
    Manifest(Manifest),
    /// Images for several.
    Index(Index),
}

/// The fields that decide what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads a document that came as `media_type`; parameters such as `; charset=utf-8` are ignored, and the empty
    /// type, `application/json` and `application/octet-stream` say nothing.
    ///
    /// # Errors
    /// Those of [`ManifestError`] up to [`ManifestError::Ambiguous`], and [`ManifestError::Foreign`].
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge { what: "manifest", size: bytes.len() });
        }
        let broken = |source| ManifestError::Json { what: "manifest", source };
        let shape: Shape = serde_json::from_slice(bytes).map_err(broken)?;
        if shape.schema_version == 1 || shape.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        let is_manifest = shape.config.is_some() || shape.layers.is_some();
        if is_manifest && shape.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        let declared = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let declared = Some(declared)
            .filter(|declared| !matches!(declared.as_str(), "" | "application/json" | "application/octet-stream"));
        if let (Some(field), Some(declared)) = (&shape.media_type, &declared)
            && field != declared
        {
            return Err(ManifestError::Disagreement { field: cut(field), declared: cut(declared) });
        }
        let as_manifest = match declared.or(shape.media_type).as_deref() {
            Some(OCI_MANIFEST | DOCKER_MANIFEST) => true,
            Some(OCI_INDEX | DOCKER_INDEX) => false,
            Some(other) => return Err(ManifestError::MediaType(cut(other))),
            None => is_manifest,
        };
        if !as_manifest {
            return serde_json::from_slice(bytes).map(Self::Index).map_err(broken);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(broken)?;
        manifest.check_types()?;
        Ok(Self::Manifest(manifest))
    }
}

impl Manifest {
    /// Checks that config and manifest belong together and that each layer is one that can be read from the registry.
    ///
    /// # Errors
    /// [`ManifestError::LayerCount`], [`ManifestError::MediaType`], [`ManifestError::Foreign`].
    pub fn check_config(&self, config: &ImageConfig) -> Result<(), ManifestError> {
        self.check_types()?;
        let (layers, diff_ids) = (self.layers.len(), config.diff_ids().len());
        if layers != diff_ids {
            return Err(ManifestError::LayerCount { layers, diff_ids });
        }
        Ok(())
    }

    /// Refuses what is not an image before anything of it is fetched.
    fn check_types(&self) -> Result<(), ManifestError> {
        if !matches!(self.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            return Err(ManifestError::MediaType(cut(&self.config.media_type)));
        }
        for layer in &self.layers {
            if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                return Err(ManifestError::Foreign(layer.digest));
            }
            if Compression::declared(&layer.media_type).is_none() {
                return Err(ManifestError::MediaType(cut(&layer.media_type)));
            }
        }
        Ok(())
    }
}

impl Index {
    /// Chooses the manifest that fits `platform` best, of equals the first. A single one that names no platform fits
    /// all.
    ///
    /// # Errors
    /// [`ManifestError::NoPlatform`] with those that there are.
    pub fn select(&self, platform: &Platform) -> Result<&Descriptor, ManifestError> {
        if let [only] = self.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let fitting = self.manifests.iter().filter_map(|entry| {
            let fit = platform.fit(entry.platform.as_ref()?)?;
            Some((fit, entry))
        });
        fitting.min_by_key(|(fit, _)| *fit).map(|(_, entry)| entry).ok_or_else(|| {
            let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
            // Attestations are entered as unknown/unknown.
            let names = known.filter(|platform| platform.os != "unknown").take(32).map(|name| cut(&name.to_string()));
            let mut offered: Vec<String> = names.collect();
            offered.dedup();
            let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
            ManifestError::NoPlatform { wanted: platform.clone(), offered }
        })
    }
}

/// Keeps foreign text in a message short and on one line.
fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, platform: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(platform.unwrap_or(media_type).as_bytes()),
            size: 1,
            platform: platform.map(|text| Platform::parse(text).unwrap()),
            urls: None,
            annotations: None,
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: descriptor(OCI_CONFIG, None),
            layers: vec![descriptor("application/vnd.oci.image.layer.v1.tar+gzip", None)],
            annotations: None,
        }
    }

    fn index(platforms: &[&str]) -> Index {
        Index {
            schema_version: 2,
            media_type: None,
            manifests: platforms.iter().map(|platform| descriptor(OCI_MANIFEST, Some(platform))).collect(),
            annotations: None,
        }
    }

    fn json(value: &impl Serialize) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let bytes = json(&manifest());
        let charset = format!("{OCI_MANIFEST}; charset=utf-8");
        for media_type in [OCI_MANIFEST, &charset, "", "application/json"] {
            assert_eq!(Document::parse(&bytes, media_type).unwrap(), Document::Manifest(manifest()));
        }
        let several = index(&["linux/amd64"]);
        assert_eq!(Document::parse(&json(&several), DOCKER_INDEX).unwrap(), Document::Index(several));
    }

    #[test]
    fn documents_with_two_readings_are_refused() {
        let mut both = serde_json::to_value(manifest()).unwrap();
        both["manifests"] = serde_json::json!([]);
        assert!(matches!(Document::parse(&json(&both), OCI_MANIFEST), Err(ManifestError::Ambiguous)));
        let other = Document::parse(&json(&manifest()), DOCKER_MANIFEST);
        assert!(matches!(other, Err(ManifestError::Disagreement { .. })));
        let untyped = Manifest { media_type: None, ..manifest() };
        assert!(Document::parse(&json(&untyped), OCI_INDEX).is_err());
        let twice = br#"{"schemaVersion":2,"layers":[],"layers":[]}"#;
        assert!(matches!(Document::parse(twice, ""), Err(ManifestError::Json { .. })));
    }

    #[test]
    fn what_is_no_image_is_refused_before_it_is_fetched() {
        let artifact = Manifest { config: descriptor("application/vnd.cncf.helm.config.v1+json", None), ..manifest() };
        assert!(matches!(Document::parse(&json(&artifact), ""), Err(ManifestError::MediaType(_))));
        let mut foreign = manifest();
        foreign.layers[0].urls = Some(vec!["https://elsewhere.example".to_owned()]);
        assert!(matches!(Document::parse(&json(&foreign), ""), Err(ManifestError::Foreign(_))));
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(Document::parse(old, ""), Err(ManifestError::Schema1)));
    }

    #[test]
    fn four_mebibytes_are_read_and_more_than_eight_are_not() {
        let mut bytes = json(&manifest());
        bytes.resize(4 << 20, b' ');
        assert!(Document::parse(&bytes, OCI_MANIFEST).is_ok());
        bytes.resize(MAX_BYTES + 1, b' ');
        assert!(matches!(Document::parse(&bytes, OCI_MANIFEST), Err(ManifestError::TooLarge { .. })));
    }

    #[test]
    fn layers_and_diff_ids_must_pair() {
        let config = |diff_ids: &str| {
            ImageConfig::parse(format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}}}}"#).as_bytes())
                .unwrap()
        };
        let one = format!("\"{}\"", Digest::of(b"layer"));
        assert!(manifest().check_config(&config(&one)).is_ok());
        assert!(matches!(
            manifest().check_config(&config("")),
            Err(ManifestError::LayerCount { layers: 1, diff_ids: 0 })
        ));
    }

    #[test]
    fn the_best_platform_is_selected() {
        let select = |offered: &[&str], wanted: &str| {
            let index = index(offered);
            let wanted = Platform::parse(wanted).unwrap();
            index
                .select(&wanted)
                .map(|entry| entry.platform.as_ref().unwrap().to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            select(&["linux/arm/v5", "linux/arm/v7", "linux/arm64/v8"], "linux/arm/v7").unwrap(),
            "linux/arm/v7"
        );
        assert_eq!(select(&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7").unwrap(), "linux/arm/v6");
        assert_eq!(select(&["linux/amd64/v3", "linux/amd64"], "linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(select(&["linux/arm64/v8"], "linux/arm64").unwrap(), "linux/arm64/v8");
        let none = select(&["linux/s390x", "unknown/unknown"], "linux/amd64").unwrap_err();
        assert!(none.contains("linux/amd64; the index has linux/s390x:"), "{none}");
    }
}
