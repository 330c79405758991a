//! Commands of people: recorded as facts first, then handed to the stage they are for.
//!
//! In: a command with its actor, rights checked by the caller. Out: `command.given` and what follows. Never: an
//! effect without that record (every act is audited).

use crate::drive::Road;
use crate::node::explained;
use slipway_model::fact::{Body, Candidate, Command, stream};
use slipway_model::release::Release;
use slipway_model::rollout::Purpose;
use slipway_model::{Actor, ChangeId, CommitId, Lane, NewFact, ProjectName, RunId};
use slipway_ports::Append;
use slipway_rollout::Event;

/// How long a command's answer waits for what follows from it.
const FOLLOWED_MS: u64 = 5_000;

impl Road {
    /// Records a command and returns its number. `change` is the one it is about, if it is about one.
    ///
    /// # Errors
    /// When the journal fails; nothing happens then.
    pub async fn give(
        &self,
        project: &ProjectName,
        actor: &Actor,
        change: Option<ChangeId>,
        command: Command,
    ) -> Result<u64, String> {
        let stream = match (&command.environment, &command.service, &change) {
            (Some(environment), Some(service), _) => stream::lane(&Lane {
                project: project.clone(),
                environment: environment.clone(),
                service: service.clone(),
            }),
            (_, _, Some(change)) => stream::change(change),
            _ => stream::COMMANDS.to_owned(),
        };
        let fact = NewFact::new(change, Body::CommandGiven(command)).by(actor.clone());
        let append = Append::to(project, stream).fact(fact);
        let appended = self.stages().store.append(append).await.map_err(|error| explained(&error))?;
        Ok(appended.facts.last().map_or(0, |fact| fact.n))
    }

    /// Returns when what follows at once from a command is recorded and seen by everybody who looks: whoever asks next
    /// sees the world after it. Not longer than a moment; the work itself goes on in any case.
    pub async fn followed(&self, command: u64) {
        let clock = &self.stages().clock;
        tokio::select! {
            () = self.inner.progress.carried_out(command) => {}
            () = clock.sleep(FOLLOWED_MS) => return,
        }
        let newest = *self.stages().store.newest().borrow();
        tokio::select! {
            () = self.inner.progress.read(newest) => {}
            () = clock.sleep(FOLLOWED_MS) => {}
        }
    }

    /// Carries out a command; `n` is its number, `change` the one that it was given to.
    pub(crate) async fn command(
        &self,
        project: &ProjectName,
        n: u64,
        change: Option<&ChangeId>,
        command: &Command,
        actor: &Actor,
    ) -> Result<(), String> {
        let lane = command.environment.clone().zip(command.service.clone()).map(|(environment, service)| Lane {
            project: project.clone(),
            environment,
            service,
        });
        match (command.verb.as_str(), lane) {
            ("deploy" | "promote", Some(lane)) => self.ask_by_hand(&lane, command, actor, Purpose::Deploy).await,
            ("rollback", Some(lane)) => self.ask_by_hand(&lane, command, actor, Purpose::Rollback).await,
            ("restart", Some(lane)) => self.restart(&lane, n, command, actor).await,
            ("abort", Some(lane)) => {
                self.deliver(&lane, Event::Abort { reason: reason(command, "aborted by command") }).await
            }
            ("hold", Some(lane)) => self.hold(&lane, command, true).await,
            ("unhold", Some(lane)) => self.hold(&lane, command, false).await,
            ("freeze" | "unfreeze", None) => self.freeze(project, command, actor).await,
            ("retry" | "cancel", None) => self.about_change(project, change, command).await,
            ("secret", None) => {
                for lane in self.lanes().into_iter().filter(|lane| &lane.project == project) {
                    self.regate(&lane).await?;
                }
                Ok(())
            }
            // Recorded for the audit; nothing follows.
            _ => Ok(()),
        }
    }

    async fn regate(&self, lane: &Lane) -> Result<(), String> {
        self.push(
            crate::road::Aggregate::Lane(lane.clone()),
            crate::drive::Work::Order(0, lane.project.clone(), crate::road::Order::Gate(lane.clone())),
        );
        Ok(())
    }

    async fn ask_by_hand(&self, lane: &Lane, command: &Command, actor: &Actor, purpose: Purpose) -> Result<(), String> {
        let Some(id) = &command.release else { return Ok(()) };
        let Some(release) = self.release(lane, id).await? else { return Ok(()) };
        self.ask(lane, &release, command, actor, purpose).await
    }

    /// New instances of what serves, by the same rolling update and verification as any other release.
    async fn restart(&self, lane: &Lane, n: u64, command: &Command, actor: &Actor) -> Result<(), String> {
        let Some(id) = &command.release else { return Ok(()) };
        let Some(release) = self.release(lane, id).await? else { return Ok(()) };
        let again = self.stages().releases.again(&release, n).await.map_err(|error| explained(&error))?;
        self.ask(lane, &again, command, actor, Purpose::Refresh).await
    }

    async fn ask(
        &self,
        lane: &Lane,
        release: &Release,
        command: &Command,
        actor: &Actor,
        purpose: Purpose,
    ) -> Result<(), String> {
        let id = &release.id;
        // A person who deploys what waits here means that one: its change goes on with it.
        let record = self.stages().releases.record(lane).await.map_err(|error| explained(&error))?;
        let waits = record.is_waiting() && purpose == Purpose::Deploy;
        let waiting = record.candidate.filter(|waiting| waiting.release == *id && waits);
        let candidate = Candidate {
            lane: lane.clone(),
            release: release.id.clone(),
            number: release.number,
            commit: command.commit.clone().unwrap_or_else(|| release.origin.commit.clone()),
            change: waiting.and_then(|waiting| waiting.change),
            purpose,
            by: if command.reason.is_empty() { actor.to_string() } else { format!("{actor}: {}", command.reason) },
            by_hand: true,
        };
        self.stages().releases.enqueue(candidate).await.map_err(|error| explained(&error))
    }

    /// Nothing new comes into an environment until somebody says otherwise; what waits for that goes on by itself then.
    async fn freeze(&self, project: &ProjectName, command: &Command, actor: &Actor) -> Result<(), String> {
        let Some(environment) = &command.environment else { return Ok(()) };
        let why = if command.reason.is_empty() { actor.to_string() } else { format!("{actor}: {}", command.reason) };
        let value = (command.verb == "freeze").then(|| serde_json::json!(why));
        let append = Append::to(project, stream::COMMANDS).row("frozen", environment.as_str(), value);
        self.stages().store.append(append).await.map_err(|error| explained(&error))?;
        for lane in self.lanes().into_iter().filter(|lane| &lane.project == project && &lane.environment == environment)
        {
            self.regate(&lane).await?;
        }
        Ok(())
    }

    async fn hold(&self, lane: &Lane, command: &Command, set: bool) -> Result<(), String> {
        let Some(commit) = command.commit.clone() else { return Ok(()) };
        let lane_of = lane.clone();
        let body = if set {
            Body::HoldSet { lane: lane_of, commit, reason: reason(command, "held by command") }
        } else {
            Body::HoldReleased { lane: lane_of, commit, reason: reason(command, "released by command") }
        };
        let append = Append::to(&lane.project, stream::lane(lane)).fact(NewFact::new(None, body));
        self.stages().store.append(append).await.map_err(|error| explained(&error))?;
        // Who was let in and has not begun is asked once more before its turn, which comes behind this.
        if set { self.gate(lane).await } else { Ok(()) }
    }

    async fn about_change(
        &self,
        project: &ProjectName,
        change: Option<&ChangeId>,
        command: &Command,
    ) -> Result<(), String> {
        // One commit may have come twice; it is about the one that it was given to.
        let change = match change {
            Some(change) => change.clone(),
            None => match self.change_of(project, command.commit.as_ref()).await? {
                Some(newest) => newest,
                None => return Ok(()),
            },
        };
        if command.verb == "cancel" {
            let record = self.change(project, &change).await?;
            let running = record.runs.iter().filter(|(item, (_, _, outcome))| {
                outcome.is_none() && command.item.as_ref().is_none_or(|wanted| wanted == *item)
            });
            let runs: Vec<RunId> = running.map(|(_, (run, ..))| run.clone()).collect();
            for run in runs {
                self.stages().jobs.cancel(&run).await;
            }
            if command.item.is_none() {
                self.stages().images.cancel(&change);
            }
        }
        self.advance(project, &change).await
    }

    /// The newest change of a commit.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn change_of(
        &self,
        project: &ProjectName,
        commit: Option<&CommitId>,
    ) -> Result<Option<ChangeId>, String> {
        let Some(commit) = commit else { return Ok(None) };
        let row = self
            .stages()
            .store
            .row(project, "change", &format!("commit/{commit}"))
            .await
            .map_err(|error| explained(&error))?;
        Ok(row.and_then(|value| serde_json::from_value(value).ok()))
    }
}

fn reason(command: &Command, otherwise: &str) -> String {
    if command.reason.is_empty() { otherwise.to_owned() } else { command.reason.clone() }
}
