//! Entry point: parse, start logging, dispatch.

use std::io::Write as _;
use std::process::ExitCode;

use headstart::cli::{Cli, Command};
use headstart::config::Config;
use headstart::{backup, embed, explain, export, http, import, keys, models, pull, serve, train, worker};

fn main() -> ExitCode {
    silence_runtime();
    match run(Cli::from_terminal()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "headstart: {}", explain::in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// ONNX Runtime sends usage events and keeps a device id unless this variable is set; `with_telemetry(false)` alone does
/// not stop it.
#[expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "the variable must be there before the library is loaded"
)]
fn silence_runtime() {
    // SAFETY: `main` has started no thread yet, so nothing reads the environment at the same time.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
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
        Command::Train { config, arguments, options } => {
            let config = Config::load(*options, config.as_deref())?;
            start_log(&config)?;
            train::run(config, arguments)
        }
        Command::Export { config, arguments, options } => {
            let config = Config::load(*options, config.as_deref())?;
            start_log(&config)?;
            export::run(&config, arguments)
        }
        Command::Import { config, arguments, options } => {
            import::run(&Config::load(*options, config.as_deref())?, &arguments)
        }
        Command::Pull { config, arguments, options } => {
            pull::run(&Config::load(*options, config.as_deref())?, &arguments)
        }
        Command::Worker { config, options } => {
            let config = Config::load(*options, config.as_deref())?;
            start_log(&config)?;
            worker::work(config)
        }
        Command::Backup { config, arguments, options } => {
            backup::back_up(&Config::load(*options, config.as_deref())?, &arguments)
        }
        Command::Restore { config, arguments, options } => {
            backup::restore(&Config::load(*options, config.as_deref())?, &arguments)
        }
        Command::Keys(command) => keys::run(command),
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
