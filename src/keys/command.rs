//! `headstart keys`: keys made, listed and revoked in the data folder, also while servers have it open.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta};
use clap::{Args, Subcommand};
use headstart_store::{Store, make_private};
use headstart_types::hex;
use headstart_types::ids::KeyId;
use headstart_types::key::{KeyLimits, KeyRow};

use crate::auth::{self, ApiKey};
use crate::clock::{chance, now_ms};
use crate::config::{Config, Options};

/// Who does it, in the audit: no key can have this name.
const WHO: &str = "headstart keys";

/// What every secret that is made here starts with, so that scanners of texts can know one.
const PREFIX: &str = "hs-";

/// The last year a key may end in: dates are written with four digits.
const LAST_YEAR: i32 = 9999;

/// Longest name of a key.
const LONGEST_NAME: usize = 64;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once
    Add {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// The key
        #[command(flatten)]
        arguments: AddArguments,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// List the keys, without their secrets
    List {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
    /// End the keys of a name, or one key by its id
    Revoke {
        /// A TOML file with options; environment and flags win over it
        #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// The name, or an id as `headstart keys list` shows it
        #[arg(value_name = "NAME|ID")]
        which: String,
        /// Everything else
        #[command(flatten)]
        options: Box<Options>,
    },
}

/// Arguments of `headstart keys add`.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// Its name, which owns what is made with it: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may do: infer, infer@NAME, train, admin, joined by `+`
    #[arg(long, value_name = "SCOPES")]
    scope: String,
    /// Requests in a minute; 0 is without limit [default: key-rate]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Requests at a time; 0 is without limit [default: key-concurrency]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Items of its requests in a minute; 0 is without limit [default: key-items]
    #[arg(long, value_name = "N")]
    items_per_minute: Option<u32>,
    /// When it ends: in so many days or hours, as `90d` or `12h`, or at the start of a day, UTC, as `2027-01-31`
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Let it have what the name owns already
    #[arg(long)]
    reuse: bool,
}

/// Does what was asked.
///
/// # Errors
/// When the options or arguments are wrong, the data folder cannot be used, or the store refuses.
pub fn run(command: KeysCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        KeysCommand::Add { config, arguments, options } => {
            let config = Config::load(*options, config.as_deref())?;
            runtime.block_on(add(&config, arguments))
        }
        KeysCommand::List { config, options } => {
            let config = Config::load(*options, config.as_deref())?;
            runtime.block_on(list(&config))
        }
        KeysCommand::Revoke { config, which, options } => {
            let config = Config::load(*options, config.as_deref())?;
            runtime.block_on(revoke(&config, &which))
        }
    }
}

async fn add(config: &Config, arguments: AddArguments) -> anyhow::Result<()> {
    let AddArguments { name, scope, rate, concurrency, items_per_minute, expires, reuse } = arguments;
    let now = now_ms();
    check_name(&name)?;
    let scopes = auth::normal_scopes(&scope).map_err(|word| {
        anyhow::anyhow!("`--scope`: `{word}` is no scope; scopes are infer, infer@KEY, train, admin")
    })?;
    let expires_at = expires.map(|text| end_of(&text, now)).transpose()?;
    check_configured(config, &name, &scopes, reuse)?;
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(chance::<32>()?));
    let key = KeyRow {
        id: KeyId::new(now, chance()?),
        name,
        scopes,
        digest: hex(&auth::digest_of(&secret)).parse()?,
        limits: KeyLimits { requests_per_minute: rate, concurrency, items_per_minute },
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    make_private(&config.data)
        .with_context(|| format!("`data`: {} cannot be made", config.data.display()))?;
    let added = open(config).await?.add_key(&key, reuse, WHO).await;
    added.context("no key was made; `--reuse` lets a new key have what the name owns")?;
    writeln!(std::io::stderr(), "{}\nThis is the key; it is not shown again:", described(&key, now))?;
    writeln!(std::io::stdout(), "{secret}")?;
    Ok(())
}

async fn list(config: &Config) -> anyhow::Result<()> {
    let now = now_ms();
    let mut out = std::io::stdout().lock();
    for key in &config.api_keys {
        writeln!(out, "{}  {}  from api-keys", key.identity().key, key.scopes())?;
    }
    ensure!(Store::is_in(&config.data), "`data`: there is no store in {}", config.data.display());
    for key in open(config).await?.keys().await? {
        writeln!(out, "{}", described(&key, now))?;
    }
    Ok(())
}

async fn revoke(config: &Config, which: &str) -> anyhow::Result<()> {
    ensure!(Store::is_in(&config.data), "`data`: there is no store in {}", config.data.display());
    let now = now_ms();
    for key in open(config).await?.revoke_keys(which, WHO, now).await? {
        writeln!(std::io::stdout(), "{}", described(&key, now))?;
    }
    if config.api_keys.iter().any(|key| key.identity().key == which) {
        writeln!(std::io::stderr(), "`api-keys` has a key of this name too: take it out there")?;
    }
    Ok(())
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    Store::open(&config.data).await.with_context(|| format!("`data`: {}", config.data.display()))
}

/// Whether a key can be of that name.
///
/// # Errors
/// What names are.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ensure!(
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(known),
        "a key's name has 1 to {LONGEST_NAME} letters, digits, `.`, `_` and `-`"
    );
    // `revoke` takes names and ids.
    ensure!(!name.starts_with(KeyId::PREFIX), "a key's name does not start with `{}`", KeyId::PREFIX);
    Ok(())
}

/// What holds beside keys of the store holds beside those of the options, where this command is given them.
fn check_configured(config: &Config, name: &str, scopes: &str, reuse: bool) -> anyhow::Result<()> {
    let Some(known) = config.api_keys.iter().find(|key| key.identity().key == name) else { return Ok(()) };
    ensure!(reuse, "`api-keys` has a key named `{name}`; `--reuse` makes another one for the same name");
    ensure!(
        known.scopes() == scopes,
        "`api-keys` has a key named `{name}` with the scopes {}: give the same",
        ApiKey::scopes(known)
    );
    Ok(())
}

/// The time that `90d`, `12h` or `2027-01-31` means, in milliseconds since the epoch.
fn end_of(text: &str, now: i64) -> anyhow::Result<i64> {
    let digits = |unit: char| {
        let digits = text.strip_suffix(unit)?;
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
    };
    let units = [('d', TimeDelta::days(1)), ('h', TimeDelta::hours(1))];
    let span = units.into_iter().find_map(|(unit, each)| Some((digits(unit)?, each.num_milliseconds())));
    let end = match span {
        Some((digits, each)) => {
            let span = digits.parse::<i64>().ok().and_then(|count| count.checked_mul(each));
            let end = span.and_then(|span| now.checked_add(span));
            end.filter(|end| DateTime::from_timestamp_millis(*end).is_some_and(|end| end.year() <= LAST_YEAR))
                .with_context(|| format!("`--expires`: `{text}` is after the year {LAST_YEAR}"))?
        }
        None => text
            .parse::<NaiveDate>()
            .ok()
            .and_then(|day| Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis()))
            .with_context(|| format!("`--expires`: `{text}` is none of `90d`, `12h` and `2027-01-31`"))?,
    };
    ensure!(end > now, "`--expires`: `{text}` is not to come");
    Ok(end)
}

/// A key in one line.
fn described(key: &KeyRow, now: i64) -> String {
    let limit = |name: &str, limit: Option<u32>| match limit {
        None => String::new(),
        Some(0) => format!("  {name} unlimited"),
        Some(limit) => format!("  {name} {limit}"),
    };
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", moment(at)),
        (None, Some(at)) if at <= now => format!("expired {}", moment(at)),
        (None, Some(at)) => format!("until {}", moment(at)),
        (None, None) => "active".to_owned(),
    };
    format!(
        "{}  {}  {}  made {}  {state}{}{}{}",
        key.id,
        key.name,
        key.scopes,
        moment(key.created_at),
        limit("rate", key.limits.requests_per_minute),
        limit("concurrency", key.limits.concurrency),
        limit("items", key.limits.items_per_minute)
    )
}

fn moment(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-31, noon.
    const NOON: i64 = 1_769_860_800_000;

    #[test]
    fn an_end_is_a_span_or_a_day_to_come() {
        assert_eq!(end_of("90d", NOON).unwrap(), NOON + 90 * 86_400_000);
        assert_eq!(end_of("12h", NOON).unwrap(), NOON + 43_200_000);
        assert_eq!(end_of("2026-02-01", NOON).unwrap(), NOON + 43_200_000);
        for wrong in
            ["", "d", "90", "-1d", "0h", "2026-01-31", "31.1.2027", "9999999999999999d", "99999999999d"]
        {
            assert!(end_of(wrong, NOON).is_err(), "{wrong}");
        }
        let said = |text: &str| end_of(text, NOON).unwrap_err().to_string();
        for far in ["99999999d", "9999999999999999d", "99999999999999999999h"] {
            assert!(said(far).ends_with("is after the year 9999"), "{}", said(far));
        }
        assert!(said("0h").ends_with("is not to come") && said("2026-01-31").ends_with("is not to come"));
        assert!(said("-1d").contains("is none of"));
    }

    #[test]
    fn a_name_is_plain_and_no_id() {
        assert!(check_name("team-a.eu_1").is_ok());
        for wrong in ["", "a b", "a:b", "a/b", "key-1", "ä", &"x".repeat(65)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
