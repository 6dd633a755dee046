//! Memory and throughput of versions that a job tuned a backbone for, beside heads on the backbone itself.

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::bench::{Bench, TEXT_BACKBONES};
use crate::closed_loop::{ClosedLoop, Outcome};
use crate::connection::Connection;
use crate::figures::{Interval, Spread};
use crate::fine_tuning;
use crate::request::Request;
use crate::server::Server;
use crate::table::Table;

/// Versions of each method.
const VERSIONS: usize = 6;

/// Rows that a version learns from: enough for a few steps.
const ROWS: usize = 100;

const CONNECTIONS: usize = 32;

/// Texts of one measurement, and pairs of measurements a round.
const TEXTS: usize = 256;
const PAIRS: usize = 6;

const METHODS: [&str; 4] = ["linear_probe", "lora", "partial", "full"];

/// # Errors
/// When the server cannot be started, or a job fails.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "method",
        "backbone alone, MB",
        "with the first version",
        "each further one adds",
        "on disk, MB, first",
        "each further one",
        "items/s",
        "against `linear_probe` (95 % interval)",
    ]);
    let rows = rows(bench)?;
    let mut heads: Option<Tuned> = None;
    for method in METHODS {
        eprintln!("{method}");
        let tuned = Tuned::train(bench, &rows, method)?;
        let memory = tuned.memory(bench)?;
        let [first, further] = tuned.disk()?;
        let beside = heads.as_ref().unwrap_or(&tuned);
        let (rates, ratio) = bench.client.block_on(against(bench, &tuned, beside))?;
        table.row(vec![
            format!("`{method}`"),
            format!("{:.0}", memory.alone),
            format!("+{:.0}", memory.first - memory.alone),
            format!("{:+.1}", memory.each),
            format!("{first:.1}"),
            format!("{further:.1}"),
            Spread::of(&rates).show(0),
            if heads.is_some() { ratio.show(3) } else { "–".into() },
        ]);
        heads.get_or_insert(tuned);
    }
    let mut section = table.to_string();
    writeln!(
        section,
        "\n- `{}`, {VERSIONS} versions of each method, each of other {ROWS} rows. Memory is resident memory of a server that was \
         started anew, once the backbone, then one version, then all have answered ten short texts; on disk is what the folder of \
         variants takes, a file that several link to once.\n- Throughput: {CONNECTIONS} connections in a closed loop, one text \
         (lengths as they come) a request, all for one version; {} pairs in turns on two servers, {TEXTS} requests each.",
        TEXT_BACKBONES[0],
        PAIRS * bench.scale.rounds,
    )?;
    Ok(section)
}

fn rows(bench: &Bench) -> anyhow::Result<String> {
    let path = match &bench.options.test_data {
        Some(folder) => folder.join("datasets/text/trec6_train.csv"),
        None => "examples/banking77.csv".into(),
    };
    std::fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))
}

/// A data folder with versions of one method.
struct Tuned {
    folder: TempDir,
    versions: Vec<String>,
}

struct Memory {
    alone: f64,
    first: f64,
    each: f64,
}

impl Tuned {
    fn train(bench: &Bench, rows: &str, method: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (head, body) = rows.split_once('\n').context("no rows")?;
        // A class of which a hundred rows may hold one alone.
        let lines: Vec<&str> = body.lines().filter(|row| !row.ends_with(",ABBR")).collect();
        let server = Server::start_in(&bench.launch, folder.path(), &["--cache-bytes", "0"])?;
        let mut versions = Vec::with_capacity(VERSIONS);
        bench.client.block_on(async {
            let mut connection = Connection::open(server.address).await?;
            for part in lines.chunks(ROWS).take(VERSIONS) {
                let file = format!("{head}\n{}\n", part.join("\n"));
                let file = fine_tuning::upload(&mut connection, "rows.csv", file.as_bytes()).await?;
                let job =
                    fine_tuning::begin(&mut connection, &file, TEXT_BACKBONES[0], method, "bench").await?;
                versions.push(fine_tuning::finish(&mut connection, &job).await?.model);
            }
            anyhow::Ok(())
        })?;
        Ok(Self { folder, versions })
    }

    fn start(&self, bench: &Bench) -> anyhow::Result<Server> {
        Server::start_in(&bench.launch, self.folder.path(), &["--cache-bytes", "0"])
    }

    /// Resident megabytes as versions come to answer.
    fn memory(&self, bench: &Bench) -> anyhow::Result<Memory> {
        let server = self.start(bench)?;
        bench.client.block_on(async {
            let mut connection = Connection::open(server.address).await?;
            let mut ask = async |request: Request| {
                for _ in 0..10 {
                    connection.exchange(&request.bytes).await?.expect_ok()?;
                }
                server.process().resident_mb()
            };
            let alone = ask(Request::texts(TEXT_BACKBONES[0], &["Who is it ?"])).await?;
            let mut after = Vec::with_capacity(VERSIONS);
            for version in &self.versions {
                after.push(ask(Request::classify(version, "Who is it ?")).await?);
            }
            let (Some(first), Some(last)) = (after.first(), after.last()) else {
                anyhow::bail!("there are no versions");
            };
            let further = after.len().saturating_sub(1).max(1) as f64;
            Ok(Memory { alone, first: *first, each: (last - first) / further })
        })
    }

    /// Megabytes of the folder of variants: what all have in common with one of them, and one more.
    fn disk(&self) -> anyhow::Result<[f64; 2]> {
        let folder = self.folder.path().join("variants");
        if !folder.is_dir() {
            return Ok([0.0; 2]);
        }
        let all = own_bytes(&folder)? as f64 / 1e6;
        let common = folder.join("weights");
        let common = if common.is_dir() { own_bytes(&common)? as f64 / 1e6 } else { 0.0 };
        let each = (all - common) / self.versions.len() as f64;
        Ok([common + each, each])
    }
}

/// Bytes of a folder's files; of several links to a file the one among the weights counts.
fn own_bytes(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let linked = metadata.nlink() > 1 && !folder.ends_with("weights");
        bytes += match (metadata.is_dir(), linked) {
            (true, _) => own_bytes(&entry.path())?,
            (false, true) => 0,
            (false, false) => metadata.len(),
        };
    }
    Ok(bytes)
}

/// Requests a second of the last version, and what they are of those of another's server beside it.
async fn against(bench: &Bench, tuned: &Tuned, other: &Tuned) -> anyhow::Result<(Vec<f64>, Interval)> {
    let texts = bench.corpus.texts(bench.scale.texts.min(TEXTS), |_| true);
    let mut sides = Vec::with_capacity(2);
    for side in [tuned, other] {
        let version = side.versions.last().context("there are no versions")?;
        let requests: Rc<[Request]> = texts.iter().map(|text| Request::classify(version, text)).collect();
        let server = side.start(bench)?;
        let mut load = ClosedLoop::connect(server.address, CONNECTIONS).await?;
        load.drive(&requests[..requests.len().min(2 * CONNECTIONS)], 0.0).await?;
        sides.push((server, load, requests));
    }
    let mut rates: [Vec<f64>; 2] = Default::default();
    for pair in 0..PAIRS * bench.scale.rounds {
        for which in [pair % 2, 1 - pair % 2] {
            let (_, load, requests) = &mut sides[which];
            let Outcome { items, took, .. } = load.drive(requests, 0.0).await?;
            rates[which].push(items as f64 / took.as_secs_f64());
        }
    }
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(one, other)| one / other).collect();
    let [rates, _] = rates;
    Ok((rates, Interval::of_median(&ratios)))
}
