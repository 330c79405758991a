//! In: the keys `env` and `secrets`. Out: names and values, with what each
//! environment overrides. Never a secret's value.

use std::collections::BTreeMap;

use crate::model::{PerEnvironment, SecretPlace, SecretUse, Spanned};
use crate::nearest;
use crate::problem::quoted;
use crate::read::{Reader, Section};
use crate::yaml::{Entry, Kind, Node};

/// The most variables in one place.
const VARIABLES_MAX: usize = 500;

const SECRET: Section = Section { what: "a secret", read: &["name", "as"], later: &[] };

impl Reader<'_> {
    /// Names and values of a job, a step or an environment.
    pub(crate) fn values(&mut self, node: &Node) -> BTreeMap<String, Spanned<String>> {
        let mut values = BTreeMap::new();
        for entry in self.variables(node) {
            if let Some(value) = self.value(&entry.value, &entry.key) {
                values.insert(entry.key.clone(), value);
            }
        }
        values
    }

    /// Names and values of a service: `NAME: value`, or
    /// `NAME: { default: value, ENVIRONMENT: value }`.
    pub(crate) fn layered_values(&mut self, node: &Node) -> BTreeMap<String, PerEnvironment<String>> {
        let mut values = BTreeMap::new();
        for entry in self.variables(node) {
            if entry.key == "PORT" {
                let hint = "remove it and write `port:` at the service";
                self.error(entry.key_at, "`PORT` is set by `port:`", Some(hint));
                continue;
            }
            let value = self.layered(&entry.value, &entry.key, |reader, node, key| reader.value(node, key));
            values.insert(entry.key.clone(), value);
        }
        values
    }

    /// One value for all environments, or a table by environment.
    pub(crate) fn layered<T>(
        &mut self,
        node: &Node,
        key: &str,
        mut read: impl FnMut(&mut Self, &Node, &str) -> Option<Spanned<T>>,
    ) -> PerEnvironment<T> {
        let mut layers = PerEnvironment { default: None, overrides: BTreeMap::new() };
        let Kind::Map(entries) = &node.kind else {
            layers.default = read(self, node, key);
            return layers;
        };
        for entry in entries {
            if entry.key == "default" {
                layers.default = read(self, &entry.value, key);
            } else if self.environment_known(entry)
                && let Some(value) = read(self, &entry.value, key)
            {
                layers.overrides.insert(entry.key.clone(), value);
            }
        }
        layers
    }

    /// The names of secrets, each handed over as a file.
    pub(crate) fn secrets(&mut self, node: &Node) -> Vec<Spanned<SecretUse>> {
        if matches!(node.kind, Kind::Map(_)) {
            let hint = "write `secrets: [NAME]`; values are set with `slipway secret`";
            self.error(node.at, "`secrets` takes names, not values", Some(hint));
            return Vec::new();
        }
        let Some(items) = self.one_or_more(node, "secrets") else {
            return Vec::new();
        };
        let mut secrets: Vec<Spanned<SecretUse>> = Vec::new();
        for item in items {
            let Some(secret) = self.secret(item) else {
                continue;
            };
            if secrets.iter().any(|known| known.value.name == secret.name) {
                let message = format!("{} is named twice", quoted(&secret.name));
                self.error(item.at, &message, Some("name it once"));
                continue;
            }
            secrets.push(Spanned::new(secret, item.at));
        }
        secrets
    }

    fn secret(&mut self, node: &Node) -> Option<SecretUse> {
        if !matches!(node.kind, Kind::Map(_)) {
            let name = self.text(node, "secrets")?;
            let good = self.secret_name(&name.value, name.at);
            return good.then_some(SecretUse { name: name.value, place: SecretPlace::File });
        }
        let table = self.table(node, &SECRET)?;
        if let Some(node) = table.get("as") {
            self.word(node, "as", &["file"], &["env"])?;
        }
        let Some(name) = table.get("name") else {
            self.error(node.at, "a secret needs a `name`", None);
            return None;
        };
        let name = self.text(name, "name")?;
        let good = self.secret_name(&name.value, name.at);
        good.then_some(SecretUse { name: name.value, place: SecretPlace::File })
    }

    /// A value is the text as written, also an empty one in quotes.
    fn value(&mut self, node: &Node, key: &str) -> Option<Spanned<String>> {
        match &node.kind {
            Kind::Null => {
                let message = format!("{} has no value", quoted(key));
                self.error(node.at, &message, Some("write `\"\"` for an empty one"));
                None
            }
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => {
                let (text, _) = self.scalar(node, key)?;
                Some(Spanned::new(text.to_owned(), node.at))
            }
        }
    }

    fn variables<'n>(&mut self, node: &'n Node) -> Vec<&'n Entry> {
        let Some(entries) = self.entries(node, "`env`") else {
            return Vec::new();
        };
        if entries.len() > VARIABLES_MAX {
            let message = format!("`env` has more than {VARIABLES_MAX} entries");
            self.error(node.at, &message, None);
        }
        let mut good = Vec::new();
        for entry in entries.iter().take(VARIABLES_MAX) {
            if self.variable(&entry.key, entry.key_at) {
                good.push(entry);
            }
        }
        good
    }

    fn environment_known(&mut self, entry: &Entry) -> bool {
        let hint = match &self.environments {
            None => return true,
            Some(known) if known.contains(&entry.key) => return true,
            Some(known) => {
                let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
                names.push("default");
                nearest::hint(&entry.key, &names)
            }
        };
        let message = format!("unknown environment {}", quoted(&entry.key));
        self.error(entry.key_at, &message, hint.as_deref());
        false
    }
}
