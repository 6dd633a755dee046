//! The benchmark's entry point: parse, run the suites asked for, print each as it ends.

mod backbone;
mod bench;
mod blocks;
mod cases;
mod closed_loop;
mod connection;
mod corpus;
mod direct;
mod figures;
mod fine_tuning;
mod machine;
mod open_loop;
mod options;
mod process;
mod request;
mod sample;
mod server;
mod table;
mod tensor;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::bench::Bench;
use crate::options::{Options, Suite};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headstart-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let bench = Bench::new(options)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}\n", bench.preamble())?;
    for suite in bench.options.suite.expand() {
        eprintln!("[{}]", suite.title());
        let section = match suite {
            Suite::Text => cases::throughput::texts(&bench)?,
            Suite::Images => cases::throughput::images(&bench)?,
            Suite::SoundThroughput => cases::throughput::sounds(&bench)?,
            Suite::Tensors => cases::tensors::run(&bench)?,
            Suite::Mixed => cases::mixed::run(&bench)?,
            Suite::Eviction => cases::eviction::run(&bench)?,
            Suite::Latency => cases::latency::run(&bench)?,
            Suite::Overload => cases::overload::run(&bench)?,
            Suite::Startup => cases::startup::run(&bench)?,
            Suite::Classifiers => cases::classifiers::run(&bench)?,
            Suite::Variants => cases::variants::run(&bench)?,
            Suite::Training => cases::training::run(&bench)?,
            Suite::Growth => cases::growth::run(&bench)?,
            // `expand` has replaced it.
            Suite::All => continue,
        };
        // At once: a long run that is cut off has still said something.
        writeln!(out, "## {}\n\n{section}", suite.title())?;
        out.flush()?;
    }
    writeln!(out, "{}", machine::describe())?;
    Ok(())
}
