//! In: what the file says and the facts. Out: the whole effective process,
//! one line per key, with where each value comes from. Never a secret's value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::effective::{
    ApprovePolicy, Effective, EnvironmentPolicy, Facts, JobPolicy, Origin, ServicePolicy, environment_policies,
    job_policy, production_branch, project, service_names, service_policy,
};
use crate::model::{Config, Deploy, HealthCheck, JobImage, SecretPlace, StopBefore, Work};

/// One key of the effective process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainLine {
    /// The key with its path: `services.api.port`.
    pub key: String,
    /// The value as the file would write it.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl ExplainLine {
    /// `services.api.port: 80  (slipway.yaml:4)`.
    pub fn render(&self, file: &str) -> String {
        let origin = match &self.origin {
            Origin::File { line, .. } => format!("{file}:{line}"),
            Origin::Detected(from) => format!("detected from {from}"),
            Origin::BuiltIn => "built in".to_owned(),
        };
        format!("{}: {}  ({origin})", self.key, self.value)
    }
}

/// The effective process: all of it, or one key and what is below it.
pub fn explain(config: &Config, facts: &Facts, key: Option<&str>) -> Vec<ExplainLine> {
    let mut out = Lines::default();
    top(&mut out, config, facts);
    let environments = environment_policies(config, facts);
    for policy in &environments {
        environment(&mut out, policy);
        environment_values(&mut out, config, &policy.name.value);
    }
    for name in service_names(config, facts) {
        for (index, environment) in environments.iter().enumerate() {
            let place = &environment.name.value;
            let Some(policy) = service_policy(config, facts, &name, place) else {
                continue;
            };
            if index == 0 {
                service(&mut out, &policy);
            }
            per_environment(&mut out, &policy, place);
        }
    }
    for (id, _) in config.all_jobs() {
        if let Some(policy) = job_policy(config, facts, &id) {
            job(&mut out, &policy);
        }
    }
    let mut lines = out.list;
    if let Some(key) = key {
        let below = format!("{key}.");
        lines.retain(|line| line.key == key || line.key.starts_with(&below));
    }
    lines
}

#[derive(Default)]
struct Lines {
    list: Vec<ExplainLine>,
}

impl Lines {
    fn add<T: fmt::Display>(&mut self, prefix: &str, key: &str, value: &Effective<T>) {
        self.put(prefix, key, value.value.to_string(), &value.origin);
    }

    fn optional<T: fmt::Display>(&mut self, prefix: &str, key: &str, value: &Effective<Option<T>>, none: &str) {
        let shown = match &value.value {
            Some(value) => value.to_string(),
            None => none.to_owned(),
        };
        self.put(prefix, key, shown, &value.origin);
    }

    fn put(&mut self, prefix: &str, key: &str, value: String, origin: &Origin) {
        let key = match prefix {
            "" => key.to_owned(),
            prefix => format!("{prefix}.{key}"),
        };
        self.list.push(ExplainLine { key, value, origin: origin.clone() });
    }
}

fn top(out: &mut Lines, config: &Config, facts: &Facts) {
    out.add("", "project", &project(config, facts));
    let production = production_branch(config, facts);
    out.add("branches", "production", &production);
    for (key, patterns, none) in
        [("include", &config.branches.include, "all branches"), ("exclude", &config.branches.exclude, "none")]
    {
        let (value, origin) = match patterns {
            Some(patterns) => (list(&patterns.value), Origin::at(patterns.at)),
            None => (none.to_owned(), Origin::BuiltIn),
        };
        out.put("branches", key, value, &origin);
    }
}

fn environment(out: &mut Lines, policy: &EnvironmentPolicy) {
    let prefix = format!("environments.{}", policy.name.value);
    let prefix = prefix.as_str();
    out.put(prefix, "from", list(&policy.from.value), &policy.from.origin);
    let deploy = match policy.deploy.value {
        Deploy::Auto => "auto",
        Deploy::Manual => "manual",
    };
    out.put(prefix, "deploy", deploy.to_owned(), &policy.deploy.origin);
    out.put(prefix, "after", list(&policy.after.value), &policy.after.origin);
    match &policy.approve {
        Some(policy) => approve(out, prefix, policy),
        None => out.put(prefix, "approve", "nobody".to_owned(), &Origin::BuiltIn),
    }
    strategy_and_verify(out, prefix, policy);
    out.optional(prefix, "retain", &policy.retain, "all");
}

fn strategy_and_verify(out: &mut Lines, prefix: &str, policy: &EnvironmentPolicy) {
    let rolling = format!("{prefix}.strategy.rolling");
    out.add(&rolling, "max_surge", &policy.rolling.max_surge);
    out.add(&rolling, "max_unavailable", &policy.rolling.max_unavailable);
    let verify = format!("{prefix}.verify");
    let numbers = &policy.verify;
    out.add(&verify, "hold", &numbers.hold);
    out.add(&verify, "requests", &numbers.requests);
    out.add(&verify, "wait", &numbers.wait);
    out.add(&verify, "errors", &numbers.errors);
    let p95 = format!("+{}", numbers.p95.value);
    out.put(&verify, "p95", p95, &numbers.p95.origin);
    let smoke: Vec<String> = numbers.smoke.value.iter().map(ToString::to_string).collect();
    out.put(&verify, "smoke", list(&smoke), &numbers.smoke.origin);
    out.add(&verify, "bake", &numbers.bake);
}

/// What an environment says for all services.
fn environment_values(out: &mut Lines, config: &Config, name: &str) {
    let Some(environment) = config.environment(name) else {
        return;
    };
    let prefix = format!("environments.{name}");
    if let Some(replicas) = &environment.replicas {
        let origin = Origin::at(replicas.at);
        out.put(&prefix, "replicas", replicas.value.to_string(), &origin);
    }
    let env = format!("{prefix}.env");
    for (name, value) in &environment.env {
        out.put(&env, name, value.value.clone(), &Origin::at(value.at));
    }
    let secrets = format!("{prefix}.secrets");
    for secret in &environment.secrets {
        let place = place_word(secret.value.place).to_owned();
        out.put(&secrets, &secret.value.name, place, &Origin::at(secret.at));
    }
}

fn approve(out: &mut Lines, prefix: &str, policy: &ApprovePolicy) {
    let prefix = format!("{prefix}.approve");
    let by = if policy.by.value.is_empty() { "anyone with the right".to_owned() } else { list(&policy.by.value) };
    out.put(&prefix, "by", by, &policy.by.origin);
    out.add(&prefix, "count", &policy.count);
    out.add(&prefix, "author", &policy.author);
    out.add(&prefix, "expires", &policy.expires);
}

/// What is the same in every environment.
fn service(out: &mut Lines, policy: &ServicePolicy) {
    let prefix = format!("services.{}", policy.name);
    let prefix = prefix.as_str();
    out.add(prefix, "path", &policy.path);
    out.add(prefix, "dockerfile", &policy.dockerfile);
    out.add(prefix, "port", &policy.port);
    health(out, prefix, policy);
    let command = if policy.command.value.is_empty() { "the image's".to_owned() } else { list(&policy.command.value) };
    out.put(prefix, "command", command, &policy.command.origin);
    let cores = Effective {
        value: policy.cpu_millis.value.map(|millis| format!("{millis}m")),
        origin: policy.cpu_millis.origin.clone(),
    };
    let resources = format!("{prefix}.resources");
    out.optional(&resources, "cpu", &cores, "no limit");
    out.optional(&resources, "memory", &policy.memory, "three quarters of the machine");
    out.optional(&resources, "processes", &policy.processes, "no limit");
    let build = format!("{prefix}.build");
    for (name, value) in &policy.build_args {
        out.add(&format!("{build}.args"), name, value);
    }
    out.optional(&build, "target", &policy.build_target, "the last stage");
    let tag = policy.tag.value.word().to_owned();
    out.put(&build, "tag", tag, &policy.tag.origin);
    ending(out, prefix, policy);
    out.put(prefix, "inputs", list(&policy.inputs.value), &policy.inputs.origin);
    out.put(prefix, "needs", list(&policy.needs.value), &policy.needs.origin);
}

fn health(out: &mut Lines, prefix: &str, policy: &ServicePolicy) {
    let check = match &policy.health.value {
        Some(HealthCheck::Http(path)) => format!("GET {path}"),
        Some(HealthCheck::Command(words)) => list(words),
        None => "the port accepts a connection".to_owned(),
    };
    let prefix = format!("{prefix}.health");
    out.put(&prefix, "check", check, &policy.health.origin);
    out.add(&prefix, "timeout", &policy.health_timeout);
    out.add(&prefix, "interval", &policy.health_interval);
    out.add(&prefix, "ready", &policy.ready_timeout);
}

fn ending(out: &mut Lines, prefix: &str, policy: &ServicePolicy) {
    let before = match &policy.stop_before.value {
        Some(StopBefore::Command(words)) => list(words),
        Some(StopBefore::Request { method, path }) => format!("{method} {path}"),
        None => "nothing".to_owned(),
    };
    let stop = format!("{prefix}.stop");
    out.put(&stop, "before", before, &policy.stop_before.origin);
    let signal = policy.stop_signal.value.word().to_owned();
    out.put(&stop, "signal", signal, &policy.stop_signal.origin);
    out.add(&stop, "grace", &policy.stop_grace);
    let drain = format!("{prefix}.drain");
    out.add(&drain, "timeout", &policy.drain_timeout);
}

/// What may differ by environment: `services.api.replicas.production`.
fn per_environment(out: &mut Lines, policy: &ServicePolicy, environment: &str) {
    let prefix = format!("services.{}", policy.name);
    out.add(&format!("{prefix}.replicas"), environment, &policy.replicas);
    for (name, value) in &policy.env {
        out.add(&format!("{prefix}.env.{name}"), environment, value);
    }
    for (name, place) in &policy.secrets {
        let word = place_word(place.value).to_owned();
        let key = format!("{prefix}.secrets.{name}");
        out.put(&key, environment, word, &place.origin);
    }
}

fn job(out: &mut Lines, policy: &JobPolicy) {
    let prefix = match policy.id.split_once('/') {
        Some((service, job)) => format!("services.{service}.jobs.{job}"),
        None => format!("jobs.{}", policy.id),
    };
    let prefix = prefix.as_str();
    work(out, prefix, &policy.work);
    out.put(prefix, "needs", list(&policy.needs.value), &policy.needs.origin);
    let on: Vec<String> = policy.on.value.iter().map(|on| on.word().to_owned()).collect();
    out.put(prefix, "on", list(&on), &policy.on.origin);
    let image = match &policy.image.value {
        JobImage::Auto => "auto",
        JobImage::Host => "host",
        JobImage::Reference(reference) => reference.as_str(),
    };
    out.put(prefix, "image", image.to_owned(), &policy.image.origin);
    for (name, value) in &policy.env {
        out.add(&format!("{prefix}.env"), name, value);
    }
    for (name, place) in &policy.secrets {
        let word = place_word(place.value).to_owned();
        out.put(&format!("{prefix}.secrets"), name, word, &place.origin);
    }
    let inputs = match &policy.inputs.value {
        Some(inputs) => list(inputs),
        None => "its folder and all that it depends on".to_owned(),
    };
    out.put(prefix, "inputs", inputs, &policy.inputs.origin);
    results(out, prefix, policy);
    out.add(prefix, "timeout", &policy.timeout);
    let network = if policy.network.value { "on" } else { "off" };
    out.put(prefix, "network", network.to_owned(), &policy.network.origin);
}

fn results(out: &mut Lines, prefix: &str, policy: &JobPolicy) {
    let produces = list(&policy.produces.value);
    out.put(prefix, "produces", produces, &policy.produces.origin);
    for (name, paths) in &policy.artifacts {
        out.put(&format!("{prefix}.artifacts.{name}"), "paths", list(&paths.value), &paths.origin);
    }
    let retry = format!("{prefix}.retry");
    out.add(&retry, "max", &policy.retry_max);
    let kinds: Vec<String> = policy.retry_on.value.iter().map(|on| on.words()).collect();
    out.put(&retry, "on", list(&kinds), &policy.retry_on.origin);
}

fn work(out: &mut Lines, prefix: &str, work: &Work) {
    match work {
        Work::Recognised => {
            let word = "as recognised".to_owned();
            out.put(prefix, "run", word, &Origin::BuiltIn);
        }
        Work::Off => out.put(prefix, "run", "off".to_owned(), &Origin::BuiltIn),
        Work::Steps(steps) => {
            for (index, step) in steps.iter().enumerate() {
                let key = match steps.len() {
                    1 => "run".to_owned(),
                    _ => format!("steps.{}", index + 1),
                };
                let origin = Origin::at(step.run.at);
                out.put(prefix, &key, one_line(&step.run.value), &origin);
            }
        }
    }
}

fn place_word(place: SecretPlace) -> &'static str {
    match place {
        SecretPlace::File => "file",
    }
}

/// The first line, and how many follow.
fn one_line(text: &str) -> String {
    let mut lines = text.trim_end().lines();
    let first = lines.next().unwrap_or("").to_owned();
    match lines.count() {
        0 => first,
        more => format!("{first} … (and {more} more lines)"),
    }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}
