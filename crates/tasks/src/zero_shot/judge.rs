//! stub
use headstart_engine::Folder;
use headstart_types::payload::{Datum, Truncate};
use crate::catalog::Served; use crate::context::{Caller, TaskContext}; use crate::error::TaskError; use crate::items::{Items, Timings, self, Reading}; use crate::labels::Label;
pub(crate) struct ZeroShot;
impl ZeroShot { pub(crate) fn load(_f: &Folder) -> Result<Option<Self>, String> { Ok(Some(Self)) } }
pub(crate) struct Question<'a> { pub labels: &'a [Label], pub template: Option<&'a str>, pub independent: bool }
pub(crate) struct Judged { pub probabilities: Vec<Vec<f32>>, pub tokens: usize, pub timings: Timings }
pub(crate) async fn observe(cx: &TaskContext, served: &Served, field: &str, data: Vec<Datum>, truncate: Truncate, caller: Caller) -> Result<Items, TaskError> {
    items::compute(cx, served, data, Reading { field, want: headstart_engine::Want { features: true, logits: false }, truncate, prompt: None }, &cx.features, caller).await
}
pub(crate) async fn judge(_cx: &TaskContext, _served: &Served, items: &Items, q: Question<'_>, _c: Caller) -> Result<Judged, TaskError> {
    Ok(Judged { probabilities: items.items.iter().map(|_| vec![1.0 / q.labels.len() as f32; q.labels.len()]).collect(), tokens: 0, timings: Timings::default() })
}
