//! Which images of releases the clean-up may take (`retain` of an environment, R143).
//!
//! In: the lanes of one service with what their environments retain, its releases. Out: images that no lane can want
//! any more. Pure. Never: one that runs, is on its way, waits, or can be returned to; one of a release that an
//! environment without `retain` has served.

use crate::record::LaneRecord;
use slipway_model::release::Release;
use slipway_model::{Digest, ReleaseId};
use std::collections::BTreeSet;

/// Images that are beyond what every lane retains.
#[must_use]
pub fn beyond(lanes: &[(LaneRecord, Option<u32>)], releases: &[Release]) -> BTreeSet<Digest> {
    let (beyond, kept): (Vec<&Release>, Vec<&Release>) =
        releases.iter().partition(|release| is_beyond(lanes, &release.id));
    // Two releases may differ in their configuration alone.
    let still: BTreeSet<&Digest> = kept.iter().map(|release| &release.bundle.image).collect();
    beyond.into_iter().map(|release| &release.bundle.image).filter(|image| !still.contains(image)).cloned().collect()
}

fn is_beyond(lanes: &[(LaneRecord, Option<u32>)], id: &ReleaseId) -> bool {
    let served = lanes.iter().any(|(lane, _)| lane.succeeded.iter().any(|one| &one.id == id));
    // What never served anywhere may still be asked for, or be looked at because it failed.
    served && lanes.iter().all(|(lane, retain)| !is_wanted(lane, id) && !is_target(lane, *retain, id))
}

fn is_wanted(lane: &LaneRecord, id: &ReleaseId) -> bool {
    lane.current.as_ref().is_some_and(|current| &current.id == id)
        || lane.candidate.iter().chain(&lane.opened).any(|candidate| &candidate.release == id)
        || lane.phases.get(id).is_some_and(|(phase, _)| !phase.is_final())
}

/// Whether a rollback may go to it: it is among the newest that succeeded here, what serves not counted.
fn is_target(lane: &LaneRecord, retain: Option<u32>, id: &ReleaseId) -> bool {
    let current = lane.current.as_ref().map(|current| &current.id);
    let mut others = lane.succeeded.iter().rev().filter(|one| Some(&one.id) != current);
    match retain {
        None => others.any(|one| &one.id == id),
        Some(count) => others.take(count as usize).any(|one| &one.id == id),
    }
}
