//! Who somebody is and what they may: tokens, one-time codes, sessions.
//!
//! In: headers. Out: a [`Caller`] with rights. Never: a token in clear in the journal, in a log or in an error.

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use slipway_change::rights::{ALL, Right};
use slipway_model::{At, ProjectName, hex};
use slipway_ports::{Append, Store};
use slipway_vault::{VaultError, random};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A one-time code is good for so long.
const CODE_MS: u64 = 10 * 60 * 1000;
/// A browser session is good for so long.
const SESSION_MS: u64 = 12 * 60 * 60 * 1000;
/// Codes and sessions kept at once; the oldest give way.
const KEPT: usize = 1000;
/// The index that remembers which first token was made already.
const FIRST: &str = "first-token";

/// The reserved project under which the server keeps what belongs to none.
#[must_use]
pub fn system() -> ProjectName {
    ProjectName::parse("slipway-system").unwrap_or_else(|_| unreachable!("the name is valid"))
}

/// A token as it is kept: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The first digits of its hash; names it for people.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// What it may.
    pub rights: Vec<Right>,
    /// The only project it is for, unless it is for all.
    pub project: Option<ProjectName>,
    /// When it was made.
    pub created: At,
    /// When it ends.
    pub expires: Option<At>,
}

/// Somebody whose token was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name on the token.
    pub name: String,
    /// What they may.
    pub rights: Vec<Right>,
    /// The only project, unless all.
    pub project: Option<ProjectName>,
    /// Came by a browser session, which may only look.
    pub browser: bool,
    /// The token that it began with.
    pub token: String,
    /// When that ends.
    pub expires: Option<At>,
}

impl Caller {
    /// Whether they may do this in this project.
    #[must_use]
    pub fn may(&self, verb: &str, project: Option<&ProjectName>) -> bool {
        let here = match (&self.project, project) {
            (None, _) => true,
            (Some(only), Some(project)) => only == project,
            (Some(_), None) => !matches!(slipway_change::rights::needed(verb), Some(Right::Admin)),
        };
        here && slipway_change::rights::may(&self.rights, verb)
    }
}

#[derive(Default)]
struct Volatile {
    codes: BTreeMap<String, (TokenRecord, At)>,
    sessions: BTreeMap<String, (TokenRecord, At)>,
}

/// Tokens, codes, sessions.
pub struct Auth {
    store: Arc<dyn Store>,
    tokens: Mutex<BTreeMap<String, TokenRecord>>,
    volatile: Mutex<Volatile>,
}

fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn fresh(prefix: &str) -> Result<String, VaultError> {
    Ok(format!("{prefix}{}", hex(&random::<24>()?)))
}

impl Auth {
    /// Reads the tokens of the journal.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn open(store: Arc<dyn Store>) -> Result<Auth, String> {
        let rows = store.rows(&system(), "token", "").await.map_err(|error| error.to_string())?;
        let tokens =
            rows.into_iter().filter_map(|(key, value)| Some((key, serde_json::from_value(value).ok()?))).collect();
        Ok(Auth { store, tokens: Mutex::new(tokens), volatile: Mutex::default() })
    }

    /// Makes a token and returns it; it is never shown again.
    ///
    /// # Errors
    /// When the journal fails or there is no randomness.
    pub async fn make(
        &self,
        name: &str,
        rights: &[Right],
        project: Option<ProjectName>,
        now: At,
        days: Option<u64>,
    ) -> Result<(String, TokenRecord), String> {
        let token = fresh("slw_").map_err(|error| error.to_string())?;
        let record = self.keep(&token, name, rights, project, now, days).await?;
        Ok((token, record))
    }

    async fn keep(
        &self,
        token: &str,
        name: &str,
        rights: &[Right],
        project: Option<ProjectName>,
        now: At,
        days: Option<u64>,
    ) -> Result<TokenRecord, String> {
        let key = hash(token);
        let record = TokenRecord {
            id: key.chars().take(12).collect(),
            name: name.to_owned(),
            rights: rights.to_vec(),
            project,
            created: now,
            expires: days.map(|days| now.plus_ms(days.saturating_mul(86_400_000))),
        };
        let value = serde_json::to_value(&record).unwrap_or_default();
        let append = Append::to(&system(), "tokens").row("token", &key, Some(value));
        self.store.append(append).await.map_err(|error| error.to_string())?;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, record.clone());
        Ok(record)
    }

    /// The first token, given as text (from `DATA/token`): all rights. Once it was removed it stays so; whoever locked
    /// everybody out removes the file, and the next start makes another.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn first(&self, token: &str, now: At) -> Result<(), String> {
        let text = |error: slipway_ports::StoreError| error.to_string();
        let known = self.store.row(&system(), FIRST, "hash").await.map_err(text)?;
        let hash = serde_json::json!(hash(token));
        // Who removed it meant it: it does not come back with the next start.
        if self.record(token, now).is_some() || known.as_ref() == Some(&hash) {
            return Ok(());
        }
        self.keep(token, "owner", &ALL, None, now, None).await?;
        let append = Append::to(&system(), "tokens").row(FIRST, "hash", Some(hash));
        self.store.append(append).await.map_err(text).map(drop)
    }

    /// All tokens.
    #[must_use]
    pub fn list(&self) -> Vec<TokenRecord> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Removes a token by its id. False when there is none.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn remove(&self, id: &str) -> Result<bool, String> {
        let key = {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.iter().find(|(_, record)| record.id == id).map(|(key, _)| key.clone())
        };
        let Some(key) = key else { return Ok(false) };
        let append = Append::to(&system(), "tokens").row("token", &key, None);
        self.store.append(append).await.map_err(|error| error.to_string())?;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        // What was signed in by it ends with it.
        let mut volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        volatile.sessions.retain(|_, (record, _)| record.id != id);
        volatile.codes.retain(|_, (record, _)| record.id != id);
        Ok(true)
    }

    // Tokens are looked up by their hash, so that comparing takes the same time for every wrong one.
    fn record(&self, token: &str, now: At) -> Option<TokenRecord> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash(token)).filter(|record| record.expires.is_none_or(|expires| now < expires)).cloned()
    }

    /// Who sends these headers: a bearer token, a token as Basic password (Git, docker), a browser session.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap, now: At) -> Option<Caller> {
        if let Some(token) = bearer(headers).or_else(|| basic(headers)) {
            return self.record(&token, now).map(|record| caller(record, false));
        }
        let session = cookie(headers)?;
        let volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        let (record, until) = volatile.sessions.get(&hash(&session))?;
        let lives = now < *until && record.expires.is_none_or(|expires| now < expires);
        lives.then(|| caller(record.clone(), true))
    }

    /// A one-time code with which a browser signs in as this caller.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn code(&self, caller: &Caller, now: At) -> Result<String, String> {
        let code = fresh("").map_err(|error| error.to_string())?;
        let record = TokenRecord {
            id: caller.token.clone(),
            name: caller.name.clone(),
            rights: caller.rights.clone(),
            project: caller.project.clone(),
            created: now,
            expires: caller.expires,
        };
        let mut volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut volatile.codes, now);
        volatile.codes.insert(hash(&code), (record, now.plus_ms(CODE_MS)));
        Ok(code)
    }

    /// Takes a one-time code and returns the session's cookie value; a code works once.
    pub fn redeem(&self, code: &str, now: At) -> Option<String> {
        let mut volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        let (record, until) = volatile.codes.remove(&hash(code))?;
        if now >= until {
            return None;
        }
        let session = fresh("").ok()?;
        make_room(&mut volatile.sessions, now);
        volatile.sessions.insert(hash(&session), (record, now.plus_ms(SESSION_MS)));
        Some(session)
    }
}

fn make_room(kept: &mut BTreeMap<String, (TokenRecord, At)>, now: At) {
    kept.retain(|_, (_, until)| now < *until);
    while kept.len() >= KEPT {
        let oldest = kept.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            kept.remove(&oldest);
        }
    }
}

fn caller(record: TokenRecord, browser: bool) -> Caller {
    Caller {
        name: record.name,
        rights: record.rights,
        project: record.project,
        browser,
        token: record.id,
        expires: record.expires,
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

/// Any user name with a token as password.
fn basic(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let encoded = value.strip_prefix("Basic ").or_else(|| value.strip_prefix("basic "))?;
    let bytes = base64(encoded.trim())?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::COOKIE)?.to_str().ok()?;
    value.split(';').find_map(|part| part.trim().strip_prefix("slipway=").map(ToOwned::to_owned))
}

/// RFC 4648 §4, as HTTP Basic uses it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut buffer, mut bits) = (0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_what_git_sends() {
        assert_eq!(base64("Z2l0OnNlY3JldA==").unwrap(), b"git:secret");
        assert_eq!(base64("!"), None);
    }

    #[tokio::test]
    async fn a_first_token_that_was_removed_does_not_come_back_with_the_next_start() {
        let clock = slipway_ports::fakes::FakeClock::default();
        let store: Arc<dyn Store> = Arc::new(slipway_ports::fakes::MemoryStore::new(Arc::new(clock)));
        let auth = Auth::open(store.clone()).await.unwrap();
        auth.first("slw_one", At(1)).await.unwrap();
        let id = auth.record("slw_one", At(1)).unwrap().id;
        assert!(auth.remove(&id).await.unwrap());
        let again = Auth::open(store).await.unwrap();
        again.first("slw_one", At(2)).await.unwrap();
        assert!(again.record("slw_one", At(2)).is_none());
        // Whoever may write the file on the server is in again.
        again.first("slw_two", At(3)).await.unwrap();
        assert!(again.record("slw_two", At(3)).is_some());
    }
}
