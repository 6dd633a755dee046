//! The first request of a backbone that had to go for want of memory, beside one that finds it there.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use crate::bench::{Bench, IMAGE_BACKBONE, TEXT_BACKBONES};
use crate::connection::Connection;
use crate::figures::Spread;
use crate::request::Request;
use crate::table::Table;

/// Requests that find the backbone there, after each that does not; the quickest counts.
const WARM: usize = 5;

const TEXT: &str = "A cat sits on a mat.";

/// A backbone with its request.
struct Asked {
    id: &'static str,
    request: Request,
    /// Of all its files.
    bytes: u64,
    first_ms: Vec<f64>,
    warm_ms: Vec<f64>,
}

/// # Errors
/// When the server cannot be started or answers anything but 200.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut all = Vec::new();
    for id in TEXT_BACKBONES {
        all.push(Asked::new(bench, id, Request::texts(id, &[TEXT]))?);
    }
    if let Some(photo) = bench.corpus.photos(1).first() {
        all.push(Asked::new(bench, IMAGE_BACKBONE, Request::photo(IMAGE_BACKBONE, photo))?);
    }
    // As counted against the limit: files and a tenth. The largest fits and leaves no other beside it.
    let largest = all.iter().map(|asked| asked.bytes).max().unwrap_or_default();
    let limit = (largest + largest / 10 + (1 << 20)).to_string();
    let server = bench.start_server(&["--model-memory", &limit])?;
    bench.client.block_on(async {
        for _ in 0..bench.scale.evictions {
            for index in 0..all.len() {
                // The largest makes all others go, and any other makes it go.
                let is_largest = |asked: &Asked| asked.bytes == largest;
                let other = all.iter().find(|asked| is_largest(asked) != is_largest(&all[index]));
                let mut connection = Connection::open(server.address).await?;
                if let Some(other) = other {
                    ask(&mut connection, &other.request).await?;
                }
                let asked = &mut all[index];
                asked.first_ms.push(ask(&mut connection, &asked.request).await?);
                let mut quickest = f64::INFINITY;
                for _ in 0..WARM {
                    quickest = quickest.min(ask(&mut connection, &asked.request).await?);
                }
                asked.warm_ms.push(quickest);
            }
        }
        anyhow::Ok(())
    })?;
    let mut table = Table::new(&["backbone", "files MB", "first request ms", "then ms"]);
    for asked in &all {
        table.row(vec![
            asked.id.to_owned(),
            format!("{:.0}", asked.bytes as f64 / 1e6),
            Spread::of(&asked.first_ms).show(0),
            Spread::of(&asked.warm_ms).show(1),
        ]);
    }
    let mut section = table.to_string();
    writeln!(
        section,
        "\n- `--model-memory {limit}`: of the three no two fit with the largest. Each in turn is asked after another made it go, {} times, \
         then {WARM} times more, of which the quickest counts. Files are in the page cache. The first request waits for the load: \
         checksums, the session, warm-up.",
        bench.scale.evictions
    )?;
    Ok(section)
}

impl Asked {
    fn new(bench: &Bench, id: &'static str, request: Request) -> anyhow::Result<Self> {
        let mut bytes = 0;
        for file in fs::read_dir(bench.options.models().join(id))? {
            bytes += file?.metadata()?.len();
        }
        Ok(Self { id, request, bytes, first_ms: Vec::new(), warm_ms: Vec::new() })
    }
}

/// Milliseconds of one request.
async fn ask(connection: &mut Connection, request: &Request) -> anyhow::Result<f64> {
    let sent = Instant::now();
    connection.exchange(&request.bytes).await?.expect_ok()?;
    Ok(sent.elapsed().as_secs_f64() * 1e3)
}
