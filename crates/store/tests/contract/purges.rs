//! Purges: every change or none, bytes erased once nothing names them, and what is left is finished later.

use headstart_store::{
    Begun, Expected, FileChange, FileFilter, NewPurge, NewRequest, PageRequest, RequestKey, Scope, Store,
    StoreError, StoredAnswer, VersionChange, When,
};
use headstart_types::file::FileRow;
use headstart_types::ids::{PurgeId, Sha256};
use headstart_types::purge::{NamedBy, PurgeDetails, PurgeNamed};
use serde_json::json;

use crate::support::{T, chance, claim, contract, file_of, intent, job_on, reason, version};

contract!(
    a_purge_changes_files_versions_reports_and_evidence_at_once_and_erases_the_old_bytes,
    a_purge_of_a_file_in_use_or_changed_meanwhile_changes_nothing,
    a_purge_made_up_before_a_version_came_changes_nothing,
    of_two_purges_made_up_from_the_same_evidence_or_report_the_later_is_made_up_anew,
    a_purge_asked_for_twice_is_written_once,
    bytes_that_another_row_names_stay_with_it,
    bytes_that_were_sent_again_keep_a_purge_open_until_they_have_a_row_or_go,
    bytes_from_before_the_clock_was_set_back_are_erased,
    a_purge_that_has_to_wait_is_finished_later,
    purges_are_listed_for_their_key_alone,
    answers_kept_for_who_sends_again_name_nobody_and_stay_answers,
);

/// Later than any file's time on this disk.
const LATER: i64 = 4_000_000_000_000;

fn details() -> PurgeDetails {
    let named = PurgeNamed { by: NamedBy::Text, file: None, rows: None, sha256: Some("00".into()) };
    PurgeDetails {
        named,
        rows: 1,
        not_found: 0,
        files: Vec::new(),
        examples: Vec::new(),
        jobs: Vec::new(),
        trained_on: Vec::new(),
        unknown: Vec::new(),
        remaining: Vec::new(),
    }
}

async fn put(store: &Store, text: &str) -> Sha256 {
    store.blobs().put(text.as_bytes()).await.unwrap().sha256
}

async fn is_there(store: &Store, sha256: &Sha256) -> bool {
    store.blobs().info(sha256).await.unwrap().is_some()
}

/// A file with bytes of its own in the store.
async fn file(store: &Store, text: &str) -> FileRow {
    let mut row = file_of("alice", text.len() as u64, T);
    row.sha256 = put(store, text).await;
    store.create_file(&row, u64::MAX).await.unwrap();
    row
}

/// The purge that writes files again.
async fn rewriting(store: &Store, files: &[&FileRow]) -> NewPurge {
    let mut purge = NewPurge {
        id: PurgeId::new(T, chance()),
        reason: reason(),
        key: None,
        details: details(),
        files: Vec::new(),
        versions: Vec::new(),
        reports: Vec::new(),
        evidence: Vec::new(),
    };
    for file in files {
        let mut to = (*file).clone();
        to.sha256 = put(store, &format!("without {}", file.id)).await;
        (to.bytes, to.summary) = (3, json!({"classes": 1}));
        let versions = store.trained_on(&file.id).await.unwrap().len() as u64;
        let jobs = store.jobs_on(&file.id).await.unwrap();
        let reports = jobs.iter().filter(|(_, report)| report.is_some()).count() as u64;
        let answer = json!({"id": file.id, "problems": []}).to_string();
        purge.files.push(FileChange { from: file.sha256.clone(), to, versions, reports, answer });
    }
    purge
}

async fn a_purge_changes_files_versions_reports_and_evidence_at_once_and_erases_the_old_bytes(store: Store) {
    let old = file(&store, "a person's rows").await;
    let job = store.create_job(&job_on(&old.id, "alice", T), 10, T).await.unwrap();
    let (lease, _) = claim(&store, "w", T).await;
    let (checkpoint, report) = (put(&store, "checkpoint").await, put(&store, "names a person").await);
    store.put_checkpoint(&lease, 1, &checkpoint, &json!({}), T).await.unwrap();
    let mut trained = version();
    (trained.artifact, trained.report) = (put(&store, "head").await, Some(report.clone()));
    let (known, unknown) = (put(&store, "knows a digest").await, put(&store, "knows none").await);
    trained.evidence = Some(known.clone());
    store.finish(&lease, &trained, Some(&report), T).await.unwrap();
    let (holds, forgets) = (put(&store, "holds an example").await, put(&store, "holds none").await);
    let grown =
        headstart_types::classifier::NewVersion { artifact: holds.clone(), report: None, ..version() };
    store.publish(&intent(), &grown, When::Always, Expected::Any, &reason(), T).await.unwrap();
    let before = store.classifier(&intent()).await.unwrap();

    let mut purge = rewriting(&store, &[&old]).await;
    let struck = put(&store, "names nobody").await;
    purge.versions.push(VersionChange {
        classifier: intent(),
        revision: before.revision,
        number: 2,
        from: holds.clone(),
        to: forgets.clone(),
        metrics: json!({"examples": 0}),
    });
    purge.reports.push((report.clone(), struck.clone()));
    purge.evidence.push((known.clone(), unknown.clone()));
    assert!(store.purge(&purge, LATER).await.unwrap());
    assert_eq!(store.unfinished_purges().await.unwrap(), std::slice::from_ref(&purge.id));
    assert!(store.finish_purge(&purge.id, LATER).await.unwrap());
    assert_eq!(store.unfinished_purges().await.unwrap(), []);

    assert_eq!(store.file(Scope::All, &old.id).await.unwrap(), purge.files[0].to);
    let (first, second) =
        (store.version(&intent(), 1).await.unwrap(), store.version(&intent(), 2).await.unwrap());
    assert_eq!((first.artifact.clone(), first.report), (trained.artifact, Some(struck.clone())));
    assert_eq!(first.evidence, Some(unknown));
    assert_eq!((second.artifact, second.metrics), (forgets, json!({"examples": 0})));
    assert_eq!(store.job(Scope::All, &job.id).await.unwrap().report, Some(struck));
    assert!(store.checkpoints(&job.id, &PageRequest::newest(9)).await.unwrap().data.is_empty());
    let after = store.classifier(&intent()).await.unwrap();
    assert_eq!((after.revision, after.production), (before.revision + 1, before.production));
    let audit = store.audits(&intent(), &PageRequest::newest(1)).await.unwrap().data.remove(0);
    assert_eq!((audit.action.as_str(), audit.who.as_str()), ("purge", "alice"));
    for gone in [&old.sha256, &checkpoint, &report, &holds, &known] {
        assert!(!is_there(&store, gone).await, "{gone}");
    }
    assert!(is_there(&store, &first.artifact).await);
    assert_eq!(store.collect_blobs(0, LATER).await.unwrap().blobs, 0, "nothing is left for the collection");
    let row = store.purge_row(Scope::Key("alice"), &purge.id).await.unwrap();
    assert_eq!((row.created_at, row.finished_at, row.details), (LATER, Some(LATER), details()));
}

async fn a_purge_of_a_file_in_use_or_changed_meanwhile_changes_nothing(store: Store) {
    let (free, used) = (file(&store, "free").await, file(&store, "used").await);
    let job = store.create_job(&job_on(&used.id, "alice", T), 10, T).await.unwrap();
    let (lease, _) = claim(&store, "w", T).await;
    let step = put(&store, "features").await;
    store.put_step(&lease, "features", &step, T).await.unwrap();
    let purge = rewriting(&store, &[&free, &used]).await;
    let refused = store.purge(&purge, LATER).await;
    let Err(StoreError::Conflict(message)) = refused else { panic!("{refused:?}") };
    assert!(message.contains(used.id.as_str()) && message.contains(job.id.as_str()), "{message}");
    for kept in [&free, &used] {
        assert_eq!(store.file(Scope::All, &kept.id).await.unwrap(), *kept);
    }
    assert!(store.unfinished_purges().await.unwrap().is_empty());

    // Paused, the job begins anew: its worker, which may not have noticed yet, writes nothing more of the old rows.
    store.pause(Scope::All, &job.id, T).await.unwrap();
    assert!(store.purge(&purge, LATER).await.unwrap());
    assert!(store.finish_purge(&purge.id, LATER).await.unwrap());
    assert!(store.steps(&job.id).await.unwrap().is_empty() && !is_there(&store, &step).await);
    let late = store.put_step(&lease, "features", &step, T).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(_))), "{late:?}");
    store.resume(Scope::All, &job.id, u32::MAX, T).await.unwrap();
    claim(&store, "other", T).await;

    // Made up from rows that are no more.
    let again = rewriting(&store, &[&free]).await;
    assert!(!store.purge(&again, LATER).await.unwrap());
    assert!(matches!(store.purge_row(Scope::All, &again.id).await, Err(StoreError::NotFound { .. })));
}

async fn a_purge_made_up_before_a_version_came_changes_nothing(store: Store) {
    let old = file(&store, "a person's rows").await;
    store.create_job(&job_on(&old.id, "alice", T), 10, T).await.unwrap();
    let (lease, _) = claim(&store, "w", T).await;
    let of_a_job = rewriting(&store, &[&old]).await;
    let report = put(&store, "names a person").await;
    store.finish(&lease, &version(), Some(&report), T).await.unwrap();
    assert!(!store.purge(&of_a_job, LATER).await.unwrap(), "the job's version would not be named");
    // Its version deleted, there is still a report that would not be struck.
    let other = version();
    store.publish(&intent(), &other, When::Always, Expected::Any, &reason(), T).await.unwrap();
    store.delete_version(&intent(), 1, &reason(), T).await.unwrap();
    assert!(!store.purge(&of_a_job, LATER).await.unwrap(), "the job's report would not be struck");
    assert_eq!(store.file(Scope::All, &old.id).await.unwrap(), old);
    assert!(store.purge(&rewriting(&store, &[&old]).await, LATER).await.unwrap());

    // Of examples: the next version was made of the one that is to forget some.
    let classifier = store.classifier(&intent()).await.unwrap();
    let mut purge = rewriting(&store, &[]).await;
    purge.versions.push(VersionChange {
        classifier: intent(),
        revision: classifier.revision,
        number: 2,
        from: other.artifact.clone(),
        to: put(&store, "holds none").await,
        metrics: json!({}),
    });
    let read = Expected::Revision(classifier.revision);
    store.publish(&intent(), &version(), When::Always, read, &reason(), T).await.unwrap();
    assert!(!store.purge(&purge, LATER).await.unwrap());
    assert_eq!(store.version(&intent(), 2).await.unwrap().artifact, other.artifact);
    // And the other way round: what was read before a purge makes no version after it.
    let read = store.classifier(&intent()).await.unwrap().revision;
    purge.versions[0].revision = read;
    assert!(store.purge(&purge, LATER).await.unwrap());
    let read = Expected::Revision(read);
    let late = store.publish(&intent(), &version(), When::Always, read, &reason(), T).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
}

async fn of_two_purges_made_up_from_the_same_evidence_or_report_the_later_is_made_up_anew(store: Store) {
    let old = file(&store, "a person's rows").await;
    store.create_job(&job_on(&old.id, "alice", T), 10, T).await.unwrap();
    let (lease, _) = claim(&store, "w", T).await;
    let (report, evidence) = (put(&store, "names two").await, put(&store, "knows two digests").await);
    let trained = headstart_types::classifier::NewVersion {
        report: Some(report.clone()),
        evidence: Some(evidence.clone()),
        ..version()
    };
    store.finish(&lease, &trained, Some(&report), T).await.unwrap();
    for (of, places) in [("evidence", &evidence), ("report", &report)] {
        let (mut first, mut second) = (rewriting(&store, &[]).await, rewriting(&store, &[]).await);
        for (purge, left) in [(&mut first, "the second"), (&mut second, "the first")] {
            let to = put(&store, &format!("{of} of {left}")).await;
            let changes = if of == "report" { &mut purge.reports } else { &mut purge.evidence };
            changes.push((places.clone(), to));
        }
        assert!(store.purge(&first, LATER).await.unwrap());
        assert!(
            !store.purge(&second, LATER).await.unwrap(),
            "{of} that still knows of the second would stay"
        );
    }
}

async fn a_purge_asked_for_twice_is_written_once(store: Store) {
    let old = file(&store, "a person's rows").await;
    let purge = rewriting(&store, &[&old]).await;
    assert!(store.purge(&purge, LATER).await.unwrap());
    // Under one `Idempotency-Key`, made up before the first was written.
    assert!(!store.purge(&purge, LATER + 1).await.unwrap());
    let mut other = rewriting(&store, &[]).await;
    other.id = purge.id.clone();
    assert!(!store.purge(&other, LATER + 1).await.unwrap());
    assert_eq!(store.purge_row(Scope::All, &purge.id).await.unwrap().created_at, LATER);
}

async fn bytes_that_another_row_names_stay_with_it(store: Store) {
    let (one, other) = (file(&store, "the same bytes").await, file(&store, "the same bytes").await);
    let purge = rewriting(&store, &[&one]).await;
    assert!(store.purge(&purge, LATER).await.unwrap());
    assert!(store.finish_purge(&purge.id, LATER).await.unwrap());
    assert!(is_there(&store, &other.sha256).await);
    store.delete_file(Scope::All, &other.id, &reason(), T).await.unwrap();
    assert_eq!(store.collect_blobs(0, LATER).await.unwrap().blobs, 1);
}

async fn bytes_that_were_sent_again_keep_a_purge_open_until_they_have_a_row_or_go(store: Store) {
    for gets_a_row in [true, false] {
        let old = file(&store, "sent again").await;
        let purge = rewriting(&store, &[&old]).await;
        assert!(store.purge(&purge, 1).await.unwrap());
        assert!(!store.finish_purge(&purge.id, LATER).await.unwrap());
        assert!(is_there(&store, &old.sha256).await);
        assert_eq!(store.unfinished_purges().await.unwrap(), std::slice::from_ref(&purge.id));
        if gets_a_row {
            file(&store, "sent again").await;
        } else {
            store.collect_blobs(0, LATER).await.unwrap();
        }
        assert!(store.finish_purge(&purge.id, LATER).await.unwrap());
        assert_eq!(is_there(&store, &old.sha256).await, gets_a_row);
        for row in
            store.files(Scope::All, &FileFilter::default(), &PageRequest::newest(9)).await.unwrap().data
        {
            store.delete_file(Scope::All, &row.id, &reason(), T).await.unwrap();
        }
    }
}

async fn bytes_from_before_the_clock_was_set_back_are_erased(store: Store) {
    let old = file(&store, "a person's rows").await;
    let now = store.blobs().info(&old.sha256).await.unwrap().unwrap().written_at;
    let path = store.blobs().path(&old.sha256).await.unwrap();
    let bytes = std::fs::File::options().write(true).open(path).unwrap();
    let written_at = |ms: i64| std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms.unsigned_abs());
    bytes.set_modified(written_at(now + 86_400_000)).unwrap();
    let purge = rewriting(&store, &[&old]).await;
    assert!(store.purge(&purge, now).await.unwrap());
    assert!(store.finish_purge(&purge.id, now + 5).await.unwrap());
    assert!(!is_there(&store, &old.sha256).await);
}

async fn a_purge_that_has_to_wait_is_finished_later(store: Store) {
    let old = file(&store, "a person's rows").await;
    let purge = rewriting(&store, &[&old]).await;
    let backup = store.blobs().freeze().await.unwrap();
    assert!(store.purge(&purge, LATER).await.unwrap());
    assert!(!store.finish_purge(&purge.id, LATER).await.unwrap());
    assert!(is_there(&store, &old.sha256).await);
    assert_eq!(store.purge_row(Scope::All, &purge.id).await.unwrap().finished_at, None);
    drop(backup);
    // Two at once, as two processes sweep: one may find the other at it.
    let (one, other) =
        tokio::join!(store.finish_purge(&purge.id, LATER), store.finish_purge(&purge.id, LATER));
    assert!(one.unwrap() || other.unwrap());
    // Again is harmless. Tests beside this one start processes, which hold the lock's copy until they run their own program.
    let mut again = 0;
    while !store.finish_purge(&purge.id, LATER + 1).await.unwrap() {
        again += 1;
        assert!(again < 500, "the lock does not come free");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!is_there(&store, &old.sha256).await);
    assert_eq!(store.purge_row(Scope::All, &purge.id).await.unwrap().finished_at, Some(LATER));
}

async fn purges_are_listed_for_their_key_alone(store: Store) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let purge = rewriting(&store, &[]).await;
        assert!(store.purge(&purge, T).await.unwrap());
        ids.push(purge.id);
    }
    ids.reverse();
    let list = async |scope, after: Option<PurgeId>| {
        let page = store.purges(scope, &PageRequest { after, ..PageRequest::newest(2) }).await.unwrap();
        (page.data.into_iter().map(|row| row.id).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(list(Scope::Key("alice"), None).await, (ids[..2].to_vec(), true));
    assert_eq!(list(Scope::All, Some(ids[1].clone())).await, (ids[2..].to_vec(), false));
    assert_eq!(list(Scope::Key("bob"), None).await.0, []);
    let foreign = store.purge_row(Scope::Key("bob"), &ids[0]).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { what: "purge", .. })));
}

async fn answers_kept_for_who_sends_again_name_nobody_and_stay_answers(store: Store) {
    let old = file(&store, "a person's rows").await;
    let request =
        |key: &str, token: &str| RequestKey { key: key.into(), route: "r".into(), token: token.into() };
    let body = |id: &str| {
        json!({"id": id, "status_details": "anna", "problems": [{"path": "anna/1.jpg"}], "examples": 3})
            .to_string()
    };
    let begin = async |key: &str, token: &str, resource: &str| {
        let key = request(key, token);
        let new = NewRequest { key: &key, fingerprint: "f", resource, hold_ms: 1000, keep_ms: 100_000 };
        store.begin(new, T).await.unwrap()
    };
    let uploads = [
        ("alice", "kept", old.id.as_str()),
        ("alice", "deleted", "file-deleted"),
        ("bob", "looked at", "file-none"),
        ("alice", "other", "anna"),
    ];
    for (key, token, resource) in uploads {
        let Begun::Fresh(ticket) = begin(key, token, resource).await else { panic!("{token}") };
        store.complete(&ticket, &StoredAnswer { status: 200, body: body(resource) }).await.unwrap();
    }
    let answered = async |key: &str, token: &str| {
        let Begun::Answered(answer) = begin(key, token, "file-new").await else {
            panic!("{token} is done again")
        };
        answer.body
    };
    let purge = NewPurge { key: Some("alice".into()), ..rewriting(&store, &[&old]).await };
    assert!(store.purge(&purge, LATER).await.unwrap());
    assert_eq!(answered("alice", "kept").await, purge.files[0].answer);
    let left: serde_json::Value = serde_json::from_str(&answered("alice", "deleted").await).unwrap();
    assert_eq!(left, json!({"id": "file-deleted", "status_details": null, "examples": 3}));
    assert_eq!(answered("alice", "other").await, body("anna"));
    assert_eq!(answered("bob", "looked at").await, body("file-none"));
    assert!(store.purge(&rewriting(&store, &[]).await, LATER).await.unwrap());
    assert!(!answered("bob", "looked at").await.contains("anna"));
}

#[tokio::test]
async fn what_rows_held_before_is_nowhere_in_the_folder_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut old = file_of("alice", 4, T);
    (old.sha256, old.summary) = (put(&store, "rows").await, json!({"groups": ["anna-of-the-folder"]}));
    store.create_file(&old, u64::MAX).await.unwrap();
    // Rows around it, so that pages are full and split.
    for number in 0..200 {
        let key = RequestKey {
            key: "alice".into(),
            route: "r".into(),
            token: format!("{number}-{}", "x".repeat(200)),
        };
        let new = NewRequest { key: &key, fingerprint: "f", resource: "r", hold_ms: 1000, keep_ms: 1000 };
        let begun = store.begin(new, T).await.unwrap();
        assert!(matches!(begun, Begun::Fresh(_)));
        file(&store, &format!("row {number}")).await;
    }
    assert!(holding(folder.path(), "anna-of-the-folder") > 0);
    let purge = rewriting(&store, &[&old]).await;
    assert!(store.purge(&purge, LATER).await.unwrap());
    assert!(store.finish_purge(&purge.id, LATER).await.unwrap());
    assert_eq!(holding(folder.path(), "anna-of-the-folder"), 0);
}

/// Files below a folder that hold a text.
fn holding(folder: &std::path::Path, text: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += holding(&path, text);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            count += usize::from(bytes.windows(text.len()).any(|window| window == text.as_bytes()));
        }
    }
    count
}
