//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::backup::{BackupArguments, RestoreArguments};
use crate::config::Options;
use crate::embed::EmbedArguments;
use crate::export::ExportArguments;
use crate::train::TrainArguments;

/// Serves pretrained ONNX backbones over REST: features and zero-shot labels for text and images.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
    /// Embed a file of texts or a folder of images
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
    /// Print the OpenAPI document
    Openapi,
}
