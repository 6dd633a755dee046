//! How long the server takes to be ready, and its memory before the first request.

use std::time::Duration;

use crate::bench::Bench;
use crate::figures::Spread;
use crate::server::Server;
use crate::table::Table;

/// # Errors
/// When the server cannot be started.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut ready_ms = Vec::new();
    let mut ready_mb = Vec::new();
    let mut idle_mb = Vec::new();
    for start in 0..bench.scale.starts {
        eprintln!("start {} of {}", start + 1, bench.scale.starts);
        // With every default, the cache too: this is what a user starts.
        let server = Server::start(&bench.launch, &[])?;
        ready_ms.push(server.ready_after.as_secs_f64() * 1e3);
        ready_mb.push(server.process().resident_mb()?);
        std::thread::sleep(Duration::from_secs_f64(bench.scale.rest_seconds));
        idle_mb.push(server.process().resident_mb()?);
    }
    let mut table = Table::new(&["all backbones of the models folder", "median of the starts"]);
    let idle = format!("RSS {} s later, MB", bench.scale.rest_seconds);
    for (name, values) in [
        ("process start to first 200 of `/readyz`, ms", &ready_ms),
        ("RSS when ready, MB", &ready_mb),
        (&idle, &idle_mb),
    ] {
        table.row(vec![name.to_owned(), Spread::of(values).show(0)]);
    }
    Ok(table.to_string())
}
