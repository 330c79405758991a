//! In: a table `jobs`, of the project or of one service. Out: one `Job` per
//! name. Never runs or looks up anything.

use std::collections::BTreeMap;

use crate::model::{Artifact, Job, JobImage, Retry, RetryOn, Spanned, Step, Trigger, Work};
use crate::problem::quoted;
use crate::read::quantities::DurationRule;
use crate::read::{Reader, Section, Table, is_off};
use crate::units::DAY;
use crate::yaml::{Entry, Kind, Node};

/// The most jobs in one table.
const JOBS_MAX: usize = 1_000;

/// The most steps of one job.
const STEPS_MAX: usize = 200;

/// Jobs that exist without being written, once a project is recognised.
pub const RECOGNISED: &[&str] = &["lint", "test", "package", "coverage", "size", "dependencies", "secrets", "commits"];

/// Those of them that this version makes by itself.
pub(crate) const RECOGNISED_NOW: &[&str] = &["test"];

const JOB: Section = Section {
    what: "a job",
    read: &[
        "run",
        "steps",
        "needs",
        "on",
        "image",
        "env",
        "secrets",
        "inputs",
        "produces",
        "artifacts",
        "retry",
        "timeout",
        "network",
    ],
    later: &[
        "when",
        "kind",
        "dockerfile",
        "middleware",
        "reports",
        "cache",
        "matrix",
        "split",
        "allow_failure",
        "wait_timeout",
        "concurrency",
        "resources",
        "worker",
        "reuse",
        "expands",
        "uses",
        "with",
    ],
};

const STEP: Section = Section {
    what: "a step",
    read: &["name", "run", "timeout", "env"],
    later: &["when", "output", "background", "wait", "uses", "with"],
};

const ARTIFACT: Section = Section { what: "an artifact", read: &["paths"], later: &["keep", "internal"] };

const RETRY: Section = Section { what: "`retry`", read: &["max", "on"], later: &[] };

const TIMEOUT: DurationRule = DurationRule { usual: "m", least: 1, most: DAY };

/// All jobs of one table; paths in them are relative to this folder.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, folder: &str) -> BTreeMap<String, Job> {
    let mut jobs = BTreeMap::new();
    for entry in reader.named(node, "jobs", JOBS_MAX) {
        if let Some(job) = job(reader, entry, folder) {
            jobs.insert(entry.key.clone(), job);
        }
    }
    jobs
}

fn job(reader: &mut Reader<'_>, entry: &Entry, folder: &str) -> Option<Job> {
    let mut job = Job { at: entry.key_at, ..Job::default() };
    if is_off(&entry.value) {
        job.work = Work::Off;
        if RECOGNISED.contains(&entry.key.as_str()) {
            return Some(job);
        }
        let message = format!("{} is no recognised job, so it cannot be `off`", quoted(&entry.key));
        reader.error(entry.value.at, &message, Some("remove the job"));
        return None;
    }
    if let Kind::Scalar { text, .. } = &entry.value.kind {
        if !text.contains("${{") {
            let hint = format!("write `{}: {{ run: … }}`", entry.key);
            reader.error(entry.value.at, "a job must be a table", Some(&hint));
        }
        return Some(job);
    }
    let Some(table) = reader.table(&entry.value, &JOB) else {
        return Some(job);
    };
    job.work = work(reader, &table, entry);
    circumstances(reader, &table, &mut job);
    if let Some(node) = table.get("inputs") {
        job.inputs = reader.paths(node, "inputs", folder);
    }
    if let Some(node) = table.get("produces") {
        job.produces = reader.paths(node, "produces", folder);
    }
    if let Some(node) = table.get("artifacts") {
        job.artifacts = artifacts(reader, node, folder);
    }
    Some(job)
}

fn circumstances(reader: &mut Reader<'_>, table: &Table<'_>, job: &mut Job) {
    if let Some(node) = table.get("needs") {
        let needs = reader.texts(node, "needs");
        job.needs = needs.map(|needs| Spanned::new(needs, node.at));
    }
    if let Some(node) = table.get("on") {
        job.on = triggers(reader, node);
    }
    if let Some(node) = table.get("image") {
        job.image = image(reader, node);
    }
    if let Some(node) = table.get("env") {
        job.env = reader.values(node);
    }
    if let Some(node) = table.get("secrets") {
        job.secrets = reader.secrets(node);
    }
    if let Some(node) = table.get("retry") {
        job.retry = retry(reader, node);
    }
    if let Some(node) = table.get("timeout") {
        job.timeout = reader.duration(node, "timeout", &TIMEOUT);
    }
    if let Some(node) = table.get("network") {
        job.network = reader.switch(node, "network");
    }
}

/// `run` or `steps`; a recognised job may have neither.
fn work(reader: &mut Reader<'_>, table: &Table<'_>, entry: &Entry) -> Work {
    let run = table.entry("run");
    let steps = table.entry("steps");
    match (run, steps) {
        (Some(run), None) => {
            let step = run_step(reader, &run.value);
            Work::Steps(step.into_iter().collect())
        }
        (None, Some(list)) => Work::Steps(self::steps(reader, &list.value)),
        (Some(_), Some(list)) => {
            let hint = Some("put the command into a step, or remove `steps`");
            reader.error(list.key_at, "a job has `run` or `steps`, not both", hint);
            Work::Steps(self::steps(reader, &list.value))
        }
        (None, None) => {
            without_steps(reader, entry);
            Work::Recognised
        }
    }
}

fn without_steps(reader: &mut Reader<'_>, entry: &Entry) {
    let name = entry.key.as_str();
    if RECOGNISED_NOW.contains(&name) {
        return;
    }
    if RECOGNISED.contains(&name) {
        let message = format!("the recognised job {} is not yet supported", quoted(name));
        let hint = "give it a `run:`, or `off`";
        reader.error(entry.key_at, &message, Some(hint));
        return;
    }
    let message = format!("the job {} has nothing to run", quoted(name));
    reader.error(entry.key_at, &message, Some("give it a `run:` or `steps:`"));
}

fn run_step(reader: &mut Reader<'_>, node: &Node) -> Option<Step> {
    Some(Step { name: None, run: shell_text(reader, node)?, timeout: None, env: BTreeMap::new() })
}

/// The text of a step; one of blanks alone would pass without doing anything.
fn shell_text(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let text = reader.text(node, "run")?;
    if text.value.trim().is_empty() {
        reader.error(node.at, "`run` is empty", None);
        return None;
    }
    Some(text)
}

fn steps(reader: &mut Reader<'_>, node: &Node) -> Vec<Step> {
    let Kind::List(items) = &node.kind else {
        let message = "`steps` must be a list";
        reader.error(node.at, message, Some("write `steps: [{ run: … }]`"));
        return Vec::new();
    };
    if items.is_empty() || items.len() > STEPS_MAX {
        let message = format!("`steps` must have from 1 to {STEPS_MAX} entries");
        reader.error(node.at, &message, None);
    }
    items.iter().take(STEPS_MAX).filter_map(|item| step(reader, item)).collect()
}

fn step(reader: &mut Reader<'_>, node: &Node) -> Option<Step> {
    if matches!(node.kind, Kind::Scalar { .. }) {
        return run_step(reader, node);
    }
    let table = reader.table(node, &STEP)?;
    let name = table.get("name").and_then(|node| reader.text(node, "name"));
    let timeout = table.get("timeout").and_then(|node| reader.duration(node, "timeout", &TIMEOUT));
    let env = table.get("env").map(|node| reader.values(node));
    let Some(run) = table.get("run") else {
        reader.error(node.at, "a step needs a `run`", None);
        return None;
    };
    Some(Step { name, run: shell_text(reader, run)?, timeout, env: env.unwrap_or_default() })
}

fn triggers(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Vec<Trigger>>> {
    let later = ["manual", "commit", "pull_request", "merge", "tag", "schedule", "repository"];
    let items = reader.one_or_more(node, "on")?;
    let mut triggers = Vec::new();
    for item in items {
        if reader.word(item, "on", &["push"], &later).is_some() && triggers.is_empty() {
            triggers.push(Trigger::Push);
        }
    }
    Some(Spanned::new(triggers, node.at))
}

fn image(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<JobImage>> {
    let text = reader.text(node, "image")?;
    let image = match text.value.as_str() {
        "auto" => JobImage::Auto,
        "host" => JobImage::Host,
        reference => {
            if let Err((message, hint)) = check_reference(reference) {
                reader.error(node.at, &message, Some(hint));
                return None;
            }
            JobImage::Reference(reference.to_owned())
        }
    };
    Some(Spanned::new(image, node.at))
}

/// `name:tag` or `name@sha256:…`, as the OCI distribution specification has
/// them; never `latest`, which is another image tomorrow.
fn check_reference(text: &str) -> Result<(), (String, &'static str)> {
    let (tagged, digest) = match text.split_once('@') {
        Some((tagged, digest)) => (tagged, Some(digest)),
        None => (text, None),
    };
    let name_begins = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match tagged[name_begins..].rfind(':') {
        Some(colon) => {
            let colon = name_begins + colon;
            (&tagged[..colon], Some(&tagged[colon + 1..]))
        }
        None => (tagged, None),
    };
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
    let in_tag = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let bad_tag = tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.bytes().all(in_tag));
    let bad_digest = digest.is_some_and(|digest| !is_digest(digest));
    let bad_name = name.is_empty() || !name.bytes().all(in_name);
    if bad_name || bad_tag || bad_digest {
        let message = format!("{} is not a reference to an image", quoted(text));
        return Err((message, "write `name:tag`, `host` or `auto`"));
    }
    if tag == Some("latest") {
        let message = format!("{} is another image tomorrow", quoted(text));
        return Err((message, "name a version or a digest instead of `latest`"));
    }
    if tag.is_none() && digest.is_none() {
        let message = format!("the image {} has no tag", quoted(text));
        return Err((message, "write `name:tag`, `host` or `auto`"));
    }
    Ok(())
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn artifacts(reader: &mut Reader<'_>, node: &Node, folder: &str) -> BTreeMap<String, Artifact> {
    let mut artifacts = BTreeMap::new();
    for entry in reader.named(node, "artifacts", 100) {
        let mut artifact = Artifact { at: entry.key_at, ..Artifact::default() };
        let Some(table) = reader.table(&entry.value, &ARTIFACT) else {
            continue;
        };
        match table.get("paths") {
            Some(node) => artifact.paths = reader.paths(node, "paths", folder),
            None => {
                let message = format!("the artifact {} has no `paths`", quoted(&entry.key));
                reader.error(entry.key_at, &message, None);
            }
        }
        artifacts.insert(entry.key.clone(), artifact);
    }
    artifacts
}

fn retry(reader: &mut Reader<'_>, node: &Node) -> Retry {
    let mut retry = Retry::default();
    if matches!(node.kind, Kind::Scalar { .. }) {
        retry.max = reader.number(node, "retry", 0, 10);
        return retry;
    }
    let Some(table) = reader.table(node, &RETRY) else {
        return retry;
    };
    if let Some(node) = table.get("max") {
        retry.max = reader.number(node, "max", 0, 10);
    }
    let Some(node) = table.get("on") else {
        return retry;
    };
    let items = reader.one_or_more(node, "on").unwrap_or_default();
    let kinds: Vec<RetryOn> = items.iter().filter_map(|item| retry_on(reader, item)).collect();
    retry.on = Some(Spanned::new(kinds, node.at));
    retry
}

fn retry_on(reader: &mut Reader<'_>, node: &Node) -> Option<RetryOn> {
    let (text, _) = reader.scalar(node, "on")?;
    if let Some(code) = text.strip_prefix("exit ") {
        let code = code.trim().parse::<u8>().ok().filter(|code| *code > 0);
        if code.is_none() {
            reader.error(node.at, "the code of `exit` must be from 1 to 255", None);
        }
        return code.map(RetryOn::Exit);
    }
    let known = ["infrastructure", "network", "memory"];
    match reader.word(node, "on", &known, &[])? {
        "infrastructure" => Some(RetryOn::Infrastructure),
        "network" => Some(RetryOn::Network),
        _ => Some(RetryOn::Memory),
    }
}
