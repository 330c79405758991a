//! In: the whole configuration. Out: problems of `needs`, which name other
//! services and jobs. Never changes what was read.

use std::collections::BTreeSet;

use crate::model::{Config, Position, Spanned, Work};
use crate::nearest;
use crate::problem::quoted;
use crate::read::Reader;
use crate::read::jobs::{RECOGNISED, RECOGNISED_NOW};
use crate::read::order::{self, Before};
use crate::yaml::{Kind, Node};

/// What a `needs` of a job means.
enum Meaning {
    /// A job of the file, by its id.
    Job(String),
    /// A job that is recognised without being written.
    Recognised,
    /// A recognised job that this version does not make.
    NotYet,
    /// A job of the file that is switched off.
    Off,
    /// The name of a service.
    Service,
    /// Nothing.
    Unknown,
}

/// Checks all `needs`. A section that is unreadable has said so already; what
/// refers into it is then not judged.
pub(crate) fn needs(reader: &mut Reader<'_>, config: &Config, root: &Node) {
    let written = names_written(root, "services");
    service_needs(reader, config, &written);
    job_needs(reader, config, &written);
}

/// The services of the file, also those that were refused.
fn names_written(root: &Node, key: &str) -> BTreeSet<String> {
    let Kind::Map(entries) = &root.kind else {
        return BTreeSet::new();
    };
    match entries.iter().find(|entry| entry.key == key) {
        Some(entry) => match &entry.value.kind {
            Kind::Map(inner) => inner.iter().map(|entry| entry.key.clone()).collect(),
            Kind::Null | Kind::Scalar { .. } | Kind::List(_) => BTreeSet::new(),
        },
        None => BTreeSet::new(),
    }
}

fn service_needs(reader: &mut Reader<'_>, config: &Config, written: &BTreeSet<String>) {
    let names: Vec<&str> = written.iter().map(String::as_str).collect();
    let mut before = Before::new();
    for (name, service) in &config.services {
        let mut known = BTreeSet::new();
        for need in service.needs.iter().flat_map(|needs| &needs.value) {
            if written.contains(&need.value) {
                known.insert(need.value.clone());
                continue;
            }
            let message = format!("unknown service {}", quoted(&need.value));
            let hint = nearest::hint(&need.value, &names);
            reader.error(need.at, &message, hint.as_deref());
        }
        before.insert(name.clone(), known);
    }
    for circle in order::circles(&before) {
        let message = format!("services need each other: {}", order::shown(&circle));
        let needs =
            circle.first().and_then(|name| config.services.get(name)).and_then(|service| service.needs.as_ref());
        let at = place(needs, circle.get(1).or(circle.first()));
        reader.error(at, &message, Some("remove one `needs`"));
    }
}

fn job_needs(reader: &mut Reader<'_>, config: &Config, services: &BTreeSet<String>) {
    let mut before = Before::new();
    for (id, job) in config.all_jobs() {
        let scope = id.split_once('/').map(|(service, _)| service);
        let mut known = BTreeSet::new();
        for need in job.needs.iter().flat_map(|needs| &needs.value) {
            match meaning(config, services, scope, &need.value) {
                Meaning::Job(id) => {
                    known.insert(id);
                }
                Meaning::Recognised => {}
                Meaning::NotYet => {
                    let what = format!("the recognised job {}", need.value);
                    reader.not_yet(need.at, &what);
                }
                Meaning::Off => {
                    let message = format!("the job {} is switched off", quoted(&need.value));
                    reader.error(need.at, &message, Some("remove it here"));
                }
                Meaning::Service => {
                    let message = format!("{} is a service, not a job", quoted(&need.value));
                    let hint = format!("did you mean `{}/test`?", need.value);
                    reader.error(need.at, &message, Some(&hint));
                }
                Meaning::Unknown => unknown_job(reader, config, scope, need),
            }
        }
        before.insert(id, known);
    }
    for circle in order::circles(&before) {
        let message = format!("jobs need each other: {}", order::shown(&circle));
        let needs = circle.first().and_then(|id| config.job(id)).and_then(|job| job.needs.as_ref());
        let next = circle.get(1).or(circle.first());
        let at = place(needs, next);
        reader.error(at, &message, Some("remove one `needs`"));
    }
}

fn unknown_job(reader: &mut Reader<'_>, config: &Config, scope: Option<&str>, need: &Spanned<String>) {
    let jobs = config.all_jobs();
    let mut names: Vec<&str> = jobs.iter().map(|(id, _)| id.as_str()).collect();
    if let Some(service) = scope.and_then(|name| config.services.get(name)) {
        names.extend(service.jobs.keys().map(String::as_str));
    }
    names.extend(RECOGNISED_NOW);
    let message = format!("unknown job {}", quoted(&need.value));
    let hint = nearest::hint(&need.value, &names);
    reader.error(need.at, &message, hint.as_deref());
}

/// Where among these needs the next one of a circle is named.
fn place(needs: Option<&Spanned<Vec<Spanned<String>>>>, next: Option<&String>) -> Position {
    let Some(needs) = needs else {
        return Position::default();
    };
    let named = needs.value.iter().find(|need| {
        next.is_some_and(|next| {
            let short = next.rsplit('/').next();
            need.value == *next || short == Some(need.value.as_str())
        })
    });
    named.map_or(needs.at, |need| need.at)
}

/// The id of the job that a name means within this scope, if the file has it:
/// one of the same service first, then one of the project.
pub(crate) fn job_id(config: &Config, scope: Option<&str>, name: &str) -> Option<String> {
    if name.contains('/') {
        return config.job(name).map(|_| name.to_owned());
    }
    if let Some(service) = scope
        && config.services.get(service).is_some_and(|entry| entry.jobs.contains_key(name))
    {
        return Some(format!("{service}/{name}"));
    }
    config.jobs.contains_key(name).then(|| name.to_owned())
}

fn meaning(config: &Config, services: &BTreeSet<String>, scope: Option<&str>, name: &str) -> Meaning {
    if let Some(id) = job_id(config, scope, name) {
        let off = config.job(&id).is_some_and(|job| job.work == Work::Off);
        return if off { Meaning::Off } else { Meaning::Job(id) };
    }
    let (service, short) = match name.split_once('/') {
        Some((service, short)) => (Some(service), short),
        None => (None, name),
    };
    let reachable = service.is_none_or(|service| services.contains(service));
    if reachable && RECOGNISED_NOW.contains(&short) {
        Meaning::Recognised
    } else if reachable && RECOGNISED.contains(&short) {
        Meaning::NotYet
    } else if services.contains(name) {
        Meaning::Service
    } else {
        Meaning::Unknown
    }
}
