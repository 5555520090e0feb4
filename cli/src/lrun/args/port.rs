//! The command line of `lrun port`.

use clap::Args;
use lrun::spec::Port;

use super::network::exposed;

/// See above.
#[derive(Args, Debug)]
pub struct PortArguments {
    /// All containers that run
    #[arg(short, long, conflicts_with_all = ["latest", "words"])]
    pub all: bool,

    /// The container that was made last
    #[arg(short, long)]
    pub latest: bool,

    /// Name or id of the container, and the port of it that is asked for
    #[arg(value_name = "CONTAINER [PORT[/PROTOCOL]]", num_args = 0..=2)]
    pub words: Vec<String>,
}

impl PortArguments {
    /// The container that is named, if one is, and the port.
    ///
    /// # Errors
    /// Too many words, too few, or a port that is none.
    pub fn wanted(&self) -> Result<(Option<&str>, Option<Port>), String> {
        let (name, port) = match (self.all || self.latest, self.words.as_slice()) {
            (true, []) => (None, None),
            (true, [port]) => (None, Some(port)),
            (false, [name]) => (Some(name.as_str()), None),
            (false, [name, port]) => (Some(name.as_str()), Some(port)),
            (false, []) => return Err("name a container, or give --latest or --all".into()),
            _ => return Err("with --latest or --all no container is named".into()),
        };
        let port = port.map(|port| exposed(port).map_err(|why| format!("port {port:?}: {why}"))).transpose()?;
        Ok((name, port))
    }
}
