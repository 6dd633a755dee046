//! API keys: hashed at once, compared in constant time, each with the scopes it may use.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use headstart_tasks::classifiers::Reach;
use headstart_types::key::{KeyLimits, KeyRow};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Ask models.
    Infer,
    /// Upload files, train classifiers, manage them.
    Train,
    /// Everything, on everyone's behalf.
    Admin,
}

impl Scope {
    /// The name used in configuration and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Train => "train",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Infer, Self::Train, Self::Admin].into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Who asks, as far as rows are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The key's name; empty where no keys are set.
    pub key: &'static str,
    /// Whether it sees and moves what others made.
    pub admin: bool,
}

impl Identity {
    /// Whoever asks where no keys are set: everything is theirs.
    pub const NOBODY: Self = Self { key: "", admin: true };
}

/// A key that is known by its hash alone.
#[derive(Debug, Clone)]
pub struct ApiKey {
    name: &'static str,
    scopes: Vec<Scope>,
    /// Names of keys whose classifiers it may ask.
    reach: Vec<String>,
    digest: [u8; 32],
    limits: KeyLimits,
    /// When it stops being taken, in milliseconds since the epoch.
    expires_at: Option<i64>,
}

/// Why a list of keys cannot be used. The key itself is never repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `name:scope[+scope]:key`.
    #[error("entry {0} is not of the form name:scope[+scope]:key")]
    Form(usize),
    /// An unknown scope.
    #[error("entry {entry} has an unknown scope{}; scopes are infer, infer@KEY, train, admin", shown(scope))]
    Scope {
        /// Position in the list, from 1.
        entry: usize,
        /// The unknown word; empty where it may be the key, at the wrong place.
        scope: String,
    },
    /// Two keys of one name.
    #[error("entry {0} has the name of an earlier one")]
    Twice(usize),
    /// One key under two names: which of them asks could not be told.
    #[error("entries {earlier} and {entry}, `{earlier_name}` and `{name}`, have the same key")]
    Same {
        /// Position of the first in the list, from 1.
        earlier: usize,
        /// Its name.
        earlier_name: &'static str,
        /// Position of the second.
        entry: usize,
        /// Its name.
        name: &'static str,
    },
    /// A key that could be guessed.
    #[error("entry {0} has a key of fewer than 8 characters")]
    Short(usize),
    /// A key that everybody has read.
    #[error("entry {0} still has the key of an example; `openssl rand -hex 24` makes one")]
    Example(usize),
}

/// Characters of the shortest key.
const SHORTEST_KEY: usize = 8;

/// What keys in examples begin with.
const EXAMPLE_KEY: &str = "CHANGE-ME";

impl ApiKey {
    /// Reads `name:scope[+scope]:key,…`; an empty text means no keys.
    ///
    /// # Errors
    /// [`KeyError`] naming the entry by its position.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, KeyError> {
        let mut keys: Vec<Self> = Vec::new();
        for (index, entry) in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).enumerate() {
            let number = index + 1;
            let mut parts = entry.splitn(3, ':');
            let (Some(name), Some(scopes), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(KeyError::Form(number));
            };
            if name.is_empty() {
                return Err(KeyError::Form(number));
            }
            if key.len() < SHORTEST_KEY {
                return Err(KeyError::Short(number));
            }
            if key.starts_with(EXAMPLE_KEY) {
                return Err(KeyError::Example(number));
            }
            if keys.iter().any(|known| known.name == name) {
                return Err(KeyError::Twice(number));
            }
            let (scopes, reach) = scopes_of(scopes)
                .map_err(|scope| KeyError::Scope { entry: number, scope: if_no_key(scope) })?;
            let name = kept(name);
            let digest = digest_of(key);
            // Every entry before this one is a key: positions are those of the list.
            if let Some((index, known)) = keys.iter().enumerate().find(|(_, known)| known.digest == digest) {
                let (earlier, earlier_name) = (index + 1, known.name);
                return Err(KeyError::Same { earlier, earlier_name, entry: number, name });
            }
            let limits = KeyLimits::default();
            keys.push(Self { name, scopes, reach, digest, limits, expires_at: None });
        }
        Ok(keys)
    }

    /// The key of a row.
    ///
    /// # Errors
    /// [`KeyError::Scope`] for scopes that this build does not know, [`KeyError::Form`] for a digest that is none.
    pub fn of_row(row: &KeyRow) -> Result<Self, KeyError> {
        let (scopes, reach) =
            scopes_of(&row.scopes).map_err(|scope| KeyError::Scope { entry: 1, scope: scope.to_owned() })?;
        let digest = bytes_of(row.digest.as_str()).ok_or(KeyError::Form(1))?;
        let (name, limits, expires_at) = (kept(&row.name), row.limits, row.expires_at);
        Ok(Self { name, scopes, reach, digest, limits, expires_at })
    }

    /// The key among `keys` that was presented. All are compared, so that the time taken tells nothing.
    #[must_use]
    pub fn find<'a>(keys: &'a [Self], presented: &str) -> Option<&'a Self> {
        let digest = digest_of(presented);
        let mut found = None;
        for key in keys {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(key);
            }
        }
        found
    }

    /// How much it may ask.
    #[must_use]
    pub fn limits(&self) -> KeyLimits {
        self.limits
    }

    /// Lets it ask so much.
    pub fn set_limits(&mut self, limits: KeyLimits) {
        self.limits = limits;
    }

    /// Whether its time is over, at `now` in milliseconds since the epoch.
    #[must_use]
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// Whether another key has the same name and may do something else.
    #[must_use]
    pub fn shares_name_unlike(&self, other: &Self) -> bool {
        self.name == other.name && self.scopes() != other.scopes()
    }

    /// What it may do, in the form in which it is kept.
    #[must_use]
    pub fn scopes(&self) -> String {
        in_one_form(&self.scopes, &self.reach)
    }

    /// Whether the key may use a scope.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Who presents it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { key: self.name, admin: self.scopes.contains(&Scope::Admin) }
    }

    /// Whose classifiers it may ask beside its own.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        if self.scopes.contains(&Scope::Admin) {
            return Some(Reach::All);
        }
        (!self.reach.is_empty()).then(|| Reach::Of(self.reach.clone()))
    }

    /// `name:scope+scope`, for people.
    #[must_use]
    pub fn without_secret(&self) -> String {
        format!("{}:{}", self.name, in_words(&self.scopes, &self.reach))
    }
}

/// A word that may be repeated; nothing of one that may be a key: whoever swaps scopes and key has the key where scopes stand.
fn if_no_key(word: &str) -> String {
    let plain =
        word.len() < SHORTEST_KEY && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
    if plain { word.to_owned() } else { String::new() }
}

/// A word in a message, where there is one.
fn shown(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!(" `{word}`") }
}

/// SHA-256 of a secret. Secrets that are made here are random and long: a slower hash would protect nothing more.
#[must_use]
pub fn digest_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// The bytes of 64 hexadecimal digits.
fn bytes_of(hexadecimal: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hexadecimal.len() != 64 {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hexadecimal.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A name for as long as the process lives: requests, jobs and rows carry it. Each is kept once, and there are no more
/// than keys were ever made.
fn kept(name: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    match names.get(name) {
        Some(known) => known,
        None => {
            let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
            names.insert(name);
            name
        }
    }
}

/// `scope[+scope]` in the one order and without repetitions, as it is kept.
///
/// # Errors
/// The word that is no scope.
pub fn normal_scopes(text: &str) -> Result<String, String> {
    let (scopes, reach) = scopes_of(text).map_err(str::to_owned)?;
    Ok(in_one_form(&scopes, &reach))
}

fn in_one_form(scopes: &[Scope], reach: &[String]) -> String {
    let order = [Scope::Infer, Scope::Train, Scope::Admin];
    let scopes: Vec<Scope> = order.into_iter().filter(|scope| scopes.contains(scope)).collect();
    let mut reach = reach.to_vec();
    reach.sort();
    reach.dedup();
    in_words(&scopes, &reach)
}

fn in_words(scopes: &[Scope], reach: &[String]) -> String {
    let scopes = scopes.iter().map(|scope| scope.as_str().to_owned());
    let reach = reach.iter().map(|owner| format!("{INFER_AT}{owner}"));
    scopes.chain(reach).collect::<Vec<_>>().join("+")
}

/// What stands before the name of a key whose classifiers may be asked.
const INFER_AT: &str = "infer@";

/// Scopes and reach of `scope[+scope]`; the word that is neither where there is one.
fn scopes_of(text: &str) -> Result<(Vec<Scope>, Vec<String>), &str> {
    let (mut scopes, mut reach) = (Vec::new(), Vec::new());
    for word in text.split('+') {
        match word.strip_prefix(INFER_AT) {
            Some("") => return Err(word),
            Some(owner) => reach.push(owner.to_owned()),
            None => scopes.push(Scope::parse(word).ok_or(word)?),
        }
    }
    if !reach.is_empty() && !scopes.contains(&Scope::Infer) {
        scopes.push(Scope::Infer);
    }
    Ok((scopes, reach))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_secret_and_allows_its_scopes() {
        let keys = ApiKey::parse_list("app:infer:secret-1, ops:admin:secret:2").unwrap();
        let app = ApiKey::find(&keys, "secret-1").unwrap();
        assert!(app.allows(Scope::Infer) && !app.allows(Scope::Train));
        let ops = ApiKey::find(&keys, "secret:2").unwrap();
        assert!(ops.identity() == Identity { key: "ops", admin: true } && ops.allows(Scope::Train));
        assert!(ApiKey::find(&keys, "secret-3").is_none());
        assert!(ApiKey::find(&keys, "").is_none());
    }

    #[test]
    fn scopes_have_one_form() {
        assert_eq!(normal_scopes("train+infer+train").unwrap(), "infer+train");
        assert_eq!(normal_scopes("infer@b+infer@a").unwrap(), "infer+infer@a+infer@b");
        assert_eq!(normal_scopes("infer+read").unwrap_err(), "read");
        assert!(normal_scopes("").is_err());
    }

    #[test]
    fn a_key_may_ask_classifiers_of_keys_that_it_names() {
        let keys =
            ApiKey::parse_list("web:infer@anna+infer@bert:secret-1,ops:admin:secret-2,app:infer:secret-3");
        let keys = keys.unwrap();
        assert!(keys[0].allows(Scope::Infer) && !keys[0].allows(Scope::Train));
        assert_eq!(keys[0].reach(), Some(Reach::Of(vec!["anna".to_owned(), "bert".to_owned()])));
        assert_eq!((keys[1].reach(), keys[2].reach()), (Some(Reach::All), None));
        assert_eq!(keys[0].without_secret(), "web:infer+infer@anna+infer@bert");
        assert!(ApiKey::parse_list("web:infer@:secret-1").is_err());
    }

    #[test]
    fn a_bad_list_is_refused_by_position_and_never_repeats_a_key() {
        let refused = |text: &str| ApiKey::parse_list(text).unwrap_err();
        assert_eq!(refused("a:infer"), KeyError::Form(1));
        assert_eq!(
            refused("a:infer:12345678,b:read:12345678"),
            KeyError::Scope { entry: 2, scope: "read".into() }
        );
        for entry in ["app:S3CRET-KEY:infer+train", "app:infer+s3cretkey:12345678", "app:infer@:12345678"] {
            let said = refused(entry).to_string();
            assert!(said.starts_with("entry 1 has an unknown scope; scopes are"), "{said}");
        }
        // Too short for a key.
        assert!(refused("app:read:12345678").to_string().starts_with("entry 1 has an unknown scope `read`;"));
        assert_eq!(refused("a:infer:12345678,a:train:87654321"), KeyError::Twice(2));
        assert_eq!(refused("a:infer:short"), KeyError::Short(1));
        // As the files of deploy/ have it.
        assert_eq!(refused("a:infer:long-enough,ops:admin:CHANGE-ME-TOO"), KeyError::Example(2));
        let same = refused("a:infer:12345678,b:infer:87654321,c:train:12345678").to_string();
        assert_eq!(same, "entries 1 and 3, `a` and `c`, have the same key");
        assert!(ApiKey::parse_list("").unwrap().is_empty());
    }
}
