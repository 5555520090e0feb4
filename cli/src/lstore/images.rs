//! `lstore images`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lstore::{Image, Reference};
use serde_json::{Value, json};

use super::args::ImagesArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::output::{Format, Table, ago, rfc3339, short_id, size, timestamp};
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &ImagesArguments) -> Result<Exit, Failure> {
    let images = context.found()?.map(|store| store.images()).transpose()?.unwrap_or_default();
    let mut output = context.output();
    let rows = || images.iter().flat_map(|image| rows(image, arguments));
    let format = arguments.output.format.as_deref().map(Format::parse).transpose()?;
    if let Some(format) = format {
        let is_json = matches!(format, Format::Json);
        let values: Vec<Value> = rows().map(|row| row.value(is_json)).collect();
        output.list(
            &values,
            &format,
            &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("CreatedAt", "CREATED AT")],
        )?;
    } else if context.global.quiet {
        for image in &images {
            output.line(&shown_id(image, arguments))?;
        }
    } else {
        let mut header = vec!["REPOSITORY", "TAG"];
        if arguments.digests {
            header.push("DIGEST");
        }
        header.extend(["IMAGE ID", "CREATED", "SIZE"]);
        let mut table = Table::with_header(header);
        for row in rows() {
            let mut cells = vec![row.repository, row.tag];
            if arguments.digests {
                cells.push(row.digest);
            }
            let mut shown = size(row.image.logical);
            if !row.image.is_complete() {
                shown += " (incomplete)";
            }
            cells.extend([row.id, ago(row.created, SystemTime::now()), shown]);
            table.row(cells);
        }
        output.table(&table)?;
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

/// An image under one of its names.
struct Row<'a> {
    image: &'a Image,
    repository: String,
    tag: String,
    digest: String,
    id: String,
    created: SystemTime,
}

impl Row<'_> {
    /// Templates get what people read, JSON what programs compute with.
    fn value(&self, is_json: bool) -> Value {
        let names = self.image.names.clone();
        let mut value = json!({
            "Id": self.image.id.hex(), "ID": self.id, "Repository": self.repository, "Tag": self.tag,
            "Digest": self.digest, "Names": names, "RepoTags": names, "Digests": self.image.digests,
            "CreatedAt": rfc3339(self.created), "Created": self.image.stored,
            "Size": self.image.logical, "Files": self.image.files, "Incomplete": !self.image.is_complete(),
        });
        if !is_json {
            value["Size"] = json!(size(self.image.logical));
            value["CreatedAt"] = json!(timestamp(self.created));
            value["CreatedSince"] = json!(ago(self.created, SystemTime::now()));
            value["Created"] = value["CreatedSince"].clone();
        }
        value
    }
}

fn rows<'a>(image: &'a Image, arguments: &ImagesArguments) -> Vec<Row<'a>> {
    let id = shown_id(image, arguments);
    let created = created(image);
    let none = || "<none>".to_owned();
    let mut rows = Vec::new();
    for name in &image.names {
        let Ok(reference) = Reference::parse(name) else { continue };
        let repository = reference.repository_name();
        let digest = image.digests.iter().find_map(|digest| digest.strip_prefix(&format!("{repository}@")));
        let (digest, tag) = (digest.map_or_else(none, str::to_owned), reference.tag.unwrap_or_else(none));
        rows.push(Row { image, repository, tag, digest, id: id.clone(), created });
    }
    if rows.is_empty() {
        rows.push(Row { image, repository: none(), tag: none(), digest: none(), id, created });
    }
    rows
}

fn shown_id(image: &Image, arguments: &ImagesArguments) -> String {
    let id = image.id.to_string();
    if arguments.no_trunc { id } else { short_id(&id).to_owned() }
}

/// When the image says that it was made, else when it came.
fn created(image: &Image) -> SystemTime {
    let said = image.config.created.as_deref().and_then(crate::output::parse_rfc3339);
    said.unwrap_or_else(|| UNIX_EPOCH + Duration::from_secs(image.stored.unsigned_abs()))
}
