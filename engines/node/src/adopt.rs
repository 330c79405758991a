//! What a node finds of its predecessor.
//!
//! In: the folders of instances. Out: for each how its life goes on: a running shim, or how it died. Never stops or
//! starts anything itself.

use crate::explain::{self, Asked};
use crate::life::{Begin, last_line};
use crate::meta::Meta;
use crate::start::whole;
use crate::traffic::now;
use rustix::fs::{FlockOperation, flock};
use slipway_sandbox::{Attached, attach};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a shim gives itself to start.
const START_LIMIT: Duration = Duration::from_secs(35);
const START_PAUSE: Duration = Duration::from_millis(5);

/// An instance that was there before.
pub(crate) struct Found {
    pub(crate) meta: Meta,
    pub(crate) begin: Begin,
}

/// Every instance that was written down. Blocks, for each a few milliseconds.
pub(crate) fn find(data: &Path) -> std::io::Result<Vec<Found>> {
    let (metas, unreadable) = Meta::read_all(data)?;
    for folder in unreadable {
        remove_stray(&folder);
    }
    let mut found: Vec<Found> = metas.into_iter().map(|meta| Found { begin: begin(&meta, data), meta }).collect();
    found.sort_by(|a, b| (a.meta.created, &a.meta.id).cmp(&(b.meta.created, &b.meta.id)));
    Ok(found)
}

fn begin(meta: &Meta, data: &Path) -> Begin {
    let folder = meta.run_folder(data);
    if !folder.exists() {
        // Written down, but its process was not started yet; or it waited to be started again.
        return Begin::Fresh;
    }
    await_start(&folder);
    match attach(&folder) {
        Ok(Attached::Running(shim)) => Begin::Adopted(Box::new(shim)),
        Ok(Attached::Ended(record)) => {
            let (exit, reason) = explain::ended(&record, Asked::of(meta, &meta.spec));
            Begin::Died(Some(exit), reason)
        }
        Ok(Attached::Lost { .. }) => {
            let (exit, reason) = explain::lost(now(), &last_line(&folder));
            Begin::Died(Some(exit), reason)
        }
        Err(error) => Begin::Died(None, format!("it could not be found again: {}", whole(&error))),
    }
}

/// A shim that the former node was just starting can be spoken to in a moment: it holds a lock on its folder already,
/// but has no socket yet.
fn await_start(folder: &Path) {
    let until = Instant::now() + START_LIMIT;
    while Instant::now() < until && !folder.join("sock").exists() && is_locked(folder) {
        std::thread::park_timeout(START_PAUSE);
    }
}

fn is_locked(folder: &Path) -> bool {
    let Ok(folder) = File::open(folder) else { return false };
    flock(&folder, FlockOperation::NonBlockingLockShared).is_err()
}

/// A folder without a readable note: what may run in it cannot be told apart from a leak, so it ends.
fn remove_stray(folder: &Path) {
    for run in crate::meta::run_folders(folder) {
        if let Ok(Attached::Running(shim)) = attach(&run) {
            let _ = shim.kill();
            let _ = shim.wait(std::time::Duration::from_secs(10));
        }
    }
    let _ = slipway_sandbox::remove_folder(folder);
}
