//! The people of a history: they push, command, approve; and the ledger that tells who still waits.
//!
//! In: acts, the journal. Out: pushes and commands to the process that serves now. Never: an act on a dead process.

use crate::history::{Act, Push};
use crate::world::World;
use slipway_change::Road;
use slipway_feedback::project::lane_of;
use slipway_model::fact::{Body, Candidate, Command, Fact, Gate, NEEDS};
use slipway_model::{Actor, ChangeId, CommitId, ItemId, Lane, ReleaseId};
use slipway_plan::ChangeRecord;
use slipway_ports::fakes::Chance;
use slipway_ports::fakes::repository::Files;
use slipway_rollout::record::LaneRecord;
use slipway_source::RefMove;
use std::collections::{BTreeMap, BTreeSet};

/// What the journal says, folded as it grows.
#[derive(Default)]
pub struct Ledger {
    read: usize,
    /// Changes.
    pub changes: BTreeMap<ChangeId, ChangeRecord>,
    /// Lanes.
    pub lanes: BTreeMap<Lane, LaneRecord>,
    /// The newest answer of each lane's gates.
    pub gates: BTreeMap<Lane, (u64, Candidate, Gate)>,
    /// Releases that succeeded in each lane, oldest first.
    pub succeeded: BTreeMap<Lane, Vec<(ReleaseId, CommitId)>>,
    holds: BTreeSet<(Lane, CommitId)>,
    failed_jobs: Vec<(ChangeId, ItemId, CommitId)>,
}

impl Ledger {
    /// Reads what is new.
    pub fn catch_up(&mut self, world: &World) {
        world.store.look(|facts| {
            for fact in facts.get(self.read..).unwrap_or_default() {
                self.read += 1;
                self.take(fact);
            }
        });
    }

    fn take(&mut self, fact: &Fact) {
        if let Some(change) = &fact.change {
            self.changes.entry(change.clone()).or_default().apply(&fact.body);
        }
        if let Some(lane) = lane_of(&fact.body).cloned()
            && !fact.stream.starts_with("verdict/")
        {
            self.lanes.entry(lane).or_default().apply(fact);
        }
        match &fact.body {
            Body::ReleaseGated { candidate, gate } => {
                self.gates.insert(candidate.lane.clone(), (fact.n, candidate.clone(), gate.clone()));
            }
            Body::RolloutPhase(moved) if moved.phase == slipway_model::rollout::Phase::Succeeded => {
                let known = self.succeeded.entry(moved.head.lane.clone()).or_default();
                known.push((moved.head.to.id.clone(), moved.head.commit.clone()));
            }
            Body::HoldSet { lane, commit, .. } => drop(self.holds.insert((lane.clone(), commit.clone()))),
            Body::HoldReleased { lane, commit, .. } => drop(self.holds.remove(&(lane.clone(), commit.clone()))),
            Body::JobEnded { item, outcome, .. } if !outcome.result.satisfies() => {
                let commit = fact.change.as_ref().and_then(|change| self.changes.get(change)?.info.clone());
                if let (Some(change), Some(info)) = (&fact.change, commit) {
                    self.failed_jobs.push((change.clone(), item.clone(), info.commit));
                }
            }
            _ => {}
        }
    }

    /// Whether everything is final or waits for a person; else what is not.
    ///
    /// # Errors
    /// The first thing that still hangs.
    pub fn settled(&mut self, world: &World) -> Result<(), String> {
        self.catch_up(world);
        if let Some(intent) = world.store.open().first() {
            return Err(format!("intent `{}` is open", intent.name));
        }
        for (id, change) in &self.changes {
            let person = waits_for_a_person(change) || self.waits_behind_another(change);
            let over = change.ended.as_ref().is_some_and(|(state, _)| state.is_final());
            if !over && !person {
                let lanes: Vec<_> =
                    change.lanes.iter().map(|(lane, at)| (lane.to_string(), &at.gate, at.phase)).collect();
                return Err(format!("change {id} is not over: {lanes:?}"));
            }
        }
        for (lane, record) in &self.lanes {
            let Some(state) = &record.state else { continue };
            if !state.phase.is_final() {
                return Err(format!("{lane}: {} is {}", state.head.id, state.phase.word()));
            }
            if let Some((candidate, _)) = record.pending() {
                return Err(format!("{lane}: r{} was let in and does not begin", candidate.number));
            }
            runs(world, lane, state)?;
        }
        Ok(())
    }

    /// Whether it needs a service whose release of this change gave way to a newer change's, and that one waits for a
    /// person.
    fn waits_behind_another(&self, change: &ChangeRecord) -> bool {
        let mut needs = change.lanes.iter().filter(
            |(_, at)| matches!(&at.gate, Some(Gate::Wait { reason, who: None, .. }) if reason.starts_with(NEEDS)),
        );
        let is_waiting_near = |other: &ChangeRecord, lane: &Lane| {
            other.lanes.iter().any(|(near, at)| {
                near.environment == lane.environment
                    && near.service != lane.service
                    && matches!(at.gate, Some(Gate::Wait { .. }))
            })
        };
        let others = || self.changes.values().filter(|other| waits_for_a_person(other));
        needs.any(|(lane, _)| others().any(|other| is_waiting_near(other, lane)))
    }
}

fn waits_for_a_person(change: &ChangeRecord) -> bool {
    change.lanes.values().any(|lane| matches!(lane.gate, Some(Gate::Wait { who: Some(_), .. })))
}

/// Whether the node runs what was decided.
fn runs(world: &World, lane: &Lane, state: &slipway_rollout::State) -> Result<(), String> {
    world.fleet.look(|lanes| {
        let Some(model) = lanes.get(lane) else {
            // Nothing was ever started here: it was dropped before.
            let wants = state.new_serving + state.new_retiring + state.old_serving + state.old_retiring;
            return if wants == 0 { Ok(()) } else { Err(format!("{lane}: the node knows nothing of it")) };
        };
        if model.epoch() != state.wish_epoch || model.routing_ms.is_some() {
            return Err(format!("{lane}: the node is at epoch {}, decided is {}", model.epoch(), state.wish_epoch));
        }
        let mut wanted = vec![(&state.head.to.id, state.new_serving, state.new_retiring)];
        if let Some(from) = &state.head.from {
            wanted.push((&from.id, state.old_serving, state.old_retiring));
        }
        for (release, serving, retiring) in wanted {
            let alive = model.alive(release);
            let ready = model.ready_in_routing(release);
            let broken = state.phase == slipway_model::rollout::Phase::NeedsHuman;
            if alive != (serving + retiring) as usize || (!broken && ready != serving as usize) {
                return Err(format!(
                    "{lane}: {alive} of {release} live and {ready} serve, wanted {serving}+{retiring}"
                ));
            }
        }
        Ok(())
    })
}

/// The people.
pub struct People {
    chance: Chance,
    config: String,
    approves_percent: u64,
    version: u64,
    answered: u64,
    /// What they know.
    pub ledger: Ledger,
}

impl People {
    /// People of a project with this file.
    #[must_use]
    pub fn new(chance: Chance, config: String, approves_percent: u64) -> People {
        People { chance, config, approves_percent, version: 0, answered: 0, ledger: Ledger::default() }
    }

    /// Answers what waits for a person, sometimes.
    pub fn answer(&mut self, world: &World, road: &Road) {
        self.ledger.catch_up(world);
        let waiting: Vec<(u64, Candidate, Gate)> = self.ledger.gates.values().cloned().collect();
        let answered = self.answered;
        for (n, candidate, gate) in waiting.into_iter().filter(|(n, ..)| *n > answered) {
            self.answered = self.answered.max(n);
            let Gate::Wait { who: Some(_), next: Some(next), .. } = gate else { continue };
            if !self.chance.percent(self.approves_percent) {
                continue;
            }
            let verb = match next.split_whitespace().nth(1) {
                Some("approve") if self.chance.percent(15) => "reject",
                Some("approve") => "approve",
                Some("deploy") => "deploy",
                Some("unhold") if self.chance.percent(50) => {
                    self.act(world, road, &Act::Unhold);
                    continue;
                }
                _ => continue,
            };
            let command = command(verb, &candidate.lane, Some(&candidate.release), Some(&candidate.commit));
            give(world, road, command, candidate.change.clone());
        }
    }

    /// Performs an act of a person; acts of the world are not theirs.
    pub fn act(&mut self, world: &World, road: &Road, act: &Act) {
        self.ledger.catch_up(world);
        let lanes: Vec<Lane> = self.ledger.lanes.keys().cloned().collect();
        let lane = self.chance.pick(&lanes).cloned();
        match act {
            Act::Push(push) => self.push(world, road, *push),
            Act::Rollback | Act::Deploy => {
                let verb = if *act == Act::Rollback { "rollback" } else { "deploy" };
                let Some(lane) = lane else { return };
                let known = self.ledger.succeeded.get(&lane).cloned().unwrap_or_default();
                if let Some((release, commit)) = self.chance.pick(&known) {
                    give(world, road, command(verb, &lane, Some(release), Some(commit)), None);
                }
            }
            Act::Abort => {
                if let Some(lane) = lane {
                    give(world, road, command("abort", &lane, None, None), None);
                }
            }
            Act::Hold => {
                if let (Some(lane), Some(head)) = (lane, world.head("main")) {
                    give(world, road, command("hold", &lane, None, Some(&head)), None);
                }
            }
            Act::Unhold => {
                for (lane, commit) in self.ledger.holds.clone() {
                    give(world, road, command("unhold", &lane, None, Some(&commit)), None);
                }
            }
            Act::Cancel => {
                if let Some(head) = world.head("main") {
                    self.about_change(world, road, "cancel", &head, None);
                }
            }
            Act::Retry => {
                if let Some((_, item, commit)) = self.ledger.failed_jobs.last().cloned() {
                    self.about_change(world, road, "retry", &commit, Some(item));
                }
            }
            _ => {}
        }
    }

    fn about_change(&self, world: &World, road: &Road, verb: &str, commit: &CommitId, item: Option<ItemId>) {
        let of = |record: &ChangeRecord| record.info.as_ref().is_some_and(|info| &info.commit == commit);
        let change = self.ledger.changes.iter().find(|(_, record)| of(record)).map(|(id, _)| id.clone());
        let command = Command {
            verb: verb.into(),
            what: commit.short().to_owned(),
            environment: None,
            service: None,
            release: None,
            commit: Some(commit.clone()),
            item,
            reason: String::new(),
        };
        give(world, road, command, change);
    }

    fn push(&mut self, world: &World, road: &Road, push: Push) {
        self.version += 1;
        let branch = if push == Push::Branch { "topic" } else { "main" };
        let old = world.head(branch);
        let parent = old.clone().or_else(|| world.head("main"));
        let before = parent.as_ref().map(|parent| world.repository.files_of(&world.project, parent));
        let (files, message) = self.files(world, push, before, parent.as_ref());
        let parents: Vec<CommitId> = parent.into_iter().collect();
        let commit = world.repository.commit_files(&world.project, &parents, "kim", &message, files);
        let name = format!("refs/heads/{branch}");
        world.repository.set_ref(&world.project, &name, &commit);
        let moved = RefMove { name, old, new: Some(commit) };
        receive(world, road, moved);
    }

    fn files(
        &mut self,
        world: &World,
        push: Push,
        before: Option<Files>,
        parent: Option<&CommitId>,
    ) -> (Files, String) {
        let version = self.version;
        let mut files = before.unwrap_or_else(|| fresh(&self.config));
        let services: Vec<&str> = if self.config.contains("  web:") { vec!["api", "web"] } else { vec!["api"] };
        let folder = self.chance.pick(&services).copied().unwrap_or("api");
        let mut write =
            |text: &str| drop(files.insert(format!("{folder}/app"), format!("version {version}\n{text}\n")));
        let ready = self.chance.between(5, 400);
        match push {
            Push::Good | Push::Branch => write(&format!("ready {ready}")),
            Push::FailingTests => write("tests fail"),
            Push::BadAddress => write(&format!("ready {ready}\nfails GET /entries 1000")),
            Push::BadEverywhere => write(&format!("ready {ready}\nfails * 1000")),
            Push::NeverReady => write("never"),
            Push::Exits => write("exits 3"),
            Push::NoImage => write("no image"),
            Push::Fix => {
                write(&format!("ready {ready}"));
                let short = parent.map(CommitId::short).unwrap_or_default();
                return (files, format!("version {version}\n\nSlipway-Fixes: {short}\n"));
            }
            Push::Nothing => drop(files.insert("README".into(), format!("version {version}"))),
            Push::Replicas => {
                let text = files.get("slipway.yaml").cloned().unwrap_or_default();
                let from = (1..=4).find(|n| text.contains(&format!("replicas: {n},"))).unwrap_or(1);
                let to = self.chance.between(1, 4);
                files.insert(
                    "slipway.yaml".into(),
                    text.replace(&format!("replicas: {from},"), &format!("replicas: {to},")),
                );
            }
            Push::Revert => {
                let grand = parent.and_then(|parent| grand_parent(world, parent));
                if let (Some(parent), Some(grand)) = (parent, grand) {
                    let files = world.repository.files_of(&world.project, &grand);
                    return (files, format!("Revert \"it\"\n\nThis reverts commit {parent}.\n"));
                }
                write(&format!("ready {ready}"));
            }
        }
        (files, format!("version {version} {push:?}"))
    }
}

fn grand_parent(world: &World, commit: &CommitId) -> Option<CommitId> {
    world.repository.parents(&world.project, commit).first().cloned()
}

fn fresh(config: &str) -> Files {
    let mut files = Files::from([("slipway.yaml".to_owned(), config.to_owned())]);
    for folder in ["api", "web"] {
        if config.contains(&format!("  {folder}:")) {
            files.insert(format!("{folder}/Dockerfile"), "FROM scratch\nCOPY . /\n".into());
            files.insert(format!("{folder}/app"), "version 0\nready 50\n".into());
        }
    }
    files
}

fn command(verb: &str, lane: &Lane, release: Option<&ReleaseId>, commit: Option<&CommitId>) -> Command {
    Command {
        verb: verb.into(),
        what: lane.service.to_string(),
        environment: Some(lane.environment.clone()),
        service: Some(lane.service.clone()),
        release: release.cloned(),
        commit: commit.cloned(),
        item: None,
        reason: "because".into(),
    }
}

fn give(world: &World, road: &Road, command: Command, change: Option<ChangeId>) {
    let (road, project) = (road.clone(), world.project.clone());
    // Refused commands are the person's to repeat; in this world they do not.
    tokio::spawn(async move { road.give(&project, &Actor("ops".into()), change, command).await });
}

fn receive(world: &World, road: &Road, moved: RefMove) {
    let (road, project, repository) = (road.clone(), world.project.clone(), world.repository.clone());
    tokio::spawn(async move {
        let branches = ["main".to_owned(), "topic".to_owned()];
        let source = &road.stages().source;
        let mut received = source.receive(&project, &[moved], "kim", &[], &branches).await.map(drop);
        // Refs and journal are reconciled after each push; a full disk passes.
        while received.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await; // waits: virtual time, moved on by the runtime
            received = source.reconcile(&project, &repository.refs(&project)).await.map(drop);
        }
    });
}
