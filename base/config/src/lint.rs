//! In: a file that can be used. Out: warnings about what a person would look
//! at again. Never an error, never a matter of taste.

use crate::effective::{
    self, Facts, branch_is_built, environment_policies, job_policy, production_branch, service_names, service_policy,
};
use crate::model::{Config, Work};
use crate::pattern;
use crate::problem::{Position, Problem, Sink, Source, quoted};

/// The warnings for this file; the text is the one that was parsed.
pub fn lint(config: &Config, text: &str, facts: &Facts) -> Vec<Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(&config.file, text);
    let mut sink = Sink::new(&source);
    behaviour_tests(&mut sink, config, facts);
    production_is_built(&mut sink, config, facts);
    health(&mut sink, config);
    interruptions(&mut sink, config, facts);
    timeouts(&mut sink, config, facts);
    literal_secrets(&mut sink, config);
    sink.finish().list
}

/// R106: without a test of behaviour it is not CI, and nothing reaches
/// production by itself. Which job is one, the plan judges by the same function.
fn behaviour_tests(sink: &mut Sink<'_>, config: &Config, facts: &Facts) {
    let hint = || Some("add a job, such as `jobs: { test: { run: … } }`".to_owned());
    let names = service_names(config, facts);
    let tested = |name: &str| {
        let recognised = facts.services.get(name).is_some_and(|found| found.tests.is_some());
        !effective::behaviour_tests(config, name, recognised).is_empty()
    };
    let untested: Vec<&String> = names.iter().filter(|name| !tested(name)).collect();
    if untested.len() == names.len() && !tested("") {
        let message = "no job tests the behaviour: this is not CI, and production waits for a person";
        sink.warning(start(), message, hint());
        return;
    }
    for name in untested {
        let at = config.services.get(name).map_or_else(start, |service| service.at);
        let message = format!("no job tests the behaviour of {}: it is not CI, and waits for a person", quoted(name));
        sink.warning(at, &message, hint());
    }
}

fn production_is_built(sink: &mut Sink<'_>, config: &Config, facts: &Facts) {
    let branch = production_branch(config, facts).value;
    if branch_is_built(config, &branch) {
        return;
    }
    let patterns = [&config.branches.exclude, &config.branches.include];
    let at = patterns.into_iter().flatten().map(|patterns| patterns.at).next().unwrap_or_else(start);
    let message = format!("the production branch {} is not built", quoted(&branch));
    let hint = "change `include` or `exclude`, else nothing reaches production";
    sink.warning(at, &message, Some(hint.to_owned()));
}

fn health(sink: &mut Sink<'_>, config: &Config) {
    for (name, service) in &config.services {
        let checked = service.health.as_ref();
        if checked.is_some_and(|health| health.value.check.is_some()) {
            continue;
        }
        let message = format!("the service {} has no `health`: it counts as ready once its port answers", quoted(name));
        let hint = "add `health: GET /path` that answers 200 when it can work";
        sink.warning(service.at, &message, Some(hint.to_owned()));
    }
}

/// An update that must stop an instance before it starts one, where there is
/// only one.
fn interruptions(sink: &mut Sink<'_>, config: &Config, facts: &Facts) {
    for environment in environment_policies(config, facts) {
        let rolling = &environment.rolling;
        for name in service_names(config, facts) {
            let place = &environment.name.value;
            let Some(service) = service_policy(config, facts, &name, place) else {
                continue;
            };
            let replicas = service.replicas.value;
            let (surge, unavailable) = rolling.rolling().counts(replicas);
            if surge > 0 || unavailable < replicas {
                continue;
            }
            let at = config
                .environment(place)
                .and_then(|environment| environment.strategy.as_ref())
                .map_or_else(start, |strategy| strategy.at);
            let message = format!(
                "every rollout of {} in {} interrupts it: no instance may be added, all may be missing",
                quoted(&name),
                quoted(place)
            );
            let hint = "give it more `replicas`, or let `max_surge` be 1";
            sink.warning(at, &message, Some(hint.to_owned()));
        }
    }
}

fn timeouts(sink: &mut Sink<'_>, config: &Config, facts: &Facts) {
    for (id, job) in config.all_jobs() {
        let Work::Steps(steps) = &job.work else {
            continue;
        };
        let Some(policy) = job_policy(config, facts, &id) else {
            continue;
        };
        let whole = policy.timeout.value;
        for timeout in steps.iter().filter_map(|step| step.timeout.as_ref()) {
            if timeout.value > whole {
                let message = format!("the step may take {}, but its job only {whole}", timeout.value);
                let hint = "raise the `timeout` of the job";
                sink.warning(timeout.at, &message, Some(hint.to_owned()));
            }
        }
    }
}

/// A password in the file is in every clone and every log of the file.
fn literal_secrets(sink: &mut Sink<'_>, config: &Config) {
    let jobs = config.all_jobs();
    let mut places: Vec<(&str, &str, Position)> = Vec::new();
    for service in config.services.values() {
        for (name, layers) in &service.env {
            for value in layers.default.iter().chain(layers.overrides.values()) {
                places.push((name.as_str(), value.value.as_str(), value.at));
            }
        }
    }
    let environments = config.environments.iter().map(|one| &one.env);
    for values in environments {
        for (name, value) in values {
            places.push((name.as_str(), value.value.as_str(), value.at));
        }
    }
    for (_, job) in &jobs {
        for (name, value) in &job.env {
            places.push((name.as_str(), value.value.as_str(), value.at));
        }
    }
    for (name, value, at) in places {
        if value.is_empty() || !sounds_secret(name) {
            continue;
        }
        let message = format!("{} looks like a secret in plain text", quoted(name));
        let hint = format!("name it under `secrets: [{}]` and set it with `slipway secret`", name.to_uppercase());
        sink.warning(at, &message, Some(hint));
    }
}

fn sounds_secret(name: &str) -> bool {
    let patterns = ["*PASSWORD", "*PASSWD", "*_TOKEN", "TOKEN", "*SECRET", "*SECRET_KEY", "*API_KEY", "*PRIVATE_KEY"];
    let name = name.to_uppercase();
    patterns.iter().any(|one| pattern::matches(one, &name))
}

fn start() -> Position {
    Position { line: 1, column: 1, length: 1 }
}
