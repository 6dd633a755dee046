//! Requests that are sent again.

use headstart_store::{Begun, NewRequest, RequestKey, Store, StoreError, StoredAnswer, Ticket};

use crate::support::{T, contract};

contract!(
    a_repeated_request_gets_the_first_answer,
    the_same_key_with_another_body_is_a_conflict,
    a_request_whose_worker_died_is_tried_again_with_the_same_id,
    a_request_that_takes_long_holds_its_right_as_long_as_it_says_so,
    an_abandoned_request_may_be_tried_at_once,
    a_request_that_was_let_go_is_tried_at_once_with_the_same_id,
    answers_are_forgotten_after_their_time,
    a_clock_set_back_keeps_no_answer_for_ever,
    another_body_takes_no_dead_workers_place,
    an_answer_is_given_once_and_each_key_has_its_own,
);

const HOLD: i64 = 1_000;
const KEEP: i64 = 60_000;

fn request(token: &str) -> RequestKey {
    RequestKey { key: "alice".into(), route: "POST /v1/files".into(), token: token.into() }
}

fn new<'a>(key: &'a RequestKey, fingerprint: &'a str, resource: &'a str) -> NewRequest<'a> {
    NewRequest { key, fingerprint, resource, hold_ms: HOLD, keep_ms: KEEP }
}

async fn begin(store: &Store, fingerprint: &str, resource: &str, now: i64) -> Result<Begun, StoreError> {
    store.begin(new(&request("token"), fingerprint, resource), now).await
}

async fn fresh(store: &Store, resource: &str, now: i64) -> Ticket {
    match begin(store, "body", resource, now).await.unwrap() {
        Begun::Fresh(ticket) => ticket,
        other @ (Begun::InProgress | Begun::Answered(_)) => panic!("{other:?}"),
    }
}

fn answer() -> StoredAnswer {
    StoredAnswer { status: 200, body: "{\"id\":\"file-1\"}".into() }
}

async fn a_repeated_request_gets_the_first_answer(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    assert_eq!(ticket.resource, "file-1");
    assert_eq!(begin(&store, "body", "file-2", T + 1).await.unwrap(), Begun::InProgress);
    store.complete(&ticket, &answer()).await.unwrap();
    assert_eq!(begin(&store, "body", "file-3", T + 2).await.unwrap(), Begun::Answered(answer()));
    let mut other = request("token");
    other.key = "bob".into();
    let begun = store.begin(new(&other, "body", "file-4"), T).await.unwrap();
    assert!(matches!(begun, Begun::Fresh(_)));
}

async fn the_same_key_with_another_body_is_a_conflict(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    assert!(matches!(begin(&store, "other", "file-2", T).await, Err(StoreError::Conflict(_))));
    store.complete(&ticket, &answer()).await.unwrap();
    assert!(matches!(begin(&store, "other", "file-2", T).await, Err(StoreError::Conflict(_))));
}

async fn a_request_whose_worker_died_is_tried_again_with_the_same_id(store: Store) {
    let dead = fresh(&store, "file-1", T).await;
    let second = fresh(&store, "file-2", T + HOLD).await;
    assert_eq!(second.resource, "file-1");
    assert!(matches!(store.complete(&dead, &answer()).await, Err(StoreError::Conflict(_))));
    // A clock set back does not keep the marker for ever.
    let third = fresh(&store, "file-3", T - 50_000).await;
    store.complete(&third, &answer()).await.unwrap();
}

async fn a_request_that_takes_long_holds_its_right_as_long_as_it_says_so(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    for now in [T + HOLD - 1, T + 2 * HOLD - 2] {
        assert!(store.renew(&ticket, now).await.unwrap());
        assert_eq!(begin(&store, "body", "file-2", now + HOLD - 1).await.unwrap(), Begun::InProgress);
    }
    let taken = fresh(&store, "file-2", T + 3 * HOLD).await;
    assert!(!store.renew(&ticket, T + 3 * HOLD).await.unwrap(), "another has it by now");
    store.complete(&taken, &answer()).await.unwrap();
    assert!(!store.renew(&taken, T + 3 * HOLD).await.unwrap());
}

async fn an_abandoned_request_may_be_tried_at_once(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    store.abandon(&ticket).await.unwrap();
    let again = fresh(&store, "file-2", T + 1).await;
    assert_eq!(again.resource, "file-2");
    store.abandon(&ticket).await.unwrap();
    assert_eq!(begin(&store, "body", "file-3", T + 1).await.unwrap(), Begun::InProgress);
}

async fn a_request_that_was_let_go_is_tried_at_once_with_the_same_id(store: Store) {
    let first = fresh(&store, "file-1", T).await;
    store.let_go(&first).await.unwrap();
    let again = fresh(&store, "file-2", T + 1).await;
    assert_eq!(again.resource, "file-1");
    // Whoever let it go has no say any more.
    store.let_go(&first).await.unwrap();
    assert_eq!(begin(&store, "body", "file-3", T + 2).await.unwrap(), Begun::InProgress);
    store.complete(&again, &answer()).await.unwrap();
    store.let_go(&again).await.unwrap();
    assert_eq!(begin(&store, "body", "file-4", T + 3).await.unwrap(), Begun::Answered(answer()));
}

async fn answers_are_forgotten_after_their_time(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    store.complete(&ticket, &answer()).await.unwrap();
    store.forget_requests(T + KEEP - 1).await.unwrap();
    assert!(matches!(begin(&store, "body", "x", T + KEEP - 1).await.unwrap(), Begun::Answered(_)));
    assert!(matches!(begin(&store, "other", "file-9", T + KEEP).await.unwrap(), Begun::Fresh(_)));
    store.forget_requests(T + 3 * KEEP).await.unwrap();
    assert!(matches!(begin(&store, "third", "file-9", T + 3 * KEEP).await.unwrap(), Begun::Fresh(_)));
}

async fn a_clock_set_back_keeps_no_answer_for_ever(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    store.complete(&ticket, &answer()).await.unwrap();
    assert_eq!(begin(&store, "body", "file-2", T - KEEP).await.unwrap(), Begun::Answered(answer()));
    assert_eq!(fresh(&store, "file-3", T - KEEP - 1).await.resource, "file-3");
    // A request that is being worked on does not keep others out either.
    assert_eq!(begin(&store, "body", "file-4", T - KEEP - 1 - HOLD).await.unwrap(), Begun::InProgress);
    assert_eq!(fresh(&store, "file-4", T - KEEP - 2 - HOLD).await.resource, "file-3");
}

async fn another_body_takes_no_dead_workers_place(store: Store) {
    fresh(&store, "file-1", T).await;
    let other = begin(&store, "other", "file-2", T + HOLD).await;
    assert!(matches!(other, Err(StoreError::Conflict(_))), "{other:?}");
}

async fn an_answer_is_given_once_and_each_key_has_its_own(store: Store) {
    let ticket = fresh(&store, "file-1", T).await;
    store.complete(&ticket, &answer()).await.unwrap();
    let second = StoredAnswer { status: 500, body: "another".into() };
    assert!(matches!(store.complete(&ticket, &second).await, Err(StoreError::Conflict(_))));
    store.abandon(&ticket).await.unwrap();
    let mut others = request("token");
    others.key = "bob".into();
    let Begun::Fresh(ticket) = store.begin(new(&others, "body", "file-9"), T).await.unwrap() else {
        panic!("bob asks for the first time");
    };
    store.complete(&ticket, &second).await.unwrap();
    assert_eq!(begin(&store, "body", "file-1", T).await.unwrap(), Begun::Answered(answer()));
    let again = store.begin(new(&others, "body", "file-9"), T).await.unwrap();
    assert_eq!(again, Begun::Answered(second));
}
