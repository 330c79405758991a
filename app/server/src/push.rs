//! Pushes: judged before refs move, followed in the pusher's terminal afterwards.
//!
//! In: hook calls. Out: refusals, changes, lines as facts happen. Never: a line held back; work that stops because
//! the watcher went away.

use crate::Server;
use slipway_change::Road;
use slipway_feedback::Follow;
use slipway_feedback::lane::LaneState;
use slipway_feedback::lines::is_last_word;
use slipway_git::{HookCall, HookKind, HookListener, Oid};
use slipway_model::fact::{ChangeInfo, Fact};
use slipway_model::{ChangeId, CommitId, ProjectName};
use slipway_ports::RepoError;
use slipway_ports::repository::FILE_BYTES_MAX;
use slipway_source::RefMove;
use slipway_source::decide::{branch_of, is_detached, is_quiet, unknown_options};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// After so much silence a heartbeat says what runs.
const SILENCE_MS: u64 = 10_000;

/// Answers hook calls until the listener ends.
pub async fn serve_hooks(server: Server, mut hooks: HookListener) {
    while let Some(call) = hooks.next().await {
        let server = server.clone();
        tokio::spawn(async move {
            let Ok(project) = ProjectName::parse(call.project.as_str()) else {
                let _ = call.line("error: this repository's name is no project name").await;
                let _ = call.end(1).await;
                return;
            };
            match call.kind {
                HookKind::PreReceive => judge(&server, &project, call).await,
                HookKind::PostReceive => follow(&server, &project, call).await,
            }
        });
    }
}

fn moves(call: &HookCall) -> Vec<RefMove> {
    let commit = |oid: Option<Oid>| oid.and_then(|oid| CommitId::parse(&oid.to_string()).ok());
    call.refs
        .iter()
        .map(|update| RefMove { name: update.name.to_string(), old: commit(update.old), new: commit(update.new) })
        .collect()
}

async fn branches(call: &HookCall) -> Vec<String> {
    let refs = call.objects.refs().await.unwrap_or_default();
    let known = refs.iter().filter_map(|entry| branch_of(entry.name.as_ref()).map(ToOwned::to_owned));
    let new = call.refs.iter().filter_map(|update| branch_of(update.name.as_ref()).map(ToOwned::to_owned));
    known.chain(new).collect()
}

async fn judge(server: &Server, project: &ProjectName, call: HookCall) {
    let moves = moves(&call);
    let branches = branches(&call).await;
    let objects = call.objects.clone();
    let text = move |commit: CommitId| {
        let objects = objects.clone();
        async move {
            let oid = Oid::parse(commit.as_str()).map_err(|error| RepoError::new(error.to_string()))?;
            let read = objects.read(oid, slipway_plan::drive::FILE, FILE_BYTES_MAX).await;
            read.map_err(|error| match error {
                slipway_git::GitError::TooLarge { .. } => RepoError::too_large(slipway_plan::drive::FILE),
                other => RepoError::new(other.to_string()),
            })
        }
    };
    let admitted = server.road().stages().source.admit(project, &moves, &branches, text).await;
    let code = match admitted {
        Ok(()) => {
            make_ready(server, &call);
            0
        }
        Err(refusal) => {
            for line in &refusal.0 {
                if call.line(line).await.is_err() {
                    break;
                }
            }
            1
        }
    };
    let _ = call.end(code).await;
}

/// A push of one branch will most likely want its files: their checkout is made while Git stores the push.
fn make_ready(server: &Server, call: &HookCall) {
    if let [update] = call.refs.as_slice()
        && let (Some(new), Some(_)) = (update.new, branch_of(update.name.as_ref()))
    {
        server.parts.git.make_ready(&call.project, new, &call.objects);
    }
}

async fn follow(server: &Server, project: &ProjectName, call: HookCall) {
    let since = server.now();
    // Listening begins before the first fact can happen, so that none is missed.
    let live = server.road().live();
    let moves = moves(&call);
    let branches = branches(&call).await;
    let pusher = call.pusher.clone().unwrap_or_else(|| "somebody on this machine".into());
    for option in unknown_options(&call.options) {
        let _ = call.line(&format!("         push option `{option}` is not known and means nothing")).await;
    }
    let received = server.road().stages().source.receive(project, &moves, &pusher, &call.options, &branches).await;
    let changes = match received {
        Ok(changes) => changes,
        Err(error) => {
            let _ =
                call.line(&format!("         stored, but not yet taken up: {error}; it is taken up by itself")).await;
            let _ = call.end(0).await;
            return;
        }
    };
    if is_detached(&call.options) {
        for change in &changes {
            let short = change.commit.short();
            let _ = call
                .line(&format!(
                    "         {short} on {} is taken up; follow it with `slipway watch {short}`",
                    change.branch
                ))
                .await;
        }
        let _ = call.end(0).await;
        return;
    }
    let following = Following {
        server,
        project,
        call: &call,
        quiet: is_quiet(&call.options),
        follows: follows(&changes, since, is_quiet(&call.options)),
        seen: 0,
        told: BTreeSet::new(),
    };
    following.run(live).await;
    let _ = call.end(0).await;
}

fn follows(changes: &[ChangeInfo], since: slipway_model::At, quiet: bool) -> BTreeMap<ChangeId, Follow> {
    changes.iter().map(|change| (change.id.clone(), Follow::new(since).quietly(quiet))).collect()
}

struct Following<'a> {
    server: &'a Server,
    project: &'a ProjectName,
    call: &'a HookCall,
    quiet: bool,
    follows: BTreeMap<ChangeId, Follow>,
    seen: u64,
    /// What was said once of what keeps a rollout from going on.
    told: BTreeSet<String>,
}

impl Following<'_> {
    async fn run(mut self, mut live: broadcast::Receiver<Arc<Fact>>) {
        while !self.follows.is_empty() {
            let silence = self.server.road().stages().clock.sleep(SILENCE_MS);
            tokio::select! {
                () = self.call.cancelled() => return,
                fact = live.recv() => match fact {
                    Ok(fact) => {
                        if !self.say(&fact).await {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {
                        if !self.catch_up().await {
                            return;
                        }
                    }
                    Err(RecvError::Closed) => return,
                },
                () = silence => {
                    let now = self.server.now();
                    let mut beats: Vec<String> = self.follows.values().map(|follow| follow.heartbeat(now)).collect();
                    let why = self.not_ready();
                    beats.extend(why.iter().filter(|why| !self.told.contains(*why)).map(|why| format!("         {why}")));
                    self.told.extend(why);
                    let trouble = self.server.road().trouble();
                    beats.extend(trouble.map(|what| format!("         it is tried again until it works: {what}")));
                    for beat in beats {
                        if self.call.line(&beat).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// What keeps the rollouts of these changes from going on.
    fn not_ready(&self) -> Vec<String> {
        let ours = |lane: &&LaneState| lane.change().is_some_and(|change| self.follows.contains_key(change));
        self.server.road().look(|projection| {
            let lanes = projection.projects.get(self.project).into_iter().flat_map(|state| state.lanes.values());
            lanes.filter(ours).filter_map(LaneState::not_ready).collect()
        })
    }

    /// Prints what a fact says; false when nobody listens any more.
    async fn say(&mut self, fact: &Fact) -> bool {
        let Some(change) = fact.change.as_ref().filter(|_| &fact.project == self.project && fact.n > self.seen) else {
            return true;
        };
        let Some(follow) = self.follows.get_mut(change) else { return true };
        let url = self.server.parts.url.clone();
        let said = follow.take(fact, &*url);
        self.seen = fact.n;
        for line in said.lines.iter().filter(|line| !self.quiet || is_last_word(line)) {
            if self.call.line(line).await.is_err() {
                return false;
            }
        }
        if said.over.is_some() {
            self.follows.remove(change);
        }
        true
    }

    async fn catch_up(&mut self) -> bool {
        let changes: Vec<ChangeId> = self.follows.keys().cloned().collect();
        for change in changes {
            let facts = self.server.road().stages().store.of_change(self.project, &change).await.unwrap_or_default();
            for fact in facts {
                if !self.say(&fact).await {
                    return false;
                }
            }
        }
        true
    }
}

/// Receives what a lost hook left behind: refs whose commit the journal does not know.
///
/// # Errors
/// When the repositories cannot be listed.
pub async fn reconcile(road: &Road, git: &slipway_git::Git) -> Result<usize, String> {
    let mut found = 0;
    for name in git.projects().map_err(|error| error.to_string())? {
        let Ok(project) = ProjectName::parse(name.as_str()) else { continue };
        let view = git.view(&name).map_err(|error| error.to_string())?;
        let refs = view.refs().await.map_err(|error| error.to_string())?;
        let refs: Vec<(String, CommitId)> = refs
            .into_iter()
            .filter_map(|entry| Some((entry.name.to_string(), CommitId::parse(&entry.target.to_string()).ok()?)))
            .collect();
        let received = road.stages().source.reconcile(&project, &refs).await.map_err(|error| error.to_string())?;
        found += received.len();
    }
    Ok(found)
}
