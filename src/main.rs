//! Entry point: parse, start logging, dispatch.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use headstart::cli::{Cli, Command};
use headstart::config::Config;
use headstart::{embed, http, models, serve};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "headstart: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve { config, print_config, options } => {
            let config = Config::load(*options, config.as_deref())?;
            if print_config {
                std::io::stdout().write_all(config.to_toml()?.as_bytes())?;
                return Ok(());
            }
            start_log(&config)?;
            serve::serve(config)
        }
        Command::Embed { config, arguments, options } => {
            let config = Config::load(*options, config.as_deref())?;
            start_log(&config)?;
            embed::run(config, arguments)
        }
        Command::Models { config, options } => models::run(Config::load(*options, config.as_deref())?),
        Command::Openapi => {
            std::io::stdout().write_all(http::openapi::document_json()?.as_bytes())?;
            Ok(())
        }
    }
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    headstart_telemetry::log::start(config.log_format.into(), &config.log)
        .map_err(|message| anyhow::anyhow!("`log`: {message}"))
}
