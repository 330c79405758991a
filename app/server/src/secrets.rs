//! Secrets, sealed in the journal's index (R517).
//!
//! In: values from standard input or files, by way of the API. Out: values for instances and jobs. Never: a value in
//! a fact, a list, a log.

use serde::{Deserialize, Serialize};
use slipway_model::{At, EnvironmentName, ProjectName, Secret};
use slipway_ports::{Append, Fut, Secrets, Store};
use slipway_vault::Vault;
use std::sync::Arc;

/// A secret's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Its version, from 1.
    pub version: u64,
    /// When it was set.
    pub set: At,
    /// By whom.
    pub by: String,
    /// The sealed value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sealed: String,
}

/// Secrets of all projects.
pub struct SealedSecrets {
    store: Arc<dyn Store>,
    master: Vault,
}

// Jobs have no environment; what they may read is kept under a name that no environment can have.
fn key(environment: Option<&EnvironmentName>, name: &str) -> String {
    match environment {
        Some(environment) => format!("{environment}/{name}"),
        None => format!("-/{name}"),
    }
}

impl SealedSecrets {
    /// Secrets in this journal, under this master key.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, master: Vault) -> SealedSecrets {
        SealedSecrets { store, master }
    }

    async fn data_key(&self, project: &ProjectName) -> Result<Vault, String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let row = self.store.row(project, "key", "data").await.map_err(|error| said(&error))?;
        let sealed = match row.as_ref().and_then(|row| row.as_str()) {
            Some(sealed) => sealed.to_owned(),
            None => {
                let sealed = self.master.new_data_key(project.as_str()).map_err(|error| said(&error))?;
                let append = Append::to(project, "secrets").row("key", "data", Some(serde_json::json!(sealed)));
                self.store.append(append).await.map_err(|error| said(&error))?;
                sealed
            }
        };
        self.master.data_key(project.as_str(), &sealed).map_err(|error| said(&error))
    }

    /// Sets a secret; a new version each time.
    ///
    /// # Errors
    /// When the journal or the vault fails.
    pub async fn set(
        &self,
        project: &ProjectName,
        environment: Option<&EnvironmentName>,
        name: &str,
        value: &[u8],
        by: &str,
        now: At,
    ) -> Result<u64, String> {
        let key = key(environment, name);
        let sealed = self.data_key(project).await?.seal(&key, value).map_err(|error| error.to_string())?;
        let version = self.read(project, &key).await?.map_or(0, |record| record.version) + 1;
        let record = SecretRecord { version, set: now, by: by.to_owned(), sealed };
        let value = serde_json::to_value(record).unwrap_or_default();
        let append = Append::to(project, "secrets").row("secret", key, Some(value));
        self.store.append(append).await.map_err(|error| error.to_string())?;
        Ok(version)
    }

    /// Removes a secret. False when there was none.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn remove(
        &self,
        project: &ProjectName,
        environment: Option<&EnvironmentName>,
        name: &str,
    ) -> Result<bool, String> {
        let key = key(environment, name);
        if self.read(project, &key).await?.is_none() {
            return Ok(false);
        }
        let append = Append::to(project, "secrets").row("secret", key, None);
        self.store.append(append).await.map_err(|error| error.to_string())?;
        Ok(true)
    }

    /// Names and versions, never values: `production/DB` or, for jobs, `-/TOKEN`.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn list(&self, project: &ProjectName) -> Result<Vec<(String, SecretRecord)>, String> {
        let rows = self.store.rows(project, "secret", "").await.map_err(|error| error.to_string())?;
        let bare = |value| {
            let record: SecretRecord = serde_json::from_value(value).ok()?;
            Some(SecretRecord { sealed: String::new(), ..record })
        };
        Ok(rows.into_iter().filter_map(|(key, value)| Some((key, bare(value)?))).collect())
    }

    async fn read(&self, project: &ProjectName, key: &str) -> Result<Option<SecretRecord>, String> {
        let row = self.store.row(project, "secret", key).await.map_err(|error| error.to_string())?;
        Ok(row.and_then(|value| serde_json::from_value(value).ok()))
    }
}

impl Secrets for SealedSecrets {
    fn value(
        &self,
        project: &ProjectName,
        environment: Option<&EnvironmentName>,
        name: &str,
    ) -> Fut<'_, Result<Option<Secret>, String>> {
        let (project, key) = (project.clone(), key(environment, name));
        Box::pin(async move {
            let Some(record) = self.read(&project, &key).await? else { return Ok(None) };
            let vault = self.data_key(&project).await?;
            vault.unseal(&key, &record.sealed).map(Some).map_err(|error| error.to_string())
        })
    }
}
