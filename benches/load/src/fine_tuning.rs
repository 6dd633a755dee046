//! What the suites ask of files, jobs and classifiers: a training file uploaded, a job begun and waited for.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::request::Request;

/// Between two looks at a job.
const POLL: Duration = Duration::from_millis(50);

const LONGEST_JOB: Duration = Duration::from_secs(600);

/// A job that succeeded.
pub(crate) struct Finished {
    /// Its classifier's version, as requests name it.
    pub(crate) model: String,
    /// Its stages with the moments they began and ended, as its report has them.
    pub(crate) stages: Vec<(String, Instant, Instant)>,
}

/// Uploads a file and gives its id.
///
/// # Errors
/// When the server finds a problem in it.
pub(crate) async fn upload(connection: &mut Connection, name: &str, bytes: &[u8]) -> anyhow::Result<String> {
    let file = object(connection, &Request::upload(name, bytes)).await?;
    anyhow::ensure!(file["status"] == "processed", "{name} was not taken: {}", file["status_details"]);
    text(&file, "id")
}

/// Begins a job and gives its id.
///
/// # Errors
/// When the server refuses it.
pub(crate) async fn begin(
    connection: &mut Connection,
    file: &str,
    backbone: &str,
    method: &str,
    classifier: &str,
) -> anyhow::Result<String> {
    let body = json!({
        "model": backbone, "training_file": file, "suffix": classifier, "seed": 1,
        "method": {"type": method, method: {"hyperparameters": {}}},
    });
    let job = object(connection, &Request::post_json("/v1/fine_tuning/jobs", &body)).await?;
    text(&job, "id")
}

/// Waits for a job's success.
///
/// # Errors
/// When it ends in any other way, or not at all.
pub(crate) async fn finish(connection: &mut Connection, job: &str) -> anyhow::Result<Finished> {
    let path = format!("/v1/fine_tuning/jobs/{job}");
    let look = Request::get(&path);
    let begun = Instant::now();
    let (found, end) = loop {
        let found = object(connection, &look).await?;
        match found["status"].as_str() {
            Some("succeeded") => break (found, Instant::now()),
            Some("failed" | "cancelled") => anyhow::bail!("the job ended with {}", found["error"]),
            _ => anyhow::ensure!(begun.elapsed() < LONGEST_JOB, "the job has no end"),
        }
        tokio::time::sleep(POLL).await;
    };
    let report = object(connection, &Request::get(&format!("{path}/report"))).await?;
    let listed = report["stages"].as_array().context("the report names no stages")?;
    // Stages follow each other closely, and the last ends with the job.
    let mut until = end;
    let mut stages = Vec::new();
    for stage in listed.iter().rev() {
        let seconds = stage["seconds"].as_f64().context("a stage without a time")?;
        let from = until.checked_sub(Duration::from_secs_f64(seconds)).context("a stage before all time")?;
        stages.push((text(stage, "name")?, from, until));
        until = from;
    }
    stages.reverse();
    Ok(Finished { model: text(&found, "fine_tuned_model")?, stages })
}

/// The answer to a request, read as JSON.
///
/// # Errors
/// When it is none or not a 200.
pub(crate) async fn object(connection: &mut Connection, request: &Request) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(connection.exchange(&request.bytes).await?.expect_ok()?)?)
}

fn text(object: &Value, field: &str) -> anyhow::Result<String> {
    Ok(object[field].as_str().with_context(|| format!("an answer without `{field}`"))?.to_owned())
}
