//! Two callers at the same moment: each change is decided by what is there when it is written.

use headstart_store::{Expected, Scope, Store, StoreError, When};
use headstart_types::job::JobState;

use crate::support::{T, claim, intent, job, reason, version};

/// Rounds of each race; a change that went by what was read before would be caught in most of them.
const ROUNDS: usize = 40;

async fn two() -> (tempfile::TempDir, Store, Store) {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) =
        (Store::open(folder.path()).await.unwrap(), Store::open(folder.path()).await.unwrap());
    (folder, here, there)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_finished_or_cancelled_and_never_both() {
    let (_folder, here, there) = two().await;
    let (mut finished, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        let made = job(&here, "alice", T).await;
        let (lease, _) = claim(&here, "w", T).await;
        let (made_version, id) = (version(), made.id.clone());
        let other = there.clone();
        let cancel = tokio::spawn(async move { other.cancel(Scope::All, &id, T).await });
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        let finish = here.finish(&lease, &made_version, None, T).await;
        let cancel = cancel.await.unwrap();
        let over = here.job(Scope::All, &made.id).await.unwrap();
        match (finish, cancel) {
            (Ok(_), Err(StoreError::Conflict(_))) => {
                finished += 1;
                assert_eq!((over.state, over.fine_tuned_model.is_some()), (JobState::Succeeded, true));
            }
            (Err(StoreError::LeaseLost(_)), Ok(_)) => {
                cancelled += 1;
                assert_eq!((over.state, over.fine_tuned_model), (JobState::Cancelled, None));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(finished + cancelled, ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_first_versions_at_once_one_is_published() {
    let (_folder, here, there) = two().await;
    for round in 0..ROUNDS {
        let mut id = intent();
        id.name = format!("intent-{round}");
        let (one, other, why) = (version(), version(), reason());
        let published = tokio::join!(
            here.publish(&id, &one, When::First, Expected::New, &why, T),
            there.publish(&id, &other, When::First, Expected::New, &why, T)
        );
        let done = [&published.0, &published.1].iter().filter(|published| published.is_ok()).count();
        assert_eq!(done, 1, "{published:?}");
        assert_eq!(here.classifier(&id).await.unwrap().last_version, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_promotions_against_the_same_production_one_happens() {
    let (_folder, here, there) = two().await;
    let id = intent();
    for _ in 0..3 {
        here.publish(&id, &version(), When::First, Expected::Any, &reason(), T).await.unwrap();
    }
    for _ in 0..ROUNDS {
        here.promote(&id, 1, None, &reason(), T).await.unwrap();
        let why = reason();
        let moved =
            tokio::join!(here.promote(&id, 2, Some(1), &why, T), there.promote(&id, 3, Some(1), &why, T));
        let done = [&moved.0, &moved.1].iter().filter(|moved| moved.is_ok()).count();
        assert_eq!(done, 1, "{moved:?}");
    }
}
