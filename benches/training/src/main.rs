//! One side of `make bench-train`: trains an ONNX graph as the service does and times each step.
//!
//! `headstart-bench-training CASE.json` reads what to train, then takes the number of steps from each line of the standard
//! input and answers with a line of JSON: seconds of each step, the last loss, resident memory. `run.py` drives it.

mod case;
mod memory;
mod steps;

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::case::Case;
use crate::steps::Steps;

fn main() -> anyhow::Result<()> {
    let file = std::env::args().nth(1).context("name the file of the case")?;
    let runtime = headstart_engine::Runtime::load(None)?;
    let start = memory::resident()?;
    let case = Case::read(Path::new(&file))?;
    let mut steps = Steps::new(&case, runtime)?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse()?;
        let (seconds, loss) = steps.run(count)?;
        let told =
            serde_json::json!({"seconds": seconds, "loss": loss, "start": start, "peak": memory::peak()?});
        writeln!(out, "{told}")?;
        out.flush()?;
    }
    Ok(())
}
