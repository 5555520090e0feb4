//! Which containers a command is about, and filters that choose them.

use std::path::PathBuf;

use clap::Args;

/// Which containers; none said is an error.
#[derive(Args, Debug, Default)]
pub struct Which {
    /// All of them
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    pub all: bool,

    /// The one that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,

    /// Those for which NAME is VALUE: id, name, status, label, ancestor, exited, health
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = filter, conflicts_with_all = ["latest", "containers"])]
    pub filters: Vec<(String, String)>,

    /// The one whose id is in a file, which --cidfile of 'lrun run' wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "latest"])]
    pub cidfile: Vec<PathBuf>,

    /// Names or ids of containers
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// One container.
#[derive(Args, Debug, Default)]
pub struct One {
    /// The one that was made last
    #[arg(short, long, conflicts_with = "container")]
    pub latest: bool,

    /// Name or id of the container
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    pub container: Option<String>,
}

/// `NAME=VALUE`, the name one that is known.
pub(super) fn filter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    match name {
        "id" | "name" | "status" | "label" | "ancestor" | "exited" | "health" => Ok((name.into(), value.into())),
        _ => Err("known are id, name, status, label, ancestor, exited and health".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_not_known_is_refused() {
        assert_eq!(filter("label=a=b"), Ok(("label".to_owned(), "a=b".to_owned())));
        assert!(filter("name").is_err() && filter("pod=x").is_err());
    }
}
