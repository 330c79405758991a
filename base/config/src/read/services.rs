//! In: the table `services`. Out: one `Service` per name. Never looks whether
//! its folder exists.

use std::collections::BTreeMap;

use crate::model::{Build, Health, HealthCheck, Resources, Service, Signal, Spanned, Stop, StopBefore, TagForm};
use crate::problem::quoted;
use crate::read::quantities::DurationRule;
use crate::read::{Reader, Section, Table, jobs};
use crate::units::{DAY, HOUR, MINUTE};
use crate::yaml::{Entry, Kind, Node};

/// The most services of one project.
const SERVICES_MAX: usize = 1_000;

/// The most instances of one service.
pub(crate) const REPLICAS_MAX: u32 = 1_000;

const SERVICE: Section = Section {
    what: "a service",
    read: &[
        "path",
        "dockerfile",
        "port",
        "health",
        "command",
        "env",
        "secrets",
        "replicas",
        "resources",
        "build",
        "stop",
        "drain",
        "inputs",
        "needs",
        "jobs",
    ],
    later: &[
        "language",
        "static",
        "library",
        "schema",
        "schedule",
        "domain",
        "routes",
        "storage",
        "version",
        "singleton",
        "uses",
    ],
};

const HEALTH: Section = Section { what: "`health`", read: &["path", "command", "timeout", "interval"], later: &[] };

const RESOURCES: Section = Section { what: "`resources`", read: &["cpu", "memory", "processes"], later: &["disk"] };

const BUILD: Section = Section { what: "`build`", read: &["args", "target", "tag"], later: &[] };

const STOP: Section = Section { what: "`stop`", read: &["before", "signal", "grace"], later: &[] };

const DRAIN: Section = Section { what: "`drain`", read: &["timeout"], later: &["jobs"] };

const HEALTH_TIMEOUT: DurationRule = DurationRule { usual: "s", least: 1, most: 10 * MINUTE };

/// Zero is allowed: an instance without open work may end at once.
const ENDING: DurationRule = DurationRule { usual: "s", least: 0, most: DAY };

/// A check more often than every 10 ms only measures itself.
const HEALTH_INTERVAL: DurationRule = DurationRule { usual: "s", least: 10, most: HOUR };

/// All services of the file.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, Service> {
    let mut services = BTreeMap::new();
    for entry in reader.named(node, "services", SERVICES_MAX) {
        let service = service(reader, entry);
        services.insert(entry.key.clone(), service);
    }
    services
}

fn service(reader: &mut Reader<'_>, entry: &Entry) -> Service {
    let mut service = Service { at: entry.key_at, ..Service::default() };
    if matches!(entry.value.kind, Kind::Scalar { .. }) {
        service.path = reader.path(&entry.value, "path", ".");
        return service;
    }
    let Some(table) = reader.table(&entry.value, &SERVICE) else {
        return service;
    };
    service.path = table.get("path").and_then(|node| reader.path(node, "path", "."));
    let folder = match &service.path {
        Some(path) => path.value.clone(),
        None => entry.key.clone(),
    };
    if let Some(node) = table.get("dockerfile") {
        service.dockerfile = reader.path(node, "dockerfile", &folder);
    }
    if let Some(node) = table.get("inputs") {
        service.inputs = reader.paths(node, "inputs", &folder);
    }
    if let Some(node) = table.get("jobs") {
        service.jobs = jobs::read(reader, node, &folder);
    }
    runtime(reader, &table, &mut service);
    ending(reader, &table, &mut service);
    service
}

fn runtime(reader: &mut Reader<'_>, table: &Table<'_>, service: &mut Service) {
    if let Some(node) = table.get("port") {
        service.port = port(reader, node);
    }
    if let Some(node) = table.get("health") {
        service.health = health(reader, node);
    }
    if let Some(node) = table.get("command") {
        service.command = reader.command(node, "command");
    }
    if let Some(node) = table.get("env") {
        service.env = reader.layered_values(node);
    }
    if let Some(node) = table.get("secrets") {
        service.secrets = reader.secrets(node);
    }
    if let Some(node) = table.get("replicas") {
        service.replicas =
            reader.layered(node, "replicas", |reader, node, key| reader.number(node, key, 1, REPLICAS_MAX));
    }
    if let Some(node) = table.get("resources") {
        service.resources = resources(reader, node);
    }
    if let Some(node) = table.get("build") {
        service.build = build(reader, node);
    }
    if let Some(node) = table.get("needs") {
        let needs = reader.texts(node, "needs");
        service.needs = needs.map(|needs| Spanned::new(needs, node.at));
    }
}

fn ending(reader: &mut Reader<'_>, table: &Table<'_>, service: &mut Service) {
    if let Some(node) = table.get("stop") {
        service.stop = stop(reader, node);
    }
    let Some(node) = table.get("drain") else {
        return;
    };
    if matches!(node.kind, Kind::Scalar { .. }) {
        service.drain_timeout = reader.duration(node, "drain", &ENDING);
    } else if let Some(drain) = reader.table(node, &DRAIN)
        && let Some(node) = drain.get("timeout")
    {
        service.drain_timeout = reader.duration(node, "timeout", &ENDING);
    }
}

fn port(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<u16>> {
    let port = reader.number(node, "port", 1, u32::from(u16::MAX))?;
    let number = u16::try_from(port.value).ok()?;
    Some(Spanned::new(number, port.at))
}

fn health(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Health>> {
    let mut health = Health { check: None, timeout: None, interval: None };
    if matches!(node.kind, Kind::Scalar { .. }) {
        health.check = Some(health_path(reader, node, "health")?);
        return Some(Spanned::new(health, node.at));
    }
    let table = reader.table(node, &HEALTH)?;
    if let Some(node) = table.get("path") {
        health.check = health_path(reader, node, "path");
    }
    if let Some(entry) = table.entry("command") {
        let command = reader.command(&entry.value, "command");
        if table.get("path").is_some() {
            let hint = Some("keep `path` or `command`");
            reader.error(entry.key_at, "`health` is asked in two ways", hint);
        } else {
            health.check = command.map(|command| command.map(HealthCheck::Command));
        }
    }
    if let Some(node) = table.get("timeout") {
        health.timeout = reader.duration(node, "timeout", &HEALTH_TIMEOUT);
    }
    if let Some(node) = table.get("interval") {
        health.interval = reader.duration(node, "interval", &HEALTH_INTERVAL);
    }
    Some(Spanned::new(health, node.at))
}

/// `GET /health`, or the path alone.
fn health_path(reader: &mut Reader<'_>, node: &Node, key: &str) -> Option<Spanned<HealthCheck>> {
    let text = reader.text(node, key)?;
    let path = match text.value.split_once(' ') {
        Some(("GET", path)) => path.trim_start(),
        Some((method, _)) if method.bytes().all(|b| b.is_ascii_uppercase()) => {
            let message = format!("health is asked with `GET`, not {}", quoted(method));
            reader.error(text.at, &message, None);
            return None;
        }
        _ => text.value.as_str(),
    };
    let path = request_path(reader, &text, key, path)?;
    Some(Spanned::new(HealthCheck::Http(path), node.at))
}

/// A path of a request: begins with `/`, without blanks.
pub(crate) fn request_path(
    reader: &mut Reader<'_>,
    written: &Spanned<String>,
    key: &str,
    path: &str,
) -> Option<String> {
    if !path.starts_with('/') {
        let message = format!("the path of {} must begin with `/`", quoted(key));
        let hint = format!("did you mean `GET /{}`?", path.trim());
        let hint = (!path.contains(' ')).then_some(hint);
        reader.error(written.at, &message, hint.as_deref());
        return None;
    }
    if path.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        let message = format!("the path of {} has a character that no path has", quoted(key));
        reader.error(written.at, &message, Some("write blanks as `%20`"));
        return None;
    }
    Some(path.to_owned())
}

fn resources(reader: &mut Reader<'_>, node: &Node) -> Resources {
    let mut resources = Resources::default();
    let Some(table) = reader.table(node, &RESOURCES) else {
        return resources;
    };
    if let Some(node) = table.get("cpu") {
        resources.cpu_millis = cpu(reader, node);
    }
    if let Some(node) = table.get("memory") {
        resources.memory = reader.size(node, "memory");
    }
    if let Some(node) = table.get("processes") {
        resources.processes = reader.number(node, "processes", 1, 1_000_000);
    }
    resources
}

/// Cores: `2`, `0.5`, or `500m` in thousandths.
fn cpu(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<u32>> {
    let (text, _) = reader.scalar(node, "cpu")?;
    let millis = match text.strip_suffix('m') {
        Some(number) => number.parse::<u64>().ok(),
        None => crate::units::thousandths(text).ok(),
    };
    let fits = millis.filter(|millis| (1..=1_024_000).contains(millis)).and_then(|millis| u32::try_from(millis).ok());
    if let Some(millis) = fits {
        return Some(Spanned::new(millis, node.at));
    }
    reader.error(
        node.at,
        "`cpu` must be a number of cores from 0.001 to 1024",
        Some("write it like `2`, `0.5` or `500m`"),
    );
    None
}

fn build(reader: &mut Reader<'_>, node: &Node) -> Build {
    let mut build = Build::default();
    let Some(table) = reader.table(node, &BUILD) else {
        return build;
    };
    if let Some(node) = table.get("args") {
        build.args = reader.values(node);
    }
    if let Some(node) = table.get("target") {
        build.target = reader.text(node, "target");
    }
    if let Some(node) = table.get("tag") {
        let read = [TagForm::GithashBuildid, TagForm::Githash, TagForm::Buildid];
        let words = read.map(TagForm::word);
        let found = reader.word(node, "tag", &words, &[]);
        build.tag = found
            .and_then(|word| read.into_iter().find(|form| form.word() == word))
            .map(|form| Spanned::new(form, node.at));
    }
    build
}

fn stop(reader: &mut Reader<'_>, node: &Node) -> Stop {
    let mut stop = Stop::default();
    let Some(table) = reader.table(node, &STOP) else {
        return stop;
    };
    if let Some(node) = table.get("before") {
        stop.before = stop_before(reader, node);
    }
    if let Some(node) = table.get("signal") {
        stop.signal = signal(reader, node);
    }
    if let Some(node) = table.get("grace") {
        stop.grace = reader.duration(node, "grace", &ENDING);
    }
    stop
}

/// A request when it begins with `GET /` or `POST /`, else a command.
fn stop_before(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<StopBefore>> {
    if let Kind::Scalar { text, .. } = &node.kind
        && let Some((method @ ("GET" | "POST"), path)) = text.split_once(' ')
    {
        let written = reader.text(node, "before")?;
        let path = request_path(reader, &written, "before", path.trim())?;
        let request = StopBefore::Request { method: method.to_owned(), path };
        return Some(Spanned::new(request, node.at));
    }
    let command = reader.command(node, "before")?;
    Some(command.map(StopBefore::Command))
}

fn signal(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Signal>> {
    let all = [Signal::Term, Signal::Int, Signal::Quit, Signal::Hup, Signal::Usr1, Signal::Usr2];
    let (text, _) = reader.scalar(node, "signal")?;
    let short = |signal: &Signal| signal.word().trim_start_matches("SIG") == text;
    if let Some(signal) = all.into_iter().find(short) {
        return Some(Spanned::new(signal, node.at));
    }
    let word = reader.word(node, "signal", &all.map(Signal::word), &[])?;
    let signal = all.into_iter().find(|signal| signal.word() == word)?;
    Some(Spanned::new(signal, node.at))
}
