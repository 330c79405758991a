//! Secrets in memory.
//!
//! In: values by project, environment and name. Out: the Secrets port.

use crate::{Fut, Secrets};
use slipway_model::{EnvironmentName, ProjectName, Secret};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

type Name = (ProjectName, Option<EnvironmentName>, String);

/// Secrets in memory.
#[derive(Debug, Default)]
pub struct FakeSecrets {
    values: Mutex<BTreeMap<Name, Secret>>,
}

impl FakeSecrets {
    /// Gives a secret a value.
    pub fn set(&self, project: &ProjectName, environment: Option<&EnvironmentName>, name: &str, value: &str) {
        let key = (project.clone(), environment.cloned(), name.to_owned());
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.insert(key, Secret(value.as_bytes().to_vec()));
    }
}

impl Secrets for FakeSecrets {
    fn value(
        &self,
        project: &ProjectName,
        environment: Option<&EnvironmentName>,
        name: &str,
    ) -> Fut<'_, Result<Option<Secret>, String>> {
        let key = (project.clone(), environment.cloned(), name.to_owned());
        let value = self.values.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        Box::pin(async move { Ok(value) })
    }
}
