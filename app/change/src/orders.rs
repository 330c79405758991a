//! Carries out orders: the one place where stages are called.
//!
//! In: an order. Out: what the stage made of it is in the journal. Never: decides.

use crate::drive::Road;
use crate::node::explained;
use crate::road::Order;
use crate::timers::Purpose;
use slipway_model::fact::{Body, ChangeState, Gate, NEEDS, RolloutMoved, stream};
use slipway_model::instance::LaneSeen;
use slipway_model::plan::{Decision, Item, ItemSpec};
use slipway_model::release::Release;
use slipway_model::verdict::Verdict;
use slipway_model::{ChangeId, ItemId, Lane, NewFact, ProjectName, ReleaseId, RolloutId};
use slipway_plan::advance::ended;
use slipway_plan::{ChangeRecord, advance};
use slipway_ports::Append;
use slipway_release::drive::Planned;
use slipway_rollout::Event;

type Outcome = Result<(), String>;

fn said(error: impl std::error::Error) -> String {
    explained(&error)
}

impl Road {
    pub(crate) async fn obey(&self, project: &ProjectName, order: &Order) -> Outcome {
        let stages = self.stages();
        match order {
            Order::Plan(info) => stages.plans.make(project, info).await.map_err(said),
            Order::Advance(change) => self.advance(project, change).await,
            Order::Settle(change) => {
                let record = self.change(project, change).await?;
                self.settle(project, change, &record).await
            }
            Order::Queue(change, release) => match self.planned(project, change).await? {
                Some(planned) => stages.releases.queue(project, &planned, release).await.map_err(said),
                None => Ok(()),
            },
            Order::EndHolds(change) => self.end_holds(project, change).await,
            Order::Gate(lane) => self.gate(lane).await,
            Order::GateOthers(lane) => self.gate_others(lane).await,
            Order::Forget(lane) => self.forget_release(lane).await,
            Order::Begin(lane) => {
                let wake = stages.rollouts.begin(lane).await.map_err(said)?;
                self.inner.timers.set(lane, Purpose::Rollout, wake);
                Ok(())
            }
            Order::Judge(lane, rollout, step) => self.judge(lane, rollout, *step).await,
            Order::Verdict(lane, rollout, step, verdict) => {
                self.deliver_to(lane, rollout, verdict_event(*step, verdict)).await
            }
            Order::Capture(moved) => self.capture(moved).await,
            Order::Captured(lane, rollout) => self.deliver_to(lane, rollout, Event::Captured).await,
            Order::StopJudging(moved) => {
                stages.verify.stop(&moved.head.lane, &moved.head.id);
                self.inner.timers.set(&moved.head.lane, Purpose::Judge, None);
                Ok(())
            }
            Order::Obey(n, change, command, actor) => self.command(project, *n, change.as_ref(), command, actor).await,
        }
    }

    pub(crate) async fn change(&self, project: &ProjectName, change: &ChangeId) -> Result<ChangeRecord, String> {
        let facts = self.stages().store.of_change(project, change).await.map_err(said)?;
        Ok(ChangeRecord::of(&facts))
    }

    async fn planned(&self, project: &ProjectName, change: &ChangeId) -> Result<Option<Planned>, String> {
        let record = self.change(project, change).await?;
        Ok(record.info.zip(record.plan).map(|(info, plan)| Planned { info, plan }))
    }

    pub(crate) async fn advance(&self, project: &ProjectName, change: &ChangeId) -> Outcome {
        let record = self.change(project, change).await?;
        for id in advance(&record).ready {
            if let Some(item) = record.plan.as_ref().and_then(|plan| plan.item(&id)) {
                self.start(project, &record, item).await?;
            }
        }
        // What was started just now keeps the change open in this record too; its end comes back here.
        self.settle(project, change, &record).await
    }

    async fn start(&self, project: &ProjectName, record: &ChangeRecord, item: &Item) -> Outcome {
        let Some(info) = record.info.clone() else { return Ok(()) };
        let stages = self.stages();
        let intent = match &item.spec {
            ItemSpec::Job(job) => {
                let attempt = record.runs.get(&item.id).map_or(0, |(_, attempt, _)| *attempt) + 1;
                let wanted = slipway_jobs::Wanted {
                    info,
                    item: item.id.clone(),
                    attempt,
                    key: item.key.clone(),
                    artifacts: job.needs.iter().map(|need| (need.to_string(), record.artifacts(need))).collect(),
                    outputs: job.needs.iter().map(|need| (need.to_string(), record.outputs(need))).collect(),
                    job: (**job).clone(),
                    number: u64::from(attempt),
                };
                stages.jobs.start(project, wanted).await.map_err(said)?
            }
            ItemSpec::Image(def) => {
                let wanted = slipway_image::Wanted {
                    info,
                    item: item.id.clone(),
                    key: item.key.clone(),
                    artifacts: def.jobs.iter().map(|job| (job.name.clone(), record.artifacts(job))).collect(),
                    def: def.clone(),
                    attempt: record.builds.get(&item.id).map_or(0, |(attempts, _)| *attempts) + 1,
                };
                stages.images.start(project, wanted).await.map_err(said)?
            }
            ItemSpec::Release(def) => {
                let Some(image) = record.image(&ItemId::image(&def.service)) else { return Ok(()) };
                let Some(plan) = record.plan.clone() else { return Ok(()) };
                let planned = Planned { info, plan };
                stages.releases.make(project, &planned, &item.id, def, image).await.map_err(said)?;
                self.remember_release(project, record, item).await?;
                None
            }
        };
        if let Some(intent) = intent {
            self.perform(intent);
        }
        Ok(())
    }

    // The release's key stands for what was last queued for these environments: equal content is "not affected".
    async fn remember_release(&self, project: &ProjectName, record: &ChangeRecord, item: &Item) -> Outcome {
        let Some(info) = &record.info else { return Ok(()) };
        let value = serde_json::json!({ "change": info.id, "commit": info.commit });
        let last = format!("released/{}", item.id);
        let store = &self.stages().store;
        let before = store.row(project, "change", &last).await.map_err(said)?;
        let mut append = Append::to(project, stream::change(&info.id))
            .row("reuse", item.key.as_str(), Some(value))
            .row("change", last, Some(serde_json::json!(item.key)));
        // What was queued before is not the newest any more; going back to it is a release to be queued again.
        if let Some(before) = before.as_ref().and_then(|key| key.as_str()).filter(|before| *before != item.key.as_str())
        {
            append = append.row("reuse", before, None);
        }
        store.append(append).await.map_err(said).map(drop)
    }

    async fn forget_release(&self, lane: &Lane) -> Outcome {
        let store = &self.stages().store;
        let last = format!("released/{}", ItemId::release(&lane.service));
        let Some(key) = store.row(&lane.project, "change", &last).await.map_err(said)? else { return Ok(()) };
        let append = Append::to(&lane.project, stream::lane(lane))
            .row("reuse", key.as_str().unwrap_or_default(), None)
            .row("change", last, None);
        store.append(append).await.map_err(said).map(drop)
    }

    async fn settle(&self, project: &ProjectName, change: &ChangeId, record: &ChangeRecord) -> Outcome {
        let so_far = advance(record);
        let state = if record.cancelled && !so_far.done { None } else { ended(record, &so_far) };
        let state = match state {
            Some((ChangeState::Failed, _)) if record.cancelled => {
                Some((ChangeState::Cancelled, "by command".to_owned()))
            }
            other => other,
        };
        let Some((state, reason)) = state.filter(|state| record.ended.as_ref().is_none_or(|ended| ended.0 != state.0))
        else {
            return Ok(());
        };
        let body = Body::ChangeEnded { state, reason };
        let append = Append::to(project, stream::change(change)).fact(NewFact::new(Some(change.clone()), body));
        self.stages().store.append(append).await.map_err(said).map(drop)
    }

    /// A change that says it is the fix and makes no release in a lane ends the hold there: what waits may go on.
    async fn end_holds(&self, project: &ProjectName, change: &ChangeId) -> Outcome {
        let Some(planned) = self.planned(project, change).await? else { return Ok(()) };
        if !planned.info.production || (planned.info.fixes.is_empty() && planned.info.reverts.is_empty()) {
            return Ok(());
        }
        for lane in self.lanes().into_iter().filter(|lane| &lane.project == project) {
            let release = planned.plan.item(&ItemId::release(&lane.service));
            if release.is_none_or(|item| item.decision != Decision::Run) {
                self.stages().releases.end_holds(&lane, &planned.info).await.map_err(said)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn gate(&self, lane: &Lane) -> Outcome {
        let record = self.stages().releases.record(lane).await.map_err(said)?;
        let planned = match record.candidate.as_ref().and_then(|candidate| candidate.change.clone()) {
            Some(change) => self.planned(&lane.project, &change).await?,
            None => None,
        };
        self.stages().releases.gate(lane, planned.as_ref()).await.map_err(said).map(drop)
    }

    async fn gate_others(&self, lane: &Lane) -> Outcome {
        let others: Vec<Lane> = self
            .lanes()
            .into_iter()
            .filter(|other| {
                other.project == lane.project && other.service == lane.service && other.environment != lane.environment
            })
            .collect();
        for other in others {
            self.gate(&other).await?;
        }
        self.gate_who_needs(lane).await
    }

    /// Services that wait for this one in the same environment ask again.
    async fn gate_who_needs(&self, lane: &Lane) -> Outcome {
        let is_near = |other: &Lane| {
            other.project == lane.project && other.environment == lane.environment && other.service != lane.service
        };
        for other in self.lanes().into_iter().filter(is_near) {
            let record = self.stages().releases.record(&other).await.map_err(said)?;
            if matches!(&record.gate, Some(Gate::Wait { reason, .. }) if reason.starts_with(NEEDS)) {
                self.gate(&other).await?;
            }
        }
        Ok(())
    }

    // A fact that is handed out again after a crash may be about a rollout that ended meanwhile.
    async fn deliver_to(&self, lane: &Lane, rollout: &RolloutId, event: Event) -> Outcome {
        let record = self.stages().rollouts.record(lane).await.map_err(said)?;
        if record.state.is_some_and(|state| &state.head.id == rollout) {
            return self.deliver(lane, event).await;
        }
        Ok(())
    }

    async fn judge(&self, lane: &Lane, rollout: &RolloutId, step: u32) -> Outcome {
        let record = self.stages().rollouts.record(lane).await.map_err(said)?;
        let is_meant = |state: &slipway_rollout::State| {
            &state.head.id == rollout && state.step == step && !state.phase.is_final() && !state.phase.is_return()
        };
        let Some(state) = record.state.filter(is_meant) else { return Ok(()) };
        let Some(release) = self.release(lane, &state.head.to.id).await? else { return Ok(()) };
        let moved = RolloutMoved {
            head: state.head.clone(),
            phase: state.phase,
            reason: state.reason.clone(),
            waits_until: None,
            steps: state.steps.clone(),
            weights: Vec::new(),
            incident: state.incident,
            smoke_only: state.smoke_only,
            record: serde_json::Value::Null,
        };
        let wake = self.stages().verify.wanted(&moved, step, &release).await.map_err(said)?;
        self.inner.timers.set(lane, Purpose::Judge, wake);
        Ok(())
    }

    pub(crate) async fn capture(&self, moved: &RolloutMoved) -> Outcome {
        let lane = &moved.head.lane;
        let Some(bad) = self.release(lane, &moved.head.to.id).await? else {
            return self.deliver(lane, Event::Captured).await;
        };
        let good = match &moved.head.from {
            Some(from) => self.release(lane, &from.id).await?,
            None => None,
        };
        let verdict = self.failing_verdict(moved).await?;
        self.stages().verify.capture(moved, &bad, good.as_ref(), verdict).await.map_err(said)
    }

    async fn failing_verdict(&self, moved: &RolloutMoved) -> Result<Option<Verdict>, String> {
        let lane = &moved.head.lane;
        let facts = self.stages().store.load(&lane.project, &stream::verdict(lane), 0).await.map_err(said)?;
        let newest = facts.into_iter().rev().find_map(|fact| match fact.body {
            Body::VerdictGiven { rollout, verdict, .. } if rollout == moved.head.id => Some(*verdict),
            _ => None,
        });
        Ok(newest)
    }

    pub(crate) async fn release(&self, lane: &Lane, id: &ReleaseId) -> Result<Option<Release>, String> {
        self.stages().releases.find(&lane.project, &lane.service, id).await.map_err(said)
    }

    pub(crate) async fn observe(&self, lane: &Lane) -> Result<Option<LaneSeen>, String> {
        self.stages().rollouts.observe(lane).await.map_err(said)
    }
}

fn verdict_event(step: u32, verdict: &Verdict) -> Event {
    Event::Verdict { step, kind: verdict.kind, sentence: verdict.sentence.clone(), tipped_at: verdict.tipped_at }
}
