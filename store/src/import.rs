//! A plain tar of a root file system becomes an image of one layer.

use std::io::Read;

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::error::Result;
use crate::events::Events;
use crate::ingest::Promise;
use crate::manifest::Platform;
use crate::pull::{PullOptions, Pulled};
use crate::store::Store;

/// What the config of an imported image says beyond its layer; fields of the OCI image configuration's `config`.
#[derive(Debug, Clone, Default)]
pub struct ImportConfig {
    /// `config`, a JSON object: `Cmd`, `Env`, `Entrypoint`, `WorkingDir`, `User`, `Labels`, …
    pub config: serde_json::Map<String, Value>,
    /// A sentence for the image's history.
    pub comment: String,
    /// When it was made, RFC 3339; none leaves the image reproducible.
    pub created: Option<String>,
}

impl Store {
    /// Reads a root file system from a tar that is decompressed already, and enters it as an image.
    ///
    /// # Errors
    /// Those of the tar and of the store; then nothing is left of it.
    pub fn import(
        &self,
        tar: &mut (dyn Read + Send),
        config: &ImportConfig,
        options: &PullOptions,
        events: &dyn Events,
    ) -> Result<Pulled> {
        let session = self.session()?;
        let (layer, _) = self.ingest(&session, tar, Promise { blob: None, diff_id: None })?;
        let config = image_config(&layer.diff_id, config, &options.platform);
        self.enter_image(&session, config.to_string().as_bytes(), &[layer.diff_id], None, options, events)
    }
}

fn image_config(diff_id: &Digest, config: &ImportConfig, platform: &Platform) -> Value {
    let mut image = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": config.config,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "comment": config.comment }],
    });
    if let Some(created) = &config.created {
        image["created"] = json!(created);
        image["history"][0]["created"] = json!(created);
    }
    if let Some(variant) = &platform.variant {
        image["variant"] = json!(variant);
    }
    image
}
