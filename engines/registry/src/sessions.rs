//! Uploads under way.
//!
//! In: a writer for a repository. Out: a number that nobody guesses, under which the upload goes on.
//! Never: more uploads than the limit; one that lives longer than its idle time; two requests that
//! write to one upload at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slipway_blobs::Writer;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{Limits, Repository};

/// An upload; empty once it is finished or failed for good.
pub(crate) type Upload = AsyncMutex<Option<Writer>>;

#[derive(Default)]
pub(crate) struct Sessions {
    sessions: Mutex<HashMap<String, Session>>,
}

struct Session {
    repository: Repository,
    upload: Arc<Upload>,
    used_at: Instant,
}

/// Why an upload cannot go on.
pub(crate) enum NoSession {
    Unknown,
    Busy,
}

impl Sessions {
    /// `None`: there are too many.
    pub(crate) fn begin(
        &self,
        repository: &Repository,
        writer: Writer,
        now: Instant,
        limits: &Limits,
    ) -> Option<String> {
        self.expire(now, limits.upload_idle);
        let mut sessions = self.lock();
        if sessions.len() >= limits.uploads_max {
            return None;
        }
        let id = new_id()?;
        let session =
            Session { repository: repository.clone(), upload: Arc::new(AsyncMutex::new(Some(writer))), used_at: now };
        sessions.insert(id.clone(), session);
        Some(id)
    }

    /// Takes hold of an upload for one request.
    pub(crate) fn open(
        &self,
        repository: &Repository,
        id: &str,
        now: Instant,
    ) -> Result<OwnedMutexGuard<Option<Writer>>, NoSession> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).filter(|session| session.repository == *repository);
        let session = session.ok_or(NoSession::Unknown)?;
        session.used_at = now;
        Arc::clone(&session.upload).try_lock_owned().map_err(|_| NoSession::Busy)
    }

    pub(crate) fn end(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(crate) fn expire(&self, now: Instant, idle: Duration) {
        // A request that is writing holds the lock: its upload is not idle.
        self.lock().retain(|_, session| {
            now.saturating_duration_since(session.used_at) < idle || session.upload.try_lock().is_err()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 random bits in hex.
fn new_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
