//! Keys: a name is nobody else's by accident, a revoked key stays revoked, and every change is an act.

use headstart_store::{MAX_KEYS, PageRequest, Store, StoreError};
use headstart_types::hex;
use headstart_types::ids::KeyId;
use headstart_types::key::{KeyLimits, KeyRow};

use crate::support::{T, chance, contract, digest, file};

contract!(
    a_key_is_listed_as_it_was_added,
    a_name_that_is_there_is_not_taken_over_unawares,
    keys_of_one_name_have_the_same_scopes,
    a_revoked_key_stays_and_is_revoked_once,
    a_change_of_keys_grows_their_revision_and_is_an_act,
);

fn key(name: &str, scopes: &str) -> KeyRow {
    let chance = chance();
    KeyRow {
        id: KeyId::new(T, chance),
        name: name.into(),
        scopes: scopes.into(),
        digest: digest(&hex(&chance[..8])),
        limits: KeyLimits::default(),
        created_at: T,
        expires_at: None,
        revoked_at: None,
    }
}

async fn add(store: &Store, key: &KeyRow) {
    store.add_key(key, false, "tests").await.unwrap();
}

fn conflict(refused: Result<(), StoreError>) -> String {
    match refused {
        Err(StoreError::Conflict(message)) => message,
        other => panic!("{other:?}"),
    }
}

async fn a_key_is_listed_as_it_was_added(store: Store) {
    let limits =
        KeyLimits { requests_per_minute: Some(60), concurrency: Some(0), items_per_minute: Some(1000) };
    let full = KeyRow { limits, expires_at: Some(T + 1), ..key("app", "infer+train") };
    let plain = key("ops", "admin");
    for row in [&full, &plain] {
        add(&store, row).await;
    }
    assert_eq!(store.keys().await.unwrap(), [full, plain]);
}

async fn a_name_that_is_there_is_not_taken_over_unawares(store: Store) {
    file(&store, "alice", T).await;
    let alice = key("alice", "infer");
    assert!(conflict(store.add_key(&alice, false, "tests").await).contains("owns files"));
    store.add_key(&alice, true, "tests").await.unwrap();
    store.revoke_keys("alice", "tests", T).await.unwrap();
    let other = key("alice", "train");
    conflict(store.add_key(&other, false, "tests").await);
    store.add_key(&other, true, "tests").await.unwrap();
}

async fn keys_of_one_name_have_the_same_scopes(store: Store) {
    let old = KeyRow { expires_at: Some(T + 10), ..key("app", "infer") };
    add(&store, &old).await;
    assert!(conflict(store.add_key(&key("app", "admin"), true, "tests").await).contains("scopes infer"));
    store.add_key(&key("app", "infer"), true, "tests").await.unwrap();
    store.revoke_keys("app", "tests", T).await.unwrap();
    store.add_key(&key("app", "admin"), true, "tests").await.unwrap();
}

async fn a_revoked_key_stays_and_is_revoked_once(store: Store) {
    let (first, second) = (key("app", "infer"), key("app", "infer"));
    add(&store, &first).await;
    store.add_key(&second, true, "tests").await.unwrap();
    let ended = store.revoke_keys(first.id.as_str(), "tests", T + 5).await.unwrap();
    let revoked = KeyRow { revoked_at: Some(T + 5), ..first };
    assert_eq!(ended, std::slice::from_ref(&revoked));
    assert_eq!(store.keys().await.unwrap(), [revoked.clone(), second.clone()]);
    assert!(!revoked.is_active(T + 5) && second.is_active(T + 5));
    assert_eq!(store.revoke_keys("app", "tests", T + 6).await.unwrap().len(), 1);
    let again = store.revoke_keys("app", "tests", T + 7).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))));
    let missing = store.revoke_keys("nobody", "tests", T).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

/// In memory alone: a disk would be asked a thousand times.
#[tokio::test]
async fn there_is_an_end_to_the_number_of_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory(folder.path()).await.unwrap();
    for number in 0..MAX_KEYS {
        add(&store, &key(&format!("k{number}"), "infer")).await;
    }
    let one_more = key("more", "infer");
    let refused = store.add_key(&one_more, false, "tests").await;
    assert!(matches!(refused, Err(StoreError::TooMany { limit: MAX_KEYS, .. })));
    store.revoke_keys("k7", "tests", T).await.unwrap();
    add(&store, &one_more).await;
}

async fn a_change_of_keys_grows_their_revision_and_is_an_act(store: Store) {
    let before = store.keys_revision().await.unwrap();
    add(&store, &key("app", "infer")).await;
    let between = store.keys_revision().await.unwrap();
    store.revoke_keys("app", "root", T + 1).await.unwrap();
    let after = store.keys_revision().await.unwrap();
    assert!(before < between && between < after);
    file(&store, "alice", T).await;
    assert_eq!(store.keys_revision().await.unwrap(), after);
    let acts = store.acts(None, &PageRequest::newest(10)).await.unwrap();
    let told: Vec<(&str, &str, &str)> = acts
        .data
        .iter()
        .map(|row| (row.act.who.as_str(), row.act.action.as_str(), row.act.subject.as_str()))
        .collect();
    assert_eq!(told, [("root", "key.revoke", "app"), ("tests", "key.add", "app")]);
}
