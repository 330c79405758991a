//! Blobs that were pushed, and that no manifest names yet.
//!
//! In: the lease of a blob that a repository was just told that it has. Out: the blob stays, and is
//! visible in that repository, until a manifest names it or the time is over.
//! Never: more holds than the limit; the one that ends first goes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slipway_blobs::{Digest, Lease};

use crate::{Limits, Repository};

#[derive(Default)]
pub(crate) struct Held {
    holds: Mutex<HashMap<(Repository, Digest), Hold>>,
}

struct Hold {
    _lease: Lease,
    until: Instant,
}

impl Held {
    pub(crate) fn hold(&self, repository: &Repository, lease: Lease, now: Instant, limits: &Limits) {
        let mut holds = self.lock();
        if holds.len() >= limits.held_max {
            holds.retain(|_, hold| hold.until > now);
        }
        if holds.len() >= limits.held_max {
            let first = holds.iter().min_by_key(|(_, hold)| hold.until).map(|(key, _)| key.clone());
            first.map(|key| holds.remove(&key));
        }
        let until = now + limits.held_for;
        holds.insert((repository.clone(), lease.digest()), Hold { _lease: lease, until });
    }

    pub(crate) fn holds(&self, repository: &Repository, digest: &Digest, now: Instant) -> bool {
        let holds = self.lock();
        holds.get(&(repository.clone(), *digest)).is_some_and(|hold| hold.until > now)
    }

    pub(crate) fn release(&self, repository: &Repository, digests: &[Digest]) {
        let mut holds = self.lock();
        for digest in digests {
            holds.remove(&(repository.clone(), *digest));
        }
    }

    pub(crate) fn expire(&self, now: Instant) {
        self.lock().retain(|_, hold| hold.until > now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Repository, Digest), Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
