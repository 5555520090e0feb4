//! The command line of `lrun prune`.

use clap::Args;

/// See above.
#[derive(Args, Debug)]
pub struct PruneArguments {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,

    /// Only those for which NAME is VALUE: label, or until, before which they were made
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = prune_filter)]
    pub filters: Vec<(String, String)>,
}

impl PruneArguments {
    /// The moment before which they were made.
    pub fn until(&self) -> Option<&str> {
        self.filters.iter().rev().find(|(name, _)| name == "until").map(|(_, moment)| moment.as_str())
    }

    /// The labels that they have.
    pub fn labels(&self) -> Vec<(String, String)> {
        self.filters.iter().filter(|(name, _)| name == "label").cloned().collect()
    }
}

fn prune_filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name @ ("label" | "until"), value)) => Ok((name.into(), value.into())),
        _ => Err("known are label=NAME[=VALUE] and until=MOMENT".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_label_or_a_moment() {
        assert_eq!(prune_filter("label=a=b"), Ok(("label".to_owned(), "a=b".to_owned())));
        assert!(prune_filter("until").is_err() && prune_filter("status=exited").is_err());
        let filters = ["until=24h", "label=a", "until=1h"].map(|text| prune_filter(text).unwrap()).to_vec();
        let arguments = PruneArguments { force: false, filters };
        assert_eq!((arguments.until(), arguments.labels().len()), (Some("1h"), 1));
    }
}
