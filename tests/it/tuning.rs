//! Backbones that jobs train: what answers, what is kept of it, and what a stop on the way changes.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use headstart::clock::now_ms;
use headstart::rollout::Rollout;
use headstart::worker::Workers;
use headstart_store::Scope;
use headstart_types::ids::{FileId, JobId};
use headstart_types::job::{Job, JobState};
use serde_json::{Value, json};

use crate::fine_tuning::{Lab, artifact, intents};
use crate::support::{TEXT, TEXT_INT8, until};

/// A few short passes, as many steps as there is time for in a test.
fn short() -> Value {
    json!({"epochs": 2, "batch_size": 8, "checkpoint_steps": 2, "learning_rate": 1e-3, "share": 1.0})
}

async fn report(lab: &Lab, job: &Job) -> Value {
    lab.service.get(&format!("/v1/fine_tuning/jobs/{}/report", job.id)).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tuned_backbone_answers_for_its_classifier_alone_and_its_report_weighs_it_against_the_frozen_one() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let rollout = Rollout::start(&lab.service.app).await.unwrap();
    let rollout = tokio::spawn(rollout.run());
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&lab.queue_with(&file, "full", short(), 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let report = report(&lab, &job).await;
    assert_eq!((&report["run"]["method"], &report["run"]["backbone"]["id"]), (&json!("full"), &json!(TEXT)));
    let tuning = &report["tuning"];
    assert!(tuning["weights"].as_u64().unwrap() > 10_000_000, "{tuning}");
    assert_eq!(tuning["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(tuning["stopped_by"], 0, "few rows are all learnt from");
    assert!(report["verdict"].as_str().unwrap().contains("Training the backbone"), "{}", report["verdict"]);

    let frozen = lab.ended(&lab.queue(&file, "linear_probe", 2).await).await;
    assert_eq!(frozen.state, JobState::Succeeded);
    let body = json!({"model": ["intents@1", "intents@2"], "input": ["where is my parcel", "thank you"]});
    let answer = lab.service.post("/v1/classify", &body).await.ok();
    let scores = |version: usize| answer["data"][version]["scores"].clone();
    assert_ne!(scores(0), scores(1), "{answer}");
    let said = |version: usize| &answer["data"][version];
    assert!(said(0).to_string().contains("delivery"), "{answer}");
    // It is no backbone that anybody lists, and its version names the one that it was made of.
    let models = lab.service.get("/v1/models").await.ok().to_string();
    assert!(!models.contains('+'), "{models}");
    let versions = lab.service.get("/v1/classifiers/intents").await.ok();
    let named: Vec<&Value> =
        versions["versions"].as_array().unwrap().iter().map(|version| &version["backbone"]).collect();
    assert_eq!(named, [TEXT, TEXT], "{versions}");
    rollout.abort();
    workers.stop().await;

    // Files as a loss of power may leave them: another process makes them anew.
    let (made, common) = (variants(&lab), lab.service.app.config.data.join("variants/weights"));
    let common = std::fs::read_dir(common).unwrap().map(|entry| entry.unwrap().path());
    let graphs = made.iter().map(|folder| folder.join("model.onnx"));
    let linked = made.iter().map(|folder| folder.join("weights.bin"));
    let files: Vec<PathBuf> = graphs.chain(linked).chain(common).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "cut short").unwrap();
    }
    assert_eq!(asked_beside(&lab, &body).await["data"], answer["data"]);
    let tokenizer = variants(&lab)[0].join("tokenizer.json");
    let whole = std::fs::read(&tokenizer).unwrap();
    for left in [None, Some("{}")] {
        std::fs::remove_file(&tokenizer).unwrap();
        if let Some(left) = left {
            std::fs::write(&tokenizer, left).unwrap();
        }
        assert_eq!(asked_beside(&lab, &body).await["data"], answer["data"], "with {left:?} of the tokeniser");
        assert!(std::fs::read(&tokenizer).unwrap() == whole);
    }
}

/// What another process on the same data folder answers.
async fn asked_beside(lab: &Lab, body: &Value) -> Value {
    let other = lab.beside().await;
    let rollout = tokio::spawn(Rollout::start(&other.service.app).await.unwrap().run());
    let answer = other.service.post("/v1/classify", body).await.ok();
    rollout.abort();
    answer
}

/// Words of two kinds of weather that no sentence mixes: what an encoder can learn that knows nothing of language.
fn weather() -> String {
    let kinds = [
        ("rain", ["wet", "grey", "drizzle", "cloud", "storm", "puddle", "umbrella"]),
        ("sun", ["warm", "blue", "bright", "clear", "glow", "beach", "shade"]),
    ];
    let mut csv = "text,label,split\n".to_owned();
    for number in 0..160usize {
        let (label, words) = &kinds[number % 2];
        let drawn = (0..4).map(|at| words[(number / 2 * (at + 1) + at * at) % words.len()]);
        let split = match number {
            0..120 => "train",
            120..140 => "val",
            _ => "test",
        };
        csv.push_str(&format!("{},{label},{split}\n", drawn.collect::<Vec<_>>().join(" ")));
    }
    csv
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_compared_with_one_from_random_weights_that_learns_too() {
    let lab = Lab::new().await;
    let file = lab.upload(&weather()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let given = json!({"epochs": 6, "batch_size": 8, "learning_rate": 1e-4, "from_random": true});
    let job = lab.ended(&lab.queue_with(&file, "full", given, 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let tuning = report(&lab, &job).await["tuning"].take();
    assert_eq!((&tuning["learned_from"], &tuning["stopped_by"]), (&json!(120), &json!(20)), "{tuning}");
    the_best_mixture_is_served(&tuning);
    let compared = &tuning["from_random"];
    let shares = |of: &str| -> Vec<f64> {
        compared[of].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect()
    };
    let (pretrained, random) = (shares("pretrained"), shares("random"));
    // The pretrained one may stop before its last pass.
    assert!((2..=7).contains(&pretrained.len()), "{compared}");
    assert_eq!(random.len(), 7, "before the first pass and behind each: {compared}");
    // Without a head it says one class of two; then it has to find out what the words say.
    assert_eq!(random[0], 0.5, "{compared}");
    let best = random.iter().copied().fold(0.0, f64::max);
    assert!(best >= 0.8, "{compared}");
    assert_eq!(compared["start"].as_f64().unwrap(), pretrained[0] - random[0], "{compared}");
    assert!(pretrained[0] > random[0], "{compared}");
    workers.stop().await;
}

/// Five mixtures from the weights that a run began with to those it kept; served is that with most right answers, and of
/// several such that with the least loss.
fn the_best_mixture_is_served(tuning: &Value) {
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap();
    let mixtures = tuning["mixtures"].as_array().unwrap();
    let shares: Vec<f64> = mixtures.iter().map(|mixture| number(mixture, "share")).collect();
    assert_eq!(shares, [0.0, 0.25, 0.5, 0.75, 1.0], "{tuning}");
    let rank = |mixture: &Value| (number(mixture, "held_out_accuracy"), -number(mixture, "held_out_loss"));
    let served = mixtures.iter().find(|mixture| mixture["share"] == tuning["share"]).unwrap();
    assert!(mixtures.iter().all(|mixture| rank(mixture) <= rank(served)), "{tuning}");
    let kept = &tuning["epochs"][tuning["kept_epoch"].as_u64().unwrap() as usize - 1];
    assert_eq!(
        rank(&mixtures[4]),
        rank(kept),
        "the last are the weights of the pass that was kept: {tuning}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn factors_stand_beside_the_matrices_that_a_job_names_and_names_that_are_none_fail_it_at_once() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let mut given = short();
    given["targets"] = json!(["query", "layer.*.value"]);
    let job = lab.ended(&lab.queue_with(&file, "lora", given, 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let report = report(&lab, &job).await;
    assert_eq!(report["run"]["hyperparameters"]["targets"], json!(["query", "layer.*.value"]));
    // Of six layers two matrices of 384 by 384 each, factors of rank 8, and a head of three classes.
    assert_eq!(report["tuning"]["weights"], 6 * 2 * 2 * 384 * 8 + 3 * 385, "{}", report["tuning"]);

    let mut given = short();
    given["targets"] = json!(["query", "no_such_matrix"]);
    let job = lab.ended(&lab.queue_with(&file, "lora", given, 2).await).await;
    let error = job.error.unwrap();
    assert_eq!(
        (job.state, error.code.as_str(), error.param.as_deref()),
        (JobState::Failed, "invalid_value", Some("hyperparameters.targets[1]"))
    );
    assert!(error.message.contains("layer.0.attention.self.query"), "{}", error.message);
    let events = lab.service.get(&format!("/v1/fine_tuning/jobs/{}/events?limit=100", job.id)).await.ok();
    assert!(!events.to_string().contains("features of the examples are computed"), "{events}");
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tuning_that_is_stopped_at_any_step_ends_with_the_bytes_of_an_undisturbed_one() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let method = |chance| lab.queue_with(&file, "partial", short(), chance);
    let undisturbed = lab.ended(&method(1).await).await;
    assert_eq!(undisturbed.state, JobState::Succeeded, "{:?}", undisturbed.error);
    workers.stop().await;
    let expected = artifact(&lab, &undisturbed).await;
    let id = method(2).await;
    let mut stops = 0u64;
    let disturbed = loop {
        let job = lab.store.job(Scope::All, &id).await.unwrap();
        if job.state.is_final() {
            break job;
        }
        let workers = Workers::start(&lab.service.app).unwrap();
        tokio::time::sleep(Duration::from_millis(150 + 150 * stops)).await;
        workers.stop().await;
        stops += 1;
    };
    assert_eq!(disturbed.state, JobState::Succeeded, "{:?}", disturbed.error);
    assert!(stops > 1, "it was never stopped on its way");
    assert!(artifact(&lab, &disturbed).await == expected, "other bytes after {stops} stops");
}

/// Methods that train the backbone, and how.
fn methods() -> [(&'static str, Value); 4] {
    // Of all weights a state is large: one is enough.
    let all = json!({"epochs": 2, "batch_size": 8, "checkpoint_steps": 5, "learning_rate": 1e-3});
    let pairs = json!({"epochs": 2, "batch_size": 8, "checkpoint_steps": 5, "learning_rate": 1e-4});
    let partial =
        json!({"epochs": 2, "batch_size": 8, "checkpoint_steps": 2, "learning_rate": 1e-3, "blocks": 2});
    [("full", all), ("partial", partial), ("lora", short()), ("setfit", pairs)]
}

/// Returns once the job has kept where its training stands.
async fn trains(lab: &Lab, id: &JobId) {
    until(&format!("{id} trains"), async || {
        if lab.store.steps(id).await.unwrap().keys().any(|name| name.starts_with("tune-")) {
            return Some(());
        }
        let job = lab.store.job(Scope::All, id).await.unwrap();
        assert!(!job.state.is_final(), "it ended before it could be stopped: {job:?}");
        None
    })
    .await;
}

/// A job behind all others has ended: the worker holds none of them any more.
async fn worker_is_free(lab: &Lab, file: &FileId, chance: u8) {
    assert_eq!(lab.ended(&lab.queue(file, "prototype", chance).await).await.state, JobState::Succeeded);
}

/// All files of the data folder but the database's own.
fn kept(lab: &Lab) -> BTreeSet<PathBuf> {
    let mut folders = vec![lab.service.app.config.data.clone()];
    let mut files = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if folder != lab.service.app.config.data {
                files.insert(entry.path());
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tuning_paused_midway_ends_with_the_bytes_of_an_undisturbed_one_and_a_cancelled_one_leaves_nothing()
{
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    for (at, (method, given)) in (0..).map(|at| 10 * at).zip(methods()) {
        let queue = async |chance: u8| lab.queue_with(&file, method, given.clone(), at + chance).await;
        let undisturbed = lab.ended(&queue(1).await).await;
        assert_eq!(undisturbed.state, JobState::Succeeded, "{method}: {:?}", undisturbed.error);

        let paused = queue(2).await;
        trains(&lab, &paused).await;
        lab.store.pause(Scope::All, &paused, now_ms()).await.unwrap();
        worker_is_free(&lab, &file, at + 3).await;
        assert_eq!(lab.store.job(Scope::All, &paused).await.unwrap().state, JobState::Paused);
        lab.store.resume(Scope::All, &paused, u32::MAX, now_ms()).await.unwrap();
        let paused = lab.ended(&paused).await;
        assert_eq!(paused.state, JobState::Succeeded, "{method}: {:?}", paused.error);
        assert!(artifact(&lab, &paused).await == artifact(&lab, &undisturbed).await, "{method}: other bytes");

        worker_is_free(&lab, &file, at + 4).await;
        let before = kept(&lab);
        let cancelled = queue(5).await;
        trains(&lab, &cancelled).await;
        lab.store.cancel(Scope::All, &cancelled, now_ms()).await.unwrap();
        // A state that was being written when the job was cancelled has no row: it is the sweep's. The worker, which lets
        // go of the rest, leaves it to the next job's end where it meets a sweep.
        until("what the job kept is gone", async || {
            let gone = kept(&lab).is_subset(&before);
            if !gone {
                lab.store.collect_blobs(0, now_ms()).await.unwrap();
                lab.store.clear_steps().await.unwrap();
            }
            gone.then_some(())
        })
        .await;
        worker_is_free(&lab, &file, at + 6).await;
        let cancelled = lab.store.job(Scope::All, &cancelled).await.unwrap();
        assert_eq!((cancelled.state, cancelled.fine_tuned_model), (JobState::Cancelled, None), "{method}");
    }
    workers.stop().await;
    let weights: BTreeSet<(u64, u64)> = variants(&lab)
        .iter()
        .map(|folder| std::fs::metadata(folder.join("weights.bin")).unwrap())
        .map(|weights| (weights.ino(), weights.nlink()))
        .collect();
    let links = variants(&lab).len() as u64 + 1;
    assert!(links > methods().len() as u64, "a variant a method: {links}");
    assert_eq!(weights.into_iter().map(|(_, links)| links).collect::<Vec<_>>(), [links], "one file for all");
}

/// The folders of tuned backbones.
fn variants(lab: &Lab) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lab.service.app.config.data.join("variants")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap() != "weights").collect()
}

/// Of a sentence's two animals the first counts. Frozen features know which two there are, and hardly which comes first.
fn roles() -> String {
    let animals = ["cat", "dog", "horse", "cow", "sheep", "goat", "duck", "goose"];
    let verbs = ["followed", "watched", "called", "found", "passed", "met", "saw"];
    let mut csv = "text,label\n".to_owned();
    for (number, first) in animals.iter().enumerate() {
        for (at, second) in
            (0..15).zip(animals.iter().cycle().skip(number + 1).filter(|second| *second != first))
        {
            csv.push_str(&format!(
                "the {first} {} the {second},{first}\n",
                verbs[(at + at / 7) % verbs.len()]
            ));
        }
    }
    csv
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_trains_the_backbone_where_there_is_time_and_rows_speak_for_it() {
    let lab = Lab::new().await;
    let file = lab.upload(&roles()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let job = lab.ended(&lab.queue_with(&file, "auto", json!({"tune_seconds": 3600}), 1).await).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let report = report(&lab, &job).await;
    let reason = report["run"]["method_reason"].as_str().unwrap();
    assert_eq!(
        (&report["run"]["method"], &report["run"]["backbone"]["id"]),
        (&json!("setfit"), &json!(TEXT)),
        "{reason}"
    );
    for said in ["96 rows for 8 classes are few", "`tune_seconds` is 3600", "right with setfit alone"] {
        assert!(reason.contains(said), "{reason}");
    }
    assert!(report["tuning"]["weights"].as_u64().unwrap() > 10_000_000, "{report}");
    let events =
        lab.service.get(&format!("/v1/fine_tuning/jobs/{}/events?limit=100", job.id)).await.ok().to_string();
    assert!(events.contains("the backbone is trained by setfit") && events.contains("is kept"), "{events}");

    let again = lab.queue_with(&file, "auto", json!({"tune_seconds": 3600}), 2).await;
    trains(&lab, &again).await;
    workers.stop().await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let again = lab.ended(&again).await;
    assert!(
        artifact(&lab, &again).await == artifact(&lab, &job).await,
        "a worker that took it over ends elsewhere"
    );

    let short = lab.ended(&lab.queue_with(&file, "auto", json!({"tune_seconds": 1}), 3).await).await;
    not_trained(&lab, &short, "setfit would take some").await;
    workers.stop().await;
}

/// The job's version reads features of the backbone as it came, and its report says why.
async fn not_trained(lab: &Lab, job: &Job, why: &str) {
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let report = report(lab, job).await;
    let reason = report["run"]["method_reason"].as_str().unwrap();
    assert!(reason.contains("the backbone was not trained: ") && reason.contains(why), "{reason}");
    assert_eq!(report["tuning"], Value::Null);
    let events =
        lab.service.get(&format!("/v1/fine_tuning/jobs/{}/events?limit=100", job.id)).await.ok().to_string();
    assert!(events.contains("the backbone was not trained") && events.contains(why), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_says_why_it_does_not_train_the_backbone() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let seconds = || json!({"tune_seconds": 3600});
    not_trained(&lab, &lab.ended(&lab.queue(&file, "auto", 1).await).await, "`tune_seconds` is 0").await;
    let easy = lab.queue_with(&file, "auto", seconds(), 2).await;
    not_trained(&lab, &lab.ended(&easy).await, "a gain could not be told from chance").await;
    let int8 = lab.queue_on(TEXT_INT8, &file, ("auto", seconds()), 3).await;
    not_trained(&lab, &lab.ended(&int8).await, "a gain could not be told from chance").await;
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_follows_no_registry_asks_a_tuned_production_version() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let first = lab.ended(&lab.queue_with(&file, "lora", short(), 1).await).await;
    assert_eq!(first.state, JobState::Succeeded, "{:?}", first.error);
    workers.stop().await;
    // Another process on the data folder: it has not seen the job that made version 1.
    let other = lab.beside().await;
    let workers = Workers::start(&other.service.app).unwrap();
    let second = other.ended(&other.queue_with(&file, "prototype", json!({}), 2).await).await;
    assert_eq!(second.state, JobState::Succeeded, "{:?}", second.error);
    workers.stop().await;
    let gate = json!({"gate": true});
    let reply = other.service.ask("", "POST", "/v1/classifiers/intents/versions/2/promote", gate).await;
    assert!(reply.text().contains("\"basis\":\"asked\""), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_makes_room_for_what_a_job_makes_of_it_and_a_job_that_will_never_find_room_is_refused() {
    let roomy = Lab::new().await;
    let file = roomy.upload(&intents()).await;
    let residents = roomy.service.app.tasks.catalog.residents();
    let counted = residents.iter().find(|resident| resident.id == TEXT).unwrap().memory;
    let ended = async |limit: u64, chance: u8| {
        let lab = roomy.beside_with(&format!("model_memory = {limit}")).await;
        let workers = Workers::start(&lab.service.app).unwrap();
        let id = lab.queue_with(&file, "lora", short(), chance).await;
        let job = lab.ended(&id).await;
        workers.stop().await;
        job
    };
    // What is made of it takes more than twice its memory: there is room for the one or the other, and not for both.
    let job = ended(3 * counted, 1).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.error);
    let limit = 2 * counted;
    let error = ended(limit, 2).await.error.unwrap();
    assert_eq!((error.code.as_str(), error.param.as_deref()), ("unsuitable_model", Some("model")));
    for said in ["model-memory".to_owned(), limit.to_string(), format!("`{TEXT}+")] {
        assert!(error.message.contains(&said), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_keeps_the_fitted_head_where_what_it_makes_of_the_backbone_never_fits_into_memory() {
    let roomy = Lab::new().await;
    let file = roomy.upload(&roles()).await;
    let residents = roomy.service.app.tasks.catalog.residents();
    let limit = 2 * residents.iter().find(|resident| resident.id == TEXT).unwrap().memory;
    let lab = roomy.beside_with(&format!("model_memory = {limit}")).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let id = lab.queue_with(&file, "auto", json!({"tune_seconds": 3600}), 1).await;
    let job = lab.ended(&id).await;
    workers.stop().await;
    not_trained(&lab, &job, "what setfit made of it cannot be used: ").await;
    not_trained(&lab, &job, &format!("`model-memory` allows {limit} in all")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_can_make_room_while_a_job_trains_it() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let mut given = short();
    given["epochs"] = json!(100);
    let id = lab.queue_with(&file, "lora", given, 1).await;
    trains(&lab, &id).await;
    let residents = lab.service.app.tasks.catalog.residents();
    assert!(residents.iter().any(|resident| resident.id == TEXT && resident.idle), "{residents:?}");
    assert_eq!(lab.store.job(Scope::All, &id).await.unwrap().state, JobState::Running);
    lab.store.cancel(Scope::All, &id, now_ms()).await.unwrap();
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_backbone_is_unloaded_between_two_steps_goes_on_once_it_is_loaded_again() {
    let lab = Lab::new().await;
    let file = lab.upload(&intents()).await;
    let workers = Workers::start(&lab.service.app).unwrap();
    let mut given = short();
    given["epochs"] = json!(10);
    let id = lab.queue_with(&file, "lora", given, 1).await;
    trains(&lab, &id).await;
    workers.stop().await;
    let loading = lab.service.app.loading().unwrap();
    loading.unload(TEXT).await.unwrap();
    let workers = Workers::start(&lab.service.app).unwrap();
    let events = format!("/v1/fine_tuning/jobs/{id}/events?limit=100");
    let said = async || lab.service.get(&events).await.ok().to_string();
    until("the job waits for its backbone", async || {
        assert!(!lab.store.job(Scope::All, &id).await.unwrap().state.is_final(), "{}", said().await);
        said().await.contains("the job goes on once").then_some(())
    })
    .await;
    loading.load(TEXT).await.unwrap();
    let job = lab.ended(&id).await;
    assert_eq!((job.state, job.lost), (JobState::Succeeded, 0), "{:?}", job.error);
    workers.stop().await;
}
