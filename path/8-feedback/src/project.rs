//! All projects as people see them: the projection of the journal.
//!
//! In: every fact in order, observations. Out: views. Never: I/O; holds more than the newest changes of a project.

use crate::change;
use crate::lane::LaneState;
use crate::lines::plain;
use slipway_model::fact::{Body, Fact, Gate};
use slipway_model::instance::LaneSeen;
use slipway_model::plan::Plan;
use slipway_model::policy::EnvironmentPolicy;
use slipway_model::release::Release;
use slipway_model::rollout::Phase;
use slipway_model::traffic::LaneTraffic;
use slipway_model::view::{ChangeView, EnvironmentView, HistoryLine, Need, Status};
use slipway_model::{ChangeId, EnvironmentName, Lane, ProjectName, ReleaseId};
use std::collections::BTreeMap;

/// Changes kept in memory per project; older ones are read from the journal when asked for.
const CHANGES: usize = 200;

/// One project.
#[derive(Debug, Clone, Default)]
pub struct ProjectState {
    /// Changes, oldest first.
    pub changes: Vec<ChangeView>,
    /// Plans of those changes.
    pub plans: BTreeMap<ChangeId, Plan>,
    /// Lanes.
    pub lanes: BTreeMap<(EnvironmentName, slipway_model::ServiceName), LaneState>,
    /// Environments in promotion order.
    pub order: Vec<EnvironmentName>,
    /// Releases by id.
    pub releases: BTreeMap<ReleaseId, Release>,
    /// Environments that nothing new comes into: who said so, and why.
    pub frozen: BTreeMap<EnvironmentName, String>,
}

/// All projects.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// By name.
    pub projects: BTreeMap<ProjectName, ProjectState>,
    /// The newest fact that is in it.
    pub n: u64,
}

impl Projection {
    /// Takes one fact; facts come in order, repeated ones are passed over.
    pub fn apply(&mut self, fact: &Fact) {
        if fact.n <= self.n {
            return;
        }
        self.n = fact.n;
        let project = self.projects.entry(fact.project.clone()).or_default();
        project.apply(fact);
    }

    /// What a node sees of a lane.
    pub fn seen(&mut self, seen: LaneSeen) {
        let lane = seen.lane.clone();
        self.lane(&lane).seen = Some(seen);
    }

    /// What the proxy counted in a lane.
    pub fn traffic(&mut self, traffic: LaneTraffic) {
        let lane = traffic.lane.clone();
        self.lane(&lane).traffic = Some(traffic);
    }

    fn lane(&mut self, lane: &Lane) -> &mut LaneState {
        self.projects.entry(lane.project.clone()).or_default().lane(lane)
    }

    /// `slipway status` of a project; `url` gives a lane's address.
    #[must_use]
    pub fn status(&self, name: &ProjectName, url: &dyn Fn(&Lane) -> String, changes: usize) -> Option<Status> {
        let project = self.projects.get(name)?;
        Some(Status {
            project: name.clone(),
            needs_you: project.needs(),
            changes: project.changes.iter().rev().take(changes).cloned().collect(),
            environments: project.environments(url),
        })
    }

    /// A change by its id.
    #[must_use]
    pub fn change(&self, project: &ProjectName, id: &ChangeId) -> Option<&ChangeView> {
        self.projects.get(project)?.changes.iter().find(|change| &change.id == id)
    }
}

impl ProjectState {
    fn apply(&mut self, fact: &Fact) {
        match &fact.body {
            Body::ChangeReceived(info) => {
                self.changes.push(change::received(info, fact.at));
                if self.changes.len() > CHANGES {
                    let gone = self.changes.remove(0);
                    self.plans.remove(&gone.id);
                }
            }
            Body::PlanMade { plan } => {
                if let Some(id) = &fact.change {
                    self.plans.insert(id.clone(), (**plan).clone());
                }
                self.ordered(plan);
            }
            Body::ReleaseMade { release, .. } => {
                self.releases.entry(release.id.clone()).or_insert_with(|| (**release).clone());
            }
            Body::CommandGiven(command) if command.verb == "freeze" => {
                let reason = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
                self.frozen.extend(command.environment.clone().map(|name| (name, format!("{}{reason}", fact.actor))));
            }
            Body::CommandGiven(command) if command.verb == "unfreeze" => {
                self.frozen.retain(|name, _| Some(name) != command.environment.as_ref());
            }
            Body::CommandGiven(command) if command.verb == "secret" => {
                let here =
                    self.lanes.values_mut().filter(|lane| Some(&lane.lane.environment) == command.environment.as_ref());
                for lane in here {
                    lane.secrets.insert(command.what.clone(), fact.at);
                }
            }
            _ => {}
        }
        if let Some(id) = &fact.change
            && let Some(view) = self.changes.iter_mut().rev().find(|change| &change.id == id)
        {
            change::apply(view, fact);
        }
        if let Some(lane) = lane_of(&fact.body) {
            let lane = lane.clone();
            self.lane(&lane).apply(fact);
        }
    }

    /// The newest plan says the promotion order; what it does not name any more comes last. An environment stands
    /// after those that it follows, wherever the file names it.
    fn ordered(&mut self, plan: &Plan) {
        let mut left: Vec<&EnvironmentPolicy> = plan.environments.iter().collect();
        let mut order: Vec<EnvironmentName> = Vec::new();
        while !left.is_empty() {
            let open = |name: &EnvironmentName| left.iter().any(|policy| &policy.name == name);
            // In a circle nobody is first; the file was refused then, and the first will do.
            let next = left.iter().position(|policy| !policy.after.iter().any(open)).unwrap_or(0);
            order.push(left.remove(next).name.clone());
        }
        let before = std::mem::take(&mut self.order);
        order.extend(before.into_iter().filter(|name| !plan.environments.iter().any(|policy| &policy.name == name)));
        self.order = order;
    }

    fn lane(&mut self, lane: &Lane) -> &mut LaneState {
        let key = (lane.environment.clone(), lane.service.clone());
        self.lanes.entry(key).or_insert_with(|| LaneState::new(lane))
    }

    fn environments(&self, url: &dyn Fn(&Lane) -> String) -> Vec<EnvironmentView> {
        let mut names = self.order.clone();
        for (environment, _) in self.lanes.keys() {
            if !names.contains(environment) {
                names.push(environment.clone());
            }
        }
        names
            .into_iter()
            .map(|name| EnvironmentView {
                services: self
                    .lanes
                    .values()
                    .filter(|lane| lane.lane.environment == name)
                    .map(|lane| lane.view(&self.releases, &url(&lane.lane)))
                    .collect(),
                frozen: self.frozen.contains_key(&name),
                frozen_by: self.frozen.get(&name).cloned().unwrap_or_default(),
                name,
            })
            .collect()
    }

    /// What waits for a person, failures of what serves first.
    fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        for state in self.lanes.values() {
            needs.extend(lane_need(state));
        }
        let newest_of_branch =
            |index: usize, branch: &str| !self.changes.iter().skip(index + 1).any(|later| later.branch == branch);
        let failed = |change: &ChangeView| change.state == slipway_model::fact::ChangeState::Failed;
        let newest = self.changes.iter().enumerate().filter(|(index, change)| newest_of_branch(*index, &change.branch));
        let (deploying, others): (Vec<&ChangeView>, Vec<&ChangeView>) =
            newest.map(|(_, change)| change).filter(|change| failed(change)).partition(|change| self.deploys(change));
        // Before what fails on a branch of somebody's own comes what fails on the way to users.
        needs.extend(deploying.into_iter().chain(others).map(change_need));
        needs
    }

    /// Whether a change's branch leads into an environment.
    fn deploys(&self, change: &ChangeView) -> bool {
        let known = |id: &ChangeId| self.plans.get(id).is_some_and(|plan| !plan.environments.is_empty());
        self.changes.iter().any(|other| other.branch == change.branch && known(&other.id))
    }

    /// History of all lanes, newest first.
    #[must_use]
    pub fn history(&self) -> Vec<HistoryLine> {
        let mut lines: Vec<HistoryLine> = self.lanes.values().flat_map(|lane| lane.history.clone()).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.at));
        lines
    }
}

fn change_need(change: &ChangeView) -> Need {
    Need {
        what: format!("{} {} on {}", change.commit.short(), change.subject, change.branch),
        why: plain(change.reason.lines().next().unwrap_or("failed")),
        command: format!("slipway why {}", change.commit.short()),
        since: change.received,
    }
}

fn lane_need(state: &LaneState) -> Option<Need> {
    let title = |number: u64| format!("{} {} r{number}", state.lane.environment, state.lane.service);
    if let Some((moved, began)) = &state.moved
        && moved.phase == Phase::NeedsHuman
    {
        return Some(Need {
            what: title(moved.head.to.number),
            why: moved.reason.clone(),
            command: format!("slipway why {}@r{}", state.lane.service, moved.head.to.number),
            since: *began,
        });
    }
    // What was taken back and is still held here is not what its author wanted to see live; only a person can mend it.
    let taken_back = state.moved.as_ref().filter(|(moved, _)| {
        moved.phase == Phase::RolledBack && state.held.iter().any(|(held, _)| *held == moved.head.commit)
    });
    match &state.gate {
        Some((candidate, Gate::Wait { reason, who: Some(_), next: Some(next), .. }, since)) => {
            Some(Need { what: title(candidate.number), why: reason.clone(), command: next.clone(), since: *since })
        }
        _ => taken_back.map(|(moved, began)| Need {
            what: title(moved.head.to.number),
            why: format!("was rolled back: {}", plain(&moved.reason)),
            command: format!("slipway why {}@r{}", state.lane.service, moved.head.to.number),
            since: *began,
        }),
    }
}

/// The lane that a fact is about.
#[must_use]
pub fn lane_of(body: &Body) -> Option<&Lane> {
    match body {
        Body::ReleaseQueued(candidate) | Body::ReleaseGated { candidate, .. } => Some(&candidate.lane),
        Body::RolloutPhase(moved) => Some(&moved.head.lane),
        Body::VerdictWanted { lane, .. }
        | Body::VerdictGiven { lane, .. }
        | Body::EvidenceKept { lane, .. }
        | Body::InstanceState { lane, .. }
        | Body::HoldSet { lane, .. }
        | Body::HoldReleased { lane, .. } => Some(lane),
        Body::ChangeReceived(_)
        | Body::PlanMade { .. }
        | Body::ChangeEnded { .. }
        | Body::JobStarted { .. }
        | Body::JobEnded { .. }
        | Body::ImageStarted { .. }
        | Body::ImageBuilt(_)
        | Body::ImageFailed { .. }
        | Body::ReleaseMade { .. }
        | Body::CommandGiven(_)
        | Body::NoticeSent { .. } => None,
    }
}
