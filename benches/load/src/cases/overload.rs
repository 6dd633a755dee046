//! Twice as many requests as the server can answer.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::bench::Bench;
use crate::closed_loop::ClosedLoop;
use crate::figures::quantile;
use crate::open_loop::{Arrivals, Flood, flood};
use crate::request::Request;
use crate::server::Server;
use crate::table::Table;

/// The queue of the server: small, so that it is full soon after the start and what lies beyond is the rule.
const QUEUE_ITEMS: usize = 256;

/// More than the queue holds, so that a refusal always finds a connection; fewer than servers take.
const CONNECTIONS: usize = 512;

/// Of the closed loop that finds the capacity.
const CAPACITY_CONNECTIONS: usize = 32;

const HEADER: [&str; 11] = [
    "backbone",
    "capacity/s before, after",
    "sent/s",
    "200s/s",
    "goodput",
    "429",
    "p50 ms of 200s",
    "p99 ms of 200s",
    "other answers",
    "not sent",
    "RSS MB before, after, peak",
];

/// # Errors
/// When the server cannot be started.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut table = Table::new(&HEADER);
    for backbone in bench.text_backbones()? {
        let texts = bench.corpus.texts(bench.scale.texts, |_| true);
        let requests = texts.iter().map(|text| Request::texts(backbone.id(), &[text])).collect();
        measure(bench, backbone.id(), requests, &mut table)?;
    }
    if let Some(backbone) = bench.image_backbone()? {
        let photos = bench.corpus.photos(bench.scale.photos);
        let requests = photos.iter().map(|photo| Request::photo(backbone.id(), photo)).collect();
        measure(bench, backbone.id(), requests, &mut table)?;
    }
    let mut section = table.to_string();
    writeln!(
        section,
        "\n- Poisson arrivals for {} s at twice the capacity, which a closed loop of {CAPACITY_CONNECTIONS} connections \
         found on the same server just before and measured again after; one text (lengths as they come) or photo a request; no retries. The \
         server runs with `--queue-items {QUEUE_ITEMS}`, over {CONNECTIONS} connections. Goodput is 200s within that \
         time against the mean of both; RSS after is read {} s after the last answer.",
        bench.scale.overload_seconds, bench.scale.rest_seconds
    )?;
    Ok(section)
}

fn measure(bench: &Bench, name: &str, requests: Rc<[Request]>, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("{name}: overload");
    let queue = QUEUE_ITEMS.to_string();
    let server = bench.start_server(&["--queue-items", &queue, "--max-items", &queue])?;
    let process = server.process();
    let capacity =
        bench.client.block_on(capacity_of(&server, &requests, bench.scale.overload_seconds / 3.0))?;
    let before_mb = process.resident_mb()?;
    let seconds = bench.scale.overload_seconds;
    let over = Rc::default();
    let arrivals = Arrivals { rate: 2.0 * capacity, seconds, over, connections: CONNECTIONS };
    let flood = bench.client.block_on(flood(server.address, Rc::clone(&requests), &arrivals))?;
    std::thread::sleep(std::time::Duration::from_secs_f64(bench.scale.rest_seconds));
    let after_mb = process.resident_mb()?;
    let peak_mb = process.peak_mb()?;
    let again = bench.client.block_on(capacity_of(&server, &requests, bench.scale.overload_seconds / 3.0))?;
    let Flood { sent, ok_in_time, accepted_ms, refused, unsent, .. } = &flood;
    // What was never answered counts as another answer too.
    let other = sent - accepted_ms.len() - refused;
    table.row(vec![
        name.to_owned(),
        format!("{capacity:.0}, {again:.0}"),
        format!("{:.0}", *sent as f64 / seconds),
        format!("{:.0}", *ok_in_time as f64 / seconds),
        format!("{:.2}", *ok_in_time as f64 / seconds / f64::midpoint(capacity, again)),
        format!("{:.0} %", 100.0 * *refused as f64 / (*sent).max(1) as f64),
        format!("{:.0}", quantile(accepted_ms, 0.5)),
        format!("{:.0}", quantile(accepted_ms, 0.99)),
        other.to_string(),
        unsent.to_string(),
        format!("{before_mb:.0}, {after_mb:.0}, {peak_mb:.0}"),
    ]);
    Ok(())
}

async fn capacity_of(server: &Server, requests: &[Request], seconds: f64) -> anyhow::Result<f64> {
    let mut load = ClosedLoop::connect(server.address, CAPACITY_CONNECTIONS).await?;
    load.drive(&requests[..requests.len().min(2 * CAPACITY_CONNECTIONS)], 0.0).await?;
    Ok(load.drive(requests, seconds).await?.items_per_second())
}
