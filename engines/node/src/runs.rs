//! Which processes there are and were, for whoever reads logs.
//!
//! In: what the supervisor starts and puts away. Out: lists of folders with logs, and a bell for those who follow.

use crate::meta::{Meta, folder_of, run_folders};
use slipway_model::{At, InstanceId, Lane, ReleaseId};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// One process that wrote, or writes, a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) lane: Lane,
    pub(crate) release: ReleaseId,
    pub(crate) number: u64,
    pub(crate) instance: InstanceId,
    pub(crate) created: At,
    pub(crate) folder: PathBuf,
}

/// Rings whenever a process was started or put away.
#[derive(Debug)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell(watch::Sender::new(0))
    }

    pub(crate) fn ring(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(crate) fn hear(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Every process of a lane (and release) whose log is there, the oldest instance first. Blocks.
pub(crate) fn runs(data: &Path, lane: &Lane, release: Option<&ReleaseId>) -> Vec<Run> {
    let living = Meta::read_all(data).map(|(metas, _)| metas).unwrap_or_default();
    let ended = Meta::read_ended(data).unwrap_or_default();
    let placed = living.into_iter().map(|meta| (folder_of(data, &meta.id), meta));
    let placed = placed.chain(ended.into_iter().map(|meta| (data.join("ended").join(meta.id.as_str()), meta)));
    let mut found: Vec<Run> = placed
        .filter(|(_, meta)| &meta.lane == lane && release.is_none_or(|release| &meta.release == release))
        .flat_map(|(folder, meta)| {
            let run = move |folder| Run {
                lane: meta.lane.clone(),
                release: meta.release.clone(),
                number: meta.number,
                instance: meta.id.clone(),
                created: meta.created,
                folder,
            };
            run_folders(&folder).into_iter().map(run)
        })
        .collect();
    found.sort_by(|a, b| (a.created, &a.instance).cmp(&(b.created, &b.instance)));
    found
}
