//! One graph with both towers of CLIP or SigLIP, as Optimum exports them by default: parted into a graph for each.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;
use headstart_onnx::proto::ValueInfo;
use headstart_onnx::{Extension, Header, Outline};
use headstart_types::hugging_face::TOWERS;

use super::draft::Draft;

/// Writes what each tower's vectors need as a graph of its own: its nodes, its weights, its inputs.
pub(super) fn part(path: &Path, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    for (name, output) in TOWERS {
        let inputs = tower(path, output, &draft.folder().join(name))
            .with_context(|| format!("{}: its `{output}` does not become a graph", path.display()))?;
        draft.seal(name)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        draft.note(format!("{name}: what {file} needs for `{output}`; takes {}", inputs.join(", ")));
    }
    Ok(())
}

/// Writes the graph of one output; the inputs that it has.
fn tower(from: &Path, output: &str, to: &Path) -> anyhow::Result<Vec<String>> {
    let mut file = File::open(from)?;
    let outline = Outline::read(&file)?;
    let called = |value: &&ValueInfo| value.name.as_deref() == Some(output);
    let value = outline.outputs().iter().find(called).cloned().context("it is no output")?;
    // Old files list their weights among the inputs.
    let given: Vec<_> = outline.inputs().filter_map(|input| input.name.clone()).collect();
    let trunk = outline.only(&[output])?;
    let inputs =
        trunk.inputs.iter().filter_map(|input| input.name.clone()).filter(|name| given.contains(name));
    let inputs = inputs.collect();
    let mut graph = Extension::new(trunk, "tower/", 1)?;
    graph.keep_output(value)?;
    let header = Header {
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Header::default()
    };
    let mut into = BufWriter::with_capacity(1 << 20, File::create_new(to)?);
    graph.finish(header)?.write(&mut file, &mut into)?;
    Ok(inputs)
}
