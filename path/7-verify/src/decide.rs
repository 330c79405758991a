//! The judgement: pure, from counts and times (R330, R298, R325).
//!
//! In: counts of both releases over the same time, the policy, how long it was watched. Out: a verdict, or what is
//! still waited for. Never: I/O, a clock.
//!
//! A release is worse when its failures would hardly fall on it by chance: for one exact path, for one pattern of
//! paths, or for everything. So noise that both releases share does not tip it, and one bad address does, beside
//! that noise. The share of chance is small because the question is asked again at every request.

use crate::odds::{binomial_tail, fisher};
use slipway_model::policy::VerifyPolicy;
use slipway_model::traffic::{Counts, ReleaseTraffic, bucket_bound_us, percentile};
use slipway_model::verdict::{Figures, Observed, Verdict, VerdictKind};
use std::collections::BTreeMap;

/// Chance that is accepted per question. Each rollout asks some thousand dependent questions (paths × requests);
/// with three failures as the least, shared noise of 2 % passes ten thousand simulated rollouts (see the tests).
const CHANCE: f64 = 2e-4;
/// Fewer failures than this never decide: one bad request may be anybody's.
const FAILURES_MIN: u64 = 3;
/// So many requests to a suspected path end the suspicion when they did not decide.
const SUSPICION_REQUESTS: u64 = 12;
/// Slower by less than this is not what a user feels, whatever the percentage.
const SLOWER_MIN_US: u64 = 10_000;
/// Latency is only compared over so many requests on each side.
const LATENCY_REQUESTS: u64 = 50;
/// Over so many requests a slow tail is no warming up.
const TAIL_REQUESTS: u64 = 1_000;

/// What was watched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Watched {
    /// The new release since the rollout's first traffic.
    pub new: ReleaseTraffic,
    /// The old release over the same time; nothing when there is none.
    pub old: Option<ReleaseTraffic>,
    /// Requests of the new release since this step began.
    pub step_requests: u64,
    /// Since this step began.
    pub step_ms: u64,
    /// Since the new release's newest request, or since the step began.
    pub idle_ms: u64,
    /// Whether all traffic has moved and it is only watched now.
    pub baking: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is judged.
    Given(Box<Verdict>),
    /// The smoke requests decide; with what to say when they pass.
    AskSmoke(Box<Verdict>),
    /// Not yet; asked again at the next request or after so many milliseconds.
    Wait {
        /// For what, with figures.
        reason: String,
        /// When to ask again at the latest.
        ms: u64,
    },
}

/// Judges what was watched.
#[must_use]
pub fn judge(watched: &Watched, policy: &VerifyPolicy) -> Decision {
    if let Some(verdict) = worse(watched, policy) {
        return Decision::Given(Box::new(verdict));
    }
    if watched.baking {
        return Decision::Wait { reason: "serves everything and is watched".into(), ms: policy.bake_ms.max(1) };
    }
    let seen = watched.step_requests;
    let left = policy.wait_ms.saturating_sub(watched.step_ms);
    let suspicion = suspicion(watched);
    if seen >= policy.requests && suspicion.is_none() {
        return Decision::Given(Box::new(verdict(watched, VerdictKind::Pass, pass_sentence(watched))));
    }
    if left == 0 {
        return match suspicion {
            Some(why) => Decision::Given(Box::new(verdict(watched, VerdictKind::Inconclusive, why))),
            None => smoke(watched, format!("{seen} of {} requests came in time", policy.requests)),
        };
    }
    if suspicion.is_none() && watched.idle_ms >= policy.hold_ms {
        return smoke(watched, format!("{seen} of {} requests; none for {} ms", policy.requests, policy.hold_ms));
    }
    let reason = suspicion.unwrap_or_else(|| format!("{seen} of {} requests", policy.requests));
    let hold = policy.hold_ms.saturating_sub(watched.idle_ms).max(1);
    Decision::Wait { reason, ms: hold.min(left).max(1) }
}

fn smoke(watched: &Watched, sentence: String) -> Decision {
    Decision::AskSmoke(Box::new(verdict(watched, VerdictKind::Insufficient, sentence)))
}

fn worse(watched: &Watched, policy: &VerifyPolicy) -> Option<Verdict> {
    let limit = f64::from(policy.errors_basis_points) / 10_000.0;
    let nothing = ReleaseTraffic::default();
    let old = watched.old.as_ref().unwrap_or(&nothing);
    let background = rate(old.all).max(limit);
    let suspected = watched.new.suspects.iter().find(|(path, new)| {
        let before = old.suspects.get(*path).copied().unwrap_or_default();
        // Counting began with a failure, which says nothing about how often others follow.
        let after = new.since(Counts { requests: 1, errors: 1 });
        new.errors >= FAILURES_MIN && is_unlikely(after, before, limit, background)
    });
    if let Some((path, new)) = suspected {
        let before = old.patterns.get(path).or_else(|| old.suspects.get(path)).copied().unwrap_or_default();
        return Some(fail(watched, Some(path), *new, before));
    }
    let worst = watched
        .new
        .patterns
        .iter()
        .map(|(path, new)| (path, *new, old.patterns.get(path).copied().unwrap_or_default()))
        .find(|(_, new, old)| is_worse(*new, *old, limit, background));
    if let Some((path, new, old)) = worst {
        return Some(fail(watched, Some(path), new, old));
    }
    if is_worse(watched.new.all, old.all, limit, limit) {
        return Some(fail_over_all(watched, old));
    }
    slower(&watched.new, old, policy).map(|sentence| verdict(watched, VerdictKind::Fail, sentence))
}

/// Whether the new counts are worse than the old ones by more than `limit` and more than chance. Where the old
/// release saw nothing, `background` is what may be expected.
fn is_worse(new: Counts, old: Counts, limit: f64, background: f64) -> bool {
    new.errors >= FAILURES_MIN && is_unlikely(new, old, limit, background)
}

fn is_unlikely(new: Counts, old: Counts, limit: f64, background: f64) -> bool {
    if rate(new) <= rate(old) + limit {
        return false;
    }
    let chance = if old.requests == 0 {
        binomial_tail(new.errors, new.requests, background)
    } else {
        fisher(new.errors, new.requests, old.errors, old.requests)
    };
    chance < CHANCE
}

#[allow(clippy::cast_precision_loss)]
fn rate(counts: Counts) -> f64 {
    if counts.requests == 0 { 0.0 } else { counts.errors as f64 / counts.requests as f64 }
}

/// A path on which only the new release failed, too seldom to decide.
fn suspicion(watched: &Watched) -> Option<String> {
    let old = |path: &String| watched.old.as_ref().and_then(|old| old.suspects.get(path)).copied().unwrap_or_default();
    watched
        .new
        .suspects
        .iter()
        .find(|(path, new)| new.errors > 0 && new.requests < SUSPICION_REQUESTS && rate(**new) > 2.0 * rate(old(path)))
        .map(|(path, new)| format!("{path} failed {} of {}; more requests are wanted", new.errors, new.requests))
}

fn slower(new: &ReleaseTraffic, old: &ReleaseTraffic, policy: &VerifyPolicy) -> Option<String> {
    if new.all.requests < LATENCY_REQUESTS || old.all.requests < LATENCY_REQUESTS {
        return None;
    }
    let (new_p95, old_p95) = (percentile(&new.latency, 95), percentile(&old.latency, 95));
    let allowed = old_p95.saturating_mul(100 + u64::from(policy.p95_percent)) / 100;
    if new_p95 <= allowed || new_p95 < old_p95 + SLOWER_MIN_US {
        return None;
    }
    // A fresh instance opens its connections and warms up at its first requests, which lengthens the tail alone; a
    // slower release is slower in the middle too. Over many requests a tail counts by itself.
    let (new_p50, old_p50) = (percentile(&new.latency, 50), percentile(&old.latency, 50));
    let allowed_p50 = old_p50.saturating_mul(100 + u64::from(policy.p95_percent)) / 100;
    if new.all.requests < TAIL_REQUESTS && new_p50 <= allowed_p50 {
        return None;
    }
    // Of requests as fast as the old ones, 5 % are above the old p95; are there more than chance gives?
    let above = above(&new.latency, old_p95.max(1) + SLOWER_MIN_US / 2);
    (binomial_tail(above, new.all.requests, 0.05) < CHANCE).then(|| {
        format!(
            "p95 is {}, {} before, allowed is +{} %",
            milliseconds(new_p95),
            milliseconds(old_p95),
            policy.p95_percent
        )
    })
}

fn above(latency: &[u64], bound_us: u64) -> u64 {
    latency.iter().enumerate().filter(|(bucket, _)| bucket_bound_us(*bucket) > bound_us).map(|(_, count)| count).sum()
}

/// Too many failures altogether; named is the path on which most of them fell, if there is one.
fn fail_over_all(watched: &Watched, old: &ReleaseTraffic) -> Verdict {
    let all = watched.new.all;
    match watched.new.suspects.iter().find(|(_, new)| new.errors * 2 > all.errors) {
        Some((path, new)) => {
            let before = old.patterns.get(path).or_else(|| old.suspects.get(path)).copied().unwrap_or_default();
            fail(watched, Some(path), *new, before)
        }
        None => fail(watched, None, all, old.all),
    }
}

fn fail(watched: &Watched, path: Option<&String>, new: Counts, old: Counts) -> Verdict {
    let on = path.map(|path| format!(" on {path}")).unwrap_or_default();
    let beside =
        if watched.old.is_some() { format!(" (before: {} of {})", old.errors, old.requests) } else { String::new() };
    let mut verdict =
        verdict(watched, VerdictKind::Fail, format!("gave 5xx {} of {}{on}{beside}", new.errors, new.requests));
    verdict.figures.path = path.cloned();
    verdict.figures.new.requests = new.requests;
    verdict.figures.new.errors = new.errors;
    verdict.figures.old.requests = old.requests;
    verdict.figures.old.errors = old.errors;
    verdict.tipped_at = watched.new.samples.iter().map(|sample| sample.at).max();
    verdict
}

fn verdict(watched: &Watched, kind: VerdictKind, sentence: String) -> Verdict {
    let figures = Figures {
        new: observed(&watched.new),
        old: watched.old.as_ref().map(observed).unwrap_or_default(),
        path: None,
    };
    Verdict { kind, sentence, figures, tipped_at: None }
}

fn observed(traffic: &ReleaseTraffic) -> Observed {
    Observed { requests: traffic.all.requests, errors: traffic.all.errors, p95_us: percentile(&traffic.latency, 95) }
}

fn pass_sentence(watched: &Watched) -> String {
    let new = watched.new.all;
    match &watched.old {
        Some(old) => {
            format!("5xx {} of {} (before: {} of {})", new.errors, new.requests, old.all.errors, old.all.requests)
        }
        None => format!("5xx {} of {}", new.errors, new.requests),
    }
}

fn milliseconds(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

/// What came between two readings of the same counters.
#[must_use]
pub fn between(earlier: &ReleaseTraffic, later: &ReleaseTraffic) -> ReleaseTraffic {
    let paths = |earlier: &BTreeMap<String, Counts>, later: &BTreeMap<String, Counts>| {
        later
            .iter()
            .map(|(path, counts)| (path.clone(), counts.since(earlier.get(path).copied().unwrap_or_default())))
            .filter(|(_, counts)| counts.requests > 0)
            .collect()
    };
    ReleaseTraffic {
        all: later.all.since(earlier.all),
        latency: later
            .latency
            .iter()
            .enumerate()
            .map(|(bucket, count)| count.saturating_sub(earlier.latency.get(bucket).copied().unwrap_or(0)))
            .collect(),
        patterns: paths(&earlier.patterns, &later.patterns),
        suspects: paths(&earlier.suspects, &later.suspects),
        samples: later.samples.clone(),
    }
}
