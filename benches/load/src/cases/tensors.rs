//! Raw tensors in a closed loop, as bytes behind the JSON: token ids and pixels of which nothing is left to do but the call.

use crate::backbone::Backbone;
use crate::bench::Bench;
use crate::cases::closed_rounds::{Case, Sample, Subject};
use crate::cases::throughput::write_section;
use crate::direct::TensorEmbedder;
use crate::direct::lanes::Sessions;
use crate::direct::plan::{self, Plan};
use crate::request::Request;
use crate::tensor::{Input, Row, Values};
use headstart_media::{Limits, decode, preprocess};

const CONNECTIONS: [usize; 2] = [1, 32];

/// The server's own defaults.
const LIMITS: Limits = Limits { max_pixels: 50_000_000, max_bytes: 64 << 20, max_seconds: 0 };

/// # Errors
/// When something cannot be started, or the server's tensors are not the direct ones.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let mut section = String::new();
    for backbone in bench.text_backbones()? {
        let [_, short] = bench.text_samples(&backbone)?;
        let ids: anyhow::Result<Vec<Vec<u32>>> = short.iter().map(|text| backbone.tokenise(text)).collect();
        let ids = ids?;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let rows = |sessions: &Sessions<TensorEmbedder>| {
            let names = sessions.wide.inputs();
            Ok(ids.iter().map(|ids| token_row(&names, ids)).collect())
        };
        let notes = "- Rows of token ids, each as long as its text: at most 32, not padded; only rows of one length share a call, on \
                     both sides.\n";
        section += &measure(bench, &backbone, rows, plan::for_equals(&lengths), notes)?;
    }
    if let Some(backbone) = bench.image_backbone()? {
        let photos = bench.corpus.photos(bench.scale.photos / 2);
        let plans = plan::one_by_one(photos.len());
        let rows = |sessions: &Sessions<TensorEmbedder>| {
            let name = sessions.wide.inputs().concat();
            photos.iter().map(|photo| pixel_row(&backbone, &name, &photo.bytes)).collect()
        };
        let notes = "- Photos that are pixels already, 602 kB each.\n";
        section += &measure(bench, &backbone, rows, plans, notes)?;
    }
    Ok(section)
}

fn measure(
    bench: &Bench,
    backbone: &Backbone,
    rows: impl Fn(&Sessions<TensorEmbedder>) -> anyhow::Result<Vec<Row>>,
    plans: Vec<Plan>,
    notes: &str,
) -> anyhow::Result<String> {
    let sessions = Sessions::open(&bench.environment, backbone, bench.cores, TensorEmbedder::open)?;
    let rows = rows(&sessions)?;
    let output = backbone.feature_tensor()?;
    let cases = CONNECTIONS.map(|connections| {
        let requests = rows.iter().map(|row| Request::infer(backbone.id(), row, output));
        Case::new(format!("{connections} × 1 row"), 0, connections, requests.collect())
    });
    let samples = vec![Sample::new(rows, plans)];
    let mut subject = Subject { sessions, samples, cases: cases.into(), lowest_cosine: f64::NAN };
    subject.measure(bench, backbone.id())?;
    write_section(bench, backbone, &subject, "", notes)
}

/// Ids, a mask of ones, and zeros for whatever else a transformer takes.
fn token_row(names: &[String], ids: &[u32]) -> Row {
    let values = |name: &str| match name {
        "input_ids" => ids.iter().map(|id| i64::from(*id)).collect(),
        "attention_mask" => vec![1; ids.len()],
        _ => vec![0; ids.len()],
    };
    let input = |name: &String| Input {
        name: name.clone(),
        shape: vec![ids.len()],
        values: Values::Int64(values(name)),
    };
    Row { inputs: names.iter().map(input).collect() }
}

fn pixel_row(backbone: &Backbone, name: &str, photo: &[u8]) -> anyhow::Result<Row> {
    let spec = backbone.image()?;
    let side = spec.size as usize;
    let values = Values::Fp32(preprocess(&decode(photo, &LIMITS)?, spec));
    Ok(Row { inputs: vec![Input { name: name.to_owned(), shape: vec![3, side, side], values }] })
}
