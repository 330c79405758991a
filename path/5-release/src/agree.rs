//! Whose yes counts (R347): the one rule of the gates, also asked before a yes is taken.
//!
//! In: what an environment asks for, who made what waits. Out: why somebody's yes does not count. Never: a second rule.

use crate::drive::{Planned, Releases};
use slipway_model::fact::Body;
use slipway_model::policy::Approval;
use slipway_model::{ChangeId, Lane, ProjectName};
use slipway_ports::StoreError;

/// Who wrote and who pushed what is in a release, by the names that commits and tokens give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Makers {
    /// Authors of the commits.
    pub authors: Vec<String>,
    /// Names of the tokens that pushed them.
    pub pushers: Vec<String>,
}

/// Why a yes does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    /// Others are asked for by name.
    NotNamed(Vec<String>),
    /// They wrote it.
    Wrote,
    /// They pushed it.
    Pushed,
}

/// Why this person's yes does not count here; where nothing is said about approvals, everybody's does.
#[must_use]
pub fn bar(approve: Option<&Approval>, makers: &Makers, name: &str) -> Option<Bar> {
    let approve = approve?;
    let is_in = |names: &[String]| names.iter().any(|one| one == name);
    if !approve.by.is_empty() && !is_in(&approve.by) {
        return Some(Bar::NotNamed(approve.by.clone()));
    }
    match (approve.author, is_in(&makers.pushers), is_in(&makers.authors)) {
        (true, ..) | (false, false, false) => None,
        (false, true, _) => Some(Bar::Pushed),
        (false, false, true) => Some(Bar::Wrote),
    }
}

impl Releases {
    /// Why this person's yes to what waits in a lane would not count.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn barred(&self, lane: &Lane, name: &str) -> Result<Option<Bar>, StoreError> {
        let Some(candidate) = self.record(lane).await?.candidate else { return Ok(None) };
        let planned = match &candidate.change {
            Some(change) => self.planned(&lane.project, change).await?,
            None => None,
        };
        let policy = self.policy(lane, planned.as_ref()).await?;
        let release = self.find(&lane.project, &lane.service, &candidate.release).await?;
        let made = self.made(&candidate, release.as_ref(), planned.as_ref()).await?;
        Ok(bar(policy.approve.as_ref(), &made.makers, name))
    }

    async fn planned(&self, project: &ProjectName, change: &ChangeId) -> Result<Option<Planned>, StoreError> {
        let (mut info, mut made) = (None, None);
        for fact in self.ports.store.of_change(project, change).await? {
            match fact.body {
                Body::ChangeReceived(received) => info = Some(received),
                Body::PlanMade { plan } => made = Some(*plan),
                _ => {}
            }
        }
        Ok(info.zip(made).map(|(info, plan)| Planned { info, plan }))
    }
}
