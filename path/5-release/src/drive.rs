//! Makes releases and asks the gates.
//!
//! In: a change with a built image; a lane whose gates may answer differently now. Out: facts. Never: asks a gate
//! while the lane's record is older than the journal.

use crate::agree::Makers;
use crate::decide::{GateInput, gate};
use crate::needs;
use crate::record::LaneRecord;
use slipway_model::fact::{Body, Candidate, ChangeInfo, Fact, Gate, SUPERSEDED, stream};
use slipway_model::plan::Plan;
use slipway_model::policy::EnvironmentPolicy;
use slipway_model::release::Release;
use slipway_model::rollout::Purpose;
use slipway_model::{EnvironmentName, Lane, NewFact, ProjectName, ReleaseId, ServiceName};
use slipway_ports::{Append, Clock, Repository, Secrets, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A lane's record is decided on anew so often when others keep writing to it.
pub(crate) const TRIES: usize = 8;

/// What the stage needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// Commits.
    pub repository: Arc<dyn Repository>,
    /// Whether secrets have values.
    pub secrets: Arc<dyn Secrets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A change and its plan, as the journal has them.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The change.
    pub info: ChangeInfo,
    /// Its plan.
    pub plan: Plan,
}

/// The stage.
pub struct Releases {
    pub(crate) ports: Ports,
    lanes: Mutex<BTreeMap<Lane, Arc<tokio::sync::Mutex<()>>>>,
    /// Lanes as far as they were read, so that a long history is read once.
    known: Mutex<BTreeMap<Lane, Arc<tokio::sync::Mutex<LaneRecord>>>>,
}

impl Releases {
    /// A stage over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Releases {
        Releases { ports, lanes: Mutex::default(), known: Mutex::default() }
    }

    /// Queues a release for every environment that its branch may reach.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn queue(&self, project: &ProjectName, planned: &Planned, release: &Release) -> Result<(), StoreError> {
        for policy in &planned.plan.environments {
            let lane = Lane {
                project: project.clone(),
                environment: policy.name.clone(),
                service: release.bundle.service.clone(),
            };
            if release.bundle.environment(&policy.name).is_none() {
                continue;
            }
            let candidate = Candidate {
                lane: lane.clone(),
                release: release.id.clone(),
                number: release.number,
                commit: planned.info.commit.clone(),
                change: Some(planned.info.id.clone()),
                purpose: Purpose::Deploy,
                by: planned.info.pusher.clone(),
                by_hand: false,
            };
            self.enqueue(candidate).await?;
        }
        Ok(())
    }

    /// Queues one candidate, unless the same one asked last.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn enqueue(&self, candidate: Candidate) -> Result<(), StoreError> {
        let lane = candidate.lane.clone();
        let lock = self.lock(&lane);
        let _held = lock.lock().await;
        let record = self.record(&lane).await?;
        // The same command again after a crash is the same wish as long as the first one is under way; later it is another.
        let by_itself = candidate.change.is_some() && !candidate.by_hand;
        let under_way = by_itself || record.may_change() || record.moving;
        // An order that is repeated after a crash asks for what was settled long ago.
        if by_itself && record.asked.contains(&candidate) {
            return Ok(());
        }
        if record.asked_before(&candidate) || (record.candidate.as_ref() == Some(&candidate) && under_way) {
            return Ok(());
        }
        let mut append = Append::to(&lane.project, stream::lane(&lane));
        if let Some(newer) = self.outrun_by(&record, &candidate).await {
            append = append.fact(superseded(&candidate, &newer));
        } else {
            // Only one asks at a time: who waited for an answer or its turn is told that it waits no more.
            let same =
                |waiting: &&Candidate| waiting.release == candidate.release && waiting.change == candidate.change;
            if let Some(waiting) = record.candidate.as_ref().filter(|waiting| record.may_change() && !same(waiting)) {
                append = append.fact(superseded(waiting, &candidate));
            }
            append = append.fact(NewFact::new(candidate.change.clone(), Body::ReleaseQueued(candidate)));
        }
        self.ports.store.append(append).await.map(drop)
    }

    // A slow build of an older commit must not push aside a newer one that already asked.
    async fn outrun_by(&self, record: &LaneRecord, candidate: &Candidate) -> Option<Candidate> {
        let by_itself = candidate.purpose == Purpose::Deploy && !candidate.by_hand;
        let newest = record.candidate.as_ref().filter(|newest| by_itself && newest.commit != candidate.commit)?;
        let project = &candidate.lane.project;
        let contained = self.ports.repository.contains(project, &newest.commit, &candidate.commit).await;
        contained.unwrap_or(false).then(|| newest.clone())
    }

    /// Asks the lane's gates and records the answer when it is a new one.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn gate(&self, lane: &Lane, planned: Option<&Planned>) -> Result<Option<Gate>, StoreError> {
        let lock = self.lock(lane);
        let _held = lock.lock().await;
        let record = self.record(lane).await?;
        let Some(candidate) = record.candidate.clone().filter(|_| record.may_change()) else { return Ok(record.gate) };
        let input = self.input(lane, &record, &candidate, planned).await?;
        for hold in &input.1 {
            self.release_hold(lane, &candidate, hold).await?;
        }
        let answer = gate(&input.0);
        // Who was let in before a rollout ended is let in once more: an older answer does not count any more.
        let counts = !(matches!(answer, Gate::Open { .. }) && record.gate_n < record.ended_n);
        if record.gate.as_ref() == Some(&answer) && counts {
            return Ok(Some(answer));
        }
        let body = Body::ReleaseGated { candidate: candidate.clone(), gate: answer.clone() };
        // A later commit with the same content takes the place of one that waits for somebody.
        let waits = matches!(answer, Gate::Wait { who: Some(_), .. }).then(|| serde_json::json!(candidate.commit));
        let append = Append::to(&lane.project, stream::lane(lane))
            .row("waiting", format!("{}/{}", lane.service, lane.environment), waits)
            .fact(NewFact::new(candidate.change, body));
        self.ports.store.append(append).await?;
        Ok(Some(answer))
    }

    async fn release_hold(
        &self,
        lane: &Lane,
        candidate: &Candidate,
        hold: &(slipway_model::CommitId, String),
    ) -> Result<(), StoreError> {
        let body = Body::HoldReleased { lane: lane.clone(), commit: hold.0.clone(), reason: hold.1.clone() };
        let append = Append::to(&lane.project, stream::lane(lane)).fact(NewFact::new(candidate.change.clone(), body));
        self.ports.store.append(append).await.map(drop)
    }

    /// Ends the holds of a lane that a change names as fixed or reverted.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn end_holds(&self, lane: &Lane, info: &ChangeInfo) -> Result<(), StoreError> {
        let record = self.record(lane).await?;
        let named = |commit: &slipway_model::CommitId| names(&info.fixes, commit) || names(&info.reverts, commit);
        for hold in record.holds.iter().filter(|hold| named(&hold.commit)) {
            let reason = format!("{} says that it is the fix", info.commit.short());
            let body = Body::HoldReleased { lane: lane.clone(), commit: hold.commit.clone(), reason };
            let append = Append::to(&lane.project, stream::lane(lane)).fact(NewFact::new(Some(info.id.clone()), body));
            self.ports.store.append(append).await?;
        }
        Ok(())
    }

    /// A release by its id.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn find(
        &self,
        project: &ProjectName,
        service: &ServiceName,
        id: &ReleaseId,
    ) -> Result<Option<Release>, StoreError> {
        let row = self.ports.store.row(project, "release", &format!("{service}/{id}")).await?;
        Ok(row.and_then(|value| serde_json::from_value(value).ok()))
    }

    /// The lane as the journal has it.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn record(&self, lane: &Lane) -> Result<LaneRecord, StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(lane.clone()).or_default().clone();
        let mut record = known.lock().await;
        let (mut own, mut rollouts) = (record.version, record.rollout_version);
        let mut fresh: Vec<Fact> = Vec::new();
        loop {
            let of_lane = self.ports.store.load(&lane.project, &stream::lane(lane), own).await?;
            let of_rollouts = self.ports.store.load(&lane.project, &stream::rollout(lane), rollouts).await?;
            if of_lane.is_empty() && of_rollouts.is_empty() {
                break;
            }
            own = of_lane.last().map_or(own, |fact| fact.version);
            rollouts = of_rollouts.last().map_or(rollouts, |fact| fact.version);
            fresh.extend(of_lane.into_iter().chain(of_rollouts));
        }
        // Both streams tell one story; their facts are read in the order in which they happened.
        fresh.sort_by_key(|fact| fact.n);
        for fact in &fresh {
            record.apply(fact);
        }
        Ok(record.clone())
    }

    async fn input(
        &self,
        lane: &Lane,
        record: &LaneRecord,
        candidate: &Candidate,
        planned: Option<&Planned>,
    ) -> Result<(GateInput, Vec<(slipway_model::CommitId, String)>), StoreError> {
        let project = &lane.project;
        let release = self.find(project, &lane.service, &candidate.release).await?;
        let policy = self.policy(lane, planned).await?;
        let current = match &record.current {
            Some(current) => {
                let running = self.find(project, &lane.service, &current.id).await?;
                let effective = |release: &Option<Release>| {
                    release.as_ref().map(|release| release.bundle.effective(&lane.environment))
                };
                // While something moves, what will serve is not known yet: it is asked again when its turn comes.
                let same = effective(&running) == effective(&release) && !record.unsettled;
                Some((current.clone(), same))
            }
            None => None,
        };
        let mut after = Vec::new();
        for environment in &policy.after {
            let before = self.record(&Lane { environment: environment.clone(), ..lane.clone() }).await?;
            let stands = match standing(&before, candidate) {
                None => self.same_serves(environment, &before, lane, release.as_ref()).await?,
                stands => stands,
            };
            after.push((environment.clone(), stands));
        }
        let mut needs = Vec::new();
        for service in planned.map(|planned| needs::deployed(&planned.plan, &lane.service)).unwrap_or_default() {
            let other = self.record(&Lane { service: service.clone(), ..lane.clone() }).await?;
            needs.push((service, needs::standing(&other, candidate)));
        }
        let (held, released) = self.holds(project, record, candidate, planned).await;
        let names = release
            .as_ref()
            .and_then(|release| release.bundle.environment(&lane.environment))
            .map(|config| config.secrets.clone());
        let mut missing_secrets = Vec::new();
        for name in names.unwrap_or_default() {
            if !matches!(self.ports.secrets.value(project, Some(&lane.environment), &name).await, Ok(Some(_))) {
                missing_secrets.push(name);
            }
        }
        let is_end = planned.is_none_or(|planned| {
            !planned.plan.environments.iter().any(|other| other.after.contains(&lane.environment))
        });
        let made = self.made(candidate, release.as_ref(), planned).await?;
        let input = GateInput {
            branch: self.branch(candidate, &policy, planned).await,
            older: self.older(record, candidate).await,
            not_ci: is_end && made.not_ci,
            candidate: candidate.clone(),
            policy,
            current,
            after,
            needs,
            held,
            frozen: self.frozen(lane).await?,
            approvals: record.approvals.clone(),
            rejected: record.rejected.clone(),
            makers: made.makers,
            missing_secrets,
            now: self.ports.clock.now(),
        };
        Ok((input, released))
    }

    /// Who brought a release, and whether its behaviour was tested. A deployment by hand comes without a change of its own:
    /// the one that made the release, and the newest of its commit, answer for it.
    pub(crate) async fn made(
        &self,
        candidate: &Candidate,
        release: Option<&Release>,
        planned: Option<&Planned>,
    ) -> Result<Made, StoreError> {
        let lane = &candidate.lane;
        let row = self.ports.store.row(&lane.project, "change", &format!("commit/{}", candidate.commit)).await?;
        let newest: Option<slipway_model::ChangeId> = row.and_then(|id| serde_json::from_value(id).ok());
        let mut changes: Vec<slipway_model::ChangeId> =
            release.map(|release| release.origin.change.clone()).into_iter().collect();
        changes.extend(newest.into_iter().chain(planned.map(|planned| planned.info.id.clone())));
        changes.sort();
        changes.dedup();
        let mut made = Made::default();
        for change in changes {
            for fact in self.ports.store.of_change(&lane.project, &change).await? {
                match &fact.body {
                    Body::ChangeReceived(info) => {
                        made.makers.authors.push(info.author.clone());
                        made.makers.pushers.push(info.pusher.clone());
                    }
                    Body::PlanMade { plan } => made.not_ci |= plan.not_ci.contains(&lane.service),
                    _ => {}
                }
            }
        }
        Ok(made)
    }

    /// What differs for later environments only is identical in this one: it never goes there, and needs not to.
    async fn same_serves(
        &self,
        environment: &EnvironmentName,
        before: &LaneRecord,
        lane: &Lane,
        release: Option<&Release>,
    ) -> Result<Option<(slipway_model::rollout::Phase, String)>, StoreError> {
        let (Some(current), Some(release)) = (before.current.as_ref().filter(|_| !before.moving), release) else {
            return Ok(None);
        };
        let serving = self.find(&lane.project, &lane.service, &current.id).await?;
        let same = serving
            .is_some_and(|serving| serving.bundle.effective(environment) == release.bundle.effective(environment));
        Ok(same.then(|| (slipway_model::rollout::Phase::Succeeded, String::new())))
    }

    pub(crate) async fn policy(&self, lane: &Lane, planned: Option<&Planned>) -> Result<EnvironmentPolicy, StoreError> {
        let of = |plan: &Plan| plan.environments.iter().find(|policy| policy.name == lane.environment).cloned();
        if let Some(policy) = planned.and_then(|planned| of(&planned.plan)) {
            return Ok(policy);
        }
        let row = self.ports.store.row(&lane.project, "environment", lane.environment.as_str()).await?;
        Ok(row.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_else(|| EnvironmentPolicy {
            name: lane.environment.clone(),
            from: Vec::new(),
            auto: true,
            after: Vec::new(),
            approve: None,
            retain: None,
        }))
    }

    /// Who froze the environment, and why.
    async fn frozen(&self, lane: &Lane) -> Result<Option<String>, StoreError> {
        let row = self.ports.store.row(&lane.project, "frozen", lane.environment.as_str()).await?;
        Ok(row.and_then(|why| why.as_str().map(ToOwned::to_owned)))
    }

    async fn branch(
        &self,
        candidate: &Candidate,
        policy: &EnvironmentPolicy,
        planned: Option<&Planned>,
    ) -> Result<String, String> {
        let may = |branch: &str| Ok(format!("{branch} may deploy to {}", policy.name));
        if let Some(planned) = planned {
            // The plan has this environment only when the branch may deploy to it.
            return may(&planned.info.branch);
        }
        let project = &candidate.lane.project;
        for branch in policy.from.iter().filter(|branch| !branch.contains(['*', '?'])) {
            let Ok(Some(head)) = self.ports.repository.resolve(project, &format!("refs/heads/{branch}")).await else {
                continue;
            };
            if self.ports.repository.contains(project, &head, &candidate.commit).await.unwrap_or(false) {
                return Ok(format!("{} is part of {branch}", candidate.commit.short()));
            }
        }
        if let Some(branch) = self.made_for(candidate, policy).await {
            return may(&branch);
        }
        let short = candidate.commit.short();
        Err(match policy.from.as_slice() {
            [] => format!("no branch that may deploy to {} was pushed yet", policy.name),
            from => format!("{short} is not part of {}, from which {} is deployed", from.join(" or "), policy.name),
        })
    }

    /// The branch that the release was made on, when its plan had this environment: patterns name no branch to look at.
    async fn made_for(&self, candidate: &Candidate, policy: &EnvironmentPolicy) -> Option<String> {
        let lane = &candidate.lane;
        let release = self.find(&lane.project, &lane.service, &candidate.release).await.ok()??;
        let facts = self.ports.store.of_change(&lane.project, &release.origin.change).await.ok()?;
        let planned = facts.iter().any(|fact| match &fact.body {
            Body::PlanMade { plan } => plan.environments.iter().any(|of| of.name == policy.name),
            _ => false,
        });
        let branch = facts.iter().find_map(|fact| match &fact.body {
            Body::ChangeReceived(info) => Some(info.branch.clone()),
            _ => None,
        });
        branch.filter(|_| planned)
    }

    async fn older(&self, record: &LaneRecord, candidate: &Candidate) -> Option<slipway_model::CommitId> {
        let current = record.current_commit.as_ref().filter(|current| **current != candidate.commit)?;
        let contained = self.ports.repository.contains(&candidate.lane.project, current, &candidate.commit).await;
        contained.unwrap_or(false).then(|| current.clone())
    }

    /// Holds that bind this candidate, and those that it releases by saying so.
    async fn holds(
        &self,
        project: &ProjectName,
        record: &LaneRecord,
        candidate: &Candidate,
        planned: Option<&Planned>,
    ) -> (Vec<(slipway_model::CommitId, String)>, Vec<(slipway_model::CommitId, String)>) {
        let (mut held, mut released) = (Vec::new(), Vec::new());
        for hold in &record.holds {
            if !self.ports.repository.contains(project, &candidate.commit, &hold.commit).await.unwrap_or(false) {
                continue;
            }
            let by_push = planned.is_some_and(|planned| names(&planned.info.fixes, &hold.commit));
            let since = self
                .ports
                .repository
                .between(project, Some(&hold.commit), &candidate.commit, 200)
                .await
                .unwrap_or_default();
            let by_commit = since.iter().find(|commit| says_fixed(&commit.message, &hold.commit));
            match (by_push, by_commit) {
                (true, _) => released.push((hold.commit.clone(), "the push says that it is the fix".into())),
                (false, Some(commit)) => {
                    released.push((hold.commit.clone(), format!("{} reverts or fixes it", commit.id.short())))
                }
                (false, None) => held.push((hold.commit.clone(), hold.reason.clone())),
            }
        }
        (held, released)
    }

    fn lock(&self, lane: &Lane) -> Arc<tokio::sync::Mutex<()>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).entry(lane.clone()).or_default().clone()
    }
}

fn superseded(older: &Candidate, by: &Candidate) -> NewFact {
    let reason = format!("{SUPERSEDED} r{} of {}", by.number, by.commit.short());
    let body = Body::ReleaseGated { candidate: older.clone(), gate: Gate::Refused { reason, next: None } };
    NewFact::new(older.change.clone(), body)
}

/// How a release stands in a lane: it also succeeded there when it is what serves.
fn standing(record: &LaneRecord, asking: &Candidate) -> Option<(slipway_model::rollout::Phase, String)> {
    let release = &asking.release;
    if !record.moving && record.current.as_ref().is_some_and(|current| &current.id == release) {
        return Some((slipway_model::rollout::Phase::Succeeded, String::new()));
    }
    let asked = record.candidate.as_ref().is_some_and(|candidate| &candidate.release == release);
    let passed_over = |refused: &Candidate| &refused.release == release && refused.commit == asking.commit;
    if !asked && record.superseded.iter().any(passed_over) {
        return Some((slipway_model::rollout::Phase::Dropped, "another release went in its place".into()));
    }
    match (&record.gate, record.phases.get(release)) {
        (Some(Gate::Refused { reason, .. }), _) if asked => {
            Some((slipway_model::rollout::Phase::Dropped, reason.clone()))
        }
        (Some(Gate::Wait { .. }) | None, _) if asked => None,
        (_, phase) => phase.cloned(),
    }
}

fn names(fixes: &[String], commit: &slipway_model::CommitId) -> bool {
    fixes.iter().any(|fix| fix.len() >= 7 && commit.as_str().starts_with(fix.as_str()))
}

/// Whether a commit message says that it fixes or reverts a commit: the trailer, or Git's own revert sentence.
#[must_use]
pub fn says_fixed(message: &str, commit: &slipway_model::CommitId) -> bool {
    message.lines().any(|line| {
        let line = line.trim();
        let named = line
            .strip_prefix("Slipway-Fixes:")
            .or_else(|| line.strip_prefix("This reverts commit "))
            .map(|rest| rest.trim().trim_end_matches(['.', ',']));
        named.is_some_and(|id| {
            id.split_whitespace().next().is_some_and(|id| {
                id.trim_end_matches(['.', ',']).len() >= 7
                    && commit.as_str().starts_with(id.trim_end_matches(['.', ',']))
            })
        })
    })
}

/// What the changes behind a release say about it.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) makers: Makers,
    not_ci: bool,
}
