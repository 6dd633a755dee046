//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::backup::{BackupArguments, RestoreArguments};
use crate::config::Options;
use crate::embed::EmbedArguments;
use crate::export::ExportArguments;
use crate::import::ImportArguments;
use crate::keys::KeysCommand;
use crate::pull::PullArguments;
use crate::train::TrainArguments;

/// Serves pretrained ONNX backbones over REST: features and zero-shot labels for text, images and sounds.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line and the environment; ends the process where they are wrong or ask for help.
    #[must_use]
    pub fn from_terminal() -> Self {
        let given: Vec<OsString> = std::env::args_os().collect();
        Self::try_parse_from(&given).unwrap_or_else(|error| name_the_variable(error, &given).exit())
    }
}

/// A bad value of the environment is reported as the flag's: names the variable unless the flag was given.
fn name_the_variable(mut error: clap::Error, given: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return error };
    let flag = shown.split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    let was_given = given
        .iter()
        .filter_map(|part| part.to_str())
        .any(|part| part == flag || part.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('=')));
    if let Some(variable) = flag.strip_prefix("--").and_then(variable_of).filter(|_| !was_given) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// The variable that stands for a flag.
fn variable_of(flag: &str) -> Option<String> {
    let command = Cli::command();
    let mut arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let argument = arguments.find(|argument| argument.get_long() == Some(flag))?;
    argument.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the REST API
    Serve {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print the options in force as TOML and end
        #[arg(long)]
        print_config: bool,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Embed a file of texts or a folder of images or sounds
    Embed {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to embed and where to
        #[command(flatten)]
        arguments: EmbedArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// List the backbones and whether each loads
    Models {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Train a classifier on a file and print its report
    Train {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to train on and how
        #[command(flatten)]
        arguments: TrainArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Make a backbone's folder of a published model
    Import {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to import and what to call it
        #[command(flatten)]
        arguments: ImportArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Fetch well-known backbones from the hub
    Pull {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Which, and where from
        #[command(flatten)]
        arguments: PullArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Write a classifier of the data folder as one ONNX file
    Export {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// What to write and where to
        #[command(flatten)]
        arguments: ExportArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Do the jobs of the data folder without serving
    Worker {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Copy the data folder, also while it serves
    Backup {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where to
        #[command(flatten)]
        arguments: BackupArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Bring a backup back as the data folder
    Restore {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where from
        #[command(flatten)]
        arguments: RestoreArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Make, list and revoke API keys of the data folder, also while it serves
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Print the OpenAPI document
    Openapi,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named_by_where_it_came_from() {
        let said = |given: &[&str]| {
            let given: Vec<OsString> = given.iter().map(OsString::from).collect();
            // What clap says of a variable's value is what it says of the flag's.
            let error = Cli::try_parse_from(["headstart", "serve", "--lanes", "x"]).unwrap_err();
            name_the_variable(error, &given).to_string()
        };
        assert!(said(&["headstart", "serve"]).contains("'x' for 'HEADSTART_LANES'"));
        for given in [["serve", "--lanes", "x"].as_slice(), &["serve", "--lanes=x"]] {
            assert!(said(given).contains("'x' for '--lanes <N>'"), "{}", said(given));
        }
    }
}
