//! `lstore du`.

use lstore::ImageUsage;
use serde_json::{Value, json};

use super::args::ReportArguments;
use super::context::Context;
use crate::exit::Exit;
use crate::output::{Format, Table, short_id, size};
use crate::report::Failure;

pub(super) fn run(context: &Context, arguments: &ReportArguments) -> Result<Exit, Failure> {
    let usage = context.found()?.map(|store| store.usage()).transpose()?.unwrap_or_default();
    let mut output = context.output();
    match arguments.output.format.as_deref().map(Format::parse).transpose()? {
        Some(Format::Json) => output.json(&json!({
            "Images": usage.images.iter().map(|image| row(image, Value::from)).collect::<Vec<_>>(),
            "Content": usage.content, "Objects": usage.objects, "Packs": usage.packs,
            "Layers": usage.layers, "Trees": usage.trees,
            "Index": usage.index, "Containers": usage.containers, "Volumes": usage.volumes, "Total": usage.total,
            "Reclaimable": usage.reclaimable,
        }))?,
        Some(format) => {
            let rows: Vec<_> = usage.images.iter().map(|image| row(image, |bytes| size(bytes).into())).collect();
            output.list(&rows, &format, &[])?;
        }
        None => {
            let mut table = Table::with_header(["IMAGE", "ID", "LOGICAL", "EXCLUSIVE", "SHARED", "RECLAIMABLE"]);
            for image in &usage.images {
                let numbers = [image.logical, image.exclusive, image.shared, image.reclaimable].map(size);
                let [logical, exclusive, shared, reclaimable] = numbers;
                let (name, id) = (name(image), image.id.to_string());
                table.row([name.as_str(), short_id(&id), &logical, &exclusive, &shared, &reclaimable]);
            }
            output.table(&table)?;
            output.line("")?;
            let mut table = Table::with_header(["STORE", "DISK"]);
            for (part, bytes) in [
                ("contents", usage.objects),
                ("packed contents", usage.packs),
                ("checkouts", usage.trees),
                ("layer records", usage.layers),
                ("index", usage.index),
                ("containers", usage.containers),
                ("volumes", usage.volumes),
                ("total", usage.total),
                ("reclaimable by gc", usage.reclaimable),
            ] {
                table.row([part, &size(bytes)]);
            }
            output.table(&table)?;
        }
    }
    output.flush()?;
    Ok(Exit::SUCCESS)
}

fn name(image: &ImageUsage) -> String {
    image.names.first().cloned().unwrap_or_else(|| "<none>".to_owned())
}

fn row(image: &ImageUsage, number: impl Fn(u64) -> Value) -> Value {
    json!({
        "ID": image.id.hex(), "Name": name(image), "Names": image.names, "Logical": number(image.logical),
        "Exclusive": number(image.exclusive), "Shared": number(image.shared),
        "Reclaimable": number(image.reclaimable),
    })
}
