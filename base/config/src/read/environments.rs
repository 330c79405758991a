//! In: the table `environments`. Out: one `Environment` per name, in
//! promotion order. Never invents one: the default is put in by `effective`.

use std::collections::BTreeSet;

use crate::model::{Approve, Deploy, Environment, Rolling, Spanned, Strategy};
use crate::problem::quoted;
use crate::read::quantities::DurationRule;
use crate::read::services::REPLICAS_MAX;
use crate::read::{Reader, Section, Table, order, verify};
use crate::units::{DAY, MINUTE};
use crate::yaml::{Entry, Kind, Node};

/// The most environments of one project.
const ENVIRONMENTS_MAX: usize = 100;

/// Names that mean something else in this place.
const RESERVED: &[&str] = &["base", "default"];

const ENVIRONMENT: Section = Section {
    what: "an environment",
    read: &["from", "deploy", "after", "approve", "strategy", "verify", "replicas", "env", "secrets", "retain"],
    later: &["soak", "window", "freeze", "target", "override", "base", "domain"],
};

const APPROVE: Section = Section { what: "`approve`", read: &["by", "count", "author", "expires"], later: &[] };

const STRATEGY: Section = Section { what: "`strategy`", read: &["rolling"], later: STRATEGIES_LATER };

const STRATEGIES_LATER: &[&str] = &["recreate", "canary", "blue-green", "blue_green", "shadow", "ab"];

const ROLLING: Section =
    Section { what: "`rolling`", read: &["max_surge", "max_unavailable", "maxSurge", "maxUnavailable"], later: &[] };

const EXPIRES: DurationRule = DurationRule { usual: "h", least: MINUTE, most: 90 * DAY };

/// The names of the environments of this file: what overrides may name.
/// `None` when the section is no table.
pub(crate) fn names(node: Option<&Node>) -> Option<BTreeSet<String>> {
    let alone = || BTreeSet::from(["production".to_owned()]);
    let Some(node) = node else {
        return Some(alone());
    };
    match &node.kind {
        Kind::Null => Some(alone()),
        Kind::Map(entries) if entries.is_empty() => Some(alone()),
        Kind::Map(entries) => Some(entries.iter().map(|entry| entry.key.clone()).collect()),
        Kind::Scalar { .. } | Kind::List(_) => None,
    }
}

/// All environments, in promotion order.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<Environment> {
    let mut environments = Vec::new();
    for entry in reader.named(node, "environments", ENVIRONMENTS_MAX) {
        if RESERVED.contains(&entry.key.as_str()) {
            let what = format!("an environment named {}", entry.key);
            reader.not_yet(entry.key_at, &what);
            continue;
        }
        environments.push(environment(reader, entry));
    }
    order::by_promotion(reader, environments)
}

fn environment(reader: &mut Reader<'_>, entry: &Entry) -> Environment {
    let mut environment = Environment { name: entry.key.clone(), at: entry.key_at, ..Environment::default() };
    let Some(table) = reader.table(&entry.value, &ENVIRONMENT) else {
        return environment;
    };
    gates(reader, &table, &mut environment);
    if let Some(node) = table.get("strategy") {
        environment.strategy = strategy(reader, node);
    }
    if let Some(node) = table.get("verify") {
        environment.verify = verify::read(reader, node);
    }
    if let Some(node) = table.get("replicas") {
        environment.replicas = reader.number(node, "replicas", 1, REPLICAS_MAX);
    }
    if let Some(node) = table.get("env") {
        environment.env = reader.values(node);
        if let Some(port) = environment.env.remove("PORT") {
            let hint = Some("remove it and write `port:` at the service");
            reader.error(port.at, "`PORT` is set by `port:`", hint);
        }
    }
    if let Some(node) = table.get("secrets") {
        environment.secrets = reader.secrets(node);
    }
    if let Some(node) = table.get("retain") {
        environment.retain = reader.number(node, "retain", 1, 1_000);
    }
    environment
}

fn gates(reader: &mut Reader<'_>, table: &Table<'_>, environment: &mut Environment) {
    if let Some(node) = table.get("from") {
        environment.from = reader.patterns(node, "from");
    }
    if let Some(node) = table.get("deploy") {
        let word = reader.word(node, "deploy", &["auto", "manual"], &[]);
        environment.deploy = word.map(|word| {
            let deploy = if word == "auto" { Deploy::Auto } else { Deploy::Manual };
            Spanned::new(deploy, node.at)
        });
    }
    if let Some(node) = table.get("after") {
        let after = reader.texts(node, "after");
        environment.after = after.map(|after| Spanned::new(after, node.at));
    }
    if let Some(node) = table.get("approve") {
        environment.approve = approve(reader, node);
    }
}

fn approve(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Approve>> {
    let mut approve = Approve::default();
    let table = reader.table(node, &APPROVE)?;
    if let Some(node) = table.get("by") {
        let by = reader.texts(node, "by").unwrap_or_default();
        if by.is_empty() {
            reader.error(node.at, "`by` names nobody", Some("name people or teams"));
        }
        let names = by.into_iter().map(|name| name.value).collect();
        approve.by = Some(Spanned::new(names, node.at));
    }
    if let Some(node) = table.get("count") {
        approve.count = reader.number(node, "count", 1, 100);
    }
    if let Some(node) = table.get("author") {
        approve.author = reader.boolean(node, "author");
    }
    if let Some(node) = table.get("expires") {
        approve.expires = reader.duration(node, "expires", &EXPIRES);
    }
    Some(Spanned::new(approve, node.at))
}

fn strategy(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Strategy>> {
    if !matches!(node.kind, Kind::Map(_)) {
        reader.word(node, "strategy", &["rolling"], STRATEGIES_LATER)?;
        let rolling = Strategy::Rolling(Rolling::default());
        return Some(Spanned::new(rolling, node.at));
    }
    let table = reader.table(node, &STRATEGY)?;
    let rolling = rolling(reader, table.get("rolling")?);
    Some(Spanned::new(Strategy::Rolling(rolling), node.at))
}

fn rolling(reader: &mut Reader<'_>, node: &Node) -> Rolling {
    let mut rolling = Rolling::default();
    let Some(table) = reader.table(node, &ROLLING) else {
        return rolling;
    };
    if let Some(node) = one_spelling(reader, &table, "max_surge", "maxSurge") {
        rolling.max_surge = reader.quantity(node, "max_surge");
    }
    if let Some(node) = one_spelling(reader, &table, "max_unavailable", "maxUnavailable") {
        rolling.max_unavailable = reader.quantity(node, "max_unavailable");
    }
    if let (Some(surge), Some(unavailable)) = (&rolling.max_surge, &rolling.max_unavailable)
        && surge.value.is_zero()
        && unavailable.value.is_zero()
    {
        let message = "`max_surge` and `max_unavailable` are both 0, so nothing could ever move";
        let hint = "let one of them be 1: surge needs room, unavailable costs capacity";
        reader.error(unavailable.at, message, Some(hint));
    }
    rolling
}

/// The Kubernetes spelling is accepted beside ours, but not together with it.
fn one_spelling<'n>(reader: &mut Reader<'_>, table: &Table<'n>, ours: &str, theirs: &str) -> Option<&'n Node> {
    let own = table.get(ours);
    let Some(entry) = table.entry(theirs) else {
        return own;
    };
    if own.is_some() {
        let message = format!("{} says the same as {}", quoted(theirs), quoted(ours));
        reader.error(entry.key_at, &message, Some("keep one of them"));
    }
    own.or(Some(&entry.value))
}
