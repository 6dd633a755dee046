//! A thousand classifiers on one backbone against one, and how soon a change of a classifier answers.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use headstart_store::{Expected, Store, When};
use headstart_types::classifier::{ClassifierId, NewVersion, Reason};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Bench, TEXT_BACKBONES};
use crate::closed_loop::{ClosedLoop, Outcome};
use crate::connection::Connection;
use crate::figures::{Interval, Spread, quantile, sorted};
use crate::fine_tuning;
use crate::request::Request;
use crate::sample::Chance;
use crate::server::Server;
use crate::table::Table;

const CLASSIFIERS: usize = 1000;

const CONNECTIONS: usize = 32;

/// Texts of one measurement, and pairs of measurements a round: short ones, so that both see the same machine.
const TEXTS: usize = 256;
const PAIRS: usize = 10;

/// Of which classifier a request asks.
const SEED: u64 = 23;

/// Promotions that are timed.
const PROMOTIONS: usize = 40;

/// Jobs whose version is waited for.
const JOBS: usize = 5;

/// How long a start may take until all classifiers answer.
const LONGEST_LOAD: Duration = Duration::from_secs(120);

/// # Errors
/// When the server cannot be started, or a classifier does not answer.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let backbone = TEXT_BACKBONES[0];
    let rows = rows(bench)?;
    let model = bench.client.block_on(async {
        let server = start(bench, &folder)?;
        let mut connection = Connection::open(server.address).await?;
        train(&mut connection, &rows, "one").await
    })?;
    eprintln!("{model} is published under {CLASSIFIERS} names");
    bench.client.block_on(copy(&folder, &model))?;
    let server = start(bench, &folder)?;
    let loaded = bench.client.block_on(all_answer(&server))?;
    let mut section = bench.client.block_on(throughput(bench, &server, backbone))?;
    writeln!(
        section,
        "\n- `{backbone}`, a linear probe of {} rows; {CONNECTIONS} connections in a closed loop, one text (lengths as they come) a \
         request. One: all ask for one classifier; many: each asks for a random one of {CLASSIFIERS}; {} pairs in turns on one server that \
         has all loaded, {TEXTS} requests each; ratios are medians of the pairs.\n- From the start of the process to the answer of the last of {CLASSIFIERS}: {:.1} s.",
        rows.lines().count().saturating_sub(1),
        PAIRS * bench.scale.rounds,
        (server.ready_after + loaded).as_secs_f64(),
    )?;
    writeln!(section, "\n{}", bench.client.block_on(changes(&server, &rows))?)?;
    Ok(section)
}

fn start(bench: &Bench, folder: &TempDir) -> anyhow::Result<Server> {
    Server::start_in(&bench.launch, folder.path(), &["--cache-bytes", "0"])
}

/// The examples as `text,label`.
fn rows(bench: &Bench) -> anyhow::Result<String> {
    let path = match &bench.options.test_data {
        Some(folder) => folder.join("datasets/text/trec6_train.csv"),
        None => "examples/banking77.csv".into(),
    };
    let all = std::fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))?;
    Ok(all.split_inclusive('\n').take(1 + 600).collect())
}

/// Gives the version's name.
async fn train(connection: &mut Connection, rows: &str, name: &str) -> anyhow::Result<String> {
    let file = fine_tuning::upload(connection, "rows.csv", rows.as_bytes()).await?;
    let job = fine_tuning::begin(connection, &file, TEXT_BACKBONES[0], "linear_probe", name).await?;
    Ok(fine_tuning::finish(connection, &job).await?.model)
}

fn name(number: usize) -> String {
    format!("bench-{number:04}")
}

/// Publishes a version's head under further names. The server is not running meanwhile.
async fn copy(folder: &TempDir, model: &str) -> anyhow::Result<()> {
    let store = Store::open(folder.path()).await?;
    let of = |name: &str| ClassifierId { key: String::new(), name: name.to_owned() };
    let (name_of, _) = model.split_once('@').context("a version without a number")?;
    let version = store.version(&of(name_of), 1).await?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let reason = Reason { who: String::new(), reason: "benchmark".into(), gate: None };
    let new = NewVersion {
        origin: version.origin,
        artifact: version.artifact,
        report: version.report,
        evidence: version.evidence,
        metrics: version.metrics,
        backbone: version.backbone,
        backbone_sha256: version.backbone_sha256,
    };
    for number in 0..CLASSIFIERS {
        store.publish(&of(&name(number)), &new, When::First, Expected::New, &reason, now).await?;
    }
    Ok(())
}

/// How long it takes until the last classifier answers.
async fn all_answer(server: &Server) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut connection = Connection::open(server.address).await?;
    for number in 0..CLASSIFIERS {
        let request = Request::classify(&name(number), "hello");
        while connection.exchange(&request.bytes).await?.status != 200 {
            anyhow::ensure!(started.elapsed() < LONGEST_LOAD, "{} does not answer", name(number));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(started.elapsed())
}

async fn throughput(bench: &Bench, server: &Server, backbone: &str) -> anyhow::Result<String> {
    let texts = bench.corpus.texts(bench.scale.texts.min(TEXTS), |_| true);
    let mut chance = Chance::new(SEED);
    let one: Rc<[Request]> = texts.iter().map(|text| Request::classify(&name(0), text)).collect();
    let many: Rc<[Request]> =
        texts.iter().map(|text| Request::classify(&name(chance.below(CLASSIFIERS)), text)).collect();
    let mut load = ClosedLoop::connect(server.address, CONNECTIONS).await?;
    load.drive(&many[..many.len().min(2 * CONNECTIONS)], 0.0).await?;
    // Rates and CPU milliseconds an item, of one and of many, by pair.
    let mut measured: [Vec<(f64, f64)>; 2] = Default::default();
    for pair in 0..PAIRS * bench.scale.rounds {
        eprintln!("{backbone}: one and many classifiers, pair {}", pair + 1);
        // Each goes first as often as the other.
        for which in [pair % 2, 1 - pair % 2] {
            let cpu = server.process().cpu_seconds()?;
            let requests = if which == 0 { &one } else { &many };
            let Outcome { items, took, .. } = load.drive(requests, 0.0).await?;
            let cpu = server.process().cpu_seconds()? - cpu;
            measured[which].push((items as f64 / took.as_secs_f64(), 1e3 * cpu / items as f64));
        }
    }
    let [one, many] = &measured;
    let ratios: Vec<f64> = one.iter().zip(many).map(|(one, many)| many.0 / one.0).collect();
    let costs: Vec<f64> = one.iter().zip(many).map(|(one, many)| many.1 / one.1).collect();
    let mut table = Table::new(&[
        "classifiers",
        "items/s",
        "server CPU ms/item",
        "ratio of rates (95 % interval)",
        "of CPU time",
    ]);
    for (label, rounds, ratios) in [
        ("one", one, None),
        ("a thousand", many, Some((Interval::of_median(&ratios), Interval::of_median(&costs)))),
    ] {
        let rates: Vec<f64> = rounds.iter().map(|round| round.0).collect();
        let cpu: Vec<f64> = rounds.iter().map(|round| round.1).collect();
        let (rate, cost) =
            ratios.map_or(("–".into(), "–".into()), |(rate, cost)| (rate.show(3), cost.show(3)));
        table.row(vec![label.into(), Spread::of(&rates).show(0), Spread::of(&cpu).show(3), rate, cost]);
    }
    Ok(table.to_string())
}

/// How soon a promoted version answers under the bare name, and a new one under its own.
async fn changes(server: &Server, rows: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(server.address).await?;
    // Two versions whose labels tell them apart.
    let (head, body) = rows.split_once('\n').context("no rows")?;
    let few: Vec<&str> = body.lines().take(80).collect();
    let other = few.iter().map(|row| format!("{row}-2\n")).collect::<String>();
    train(&mut connection, &format!("{head}\n{}", few.join("\n")), "changing").await?;
    train(&mut connection, &format!("{head}\n{other}"), "changing").await?;
    let mut promoted_ms = Vec::new();
    let ask = Request::classify("changing", "Who is it ?");
    for round in 0..PROMOTIONS {
        let version = 2 - round % 2;
        let path = format!("/v1/classifiers/changing/versions/{version}/promote");
        let sent = Instant::now();
        fine_tuning::object(&mut connection, &Request::post_json(&path, &json!({}))).await?;
        loop {
            let answer: Value = fine_tuning::object(&mut connection, &ask).await?;
            let label =
                answer.pointer("/data/0/scores/0/label").and_then(Value::as_str).context("no label")?;
            if label.ends_with("-2") == (version == 2) {
                break;
            }
        }
        promoted_ms.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    let mut published_ms = Vec::new();
    for number in 0..JOBS {
        published_ms.push(published(server, &mut connection, rows, number + 1).await?);
    }
    let mut table = Table::new(&["change", "times", "median ms", "most ms"]);
    for (label, values) in [
        ("`POST …/promote` sent, to the first answer of that version under the bare name", promoted_ms),
        ("a job seen as `succeeded`, to the first answer of its version", published_ms),
    ] {
        let values = sorted(values);
        table.row(vec![
            label.into(),
            values.len().to_string(),
            format!("{:.1}", quantile(&values, 0.5)),
            format!("{:.1}", quantile(&values, 1.0)),
        ]);
    }
    Ok(table.to_string())
}

/// Milliseconds between the first look that finds a job succeeded and the first answer of its version.
async fn published(
    server: &Server,
    connection: &mut Connection,
    rows: &str,
    number: usize,
) -> anyhow::Result<f64> {
    let few: String = rows.split_inclusive('\n').take(81).collect();
    let file = fine_tuning::upload(connection, "rows.csv", few.as_bytes()).await?;
    let job = fine_tuning::begin(connection, &file, TEXT_BACKBONES[0], "linear_probe", "growing").await?;
    let look = Request::get(&format!("/v1/fine_tuning/jobs/{job}"));
    let ask = Request::classify(&format!("growing@{number}"), "Who is it ?");
    let mut other = Connection::open(server.address).await?;
    let ended = async {
        loop {
            let found = fine_tuning::object(connection, &look).await?;
            match found["status"].as_str() {
                Some("succeeded") => return Ok(Instant::now()),
                Some("failed" | "cancelled") => anyhow::bail!("the job ended with {}", found["error"]),
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let answered = async {
        while other.exchange(&ask.bytes).await?.status != 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok(Instant::now())
    };
    let (ended, answered) = tokio::try_join!(ended, answered)?;
    Ok(answered.saturating_duration_since(ended).as_secs_f64() * 1e3)
}
