//! Two backbones at a time: what each keeps of the throughput it has alone.

use std::fmt::Write as _;

use crate::bench::{Bench, IMAGE_BACKBONE, TEXT_BACKBONES};
use crate::closed_loop::{ClosedLoop, Outcome};
use crate::figures::{Spread, quantile};
use crate::request::Request;
use crate::server::Server;
use crate::table::Table;

/// Of each backbone.
const CONNECTIONS: usize = 16;

/// What neither may fall below.
const BAR: f64 = 0.4;

const HEADER: [&str; 6] = [
    "backbone",
    "alone, items/s",
    "beside the other, items/s",
    "share of alone",
    "p99 ms alone",
    "p99 ms beside",
];

/// One of a pair, with a figure a round.
#[derive(Default)]
struct Side {
    alone: Vec<f64>,
    beside: Vec<f64>,
    share: Vec<f64>,
    p99_alone: Vec<f64>,
    p99_beside: Vec<f64>,
}

/// # Errors
/// When the server cannot be started or answers anything but 200.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut section = String::new();
    let photos = bench.corpus.photos(bench.scale.photos);
    let photos: Vec<Request> = photos.iter().map(|photo| Request::photo(IMAGE_BACKBONE, photo)).collect();
    let mut lowest = f64::INFINITY;
    for id in TEXT_BACKBONES.into_iter().filter(|id| bench.options.wants(id)) {
        let texts = bench.corpus.texts(bench.scale.texts, |_| true);
        let texts: Vec<Request> = texts.iter().map(|text| Request::texts(id, &[text])).collect();
        let mut sides = [Side::default(), Side::default()];
        for round in 0..bench.scale.rounds {
            eprintln!("{id} and {IMAGE_BACKBONE}: round {} of {}", round + 1, bench.scale.rounds);
            measure(bench, [&texts, &photos], &mut sides)?;
        }
        let mut table = Table::new(&HEADER);
        for (name, side) in [id, IMAGE_BACKBONE].into_iter().zip(&sides) {
            let show = |values: &[f64], decimals| Spread::of(values).show(decimals);
            lowest = side.share.iter().copied().fold(lowest, f64::min);
            table.row(vec![
                name.to_owned(),
                show(&side.alone, 0),
                show(&side.beside, 0),
                show(&side.share, 2),
                show(&side.p99_alone, 0),
                show(&side.p99_beside, 0),
            ]);
        }
        writeln!(section, "{table}")?;
    }
    writeln!(
        section,
        "- {CONNECTIONS} connections for each backbone, one text (lengths as they come) or photo a request, both on one server: first each \
         alone, then both at a time for as long. Only answers within that time count. Bar: {BAR} of alone; the lowest here is {lowest:.2}."
    )?;
    Ok(section)
}

fn measure(bench: &Bench, requests: [&[Request]; 2], sides: &mut [Side; 2]) -> anyhow::Result<()> {
    let seconds = bench.scale.seconds;
    let server = bench.start_server(&[])?;
    let alone = bench.client.block_on(async {
        let mut outcomes = Vec::new();
        for requests in requests {
            outcomes.push(drive(&server, requests, seconds).await?);
        }
        anyhow::Ok(outcomes)
    })?;
    let both = bench.client.block_on(async {
        let [left, right] = requests.map(|requests| drive(&server, requests, seconds));
        tokio::try_join!(left, right)
    })?;
    for ((side, alone), beside) in sides.iter_mut().zip(alone).zip([both.0, both.1]) {
        side.alone.push(alone.items_per_second());
        side.beside.push(beside.items_per_second());
        side.share.push(beside.items_per_second() / alone.items_per_second());
        side.p99_alone.push(quantile(&alone.latencies_ms, 0.99));
        side.p99_beside.push(quantile(&beside.latencies_ms, 0.99));
    }
    Ok(())
}

async fn drive(server: &Server, requests: &[Request], seconds: f64) -> anyhow::Result<Outcome> {
    let mut load = ClosedLoop::connect(server.address, CONNECTIONS).await?;
    // What the server learns of a backbone's speed, it learns before the clock starts.
    load.drive_for(requests, seconds / 4.0).await?;
    load.drive_for(requests, seconds).await
}
