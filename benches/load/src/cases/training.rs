//! Latency of embeddings while a job trains on the same backbone, against the same load without a job, in turns.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context as _;

use crate::bench::{Bench, IMAGE_BACKBONE, SHORT_TOKENS, TEXT_BACKBONES};
use crate::blocks::Blocks;
use crate::closed_loop::ClosedLoop;
use crate::connection::Connection;
use crate::fine_tuning::{self, Finished};
use crate::open_loop::{Arrivals, Flood, flood};
use crate::request::Request;
use crate::server::Server;
use crate::table::Table;

/// Of the capacity: enough that requests meet each other, far from a queue that grows.
const SHARE: f64 = 0.2;

/// Of the closed loop that finds the capacity.
const CAPACITY_CONNECTIONS: usize = 32;

/// More than are ever busy at such a rate, so that no request goes unsent for want of one.
const CONNECTIONS: usize = 512;

/// No job takes as long; the load ends with the job.
const LONGEST_SECONDS: f64 = 900.0;

/// All stages of a job together.
const WHOLE: &str = "whole job";

const HEADER: [&str; 8] = [
    "texts, job",
    "while",
    "seconds",
    "requests",
    "p50 ms",
    "p99 ms",
    "p50 against idle",
    "p99 against idle (95 % interval)",
];

/// Heads on frozen features.
const HEADS: &[&str] = &["linear_probe", "mlp"];

/// The backbone itself, by batches of examples.
const TUNED: &[&str] = &["full", "partial", "lora"];

/// Rows enough for minutes of training.
const TUNED_ROWS: usize = 1000;

/// By pairs of examples, of which so few rows make thousands.
const PAIRED: &[&str] = &["setfit"];
const PAIRED_ROWS: usize = 48;

/// What a job learns from.
struct Data {
    name: String,
    file: &'static str,
    bytes: Vec<u8>,
    backbone: &'static str,
    methods: &'static [&'static str],
    /// Jobs in a row, for data that is learned quickly.
    jobs: usize,
}

/// # Errors
/// When the server cannot be started, or a job fails.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let backbone = bench.text_backbones()?.into_iter().next().context("no text backbone was asked for")?;
    let [all, short] = bench.text_samples(&backbone)?;
    let mut table = Table::new(&HEADER);
    for (name, sample) in [("all lengths", all), ("short", short)] {
        let requests: Rc<[Request]> =
            sample.iter().map(|text| Request::texts(backbone.id(), &[text])).collect();
        for data in data(bench)? {
            for method in data.methods {
                let label = format!("{name}; {}, `{method}`", data.name);
                if bench.options.only.as_ref().is_none_or(|only| label.contains(only)) {
                    measure(bench, &label, &requests, &data, method, &mut table)?;
                }
            }
        }
    }
    let mut section = table.to_string();
    writeln!(
        section,
        "\n- `{}`, one text a request, Poisson arrivals at {SHARE} of the capacity that {CAPACITY_CONNECTIONS} connections in a \
         closed loop find first; latency counts from when a request was due. {} round(s) of {} s without a job, job(s) from \
         start to success, and as long without again; the server keeps no vectors, so every job computes its features. Short: at \
         most {SHORT_TOKENS} tokens.",
        backbone.id(),
        bench.scale.rounds,
        bench.scale.idle_seconds,
    )?;
    writeln!(section, "- Intervals: bootstrap over blocks of a second, idle and job each for itself.")?;
    Ok(section)
}

fn data(bench: &Bench) -> anyhow::Result<Vec<Data>> {
    let (intents, photos) = match &bench.options.test_data {
        Some(folder) => (
            folder.join("datasets/text/trec6_train.csv"),
            Some(folder.join("datasets/images/hymenoptera.zip")),
        ),
        None => ("examples/banking77.csv".into(), None),
    };
    let text = fs::read_to_string(&intents).with_context(|| format!("{} is missing", intents.display()))?;
    let name = if photos.is_some() { "TREC-6" } else { "examples" };
    let texts = |methods, rows: usize| {
        let rows = rows.min(bench.scale.training_rows);
        let bytes: Vec<u8> =
            text.split_inclusive('\n').take(rows.saturating_add(1)).collect::<String>().into();
        let name = if rows == usize::MAX { name.to_owned() } else { format!("{rows} of {name}") };
        Data { name, file: "texts.csv", bytes, backbone: TEXT_BACKBONES[0], methods, jobs: 1 }
    };
    let mut all = vec![texts(HEADS, usize::MAX), texts(TUNED, TUNED_ROWS), texts(PAIRED, PAIRED_ROWS)];
    if let (Some(path), false) = (photos, bench.options.quick) {
        let bytes = fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
        let (name, file, methods) = ("ants and bees".into(), "photos.zip", &HEADS[..1]);
        all.push(Data { name, file, bytes, backbone: IMAGE_BACKBONE, methods, jobs: 4 });
    }
    Ok(all)
}

/// Samples of the rounds, by what went on.
#[derive(Default)]
struct Samples {
    idle: Blocks,
    stages: BTreeMap<String, (f64, Blocks)>,
}

fn measure(
    bench: &Bench,
    label: &str,
    requests: &Rc<[Request]>,
    data: &Data,
    method: &str,
    table: &mut Table,
) -> anyhow::Result<()> {
    eprintln!("{label}");
    let server = bench.start_server(&[])?;
    let mut samples = Samples::default();
    let rate = SHARE * bench.client.block_on(capacity(&server, requests))?;
    for _ in 0..bench.scale.rounds {
        for _ in 0..data.jobs {
            let round = bench.client.block_on(round(bench, &server, requests, data, method, rate));
            samples.add(round?);
        }
    }
    let idle = samples.idle.quantiles();
    table.row(vec![
        label.to_owned(),
        "idle".into(),
        format!("{:.0}", samples.idle.seconds()),
        samples.idle.len().to_string(),
        format!("{:.1}", idle.p50),
        format!("{:.1}", idle.p99),
        "–".into(),
        "–".into(),
    ]);
    for stage in ["features", "fit", "tune", "evaluate", WHOLE] {
        // A stage may be too short for a request to fall into it.
        let met = samples.stages.get(stage).filter(|(_, blocks)| blocks.len() > 0);
        let Some((seconds, blocks)) = met else { continue };
        let during = blocks.quantiles();
        table.row(vec![
            String::new(),
            stage.to_owned(),
            format!("{seconds:.1}"),
            blocks.len().to_string(),
            format!("{:.1}", during.p50),
            format!("{:.1}", during.p99),
            format!("{:.2}", during.p50 / idle.p50),
            blocks.p99_against(&samples.idle).show(2),
        ]);
    }
    Ok(())
}

impl Samples {
    fn add(&mut self, round: Round) {
        let Round { idle, during, finished } = round;
        idle.into_iter().for_each(|flood| self.idle.add(&flood.answered));
        let whole = finished.stages.first().zip(finished.stages.last());
        let whole = whole.map(|((_, from, _), (_, _, until))| (WHOLE.to_owned(), *from, *until));
        for (name, from, until) in finished.stages.into_iter().chain(whole) {
            let within: Vec<(Instant, f64)> =
                during.answered.iter().filter(|(due, _)| (from..until).contains(due)).copied().collect();
            let (seconds, blocks) = self.stages.entry(name).or_default();
            *seconds += until.saturating_duration_since(from).as_secs_f64();
            blocks.add(&within);
        }
    }
}

/// Without a job, with one, and without again.
struct Round {
    idle: [Flood; 2],
    during: Flood,
    finished: Finished,
}

async fn round(
    bench: &Bench,
    server: &Server,
    requests: &Rc<[Request]>,
    data: &Data,
    method: &str,
    rate: f64,
) -> anyhow::Result<Round> {
    let load = async |seconds: f64, over: &Rc<Cell<bool>>| -> anyhow::Result<Flood> {
        let arrivals = Arrivals { rate, seconds, over: Rc::clone(over), connections: CONNECTIONS };
        let flood = flood(server.address, Rc::clone(requests), &arrivals).await?;
        let Flood { sent, answered, refused, failed, unsent, .. } = &flood;
        anyhow::ensure!(
            answered.len() == *sent && *unsent == 0,
            "of {sent} requests {} were answered, {refused} refused, {failed} failed; {unsent} found no connection",
            answered.len()
        );
        Ok(flood)
    };
    let idle_seconds = bench.scale.idle_seconds / data.jobs as f64;
    let before = load(idle_seconds, &Rc::default()).await?;
    let mut connection = Connection::open(server.address).await?;
    let file = fine_tuning::upload(&mut connection, data.file, &data.bytes).await?;
    let over = Rc::new(Cell::new(false));
    let job = async {
        let job = fine_tuning::begin(&mut connection, &file, data.backbone, method, "bench").await?;
        let finished = fine_tuning::finish(&mut connection, &job).await;
        over.set(true);
        finished
    };
    let (during, finished) = tokio::try_join!(load(LONGEST_SECONDS, &over), job)?;
    let after = load(idle_seconds, &Rc::default()).await?;
    Ok(Round { idle: [before, after], during, finished })
}

async fn capacity(server: &Server, requests: &[Request]) -> anyhow::Result<f64> {
    let mut load = ClosedLoop::connect(server.address, CAPACITY_CONNECTIONS).await?;
    load.drive(&requests[..requests.len().min(2 * CAPACITY_CONNECTIONS)], 0.0).await?;
    Ok(load.drive(requests, 0.0).await?.items_per_second())
}
