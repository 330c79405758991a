//! Watches lanes and gives verdicts.
//!
//! In: what is to be watched, counts as they come, time. Out: `verdict.given` and `evidence.kept`, each once per
//! step. Never: remembers more of a watch than a restart may lose (it is asked for again then).

use crate::decide::{Decision, Watched, between, judge};
use slipway_model::fact::{Body, RolloutMoved, stream};
use slipway_model::policy::VerifyPolicy;
use slipway_model::release::Release;
use slipway_model::rollout::Phase;
use slipway_model::traffic::{LaneTraffic, ReleaseTraffic};
use slipway_model::verdict::{Evidence, Verdict, VerdictKind};
use slipway_model::{Lane, NewFact, ReleaseId, RolloutId};
use slipway_ports::{Append, Clock, Fleet, Metrics, Repository, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Log lines kept as evidence.
const LOG_LINES: usize = 40;
/// Commits named in evidence.
const COMMITS: usize = 50;

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Smoke requests and logs.
    pub fleet: Arc<dyn Fleet>,
    /// Counts.
    pub metrics: Arc<dyn Metrics>,
    /// Commits and files, for evidence.
    pub repository: Arc<dyn Repository>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Watch {
    rollout: RolloutId,
    step: u32,
    baking: bool,
    policy: VerifyPolicy,
    new: ReleaseId,
    old: Option<ReleaseId>,
    /// Counts when the rollout's first traffic moved, and when this step began.
    rollout_base: LaneTraffic,
    step_base: u64,
    began_ms: u64,
    newest_ms: u64,
    newest_requests: u64,
    change: Option<slipway_model::ChangeId>,
}

/// The stage.
pub struct Verify {
    ports: Ports,
    watches: Mutex<BTreeMap<Lane, Watch>>,
}

impl Verify {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Verify {
        Verify { ports, watches: Mutex::default() }
    }

    /// Begins to watch a step. `moved` is the rollout as it was when the verdict was asked for. Returns when to
    /// look again, in monotonic milliseconds.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn wanted(&self, moved: &RolloutMoved, step: u32, release: &Release) -> Result<Option<u64>, StoreError> {
        let lane = moved.head.lane.clone();
        let counts = self.ports.metrics.counts(&lane).await.unwrap_or_else(|| self.nothing(&lane));
        let new = moved.head.to.id.clone();
        let now = self.ports.clock.monotonic_ms();
        let requests = counts.releases.get(&new).map_or(0, |traffic| traffic.all.requests);
        {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            let before = watches.remove(&lane).filter(|watch| watch.rollout == moved.head.id);
            let policy = release.bundle.environment(&lane.environment).map(|config| config.verify.clone());
            let watch = Watch {
                rollout: moved.head.id.clone(),
                step,
                baking: moved.phase == Phase::Baking,
                policy: policy.unwrap_or_default(),
                old: moved.head.from.as_ref().map(|from| from.id.clone()),
                rollout_base: before.map_or(counts, |watch| watch.rollout_base),
                step_base: requests,
                began_ms: now,
                newest_ms: now,
                newest_requests: requests,
                change: moved.head.change.clone(),
                new,
            };
            watches.insert(lane.clone(), watch);
        }
        self.look(&lane, None).await
    }

    /// Counts of a lane came in.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn traffic(&self, traffic: LaneTraffic) -> Result<Option<u64>, StoreError> {
        let lane = traffic.lane.clone();
        if !self.is_watched(&lane) {
            return Ok(None);
        }
        self.look(&lane, Some(traffic)).await
    }

    /// The rollout left the phases in which it is judged.
    pub fn stop(&self, lane: &Lane, rollout: &RolloutId) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if watches.get(lane).is_some_and(|watch| &watch.rollout == rollout) {
            watches.remove(lane);
        }
    }

    /// Whether something is judged in the lane now.
    #[must_use]
    pub fn is_watched(&self, lane: &Lane) -> bool {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).contains_key(lane)
    }

    /// Looks at a lane, with fresh counts or those the proxy has. Returns when to look again.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn look(&self, lane: &Lane, fresh: Option<LaneTraffic>) -> Result<Option<u64>, StoreError> {
        let counts = match fresh {
            Some(counts) => counts,
            None => self.ports.metrics.counts(lane).await.unwrap_or_else(|| self.nothing(lane)),
        };
        let now = self.ports.clock.monotonic_ms();
        let Some((watch, watched)) = self.watched(lane, &counts, now) else { return Ok(None) };
        match judge(&watched, &watch.policy) {
            Decision::Wait { ms, .. } => Ok(Some(now.saturating_add(ms))),
            Decision::Given(verdict) => self.give(lane, &watch, *verdict).await.map(|()| None),
            Decision::AskSmoke(verdict) => {
                let verdict = self.by_smoke(lane, &watch, *verdict).await;
                self.give(lane, &watch, verdict).await.map(|()| None)
            }
        }
    }

    fn watched(&self, lane: &Lane, counts: &LaneTraffic, now: u64) -> Option<(Watch, Watched)> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = watches.get_mut(lane)?;
        let nothing = ReleaseTraffic::default();
        let of = |release: &ReleaseId| {
            let base = watch.rollout_base.releases.get(release).unwrap_or(&nothing);
            between(base, counts.releases.get(release).unwrap_or(&nothing))
        };
        let new = of(&watch.new);
        let old = watch.old.as_ref().map(of);
        let requests = counts.releases.get(&watch.new).map_or(0, |traffic| traffic.all.requests);
        if requests > watch.newest_requests {
            watch.newest_requests = requests;
            watch.newest_ms = now;
        }
        let watched = Watched {
            new,
            old,
            step_requests: requests.saturating_sub(watch.step_base),
            step_ms: now.saturating_sub(watch.began_ms),
            idle_ms: now.saturating_sub(watch.newest_ms),
            baking: watch.baking,
        };
        Some((watch.clone(), watched))
    }

    async fn by_smoke(&self, lane: &Lane, watch: &Watch, mut verdict: Verdict) -> Verdict {
        match self.ports.fleet.smoke(lane, &watch.new, watch.policy.smoke.clone()).await {
            Ok(answers) => {
                if let Some(bad) = answers.iter().find(|answer| answer.status == 0 || answer.status >= 500) {
                    verdict.kind = VerdictKind::Fail;
                    verdict.sentence = format!("smoke request {} answered {}", bad.request, bad.status);
                    verdict.tipped_at = Some(self.ports.clock.now());
                } else {
                    verdict.sentence = format!("{}; {} smoke requests passed", verdict.sentence, answers.len());
                }
            }
            Err(error) => {
                verdict.kind = VerdictKind::Unavailable;
                verdict.sentence = error.to_string();
            }
        }
        verdict
    }

    /// Records the verdict, once per watch: whoever takes the watch away gives it.
    async fn give(&self, lane: &Lane, watch: &Watch, verdict: Verdict) -> Result<(), StoreError> {
        {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(current) = watches.get_mut(lane) else { return Ok(()) };
            if current.rollout != watch.rollout || current.step != watch.step || current.baking != watch.baking {
                return Ok(());
            }
            if verdict.kind == VerdictKind::Fail || watch.baking {
                watches.remove(lane);
            } else {
                // Between two steps the counts go on, so that what one step saw still counts in the next.
                current.policy.requests = u64::MAX;
                current.policy.hold_ms = u64::MAX;
                current.policy.wait_ms = u64::MAX;
            }
        }
        let body = Body::VerdictGiven {
            rollout: watch.rollout.clone(),
            lane: lane.clone(),
            step: watch.step,
            verdict: Box::new(verdict),
        };
        let append = Append::to(&lane.project, stream::verdict(lane)).fact(NewFact::new(watch.change.clone(), body));
        let recorded = self.ports.store.append(append).await.map(drop);
        if recorded.is_err() {
            // It was not given: the next look gives it.
            self.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(lane.clone(), watch.clone());
        }
        recorded
    }

    /// Keeps the evidence of a failed rollout (R299). What cannot be had is left out, never waited for.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn capture(
        &self,
        moved: &RolloutMoved,
        bad: &Release,
        good: Option<&Release>,
        figures: Option<Verdict>,
    ) -> Result<(), StoreError> {
        let lane = &moved.head.lane;
        let counts = self.ports.metrics.counts(lane).await;
        let samples = counts
            .and_then(|counts| counts.releases.get(&moved.head.to.id).map(|traffic| traffic.samples.clone()))
            .unwrap_or_default();
        let log = self.ports.fleet.log_tail(lane, &moved.head.to.id, LOG_LINES).await;
        let from = good.map(|good| &good.origin.commit);
        let commits =
            self.ports.repository.between(&lane.project, from, &bad.origin.commit, COMMITS).await.unwrap_or_default();
        let files = self.ports.repository.changed(&lane.project, from, &bad.origin.commit).await.unwrap_or_default();
        let mut urls: Vec<String> = samples.iter().map(|sample| sample.request.clone()).collect();
        urls.sort();
        urls.dedup();
        let evidence = Evidence {
            sentence: moved.reason.clone(),
            figures: figures.map(|verdict| verdict.figures).unwrap_or_default(),
            code_lines: code_lines(&log, &samples.iter().map(|sample| sample.body.clone()).collect::<Vec<_>>(), &files),
            urls,
            samples,
            log,
            image: format!("{}/{}:{}", lane.project, lane.service, bad.origin.tag),
            release: Some(bad.id.clone()),
            commits: commits.into_iter().map(|commit| (commit.id, commit.subject)).collect(),
            files,
        };
        let body =
            Body::EvidenceKept { rollout: moved.head.id.clone(), lane: lane.clone(), evidence: Box::new(evidence) };
        let append =
            Append::to(&lane.project, stream::verdict(lane)).fact(NewFact::new(moved.head.change.clone(), body));
        self.ports.store.append(append).await.map(drop)
    }

    fn nothing(&self, lane: &Lane) -> LaneTraffic {
        LaneTraffic { lane: lane.clone(), at: self.ports.clock.now(), releases: BTreeMap::new() }
    }
}

/// Places in changed files that logs or answers name, as `path:line`.
#[must_use]
pub fn code_lines(log: &[String], bodies: &[String], files: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.iter().chain(bodies) {
        for word in line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '(' | ')' | '\'' | ',' | '[' | ']')) {
            let mut parts = word.splitn(3, ':');
            let (Some(path), Some(number)) = (parts.next(), parts.next()) else { continue };
            let named =
                files.iter().find(|file| !path.is_empty() && (*file == path || file.ends_with(&format!("/{path}"))));
            if let Some(file) = named
                && number.parse::<u32>().is_ok()
            {
                found.push(format!("{file}:{number}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
