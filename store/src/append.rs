//! An image with one more layer than another.

use std::io::Read;

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::Result;
use crate::events::Events;
use crate::image::Image;
use crate::ingest::Promise;
use crate::manifest::{ImageConfig, ManifestError};
use crate::pull::{PullOptions, Pulled};
use crate::store::Store;

/// What the config of such an image says that its base's does not.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// Fields of the OCI image configuration's `config`, in place of the base's; those that are objects are added to.
    pub config: Map<String, Value>,
    /// Who made it.
    pub author: Option<String>,
    /// A sentence for the image's history.
    pub comment: Option<String>,
    /// When it was made, RFC 3339.
    pub created: String,
}

impl Store {
    /// Reads a layer from a tar, and enters the image that has it above the layers of another.
    ///
    /// # Errors
    /// Those of the tar and of the store; then nothing is left of it.
    pub fn append(
        &self,
        base: &Image,
        tar: &mut (dyn Read + Send),
        append: &Append,
        options: &PullOptions,
        events: &dyn Events,
    ) -> Result<Pulled> {
        let session = self.session()?;
        let (layer, _) = self.ingest(&session, tar, Promise { blob: None, diff_id: None })?;
        let config = config(&base.config_bytes, &layer.diff_id, append)?.to_string();
        let parsed = ImageConfig::parse(config.as_bytes())?;
        self.enter_image(&session, config.as_bytes(), parsed.diff_ids(), None, options, events)
    }
}

/// The base's config, unknown fields and all, with what is new.
fn config(base: &[u8], diff_id: &Digest, append: &Append) -> std::result::Result<Value, ManifestError> {
    let mut image: Value =
        serde_json::from_slice(base).map_err(|source| ManifestError::Json { what: "image config", source })?;
    // An image may leave these out, or have null there.
    for (key, empty) in [("config", json!({})), ("history", json!([]))] {
        if image[key].is_null() {
            image[key] = empty;
        }
    }
    for (key, value) in &append.config {
        match (&mut image["config"][key], value) {
            (Value::Object(old), Value::Object(new)) => old.extend(new.clone()),
            (old, new) => *old = new.clone(),
        }
    }
    let mut step = json!({ "created": append.created });
    image["created"] = json!(append.created);
    if let Some(author) = &append.author {
        image["author"] = json!(author);
        step["author"] = json!(author);
    }
    if let Some(comment) = &append.comment {
        step["comment"] = json!(comment);
    }
    if let Some(history) = image["history"].as_array_mut() {
        history.push(step);
    }
    if let Some(diff_ids) = image["rootfs"]["diff_ids"].as_array_mut() {
        diff_ids.push(json!(diff_id));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_more_keeps_what_the_base_says() {
        let base = json!({
            "architecture": "riscv64", "os": "linux", "x.vendor": 7,
            "config": { "Cmd": ["a"], "User": "u", "Labels": { "a": "1" }, "Healthcheck": {} },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:aa"] },
        });
        let own = json!({ "Cmd": ["b"], "Labels": { "b": "2" }, "Volumes": { "/v": {} } });
        let append = Append {
            config: own.as_object().unwrap().clone(),
            comment: Some("c".to_owned()),
            created: "2026-01-01T00:00:00Z".to_owned(),
            ..Append::default()
        };
        let digest = Digest::of(b"layer");
        let made = config(base.to_string().as_bytes(), &digest, &append).unwrap();
        assert_eq!((&made["architecture"], &made["x.vendor"]), (&json!("riscv64"), &json!(7)));
        let wanted = json!({
            "Cmd": ["b"], "User": "u", "Labels": { "a": "1", "b": "2" }, "Healthcheck": {}, "Volumes": { "/v": {} },
        });
        assert_eq!(made["config"], wanted);
        assert_eq!(made["rootfs"]["diff_ids"], json!(["sha256:aa", digest]));
        assert_eq!(made["history"], json!([{ "created": "2026-01-01T00:00:00Z", "comment": "c" }]));
    }
}
