//! `-v`, `--mount`, `--tmpfs` -> mounts; `-e`, `--env-file` -> variables. The grammar is podman's.

mod csv;
mod idmap;
mod mount;
mod options;
mod variables;

pub use idmap::Triple;
pub use mount::{Mount, MountKind, Propagation, VolumeError, declared, mounts};
pub use variables::{VariableError, variables};
