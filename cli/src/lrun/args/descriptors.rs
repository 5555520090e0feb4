//! The flags of `lrun run` and `lrun exec` about descriptors of the caller's.

use clap::Args;

/// See above.
#[derive(Args, Clone, Debug, Default)]
pub struct DescriptorArguments {
    /// Give the command so many of this program's descriptors, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, conflicts_with = "detach", value_parser = clap::value_parser!(i32).range(0..=1024))]
    pub preserve_fds: i32,

    /// Give it these descriptors, by number
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with = "detach", value_parser = clap::value_parser!(i32).range(3..=1_048_576))]
    pub preserve_fd: Vec<i32>,
}

impl DescriptorArguments {
    /// The numbers of all.
    pub fn numbers(&self) -> Vec<i32> {
        (3..3 + self.preserve_fds).chain(self.preserve_fd.iter().copied()).collect()
    }
}
