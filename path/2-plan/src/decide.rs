//! The plan: which items there are, their content keys, and what is to be done about each.
//!
//! In: a commit's files and configuration; then what is known of the keys. Out: a plan with a reason for each item.
//! Never: I/O. The work is in two halves, because keys must exist before anybody can be asked about them.

use crate::cargo::{self, Package, join};
use crate::{convert, detect};
use slipway_config::effective::{self};
use slipway_config::{Config, Facts, pattern};
use slipway_model::job::JobDef;
use slipway_model::plan::{Decision, ImageDef, Item, ItemSpec, Plan, Previous, ReleaseDef};
use slipway_model::policy::EnvironmentPolicy;
use slipway_model::{ContentKey, EnvironmentName, IdError, ItemId, JobKey, ServiceName};
use slipway_ports::TreeFile;
use std::collections::{BTreeMap, BTreeSet};

/// Everything a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct PlanInput {
    /// The project.
    pub project: String,
    /// `slipway.yaml` of this commit (all defaults when there is none).
    pub config: Config,
    /// What was found out about the repository.
    pub facts: Facts,
    /// The branch.
    pub branch: String,
    /// All files of the commit.
    pub files: Vec<TreeFile>,
    /// Paths that this change touches; `None` when there is nothing to compare with.
    pub changed: Option<BTreeSet<String>>,
    /// Texts of `Cargo.toml`s and Dockerfiles.
    pub texts: BTreeMap<String, String>,
    /// Fingerprint of the machine's tools, part of the key of jobs that use them.
    pub tools: String,
    /// What started it: `push` or `manual`.
    pub event: String,
    /// What lets a release into environments, as the production branch says it; for its own changes empty. A branch
    /// cannot let itself in by its own file.
    pub ruling: BTreeMap<EnvironmentName, EnvironmentPolicy>,
}

/// A plan without decisions.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Items with keys; every decision is still `run`.
    pub plan: Plan,
    /// Items whose inputs this change touches.
    pub touched: BTreeSet<ItemId>,
    /// Nothing came before: there is nothing to compare with.
    pub is_first: bool,
}

/// What is known of a key.
#[derive(Debug, Clone)]
pub struct Known {
    /// The earlier result.
    pub previous: Previous,
    /// Whether it satisfies what needs it, and its outputs are still there.
    pub satisfied: bool,
    /// How long it took then.
    pub took_ms: u64,
}

/// What lets a release into each environment, also into those that this branch does not reach.
///
/// # Errors
/// When a name is not one.
pub fn policies(input: &PlanInput) -> Result<Vec<EnvironmentPolicy>, Vec<String>> {
    let own = convert::environments(&input.config, &input.facts).map_err(|error| vec![error.to_string()])?;
    Ok(own.into_iter().map(|own| input.ruling.get(&own.name).cloned().unwrap_or(own)).collect())
}

fn takes(policy: &EnvironmentPolicy, branch: &str) -> bool {
    policy.from.iter().any(|pattern| slipway_config::pattern::matches(pattern, branch))
}

/// Lists the items and computes their keys.
///
/// # Errors
/// With one sentence per problem: nothing to build, a Dockerfile that is missing, a name that is not one.
pub fn draft(input: &PlanInput) -> Result<Draft, Vec<String>> {
    let packages = cargo::packages(&manifests(&input.texts));
    let names = effective::service_names(&input.config, &input.facts);
    if names.is_empty() && input.config.all_jobs().is_empty() {
        return Err(vec![nothing_recognised(input)]);
    }
    let draft = Draft { is_first: input.changed.is_none(), ..Draft::default() };
    let mut drafting = Drafting { input, packages, draft, jobs: Vec::new(), problems: Vec::new() };
    let policies = policies(input)?;
    drafting.draft.plan.environments = policies.into_iter().filter(|policy| takes(policy, &input.branch)).collect();
    for name in &names {
        drafting.service_jobs(name);
    }
    drafting.root_jobs();
    drafting.add_jobs();
    // Who is needed comes first, so that a look at the items in their order knows how its needs stand.
    for name in by_needs(&input.config, names) {
        drafting.service(&name);
    }
    if drafting.problems.is_empty() { Ok(drafting.draft) } else { Err(drafting.problems) }
}

/// Services so that none stands before one that it needs; otherwise as they were. Circles were refused with the file.
fn by_needs(config: &Config, names: Vec<String>) -> Vec<String> {
    fn place(config: &Config, name: &String, placed: &mut Vec<String>, depth: usize) {
        if placed.contains(name) || depth == 0 {
            return;
        }
        let needs = config.services.get(name).and_then(|service| service.needs.as_ref());
        for need in needs.iter().flat_map(|needs| &needs.value) {
            place(config, &need.value, placed, depth - 1);
        }
        placed.push(name.clone());
    }
    let mut placed = Vec::with_capacity(names.len());
    for name in &names {
        place(config, name, &mut placed, names.len());
    }
    placed
}

fn nothing_recognised(input: &PlanInput) -> String {
    format!(
        "no service was recognised in `{}`: no folder has a Dockerfile and slipway.yaml names none; add\n  services:\n    \
         {}: {{ path: ., port: 8080 }}\nto slipway.yaml and a Dockerfile beside it",
        input.project, input.project
    )
}

fn manifests(texts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_manifest = |path: &str| path == "Cargo.toml" || path.ends_with("/Cargo.toml");
    texts.iter().filter(|(path, _)| is_manifest(path)).map(|(path, text)| (path.clone(), text.clone())).collect()
}

struct Drafting<'a> {
    input: &'a PlanInput,
    packages: BTreeMap<String, Package>,
    draft: Draft,
    jobs: Vec<JobDef>,
    problems: Vec<String>,
}

impl Drafting<'_> {
    fn folder(&self, service: &str) -> String {
        let policy = effective::service_policy(&self.input.config, &self.input.facts, service, "production");
        let path = policy.map_or_else(|| service.to_owned(), |policy| policy.path.value);
        if path == "." { String::new() } else { path }
    }

    /// Globs of all that counts for a service: its folder, what it depends on, what it declares.
    fn service_inputs(&self, service: &str) -> Vec<String> {
        let folder = self.folder(service);
        let mut globs = vec![join(&folder, "**")];
        if detect::is_rust(&folder, &self.packages) {
            globs.extend(cargo::closure(&self.packages, &folder).iter().map(|needed| join(needed, "**")));
            if let Some(workspace) = cargo::workspace(&manifests(&self.input.texts), &folder) {
                globs.extend(detect::workspace_files(&workspace));
            }
        }
        if let Some(policy) = effective::service_policy(&self.input.config, &self.input.facts, service, "production") {
            globs.extend(policy.inputs.value);
        }
        globs
    }

    fn service_jobs(&mut self, service: &str) {
        let folder = self.folder(service);
        let own: Vec<String> = self
            .input
            .config
            .services
            .get(service)
            .map(|entry| entry.jobs.keys().map(|job| format!("{service}/{job}")).collect())
            .unwrap_or_default();
        let recognised = detect::tests(&folder, &self.packages);
        if effective::runs_recognised_tests(&self.input.config, service)
            && let Some(run) = &recognised
        {
            let Ok(name) = ServiceName::parse(service) else { return };
            let key = JobKey { service: Some(name), name: "test".into() };
            let job = convert::recognised_tests(key, run, &folder, self.service_inputs(service));
            self.jobs.push(job);
        }
        for id in own {
            let run = if id.ends_with("/test") { recognised.as_deref() } else { None };
            self.configured_job(&id, Some(service), &folder, run);
        }
    }

    fn root_jobs(&mut self) {
        for id in self.input.config.jobs.keys() {
            self.configured_job(id, None, "", None);
        }
    }

    fn configured_job(&mut self, id: &str, service: Option<&str>, folder: &str, recognised: Option<&str>) {
        let Some(policy) = effective::job_policy(&self.input.config, &self.input.facts, id) else { return };
        if !policy.on.value.iter().any(|trigger| trigger.word() == self.input.event) {
            return;
        }
        let inputs = policy.inputs.value.clone().unwrap_or_else(|| match service {
            Some(service) => self.service_inputs(service),
            None => vec!["**".into()],
        });
        let needs: Result<Vec<JobKey>, IdError> = policy
            .needs
            .value
            .iter()
            .map(|need| {
                slipway_config::job_id(&self.input.config, service, need).unwrap_or_else(|| scoped(service, need))
            })
            .map(|id| convert::job_key(&id))
            .collect();
        match needs.and_then(|needs| convert::job(&policy, folder, inputs, recognised, needs)) {
            Ok(Some(job)) => self.jobs.push(job),
            Ok(None) if policy.work == slipway_config::model::Work::Recognised => {
                self.draft.plan.warnings.push(format!("job `{id}` has no `run:` and nothing was recognised for it"));
            }
            Ok(None) => {}
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    /// Adds all jobs, each behind what it needs: its key holds the keys of those, and people read them in this order.
    fn add_jobs(&mut self) {
        let mut left = std::mem::take(&mut self.jobs);
        while !left.is_empty() {
            let waiting: BTreeSet<JobKey> = left.iter().map(|job| job.key.clone()).collect();
            let waits = |job: &JobDef| job.needs.iter().any(|need| waiting.contains(need));
            let (later, ready): (Vec<_>, Vec<_>) = left.into_iter().partition(waits);
            // The configuration refuses circles.
            let (later, ready) = if ready.is_empty() { (Vec::new(), later) } else { (later, ready) };
            ready.into_iter().for_each(|job| self.add_job(job));
            left = later;
        }
    }

    fn add_job(&mut self, job: JobDef) {
        let inputs = self.select(&job.inputs);
        let needs: Vec<ItemId> = job.needs.iter().map(ItemId::job).collect();
        let definition = serde_json::to_string(&job).unwrap_or_default();
        let item = Item {
            id: ItemId::job(&job.key),
            service: job.key.service.clone(),
            decision: Decision::Run,
            reason: String::new(),
            key: self.key("job", &definition, &inputs, &needs, Some(&self.input.tools)),
            needs,
            inputs,
            spec: ItemSpec::Job(Box::new(job)),
            previous: None,
        };
        self.add(item);
    }

    fn service(&mut self, service: &str) {
        let Ok(name) = ServiceName::parse(service).map_err(|error| self.problems.push(error.to_string())) else {
            return;
        };
        let Some(policy) = effective::service_policy(&self.input.config, &self.input.facts, service, "production")
        else {
            return;
        };
        let Some(text) = self.input.texts.get(&policy.dockerfile.value) else {
            self.problems.push(format!(
                "service `{service}` has no Dockerfile at `{}`; add one, or say where it is with `dockerfile:`",
                policy.dockerfile.value
            ));
            return;
        };
        let folder = self.folder(service);
        let taken = detect::jobs_taken(text);
        let key = |job: &str| JobKey { service: Some(name.clone()), name: job.to_owned() };
        let is_unknown = |taken: &&detect::Taken| self.draft.plan.item(&ItemId::job(&key(&taken.job))).is_none();
        if let Some(unknown) = taken.iter().find(is_unknown) {
            self.problems.push(format!(
                "{}:{}:{}: it takes files from job `{}`, which service `{service}` does not have",
                policy.dockerfile.value,
                unknown.line,
                unknown.column,
                key(&unknown.job)
            ));
            return;
        }
        let jobs: Vec<JobKey> = taken.iter().map(|taken| key(&taken.job)).collect();
        let image = ImageDef {
            service: name.clone(),
            folder: folder.clone(),
            dockerfile: policy.dockerfile.value.clone(),
            args: policy.build_args.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect(),
            target: policy.build_target.value.clone(),
            tag: convert::tag(policy.tag.value),
            jobs,
        };
        self.add_image(image, &folder);
        self.add_release(name, detect::exposed(text));
    }

    /// Services that this one needs.
    fn needed(&self, service: &str) -> Result<Vec<ServiceName>, IdError> {
        let needs = self.input.config.services.get(service).and_then(|service| service.needs.as_ref());
        needs.iter().flat_map(|needs| &needs.value).map(|need| ServiceName::parse(&need.value)).collect()
    }

    fn add_image(&mut self, image: ImageDef, folder: &str) {
        let mut inputs = self.select(&[join(folder, "**"), image.dockerfile.clone()]);
        // What the jobs made is in their keys; sources that only they read do not make another image.
        if !image.jobs.is_empty() {
            inputs.retain(|path, _| *path == image.dockerfile || path.ends_with(".dockerignore"));
        }
        let needs: Vec<ItemId> = image.jobs.iter().map(ItemId::job).collect();
        let definition = serde_json::to_string(&image).unwrap_or_default();
        let item = Item {
            id: ItemId::image(&image.service),
            service: Some(image.service.clone()),
            decision: Decision::Run,
            reason: String::new(),
            key: self.key("image", &definition, &inputs, &needs, None),
            needs,
            inputs,
            spec: ItemSpec::Image(image),
            previous: None,
        };
        self.add(item);
    }

    fn add_release(&mut self, service: ServiceName, exposed: Option<u16>) {
        let jobs: Vec<&Item> = self.draft.plan.items.iter().filter(|item| is_check_of(item, &service)).collect();
        let recognised = detect::tests(&self.folder(service.as_str()), &self.packages).is_some();
        let tests = effective::behaviour_tests(&self.input.config, service.as_str(), recognised);
        let mut needs: Vec<ItemId> = jobs.iter().map(|item| item.id.clone()).collect();
        if tests.is_empty() {
            self.draft.plan.not_ci.push(service.clone());
            self.draft.plan.warnings.push(format!(
                "{service} has no behaviour test: it is not CI and waits for `slipway approve` before production"
            ));
        }
        if self.draft.plan.environments.is_empty() {
            return;
        }
        let spec = match convert::spec(&self.input.config, &self.input.facts, service.as_str(), exposed) {
            Ok(Some(spec)) => spec,
            Ok(None) => return,
            Err(error) => return self.problems.push(error.to_string()),
        };
        needs.push(ItemId::image(&service));
        let first = match self.needed(service.as_str()) {
            Ok(first) => first,
            Err(error) => return self.problems.push(error.to_string()),
        };
        let places = convert::places(&self.input.config, service.as_str());
        // What another branch brought into its environments has not been in those of this one.
        let into: Vec<&str> = self.draft.plan.environments.iter().map(|policy| policy.name.as_str()).collect();
        let definition = format!("{} into {}", serde_json::to_string(&spec).unwrap_or_default(), into.join(" "));
        let item = Item {
            id: ItemId::release(&service),
            service: Some(service.clone()),
            decision: Decision::Run,
            reason: String::new(),
            key: self.key("release", &definition, &BTreeMap::new(), &[ItemId::image(&service)], None),
            needs,
            inputs: BTreeMap::new(),
            spec: ItemSpec::Release(Box::new(ReleaseDef { service, spec, places, needs: first })),
            previous: None,
        };
        self.add(item);
    }

    fn add(&mut self, item: Item) {
        let touched = match &self.input.changed {
            None => true,
            Some(changed) => {
                item.inputs.keys().any(|path| changed.contains(path))
                    || item.needs.iter().any(|need| self.draft.touched.contains(need))
                    || self.is_gone(&item, changed)
            }
        };
        if touched {
            self.draft.touched.insert(item.id.clone());
        }
        self.draft.plan.items.push(item);
    }

    /// Whether a changed path that the item's globs name is no longer there.
    fn is_gone(&self, item: &Item, changed: &BTreeSet<String>) -> bool {
        let ItemSpec::Job(job) = &item.spec else { return false };
        changed
            .iter()
            .any(|path| !item.inputs.contains_key(path) && job.inputs.iter().any(|glob| pattern::matches(glob, path)))
    }

    fn select(&self, globs: &[String]) -> BTreeMap<String, String> {
        self.input
            .files
            .iter()
            .filter(|file| globs.iter().any(|glob| covers(glob, &file.path)))
            .map(|file| (file.path.clone(), format!("{:o}:{}", file.mode, file.id)))
            .collect()
    }

    fn key(
        &self,
        kind: &str,
        definition: &str,
        inputs: &BTreeMap<String, String>,
        needs: &[ItemId],
        tools: Option<&String>,
    ) -> ContentKey {
        let mut parts = vec![("kind", kind), ("definition", definition)];
        parts.extend(tools.map(|tools| ("tools", tools.as_str())));
        for (path, id) in inputs {
            parts.extend([("path", path.as_str()), ("id", id.as_str())]);
        }
        let needed: Vec<String> =
            needs.iter().filter_map(|need| self.draft.plan.item(need)).map(|item| item.key.to_string()).collect();
        parts.extend(needed.iter().map(|key| ("need", key.as_str())));
        ContentKey::of(parts)
    }
}

// `api/**` is by far the most common glob; it needs no matcher.
fn covers(glob: &str, path: &str) -> bool {
    if glob == "**" {
        return true;
    }
    match glob.strip_suffix("/**") {
        Some(folder) if !folder.contains(['*', '?']) => {
            path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        }
        _ => glob == path || pattern::matches(glob, path),
    }
}

fn scoped(service: Option<&str>, need: &str) -> String {
    match service {
        Some(service) if !need.contains('/') => format!("{service}/{need}"),
        _ => need.to_owned(),
    }
}

/// A release needs its service's jobs and those of the whole repository.
fn is_check_of(item: &Item, service: &ServiceName) -> bool {
    matches!(&item.spec, ItemSpec::Job(job) if job.key.service.is_none() || job.key.service.as_ref() == Some(service))
}

/// Decides about every item of a draft, from what is known of the keys.
#[must_use]
pub fn decide(draft: Draft, known: &BTreeMap<ContentKey, Known>) -> Plan {
    let mut plan = draft.plan;
    for index in 0..plan.items.len() {
        let Some(item) = plan.items.get(index) else { continue };
        let needs_run =
            item.needs.iter().any(|need| plan.item(need).is_some_and(|need| need.decision == Decision::Run));
        let touched = draft.touched.contains(&item.id);
        let is_release = matches!(item.spec, ItemSpec::Release(_));
        let (decision, reason) = match known.get(&item.key) {
            // A release depends on the digest, which is only known when the image is: equal content comes out equal.
            Some(known) if known.satisfied && !(is_release && needs_run) => settled(known, touched),
            Some(known) if !known.satisfied && !is_release => (
                Decision::FailedBefore,
                format!(
                    "the same content failed in {}; `slipway retry {}` runs it again",
                    known.previous.commit.short(),
                    name_of(item)
                ),
            ),
            _ => (Decision::Run, run_reason(item, touched && !draft.is_first, &plan)),
        };
        let previous = known
            .get(&item.key)
            .filter(|_| decision != Decision::Run)
            .map(|known| (known.previous.clone(), known.took_ms));
        if let Some(item) = plan.items.get_mut(index) {
            item.decision = decision;
            item.reason = reason;
            if let Some((previous, took_ms)) = previous {
                if decision != Decision::FailedBefore {
                    plan.saved_ms += took_ms;
                }
                item.previous = Some(previous);
            }
        }
    }
    say_when_idle(&mut plan);
    plan
}

fn settled(known: &Known, touched: bool) -> (Decision, String) {
    let commit = known.previous.commit.short();
    if touched {
        (Decision::Reused, format!("the same content passed in {commit}"))
    } else {
        (Decision::NotAffected, format!("nothing that counts for it changed since {commit}"))
    }
}

fn run_reason(item: &Item, touched: bool, plan: &Plan) -> String {
    let failed = |need: &&ItemId| plan.item(need).is_some_and(|need| need.decision == Decision::FailedBefore);
    if let Some(need) = item.needs.iter().find(failed) {
        return format!("waits for {need}, which failed before");
    }
    if let Some(need) =
        item.needs.iter().find(|need| plan.item(need).is_some_and(|need| need.decision == Decision::Run))
    {
        return format!("{need} runs");
    }
    if touched {
        return "files that count for it changed".into();
    }
    "this content has no result yet".into()
}

/// The name under which people know an item: `api/test`.
#[must_use]
pub fn name_of(item: &Item) -> String {
    item.id.0.split_once(':').map_or(item.id.0.as_str(), |(_, name)| name).to_owned()
}

fn say_when_idle(plan: &mut Plan) {
    if plan.is_idle() {
        plan.warnings.push("nothing to do: the same content passed before".into());
    }
}
