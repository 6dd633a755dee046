//! Jobs on a backbone of low precision that train its original: which of the two answers, and what is refused.

use std::path::Path;

use headstart::rollout::Rollout;
use headstart::worker::Workers;
use headstart_types::ids::FileId;
use headstart_types::job::{Job, JobState};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fine_tuning::{Lab, intents};
use crate::support::{TEXT, TEXT_INT8};

/// Both text backbones as they are bundled.
struct Models(TempDir);

impl Models {
    fn new() -> Self {
        let models = Self(tempfile::tempdir().unwrap());
        for id in [TEXT, TEXT_INT8] {
            let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(id);
            std::fs::create_dir(models.0.path().join(id)).unwrap();
            for file in std::fs::read_dir(bundled).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), models.0.path().join(id).join(file.file_name())).unwrap();
            }
        }
        models
    }

    /// The option that names them.
    fn option(&self) -> String {
        format!("models = [{:?}]", self.0.path())
    }

    fn rewrite(&self, id: &str, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let path = self.0.path().join(id).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(path, &bytes).unwrap();
        bytes
    }

    fn restate(&self, id: &str, old: &str, new: &str) {
        self.rewrite(id, "headstart.toml", |text| {
            let manifest = String::from_utf8(std::mem::take(text)).unwrap();
            assert!(manifest.contains(old), "{manifest}");
            *text = manifest.replace(old, new).into_bytes();
        });
    }

    /// Turns the sign of one matrix of the original.
    fn other_original(&self) {
        let name = b"encoder.layer.2.intermediate.dense.weight.float16";
        let mut was = String::new();
        let graph = self.rewrite(TEXT, "model.onnx", |graph| {
            was = headstart_methods::artifact::address(graph);
            // Behind the name stand a byte that announces the values, and their number in three.
            let places = graph.windows(name.len()).enumerate().filter(|(_, window)| window == name);
            let starts: Vec<usize> = places.map(|(at, _)| at + name.len() + 4).collect();
            let start = *starts.iter().find(|start| graph[**start - 4] == 0x4a).unwrap();
            graph[start..start + 2 * 384 * 1536].chunks_exact_mut(2).for_each(|half| half[1] ^= 0x80);
        });
        self.restate(TEXT, &was, &headstart_methods::artifact::address(&graph));
    }
}

fn short() -> Value {
    json!({"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "share": 1.0})
}

async fn trained(lab: &Lab, file: &FileId, chance: u8) -> Job {
    lab.ended(&lab.queue_on(TEXT_INT8, file, ("lora", short()), chance).await).await
}

async fn report(lab: &Lab, job: &Job) -> Value {
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    lab.service.get(&format!("/v1/fine_tuning/jobs/{}/report", job.id)).await.ok()
}

fn warned(report: &Value) -> &str {
    let notes = report["warnings"].as_array().unwrap();
    notes.iter().find(|note| note["code"] == "quantised").map_or("", |note| note["message"].as_str().unwrap())
}

/// The answer to two texts of the latest version.
async fn answer(lab: &Lab) -> crate::support::Reply {
    let body = json!({"model": "intents@1", "input": ["where is my parcel", "thank you"]});
    lab.service.post("/v1/classify", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_the_original_are_trained_and_the_backbone_of_low_precision_answers_with_them() {
    let models = Models::new();
    let lab = Lab::with(&models.option()).await;
    let file = lab.upload(&intents()).await;
    let rollout = tokio::spawn(Rollout::start(&lab.service.app).await.unwrap().run());
    let workers = Workers::start(&lab.service.app).unwrap();
    let told = report(&lab, &trained(&lab, &file, 1).await).await;
    let backbone = &told["run"]["backbone"];
    assert_eq!((&backbone["id"], &backbone["original"]), (&json!(TEXT_INT8), &json!(TEXT)));
    assert!(warned(&told).contains("rounded again"), "{told}");
    let reason = told["run"]["method_reason"].as_str().unwrap();
    assert!(reason.contains(&format!("`{TEXT}`, rounded again for `{TEXT_INT8}`")), "{reason}");
    let said = answer(&lab).await.ok();
    assert!(said.to_string().contains("delivery"), "{said}");
    workers.stop().await;
    rollout.abort();

    // What was made needs no original any more; made anew it does, and that of the training.
    let data = lab.service.app.config.data.clone();
    std::fs::rename(models.0.path().join(TEXT), models.0.path().join(".aside")).unwrap();
    let alone = lab.beside_with(&models.option()).await;
    let rollout = tokio::spawn(Rollout::start(&alone.service.app).await.unwrap().run());
    assert_eq!(answer(&alone).await.ok()["data"], said["data"]);
    rollout.abort();
    std::fs::rename(models.0.path().join(".aside"), models.0.path().join(TEXT)).unwrap();
    std::fs::remove_dir_all(data.join("variants")).unwrap();
    let anew = lab.beside_with(&models.option()).await;
    let rollout = tokio::spawn(Rollout::start(&anew.service.app).await.unwrap().run());
    assert_eq!(answer(&anew).await.ok()["data"], said["data"]);
    rollout.abort();
    std::fs::remove_dir_all(data.join("variants")).unwrap();
    models.other_original();
    let other = lab.beside_with(&models.option()).await;
    let rollout = tokio::spawn(Rollout::start(&other.service.app).await.unwrap().run());
    let refused = answer(&other).await;
    assert_eq!(refused.error().0, 503, "{}", refused.text());
    rollout.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_does_not_ask_for_it_leaves_the_original_to_answer() {
    let models = Models::new();
    models.restate(TEXT_INT8, "requantise = true\n", "");
    let lab = Lab::with(&models.option()).await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let told = report(&lab, &trained(&lab, &file, 1).await).await;
    assert_eq!((&told["run"]["backbone"]["id"], warned(&told)), (&json!(TEXT), ""));
    let auto = lab.queue_on(TEXT_INT8, &file, ("auto", json!({"tune_seconds": 3600})), 2).await;
    let told = report(&lab, &lab.ended(&auto).await).await;
    let reason = told["run"]["method_reason"].as_str().unwrap();
    assert!(reason.contains("only the original can be trained"), "{reason}");
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_made_of_another_original_are_refused_before_anything_is_computed() {
    let models = Models::new();
    models.other_original();
    let lab = Lab::with(&models.option()).await;
    let file = lab.upload(&intents()).await;
    let asked = json!({"model": TEXT_INT8, "training_file": file, "method": {"type": "full"}});
    let reply = lab.service.post("/v1/fine_tuning/jobs", &asked).await;
    assert_eq!(
        reply.error(),
        (400, "invalid_value".to_owned(), Some("model".to_owned())),
        "{}",
        reply.text()
    );
    let weight = "`encoder.layer.2.intermediate.dense.weight` cannot be rounded again";
    assert!(reply.message().contains(weight), "{}", reply.message());
    // One whose backbone was replaced while it waited fails the same way.
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = trained(&lab, &file, 1).await;
    let error = job.error.unwrap();
    assert_eq!((error.code.as_str(), error.param.as_deref()), ("unsuitable_model", Some("model")));
    assert!(error.message.contains(weight), "{}", error.message);
    let auto = lab.queue_on(TEXT_INT8, &file, ("auto", json!({"tune_seconds": 3600})), 2).await;
    let told = report(&lab, &lab.ended(&auto).await).await;
    let reason = told["run"]["method_reason"].as_str().unwrap();
    assert!(reason.contains(weight), "{reason}");
    workers.stop().await;
}

/// Bytes that both backbones are counted with, the original first.
fn counted(lab: &Lab) -> [u64; 2] {
    let residents = lab.service.app.tasks.catalog.residents();
    [TEXT, TEXT_INT8].map(|id| residents.iter().find(|resident| resident.id == id).unwrap().memory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_taken_where_only_one_of_the_two_fits_into_memory_at_a_time() {
    let models = Models::new();
    let roomy = Lab::with(&models.option()).await;
    let file = roomy.upload(&intents()).await;
    let most = counted(&roomy).into_iter().max().unwrap();
    let lab = roomy.beside_with(&format!("{}\nmodel_memory = {most}", models.option())).await;
    let lora = json!({"type": "lora", "lora": {"hyperparameters": short()}});
    let asked = json!({"model": TEXT_INT8, "training_file": file, "method": lora});
    // The first makes the one that was loaded at the start go, the second the other.
    for _ in 0..2 {
        assert_eq!(lab.service.post("/v1/fine_tuning/jobs", &asked).await.ok()["model"], TEXT_INT8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_trains_no_original_that_never_fits_into_memory_and_says_so() {
    let models = Models::new();
    let roomy = Lab::with(&format!("{}\nlanes = 1", models.option())).await;
    let file = roomy.upload(&intents()).await;
    let [original, int8] = counted(&roomy);
    assert!(int8 < original);
    let lab = roomy.beside_with(&format!("{}\nlanes = 1\nmodel_memory = {int8}", models.option())).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.queue_on(TEXT_INT8, &file, ("auto", json!({"tune_seconds": 3600})), 1).await;
    let job = lab.ended(&job).await;
    workers.stop().await;
    let told = report(&lab, &job).await;
    let reason = told["run"]["method_reason"].as_str().unwrap();
    for said in
        ["the backbone was not trained: ", &format!("`{TEXT}` takes {original} bytes"), "model-memory"]
    {
        assert!(reason.contains(said), "{reason}");
    }
    let events = lab.service.get(&format!("/v1/fine_tuning/jobs/{}/events?limit=100", job.id)).await.ok();
    assert!(events.to_string().contains("the backbone was not trained"), "{events}");
}
