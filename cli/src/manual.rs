//! Shell completions and manual pages, made from the definition of the arguments.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Writes the completion script of `command` for `shell`.
pub fn completions(mut command: Command, shell: Shell, writer: &mut impl Write) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    // Into memory: the generator panics when its writer fails, and a reader may close the pipe early.
    clap_complete::generate(shell, &mut command, name, &mut script);
    writer.write_all(&script)
}

/// Writes the manual page of `command` itself, in roff.
pub fn page(command: Command, writer: &mut impl Write) -> io::Result<()> {
    clap_mangen::Man::new(command).render(writer)
}

/// Writes a page for `command` and one for each of its subcommands into the existing directory `directory`:
/// `lstore.1`, `lstore-pull.1` and so on.
pub fn pages(command: Command, directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(command, directory)
}
