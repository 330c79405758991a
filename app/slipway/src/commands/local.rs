//! The working tree as a plan sees it, and the commands `explain` and `run` on it. No server is needed.
//!
//! In: the files of this repository, tracked and untracked, not ignored ones. Out: explanations, results of the same
//! jobs in the same sandbox. Never: a change of the working tree.

use crate::cli::Global;
use crate::commands::ask::print_json;
use crate::commands::parts::worker_options;
use crate::exit::{CHANGE, Done, Exit, INTERRUPTED, SURROUNDINGS, USAGE, surroundings};
use crate::paths::Data;
use crate::term;
use clap::Args;
use slipway_config::Config;
use slipway_model::job::{JobDef, JobOutcome};
use slipway_model::plan::{Item, ItemSpec, Plan as MadePlan};
use slipway_model::{CommitId, ItemId, ProjectName, RunId, Secret};
use slipway_plan::drive::{FILE, input, is_read};
use slipway_ports::{RunRequest, TreeFile};
use slipway_worker::{Worker, run_here};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Git's mode of a symbolic link.
const LINK: u32 = 0o120_000;
/// After so much silence a job that runs says so.
const SILENCE: Duration = Duration::from_secs(10);

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

/// A tree as a plan sees it.
pub struct Tree {
    /// Where the working tree is.
    pub root: PathBuf,
    /// The project.
    pub name: String,
    /// What the `slipway` remote calls the project, when there is one.
    pub remote: Option<String>,
    /// All files.
    pub files: Vec<TreeFile>,
    /// The file.
    pub config: Config,
    /// Texts that a plan reads.
    pub texts: BTreeMap<String, String>,
    /// The branch that is checked out.
    pub branch: String,
}

/// What Git says.
pub fn git(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, Exit> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().map_err(surroundings)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Exit::new(USAGE, format!("git {}: {said}", arguments.first().unwrap_or(&"")))
        .hint("run it inside a Git repository"))
}

/// One line of Git's answer.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Every file that is tracked, or new and not ignored, and still there; with the ids that Git has or would give them.
fn listed(root: &Path) -> Result<Vec<TreeFile>, Exit> {
    let staged = git(root, &["ls-files", "--stage", "-z"])?;
    let known: BTreeMap<&str, &str> = parts(&staged).filter_map(|line| read_staged(line)).collect();
    let differing = git(root, &["diff-files", "--name-only", "-z"])?;
    let differing: BTreeSet<&str> = parts(&differing).collect();
    let others = git(root, &["ls-files", "--others", "--exclude-standard", "-z"])?;
    let (mut files, mut unknown) = (Vec::new(), Vec::new());
    for path in known.keys().copied().chain(parts(&others)) {
        let Some(mode) = mode_of(root, path) else { continue };
        match known.get(path).filter(|_| !differing.contains(path)) {
            Some(id) => files.push(TreeFile { path: path.to_owned(), mode, id: (*id).to_owned() }),
            None => unknown.push((path.to_owned(), mode)),
        }
    }
    let ids = hashed(root, &unknown)?;
    files.extend(unknown.into_iter().zip(ids).map(|((path, mode), id)| TreeFile { path, mode, id }));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Paths of all files of a repository that are tracked, or new and not ignored.
pub fn files_of(root: &Path) -> Result<Vec<String>, Exit> {
    let bytes = git(root, &["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"])?;
    Ok(parts(&bytes).map(ToOwned::to_owned).collect())
}

fn parts(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty())
}

/// `MODE ID STAGE<tab>PATH` of `git ls-files --stage`; not a submodule.
fn read_staged(line: &str) -> Option<(&str, &str)> {
    let (head, path) = line.split_once('\t')?;
    let mut head = head.split(' ');
    let (mode, id) = (head.next()?, head.next()?);
    (mode != "160000").then_some((path, id))
}

/// Git's mode of a file that is there and is one.
fn mode_of(root: &Path, path: &str) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let meta = root.join(path).symlink_metadata().ok()?;
    if meta.is_symlink() {
        return Some(LINK);
    }
    let executable = meta.permissions().mode() & 0o111 != 0;
    meta.is_file().then_some(if executable { 0o100_755 } else { 0o100_644 })
}

/// What Git would call the bytes of these files, in their order.
fn hashed(root: &Path, files: &[(String, u32)]) -> Result<Vec<String>, Exit> {
    let mut ids = Vec::with_capacity(files.len());
    for chunk in files.chunk_by(|(a, mode_a), (b, mode_b)| {
        ![*mode_a, *mode_b].contains(&LINK) && !a.contains('\n') && !b.contains('\n')
    }) {
        let first = chunk.first().map(|(path, mode)| (path.as_str(), *mode));
        let answer = match first {
            Some((path, LINK)) => {
                let target = std::fs::read_link(root.join(path)).map_err(surroundings)?;
                asked_git(root, &["hash-object", "--stdin"], target.into_os_string().into_encoded_bytes())?
            }
            // A name of two lines cannot be one line.
            Some((path, _)) if path.contains('\n') => git(root, &["hash-object", "--", path])?,
            _ => {
                let paths: Vec<&str> = chunk.iter().map(|(path, _)| path.as_str()).collect();
                asked_git(root, &["hash-object", "--stdin-paths"], format!("{}\n", paths.join("\n")).into_bytes())?
            }
        };
        ids.extend(String::from_utf8_lossy(&answer).lines().map(ToOwned::to_owned));
    }
    if ids.len() == files.len() {
        return Ok(ids);
    }
    Err(Exit::new(SURROUNDINGS, "files of this repository changed while they were read").hint("ask once more"))
}

/// As [`git`], with something to read.
fn asked_git(root: &Path, arguments: &[&str], input: Vec<u8>) -> Result<Vec<u8>, Exit> {
    use std::io::Write;
    let mut child = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(surroundings)?;
    let pipe = child.stdin.take();
    let writing = std::thread::spawn(move || pipe.map_or(Ok(()), |mut pipe| pipe.write_all(&input)));
    let output = child.wait_with_output().map_err(surroundings)?;
    // Git that ended early says so by its exit.
    let _ = writing.join();
    output
        .status
        .success()
        .then_some(output.stdout)
        .ok_or_else(|| Exit::new(SURROUNDINGS, format!("git {} failed", arguments.first().unwrap_or(&""))))
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

/// The working tree.
pub fn tree(global: &Global) -> Result<Tree, Exit> {
    let root = PathBuf::from(text(&git(Path::new("."), &["rev-parse", "--show-toplevel"])?));
    let config = read_file(&root)?;
    let files = listed(&root)?;
    let mut texts = BTreeMap::new();
    for file in files.iter().filter(|file| is_read(&file.path, &config)) {
        let bytes = std::fs::read(root.join(&file.path)).map_err(surroundings)?;
        texts.insert(file.path.clone(), String::from_utf8_lossy(&bytes).into_owned());
    }
    let folder = root.file_name().map(|name| name.to_string_lossy().to_lowercase().replace(['_', '.', ' '], "-"));
    let remote = crate::client::remote().map(|remote| remote.project);
    let named = config.project.as_ref().map(|project| project.value.clone());
    let name = global.project.clone().or(named).or(remote.clone()).or(folder).unwrap_or_else(|| "project".into());
    let branch = git(&root, &["symbolic-ref", "--short", "-q", "HEAD"])
        .map(|bytes| text(&bytes))
        .unwrap_or_else(|_| "main".into());
    Ok(Tree { root, name, remote, files, config, texts, branch })
}

/// The plan of a tree of which nothing is known yet: everything runs.
pub fn draft(tree: &Tree) -> Result<MadePlan, Exit> {
    let (config, files, texts) = (tree.config.clone(), tree.files.clone(), tree.texts.clone());
    let input = input(&tree.name, config, &tree.branch, files, None, texts, "", "push");
    let draft = slipway_plan::draft(&input).map_err(|problems| Exit::new(CHANGE, problems.join("\n")))?;
    Ok(slipway_plan::decide(draft, &BTreeMap::new()))
}

/// What was found out about the tree.
pub fn facts(tree: &Tree) -> slipway_config::Facts {
    let input =
        input(&tree.name, tree.config.clone(), &tree.branch, tree.files.clone(), None, tree.texts.clone(), "", "push");
    // A plan is given its project's name; where that comes from is known here.
    slipway_config::Facts { remote: tree.remote.clone(), ..input.facts }
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

/// `slipway run`.
pub async fn run(global: &Global, run: &Run) -> Done {
    let tree = tree(global)?;
    let plan = draft(&tree)?;
    let wanted = choose(&plan, &run.jobs)?;
    let data = Data(std::env::temp_dir().join(format!("slipway-run-{}", std::process::id())));
    std::fs::create_dir_all(data.work()).map_err(surroundings)?;
    let done = in_folder(global, &tree, &wanted, &data).await;
    let _ = slipway_sandbox::remove_folder(&data.0);
    done
}

async fn in_folder(global: &Global, tree: &Tree, jobs: &[Item], data: &Data) -> Done {
    let asked_to_end = told_to_end()?;
    let worker = Worker::open(worker_options(data).await?).await.map_err(surroundings)?;
    tokio::select! {
        biased;
        () = asked_to_end => {
            eprintln!("\nending what runs");
            worker.lose_all("it was interrupted");
            worker.idle().await;
            Err(Exit::silent(INTERRUPTED))
        }
        done = run_all(global, &worker, tree, jobs, data) => done,
    }
}

/// Returns when a person or the system wants this command to end: Ctrl-C, a closed terminal, a polite kill.
fn told_to_end() -> Result<impl Future<Output = ()>, Exit> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(surroundings)?;
    let mut term = signal(SignalKind::terminate()).map_err(surroundings)?;
    let mut closed = signal(SignalKind::hangup()).map_err(surroundings)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = term.recv() => {}
            _ = closed.recv() => {}
        }
    })
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
        let known: Vec<String> = jobs.iter().map(|item| slipway_plan::decide::name_of(item)).collect();
        let at = named(&known, name)?;
        wanted.extend(jobs.get(at).map(|item| item.id.clone()));
    }
    Ok(in_order(&jobs, wanted))
}

/// Which job a name means: its whole name, or the only one that is called so in its service.
fn named(known: &[String], name: &str) -> Result<usize, Exit> {
    if let Some(at) = known.iter().position(|known| known == name) {
        return Ok(at);
    }
    let called = |(at, known): (usize, &String)| (known.rsplit('/').next() == Some(name)).then_some(at);
    let found: Vec<usize> = known.iter().enumerate().filter_map(called).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => {
            Err(Exit::new(USAGE, format!("there is no job `{name}`")).hint(format!("there are {}", known.join(", "))))
        }
        several => {
            let names: Vec<&str> = several.iter().filter_map(|at| known.get(*at).map(String::as_str)).collect();
            Err(Exit::new(USAGE, format!("several services have a job `{name}`"))
                .hint(format!("name one: {}", names.join(", "))))
        }
    }
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

async fn run_all(global: &Global, worker: &Worker, tree: &Tree, jobs: &[Item], data: &Data) -> Done {
    let lower = data.0.join("tree");
    lay_out(tree, &lower)?;
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
        let outcome = one(worker, tree, job, &lower, &outcomes, global.json).await?;
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
    watched(worker, request, &job.key.to_string(), quiet).await
}

/// Runs it, shows its lines, and says that it still runs when it has said nothing for long.
async fn watched(worker: &Worker, request: RunRequest, title: &str, quiet: bool) -> Result<JobOutcome, Exit> {
    if !quiet {
        println!("{title}: running");
    }
    let (began, lines) = (Instant::now(), AtomicU64::new(0));
    let mut outcome = std::pin::pin!(run_here(worker, request, |line| {
        lines.fetch_add(1, Ordering::Relaxed);
        if !quiet {
            println!("{} {}", term::soft(&format!("{title} |")), line.text);
        }
    }));
    loop {
        let before = lines.load(Ordering::Relaxed);
        tokio::select! {
            outcome = &mut outcome => return outcome.map_err(|error| Exit::new(SURROUNDINGS, error)),
            () = tokio::time::sleep(SILENCE) => {
                if lines.load(Ordering::Relaxed) == before {
                    let so_far = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    eprintln!("{title}: still running, for {}", slipway_model::time::words(so_far));
                }
            }
        }
    }
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
        if file.mode == LINK {
            std::os::unix::fs::symlink(std::fs::read_link(&from).map_err(failed)?, &to).map_err(failed)?;
        } else if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_its_whole_name_or_by_the_only_one_that_is_called_so() {
        let known: Vec<String> = ["api/test", "api/lint", "web/test", "all"].map(ToOwned::to_owned).into();
        assert_eq!(named(&known, "web/test").unwrap(), 2);
        assert_eq!(named(&known, "lint").unwrap(), 1);
        assert_eq!(named(&known, "all").unwrap(), 3);
        let several = named(&known, "test").unwrap_err();
        assert_eq!((several.code, several.hint.as_deref()), (USAGE, Some("name one: api/test, web/test")));
        assert_eq!(named(&known, "nope").unwrap_err().what, "there is no job `nope`");
    }
}
