//! `approve` and `reject`: a person's word about a release that waits.
//!
//! In: a WHAT and who says it. Out: acts for the lanes that ask for exactly that. Never: a yes that is recorded and
//! means nothing.

use crate::api::shown;
use crate::commands::{Act, Asked, bare};
use crate::{Caller, Problem, Server};
use http::StatusCode;
use slipway_model::fact::{Command, Gate};
use slipway_model::{Lane, ProjectName};
use slipway_release::agree::Bar;
use slipway_release::record::LaneRecord;

impl Server {
    pub(crate) async fn consent(
        &self,
        project: &ProjectName,
        asked: &Asked,
        caller: &Caller,
    ) -> Result<Vec<Act>, Problem> {
        let releases = self.releases_of(project, &asked.what).await?;
        let mut acts = Vec::new();
        let mut other = None;
        for release in &releases {
            for lane in self.lanes(project, Some(&release.bundle.service), asked.env.as_deref()) {
                let record = self.gates(&lane).await?;
                let asks = record.candidate.as_ref().is_some_and(|candidate| candidate.release == release.id);
                if !asks || !record.is_waiting() {
                    continue;
                }
                let barred = match asked.verb.as_str() {
                    "approve" => self.barred(&lane, &release.title(), &caller.name).await?,
                    _ => None,
                };
                if let Some((why, next)) = not_asked(&asked.verb, &record, &caller.name).or(barred) {
                    let said = format!("{} {} r{} {why}", lane.environment, lane.service, release.number);
                    other = Some((said, next));
                    continue;
                }
                let change = record.candidate.and_then(|candidate| candidate.change);
                let command = Command {
                    release: Some(release.id.clone()),
                    service: Some(lane.service.clone()),
                    reason: asked.reason.clone(),
                    ..bare(&asked.verb, &asked.what, Some(lane.environment.clone()))
                };
                acts.push(Act {
                    sentence: format!("{} {} for {}", asked.verb, release.title(), lane.environment),
                    change,
                    command,
                });
            }
        }
        if acts.is_empty() {
            let nothing = || (format!("nothing of `{}` waits for approval", shown(&asked.what)), None);
            let (detail, next) = other.unwrap_or_else(nothing);
            let hint = next.unwrap_or_else(|| "slipway status shows what waits".into());
            return Err(Problem::new(StatusCode::CONFLICT, "nothing-waits", detail).hint(hint));
        }
        Ok(acts)
    }

    /// Why this person's yes would not count, and who can say it: what the gates would find out, told before it is recorded.
    async fn barred(
        &self,
        lane: &Lane,
        title: &str,
        caller: &str,
    ) -> Result<Option<(String, Option<String>)>, Problem> {
        let bar = self.road().stages().releases.barred(lane, caller).await;
        let own = |did: &str| {
            let why = format!("may not be approved by `{caller}`, who {did} it (`approve: {{ author: false }}`)");
            let next = format!("somebody else who has the right `approve` can: slipway approve {title}");
            (why, Some(next))
        };
        Ok(bar.map_err(|error| Problem::broken(error.to_string()))?.map(|bar| match bar {
            Bar::NotNamed(names) => (format!("asks for {}", names.join(", ")), None),
            Bar::Pushed => own("pushed"),
            Bar::Wrote => own("wrote"),
        }))
    }
}

/// Why a yes would mean nothing now, and what to do instead: another thing is asked for, or it was said already.
fn not_asked(verb: &str, record: &LaneRecord, caller: &str) -> Option<(String, Option<String>)> {
    if verb == "reject" {
        return None;
    }
    if record.approvals.iter().any(|(actor, _)| actor.0 == caller) {
        return Some((format!("was approved by `{caller}` already; somebody else is asked for"), None));
    }
    match &record.gate {
        Some(Gate::Wait { next: Some(next), .. }) if asks_a_person(next) => None,
        Some(Gate::Wait { reason, next: Some(next), .. }) => {
            Some((format!("waits for something else: {reason}"), Some(next.clone())))
        }
        Some(Gate::Wait { reason, .. }) => Some((format!("does not ask for approval yet: {reason}"), None)),
        _ => Some(("has not been asked about yet".into(), None)),
    }
}

/// Whether the answer to a wait is a person's yes. A deployment by hand is another right.
fn asks_a_person(next: &str) -> bool {
    next.starts_with("slipway approve")
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_model::{Actor, At};

    fn waits(reason: &str, next: Option<&str>) -> LaneRecord {
        let gate = Gate::Wait { reason: reason.into(), who: None, until: None, next: next.map(ToOwned::to_owned) };
        LaneRecord { gate: Some(gate), ..LaneRecord::default() }
    }

    #[test]
    fn a_yes_counts_only_where_a_yes_is_asked_for_and_once() {
        let mut asks = waits("approval 1 of 2 by anybody", Some("slipway approve 1f3c9ab"));
        assert_eq!(not_asked("approve", &asks, "kim"), None);
        asks.approvals.push((Actor("kim".into()), At(1)));
        let (said, _) = not_asked("approve", &asks, "kim").unwrap();
        assert_eq!(said, "was approved by `kim` already; somebody else is asked for");
        assert_eq!(not_asked("approve", &asks, "lee"), None);
        let held = waits("it contains 1f3c9ab", Some("slipway unhold 1f3c9ab"));
        let (said, next) = not_asked("approve", &held, "kim").unwrap();
        assert_eq!(
            (said.as_str(), next.as_deref()),
            ("waits for something else: it contains 1f3c9ab", Some("slipway unhold 1f3c9ab"),)
        );
        assert_eq!(not_asked("reject", &held, "kim"), None, "a no counts always");
        let behind = waits("r2 has not been in staging yet", None);
        assert!(not_asked("approve", &behind, "kim").unwrap().0.starts_with("does not ask for approval yet"));
    }
}
