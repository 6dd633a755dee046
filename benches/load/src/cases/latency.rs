//! What the server adds to a direct call, one client at a time.
//!
//! A call after a pause is dearer than one in a hot loop, because caches have cooled and threads sleep; so the direct
//! side pauses between its calls exactly as long as the client does between its requests.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::backbone::Backbone;
use crate::bench::Bench;
use crate::connection::Connection;
use crate::direct::lanes::Sessions;
use crate::direct::{Embedder, ImageEmbedder, TextEmbedder};
use crate::figures::{Spread, median};
use crate::request::Request;
use crate::table::Table;

/// Pauses of the client, in milliseconds.
const PAUSES_MS: [u64; 3] = [0, 1, 10];

/// Calls before the clock starts.
const WARM_UP: usize = 20;

/// # Errors
/// When something cannot be started or answered.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "backbone, pause of the client",
        "server p50 ms",
        "direct p50 ms, 1 thread",
        "added p50 ms",
        &format!("direct p50 ms, {} threads", bench.cores),
        "added to that",
    ]);
    for backbone in bench.text_backbones()? {
        let texts = bench.corpus.texts(bench.scale.latency_calls, |_| true);
        let requests: Vec<Request> =
            texts.iter().map(|text| Request::texts(backbone.id(), &[text])).collect();
        let items: anyhow::Result<Vec<Vec<u32>>> = texts.iter().map(|text| backbone.tokenise(text)).collect();
        let mut sessions = Sessions::open(&bench.environment, &backbone, bench.cores, TextEmbedder::open)?;
        measure(bench, &backbone, &requests, &items?, &mut sessions, &mut table)?;
    }
    if let Some(backbone) = bench.image_backbone()? {
        let photos = bench.corpus.photos(bench.scale.latency_calls);
        let requests: Vec<Request> =
            photos.iter().map(|photo| Request::photo(backbone.id(), photo)).collect();
        let items: Vec<Vec<u8>> = photos.iter().map(|photo| photo.bytes.clone()).collect();
        let mut sessions = Sessions::open(&bench.environment, &backbone, bench.cores, ImageEmbedder::open)?;
        measure(bench, &backbone, &requests, &items, &mut sessions, &mut table)?;
    }
    let mut section = table.to_string();
    writeln!(
        section,
        "\n- {} calls a round, the same texts (lengths as they come) and photos in the same order on both sides; the \
         direct call starts from token ids, or from the JPEG.",
        bench.scale.latency_calls
    )?;
    Ok(section)
}

/// Medians of one pause length, one a round.
#[derive(Default)]
struct Medians {
    served: Vec<f64>,
    narrow: Vec<f64>,
    wide: Vec<f64>,
}

fn measure<E: Embedder>(
    bench: &Bench,
    backbone: &Backbone,
    requests: &[Request],
    items: &[E::Item],
    sessions: &mut Sessions<E>,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut medians: [Medians; PAUSES_MS.len()] = Default::default();
    for round in 0..bench.scale.rounds {
        eprintln!("{}: round {} of {}, latency", backbone.id(), round + 1, bench.scale.rounds);
        let server = bench.start_server(&[])?;
        let mut connection = bench.client.block_on(Connection::open(server.address))?;
        for (medians, pause) in medians.iter_mut().zip(PAUSES_MS) {
            let call = |index: usize| -> anyhow::Result<()> {
                bench.client.block_on(connection.exchange(&requests[index].bytes))?.expect_ok().map(drop)
            };
            medians.served.push(p50_ms(requests.len(), pause, call)?);
        }
        drop(server);
        for (medians, pause) in medians.iter_mut().zip(PAUSES_MS) {
            if let Some(lane) = sessions.lanes.first_mut() {
                medians
                    .narrow
                    .push(p50_ms(items.len(), pause, |index| lane.embed(&[&items[index]]).map(drop))?);
            }
            let wide = &mut sessions.wide;
            medians.wide.push(p50_ms(items.len(), pause, |index| wide.embed(&[&items[index]]).map(drop))?);
        }
    }
    for (Medians { served, narrow, wide }, pause) in medians.iter().zip(PAUSES_MS) {
        let added = |direct: &[f64]| {
            let differences: Vec<f64> =
                served.iter().zip(direct).map(|(served, direct)| served - direct).collect();
            Spread::of(&differences).show(2)
        };
        table.row(vec![
            format!("{}, {pause} ms", backbone.id()),
            Spread::of(served).show(2),
            Spread::of(narrow).show(2),
            added(narrow),
            Spread::of(wide).show(2),
            added(wide),
        ]);
    }
    Ok(())
}

/// Median time of a call in milliseconds, with a pause after each.
fn p50_ms(
    calls: usize,
    pause_ms: u64,
    mut call: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let pause = Duration::from_millis(pause_ms);
    let mut times = Vec::with_capacity(calls);
    for turn in 0..calls + WARM_UP.min(calls) {
        let started = Instant::now();
        call(turn % calls)?;
        if turn >= WARM_UP.min(calls) {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    Ok(median(&times))
}
