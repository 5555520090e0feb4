//! `lstore inspect`.

use lstore::{Image, Store};
use serde_json::{Value, json};

use super::args::InspectArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::output::Format;
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &InspectArguments) -> Result<Exit, Failure> {
    let store = context.found()?;
    let mut values = Vec::new();
    for name in &arguments.names {
        let store = store.as_ref().ok_or_else(|| lstore::Error::ImageNotFound(name.clone()))?;
        values.push(describe(store, &store.image(name)?)?);
    }
    let mut output = context.output();
    match &arguments.format {
        Some(format) => output.list(&values, &Format::parse(format)?, &[])?,
        None => output.json(&Value::Array(values))?,
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

/// The fields that podman and docker show, under their names.
pub(crate) fn describe(store: &Store, image: &Image) -> Result<Value, Failure> {
    let config: Value = serde_json::from_slice(&image.config_bytes)?;
    let manifest = store.manifests(image)?.into_iter().next();
    let usage = store.usage_of(image)?;
    Ok(json!({
        "Id": image.id.hex(),
        "Digest": manifest.as_ref().map(|manifest| manifest.digest.to_string()),
        "ManifestType": manifest.map(|manifest| manifest.media_type),
        "RepoTags": image.names,
        "RepoDigests": image.digests,
        "Created": config["created"],
        "Config": config.get("config").cloned().unwrap_or_else(|| json!({})),
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Variant": config["variant"],
        "Size": image.logical,
        "Files": image.files,
        "Incomplete": !image.is_complete(),
        "MissingLayers": image.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "Exclusive": usage.0,
        "Shared": usage.1,
        "RootFS": { "Type": "layers", "Layers": image.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>() },
        "ChainId": image.chain_id,
        "History": config["history"],
        "Labels": config["config"]["Labels"],
        "User": config["config"]["User"],
    }))
}
