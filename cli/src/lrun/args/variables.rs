//! The flags of `lrun run` and `lrun create` about variables, besides those that name each.

use clap::Args;

use super::limits;

/// See above.
#[derive(Args, Clone, Debug, Default)]
pub struct VariableArguments {
    /// Set all variables that are set here; what the image and other flags say stands above them
    #[arg(long)]
    pub env_host: bool,

    /// Change a variable of the image by what it and others hold, as PATH=${PATH}:/opt/bin
    #[arg(long, value_name = "NAME=VALUE", value_parser = limits::pair)]
    pub env_merge: Vec<(String, String)>,

    /// Leave out a variable that would be there without being named
    #[arg(long, value_name = "NAME")]
    pub unsetenv: Vec<String>,

    /// Leave out all of these
    #[arg(long)]
    pub unsetenv_all: bool,

    /// Set the variables about proxies that are set here: http_proxy, https_proxy, ftp_proxy, no_proxy, also in capitals
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, action = clap::ArgAction::Set)]
    pub http_proxy: bool,
}
