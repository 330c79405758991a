//! Commands on the working tree: `plan`, `explain`, `lint`, `run`. No server is needed.
//!
//! In: the files of this repository, tracked and untracked, not ignored ones. Out: plans, explanations, results of
//! the same jobs in the same sandbox. Never: a change of the working tree.

use crate::cli::Global;
use crate::client::{encode, find};
use crate::commands::ask::{path, print_json};
use crate::commands::parts::worker_options;
use crate::exit::{CHANGE, Done, Exit, SURROUNDINGS, USAGE, surroundings};
use crate::paths::Data;
use crate::term;
use clap::Args;
use slipway_config::Config;
use slipway_model::job::{JobDef, JobOutcome};
use slipway_model::plan::{Item, ItemSpec, Plan as MadePlan};
use slipway_model::view::PlanView;
use slipway_model::{CommitId, Digest, ItemId, ProjectName, RunId, Secret};
use slipway_plan::drive::{FILE, input, is_read};
use slipway_ports::{RunRequest, TreeFile};
use slipway_worker::{Worker, run_here};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to plan.
#[derive(Debug, Args)]
pub struct Plan {
    /// A commit, branch or tag on the server; default: the working tree
    rev: Option<String>,
}

/// What to explain.
#[derive(Debug, Args)]
pub struct Explain {
    /// A key, `services.api.replicas`
    key: Option<String>,
}

/// What to run.
#[derive(Debug, Args)]
pub struct Run {
    /// Jobs (`api/test`); default: all
    jobs: Vec<String>,
}

/// A working tree as a plan sees it.
struct Tree {
    root: PathBuf,
    name: String,
    files: Vec<TreeFile>,
    config: Config,
    texts: BTreeMap<String, String>,
    branch: String,
}

fn git(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, Exit> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().map_err(surroundings)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Exit::new(USAGE, format!("git {}: {said}", arguments.first().unwrap_or(&"")))
        .hint("run it inside a Git repository"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Every file that is tracked, or new and not ignored, and still there.
fn listed(root: &Path) -> Result<Vec<String>, Exit> {
    let bytes = git(root, &["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"])?;
    let names = bytes
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(names.filter(|name| root.join(name).symlink_metadata().is_ok_and(|meta| !meta.is_dir())).collect())
}

fn tree_file(root: &Path, path: &str) -> Result<TreeFile, Exit> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| Exit::new(SURROUNDINGS, format!("`{path}`: {error}"));
    let full = root.join(path);
    let meta = full.symlink_metadata().map_err(failed)?;
    let (mode, bytes) = if meta.is_symlink() {
        (0o120_000, std::fs::read_link(&full).map_err(failed)?.into_os_string().into_encoded_bytes())
    } else {
        (
            if meta.permissions().mode() & 0o111 == 0 { 0o100_644 } else { 0o100_755 },
            std::fs::read(&full).map_err(failed)?,
        )
    };
    Ok(TreeFile { path: path.to_owned(), mode, id: Digest::of(&bytes).hex().to_owned() })
}

fn read_file(root: &Path) -> Result<Config, Exit> {
    match std::fs::read_to_string(root.join(FILE)) {
        Ok(source) => slipway_config::parse(FILE, &source).map_err(|problems| {
            eprint!("{}", problems.render(term::colour()));
            Exit::new(CHANGE, format!("{FILE} has {} problem(s)", problems.list.len() + problems.left_out))
                .hint("`slipway lint` checks it again")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(Exit::new(SURROUNDINGS, format!("{FILE}: {error}"))),
    }
}

fn tree(global: &Global) -> Result<Tree, Exit> {
    let root = PathBuf::from(text(&git(Path::new("."), &["rev-parse", "--show-toplevel"])?));
    let config = read_file(&root)?;
    let files = listed(&root)?.iter().map(|path| tree_file(&root, path)).collect::<Result<Vec<_>, _>>()?;
    let mut texts = BTreeMap::new();
    for file in files.iter().filter(|file| is_read(&file.path, &config)) {
        let bytes = std::fs::read(root.join(&file.path)).map_err(surroundings)?;
        texts.insert(file.path.clone(), String::from_utf8_lossy(&bytes).into_owned());
    }
    let folder = root.file_name().map(|name| name.to_string_lossy().to_lowercase().replace(['_', '.', ' '], "-"));
    let remote = crate::client::remote().map(|(_, project)| project);
    let named = config.project.as_ref().map(|project| project.value.clone());
    let name = global.project.clone().or(named).or(remote).or(folder).unwrap_or_else(|| "project".into());
    let branch = git(&root, &["symbolic-ref", "--short", "-q", "HEAD"])
        .map(|bytes| text(&bytes))
        .unwrap_or_else(|_| "main".into());
    Ok(Tree { root, name, files, config, texts, branch })
}

fn draft(tree: &Tree) -> Result<MadePlan, Exit> {
    let input =
        input(&tree.name, tree.config.clone(), &tree.branch, tree.files.clone(), None, tree.texts.clone(), "", "push");
    let draft = slipway_plan::draft(&input).map_err(|problems| Exit::new(CHANGE, problems.join("\n")))?;
    Ok(slipway_plan::decide(draft, &BTreeMap::new()))
}

/// `slipway plan`.
pub async fn plan(global: &Global, plan: &Plan) -> Done {
    let view: PlanView = match &plan.rev {
        Some(rev) => {
            let client = find(global)?;
            client.get(&path(&client, &format!("plan?rev={}", encode(rev))).await?).await?
        }
        None => slipway_feedback::change::plan_view(&draft(&tree(global)?)?),
    };
    if global.json {
        return print_json(&view);
    }
    for item in &view.items {
        println!("{:<8} {:<24} {:<13} {}", item.kind, item.name, item.decision, item.reason);
    }
    for warning in &view.warnings {
        println!("{} {warning}", term::soft("note:"));
    }
    if view.saved_ms > 0 {
        println!("{} saved by results of the same content", slipway_model::time::words(view.saved_ms));
    }
    Ok(())
}

fn facts(tree: &Tree) -> slipway_config::Facts {
    input(&tree.name, tree.config.clone(), &tree.branch, Vec::new(), None, tree.texts.clone(), "", "push").facts
}

/// `slipway explain`.
pub fn explain(global: &Global, explain: &Explain) -> Done {
    let tree = tree(global)?;
    let lines = slipway_config::explain(&tree.config, &facts(&tree), explain.key.as_deref());
    if global.json {
        return print_json(&lines);
    }
    if lines.is_empty() {
        return Err(Exit::new(USAGE, format!("there is no key `{}`", explain.key.clone().unwrap_or_default()))
            .hint("`slipway explain` alone lists all"));
    }
    for line in &lines {
        println!("{}", line.render(FILE));
    }
    Ok(())
}

/// `slipway lint`.
pub fn lint(global: &Global) -> Done {
    let tree = tree(global)?;
    let source = std::fs::read_to_string(tree.root.join(FILE)).unwrap_or_default();
    let warnings = slipway_config::lint(&tree.config, &source, &facts(&tree));
    if global.json {
        return print_json(&warnings);
    }
    for warning in &warnings {
        eprint!("{}", warning.render(term::colour()));
    }
    draft(&tree)?;
    println!(
        "{FILE} is good{}",
        if warnings.is_empty() { String::new() } else { format!(", {} warning(s)", warnings.len()) }
    );
    Ok(())
}

/// `slipway run`.
pub async fn run(global: &Global, run: &Run) -> Done {
    let tree = tree(global)?;
    let plan = draft(&tree)?;
    let wanted = choose(&plan, &run.jobs)?;
    let data = Data(std::env::temp_dir().join(format!("slipway-run-{}", std::process::id())));
    std::fs::create_dir_all(data.work()).map_err(surroundings)?;
    let done = run_all(global, &tree, &wanted, &data).await;
    let _ = std::fs::remove_dir_all(&data.0);
    done
}

/// The jobs asked for, with all that they need, in order.
fn choose(plan: &MadePlan, names: &[String]) -> Result<Vec<Item>, Exit> {
    let jobs: Vec<&Item> = plan.items.iter().filter(|item| matches!(item.spec, ItemSpec::Job(_))).collect();
    if jobs.is_empty() {
        return Err(Exit::new(CHANGE, "this repository has no jobs").hint("add `jobs:` to slipway.yaml"));
    }
    if names.is_empty() {
        return Ok(in_order(&jobs, jobs.iter().map(|item| item.id.clone()).collect()));
    }
    let mut wanted = BTreeSet::new();
    for name in names {
        let Some(item) = jobs.iter().find(|item| slipway_plan::decide::name_of(item) == *name) else {
            let known: Vec<String> = jobs.iter().map(|item| slipway_plan::decide::name_of(item)).collect();
            return Err(
                Exit::new(USAGE, format!("there is no job `{name}`")).hint(format!("there are {}", known.join(", ")))
            );
        };
        wanted.insert(item.id.clone());
    }
    Ok(in_order(&jobs, wanted))
}

fn in_order(jobs: &[&Item], mut wanted: BTreeSet<ItemId>) -> Vec<Item> {
    let mut ordered: Vec<Item> = Vec::new();
    // A job may be written before what it needs.
    loop {
        let needs: BTreeSet<ItemId> =
            jobs.iter().filter(|item| wanted.contains(&item.id)).flat_map(|item| item.needs.clone()).collect();
        let before = wanted.len();
        wanted.extend(needs);
        if wanted.len() == before {
            break;
        }
    }
    while ordered.len() < wanted.len() {
        let next = jobs.iter().find(|item| {
            wanted.contains(&item.id)
                && !ordered.iter().any(|done| done.id == item.id)
                && item.needs.iter().all(|need| ordered.iter().any(|done| &done.id == need))
        });
        let Some(next) = next else { break };
        ordered.push((*next).clone());
    }
    ordered
}

async fn run_all(global: &Global, tree: &Tree, jobs: &[Item], data: &Data) -> Done {
    let lower = data.0.join("tree");
    lay_out(tree, &lower)?;
    let worker = Worker::open(worker_options(data).await?).await.map_err(surroundings)?;
    let mut outcomes: BTreeMap<String, JobOutcome> = BTreeMap::new();
    let mut failed = Vec::new();
    for item in jobs {
        let ItemSpec::Job(job) = &item.spec else { continue };
        let name = slipway_plan::decide::name_of(item);
        if let Some(need) = job
            .needs
            .iter()
            .find(|need| outcomes.get(&need.to_string()).is_some_and(|outcome| !outcome.result.satisfies()))
        {
            let why = format!("{need} did not pass");
            if global.json {
                let outcome = serde_json::json!({ "result": "blocked", "reason": why });
                print_json(&serde_json::json!({ "name": name, "outcome": outcome }))?;
            } else {
                println!("{name}: blocked, {why}");
            }
            failed.push(name);
            continue;
        }
        let outcome = one(&worker, tree, job, &lower, &outcomes, global.json).await?;
        report(global, &name, &outcome)?;
        if !outcome.result.satisfies() {
            failed.push(name);
        }
        outcomes.insert(job.key.to_string(), outcome);
    }
    if failed.is_empty() { Ok(()) } else { Err(Exit::new(CHANGE, format!("{} did not pass", failed.join(", ")))) }
}

async fn one(
    worker: &Worker,
    tree: &Tree,
    job: &JobDef,
    lower: &Path,
    before: &BTreeMap<String, JobOutcome>,
    quiet: bool,
) -> Result<JobOutcome, Exit> {
    let head = git(&tree.root, &["rev-parse", "-q", "--verify", "HEAD"]).map(|bytes| text(&bytes)).unwrap_or_default();
    let commit = CommitId::parse(&head).or_else(|_| CommitId::parse(&"0".repeat(40))).map_err(surroundings)?;
    let project = ProjectName::parse(&tree.name)
        .map_err(|error| Exit::new(CHANGE, error).hint("say `--project NAME`, or set `project:` in slipway.yaml"))?;
    let run = RunId::parse(&format!("local-{}", job.key.to_string().replace('/', "."))).map_err(surroundings)?;
    let mut secrets = BTreeMap::new();
    for name in &job.secrets {
        let value = std::env::var(name).map_err(|_| {
            Exit::new(CHANGE, format!("job `{}` wants secret `{name}`", job.key))
                .hint(format!("set it in the environment: {name}=… slipway run"))
        })?;
        secrets.insert(name.clone(), Secret(value.into_bytes()));
    }
    let mut env = BTreeMap::from([
        ("CI".to_owned(), "true".to_owned()),
        ("SLIPWAY_PROJECT".into(), project.to_string()),
        ("SLIPWAY_COMMIT".into(), commit.to_string()),
        ("SLIPWAY_BRANCH".into(), tree.branch.clone()),
        ("SLIPWAY_REF".into(), format!("refs/heads/{}", tree.branch)),
        ("SLIPWAY_EVENT".into(), "push".into()),
        ("SLIPWAY_ACTOR".into(), "local".into()),
        ("SLIPWAY_RUN".into(), run.to_string()),
        ("SLIPWAY_ATTEMPT".into(), "1".into()),
        ("SLIPWAY_SERVICE".into(), job.key.service.as_ref().map(ToString::to_string).unwrap_or_default()),
    ]);
    env.extend(job.env.clone());
    let needed = |need: &slipway_model::JobKey| before.get(&need.to_string());
    let request = RunRequest {
        run,
        project,
        commit,
        tree: Some(lower.display().to_string()),
        job: job.clone(),
        env,
        secrets,
        image: None,
        artifacts: job
            .needs
            .iter()
            .filter_map(|need| Some((need.to_string(), needed(need)?.artifacts.clone())))
            .collect(),
        outputs: job.needs.iter().filter_map(|need| Some((need.to_string(), needed(need)?.outputs.clone()))).collect(),
    };
    let title = job.key.to_string();
    let outcome = run_here(worker, request, |line| {
        if !quiet {
            println!("{} {}", term::soft(&format!("{title} |")), line.text);
        }
    });
    outcome.await.map_err(|error| Exit::new(SURROUNDINGS, error))
}

fn report(global: &Global, name: &str, outcome: &JobOutcome) -> Done {
    if global.json {
        return print_json(&serde_json::json!({ "name": name, "outcome": outcome }));
    }
    let word =
        if outcome.result.satisfies() { term::good(outcome.result.word()) } else { term::bad(outcome.result.word()) };
    println!("{name}: {word}, took {}", slipway_model::time::words(outcome.set_up_ms + outcome.run_ms));
    if !outcome.reason.is_empty() {
        println!("  {}", outcome.reason);
    }
    Ok(())
}

/// The files as a folder of their own: links where the disk allows it, since jobs write above them, never into them.
fn lay_out(tree: &Tree, into: &Path) -> Done {
    for file in &tree.files {
        let (from, to) = (tree.root.join(&file.path), into.join(&file.path));
        let failed = |error: std::io::Error| Exit::new(SURROUNDINGS, format!("`{}`: {error}", file.path));
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        if file.mode == 0o120_000 {
            std::os::unix::fs::symlink(std::fs::read_link(&from).map_err(failed)?, &to).map_err(failed)?;
        } else if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).map_err(failed)?;
        }
    }
    Ok(())
}
