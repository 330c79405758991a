//! Exact paths that have failed, counted from their first failure on.
//!
//! In: finished requests. Out: per path and release how many succeeded and failed. So one bad URL
//! among many that are folded into one pattern can be told from noise that is spread over all.
//! Bounded: when the table is full, the path gives way that failed least, and among those longest
//! ago; a URL that keeps failing therefore stays, however much noise there is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::Method;

use super::snapshot::{Suspect, SuspectRelease};
use crate::clock::now_ms;

/// Suspect paths of one service.
pub(crate) const SUSPECTS_MAX: usize = 50;
/// Longer paths are not counted by themselves.
pub(crate) const SUSPECT_BYTES_MAX: usize = 512;
/// Releases that are told apart at one path; the oldest gives way.
const RELEASES_MAX: usize = 16;

#[derive(Default)]
pub(crate) struct Suspects {
    /// How many there are, so that a service without any pays one load.
    count: AtomicUsize,
    paths: RwLock<HashMap<Box<str>, Vec<Arc<Entry>>>>,
    adding: Mutex<()>,
}

struct Entry {
    method: Method,
    path: Box<str>,
    failed_at: AtomicU64,
    releases: Mutex<Vec<Tally>>,
}

struct Tally {
    release: Arc<str>,
    ok: u64,
    failed: u64,
}

impl Entry {
    fn count(&self, release: &Arc<str>, failed: bool) {
        if failed {
            self.failed_at.store(now_ms(), Relaxed);
        }
        let mut tallies = lock(&self.releases);
        let at = tallies.iter().position(|t| t.release == *release);
        let at = at.unwrap_or_else(|| {
            if tallies.len() >= RELEASES_MAX {
                tallies.remove(0);
            }
            tallies.push(Tally { release: Arc::clone(release), ok: 0, failed: 0 });
            tallies.len() - 1
        });
        if let Some(tally) = tallies.get_mut(at) {
            tally.ok += u64::from(!failed);
            tally.failed += u64::from(failed);
        }
    }

    fn rank(&self) -> (u64, u64) {
        let failed = lock(&self.releases).iter().map(|t| t.failed).sum();
        (failed, self.failed_at.load(Relaxed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Suspects {
    pub(crate) fn record(&self, method: &Method, path: &str, release: &Arc<str>, failed: bool) {
        if self.count.load(Relaxed) == 0 && !failed {
            return;
        }
        match self.find(method, path) {
            Some(entry) => entry.count(release, failed),
            None if failed && path.len() <= SUSPECT_BYTES_MAX => {
                self.add(method, path).count(release, true);
            }
            None => {}
        }
    }

    fn find(&self, method: &Method, path: &str) -> Option<Arc<Entry>> {
        let paths = self.paths.read().unwrap_or_else(PoisonError::into_inner);
        let entries = paths.get(path)?;
        entries.iter().find(|e| e.method == *method).cloned()
    }

    #[cold]
    fn add(&self, method: &Method, path: &str) -> Arc<Entry> {
        let _one = lock(&self.adding);
        if let Some(entry) = self.find(method, path) {
            return entry;
        }
        let entry = Arc::new(Entry {
            method: method.clone(),
            path: path.into(),
            failed_at: AtomicU64::new(now_ms()),
            releases: Mutex::default(),
        });
        let mut paths = self.paths.write().unwrap_or_else(PoisonError::into_inner);
        let count = paths.values().map(Vec::len).sum::<usize>();
        if count >= SUSPECTS_MAX {
            let entries = paths.values().flatten();
            if let Some(least) = entries.min_by_key(|e| e.rank()).cloned() {
                let same = paths.entry(least.path.clone()).or_default();
                same.retain(|e| !Arc::ptr_eq(e, &least));
                if same.is_empty() {
                    paths.remove(&least.path);
                }
            }
        } else {
            self.count.store(count + 1, Relaxed);
        }
        let entries = paths.entry(path.into()).or_default();
        entries.push(Arc::clone(&entry));
        entry
    }

    /// All of them, those that failed most first.
    pub(crate) fn read(&self) -> Vec<Suspect> {
        let paths = self.paths.read().unwrap_or_else(PoisonError::into_inner);
        let mut suspects: Vec<Suspect> = paths.values().flatten().map(|e| e.read()).collect();
        suspects.sort_by(|a, b| {
            let failed = |s: &Suspect| s.releases.iter().map(|r| r.failed).sum::<u64>();
            (failed(b), &a.path, &a.method).cmp(&(failed(a), &b.path, &b.method))
        });
        suspects
    }
}

impl Entry {
    fn read(&self) -> Suspect {
        let tallies = lock(&self.releases);
        Suspect {
            method: self.method.to_string(),
            path: self.path.to_string(),
            releases: (tallies.iter())
                .map(|tally| SuspectRelease { release: tally.release.to_string(), ok: tally.ok, failed: tally.failed })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_counted_from_its_first_failure_per_release() {
        let suspects = Suspects::default();
        let (old, new): (Arc<str>, Arc<str>) = ("r1".into(), "r2".into());
        suspects.record(&Method::GET, "/orders/7", &old, false);
        assert_eq!(suspects.read(), []);
        suspects.record(&Method::GET, "/orders/7", &new, true);
        suspects.record(&Method::GET, "/orders/7", &old, false);
        suspects.record(&Method::GET, "/orders/8", &new, false);
        suspects.record(&Method::POST, "/orders/7", &new, false);
        let read = suspects.read();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].path, "/orders/7");
        let tallies: Vec<_> = (read[0].releases.iter()).map(|r| (r.release.as_str(), r.ok, r.failed)).collect();
        assert_eq!(tallies, [("r2", 0, 1), ("r1", 1, 0)]);
    }

    #[test]
    fn noise_never_pushes_out_a_path_that_keeps_failing() {
        let suspects = Suspects::default();
        let release: Arc<str> = "r1".into();
        for _ in 0..2 {
            suspects.record(&Method::GET, "/bad", &release, true);
        }
        for n in 0..500 {
            suspects.record(&Method::GET, &format!("/noise/{n}"), &release, true);
        }
        let late = "/late".to_owned();
        suspects.record(&Method::GET, &late, &release, true);
        suspects.record(&Method::GET, &"x".repeat(600), &release, true);
        let read = suspects.read();
        assert_eq!(read.len(), SUSPECTS_MAX);
        assert_eq!(read[0].path, "/bad");
        assert!(read.iter().any(|s| s.path == late), "new ones still enter");
    }
}
