//! What shall happen in a history: pushes, commands, faults, crashes.
//!
//! In: chance. Out: acts with their times, and the project's files. Never: performs anything.

use slipway_ports::fakes::{Chance, StoreFault};

/// Points at which the journal may fail, crash before recording, or crash after it; each seed tries some of them.
pub const STORE_POINTS: [&str; 33] = [
    "change.received",
    "plan.made",
    "change.ended",
    "job.started",
    "job.ended",
    "image.started",
    "image.built",
    "image.failed",
    "release.made",
    "release.queued",
    "release.gated/open",
    "release.gated/wait",
    "release.gated/refused",
    "release.gated/identical",
    "rollout.phase/queued",
    "rollout.phase/gated",
    "rollout.phase/prepared",
    "rollout.phase/expanded",
    "rollout.phase/provisioning",
    "rollout.phase/probing",
    "rollout.phase/stepping",
    "rollout.phase/promoting",
    "rollout.phase/baking",
    "rollout.phase/contracting",
    "rollout.phase/succeeded",
    "rollout.phase/returning",
    "rollout.phase/capturing",
    "rollout.phase/restoring",
    "rollout.phase/rolled-back",
    "verdict.given",
    "evidence.kept",
    "hold.released",
    "command.given",
];

/// What a push brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// A version that works.
    Good,
    /// A version whose tests fail.
    FailingTests,
    /// A version that answers 500 for one address.
    BadAddress,
    /// A version that answers 500 for everything, its smoke request too.
    BadEverywhere,
    /// A version that never becomes ready.
    NeverReady,
    /// A version that ends at its start.
    Exits,
    /// A version whose image cannot be built.
    NoImage,
    /// Git's revert of the newest commit.
    Revert,
    /// A good version that says that it fixes the newest commit.
    Fix,
    /// A change of files that no service has.
    Nothing,
    /// A commit on another branch.
    Branch,
    /// Another number of instances.
    Replicas,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Somebody pushes.
    Push(Push),
    /// A person goes back to an earlier release.
    Rollback,
    /// A person asks for an earlier release by hand.
    Deploy,
    /// A person ends a rollout.
    Abort,
    /// A person holds the newest commit.
    Hold,
    /// A person releases every hold.
    Unhold,
    /// A person ends a change.
    Cancel,
    /// A person has a failed job run again.
    Retry,
    /// Images beyond what is retained are cleaned up.
    CleanUp,
    /// Serve is killed.
    Crash,
    /// The node's connection is lost for so many milliseconds.
    Unlink(u64),
    /// The node's process is gone for so many milliseconds.
    NodeGone(u64),
    /// An instance ends by itself.
    InstanceEnds,
    /// The wall clock jumps.
    ClockJumps(i64),
    /// Users come and go.
    Load(u64),
    /// An append will fail.
    Store(Option<&'static str>, u64, StoreFault),
    /// The image of the newest release disappears.
    ImageGone,
}

/// A whole history.
#[derive(Debug, Clone)]
pub struct History {
    /// Acts by their time in milliseconds, in order.
    pub acts: Vec<(u64, Act)>,
    /// The project's file.
    pub config: String,
    /// How willing people are to approve, in percent.
    pub approves_percent: u64,
}

/// The history of a seed.
#[must_use]
pub fn history(seed: u64, chance: &mut Chance) -> History {
    let mut acts = vec![(0, Act::Load(load(chance))), (10, Act::Push(first(chance)))];
    let mut at = 10;
    // Every point of the journal with every fault comes up again and again.
    let place = usize::try_from(seed).unwrap_or(0);
    let point = STORE_POINTS.get(place % STORE_POINTS.len()).copied();
    for push in leads_to(point.unwrap_or_default()) {
        at += chance.between(2_500, 4_000);
        acts.push((at, Act::Push(*push)));
    }
    for _ in 0..chance.between(1, 3) {
        at += chance.between(300, 9_000);
        acts.push((at, Act::Push(push(chance))));
    }
    let end = at + 6_000;
    for _ in 0..chance.between(0, 3) {
        acts.push((chance.between(1_500, end), person(chance)));
    }
    for _ in 0..chance.between(0, 3) {
        acts.push((chance.between(20, end), fault(chance)));
    }
    let due = if leads_to(point.unwrap_or_default()).is_empty() { chance.between(0, 3_000) } else { 0 };
    let fault = StoreFault::ALL.get(place / STORE_POINTS.len() % 3).copied().unwrap_or(StoreFault::Full);
    acts.push((due, Act::Store(point, u64::from(chance.percent(25)), fault)));
    acts.sort_by_key(|(at, _)| *at);
    History { acts, config: config(chance), approves_percent: chance.pick(&[100, 100, 70, 0]).copied().unwrap_or(100) }
}

/// Pushes without which some points are hardly ever passed.
fn leads_to(point: &str) -> &'static [Push] {
    match point {
        "image.failed" => &[Push::NoImage],
        "release.gated/identical" => &[Push::BadEverywhere, Push::Revert],
        "hold.released" => &[Push::BadEverywhere, Push::Fix],
        "rollout.phase/restoring" | "rollout.phase/capturing" | "rollout.phase/returning" => &[Push::BadEverywhere],
        _ => &[],
    }
}

fn load(chance: &mut Chance) -> u64 {
    chance.pick(&[0, 3, 8, 15]).copied().unwrap_or(5)
}

fn first(chance: &mut Chance) -> Push {
    if chance.percent(75) { Push::Good } else { push(chance) }
}

fn push(chance: &mut Chance) -> Push {
    use Push::{
        BadAddress, BadEverywhere, Branch, Exits, FailingTests, Fix, Good, NeverReady, NoImage, Nothing, Replicas,
        Revert,
    };
    let all = [
        Good,
        Good,
        Good,
        Good,
        FailingTests,
        BadAddress,
        BadAddress,
        BadEverywhere,
        NeverReady,
        Exits,
        NoImage,
        NoImage,
        Revert,
        Revert,
        Fix,
        Nothing,
        Branch,
        Replicas,
    ];
    chance.pick(&all).copied().unwrap_or(Good)
}

fn person(chance: &mut Chance) -> Act {
    let all = [
        Act::Rollback,
        Act::Rollback,
        Act::Deploy,
        Act::Abort,
        Act::Abort,
        Act::Hold,
        Act::Unhold,
        Act::Cancel,
        Act::Retry,
        Act::Retry,
        Act::CleanUp,
        Act::CleanUp,
    ];
    chance.pick(&all).cloned().unwrap_or(Act::Abort)
}

fn fault(chance: &mut Chance) -> Act {
    match chance.below(10) {
        0 | 1 => Act::Crash,
        2 => Act::Unlink(chance.between(50, 5_000)),
        3 => Act::NodeGone(chance.between(50, 3_000)),
        4 | 5 => Act::InstanceEnds,
        6 => Act::ClockJumps(if chance.percent(50) { 3_600_000 } else { -3_600_000 }),
        7 => Act::Load(load(chance)),
        8 => Act::Store(None, chance.below(30), StoreFault::Full),
        _ => Act::ImageGone,
    }
}

/// A configuration with short waits, so that a history is over soon.
fn config(chance: &mut Chance) -> String {
    let replicas = chance.between(1, 4);
    let strategy = chance
        .pick(&[
            "",
            "strategy: { rolling: { max_surge: 1, max_unavailable: 0 } }, ",
            "strategy: { rolling: { max_surge: 0, max_unavailable: 1 } }, ",
            "strategy: { rolling: { max_surge: 100%, max_unavailable: 0 } }, ",
        ])
        .copied()
        .unwrap_or("");
    let smoke = if chance.percent(80) { ", smoke: [GET /]" } else { "" };
    let verify = format!("verify: {{ hold: 200ms, requests: 15, wait: 1500ms, bake: 800ms{smoke} }}");
    let approve = if chance.percent(25) { "approve: { by: [ops] }, " } else { "" };
    let manual = if chance.percent(10) { "deploy: manual, " } else { "" };
    let retain = if chance.percent(50) { "retain: 1, " } else { "" };
    let staging = chance.percent(40);
    let after = if staging { "after: staging, " } else { "" };
    let mut text = format!(
        "project: shop\nservices:\n  api: {{ path: api, port: 8080, replicas: {replicas}, jobs: {{ test: {{ run: ./test }} }} }}\n"
    );
    if chance.percent(40) {
        let needs = if chance.percent(50) { "needs: api, " } else { "" };
        text.push_str(&format!("  web: {{ path: web, port: 8080, {needs}jobs: {{ test: {{ run: ./test }} }} }}\n"));
    }
    text.push_str("environments:\n");
    if staging {
        text.push_str(&format!("  staging: {{ {retain}{strategy}{verify} }}\n"));
    }
    text.push_str(&format!("  production: {{ {retain}{after}{approve}{manual}{strategy}{verify} }}\n"));
    text
}
