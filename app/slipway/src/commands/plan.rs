//! `slipway plan`: what a push would do, for a commit or for the working tree.
//!
//! In: the working tree, and what the server knows of the commit that it came from. Out: a plan with reasons. Never: a
//! guess at what passed; without a server everything counts as new, and that is said.

use crate::cli::Global;
use crate::client::{Client, encode, find};
use crate::commands::ask::{commitish, path, print_json};
use crate::commands::local::{Tree, draft, git, text, tree, undecided};
use crate::exit::{Done, Exit};
use crate::term;
use clap::Args;
use slipway_model::plan::Previous;
use slipway_model::view::PlanView;
use slipway_model::{ChangeId, CommitId, ContentKey, Digest, ProjectName};
use slipway_plan::decide::Known;
use slipway_plan::drive::{FILE, is_read, read_config};
use slipway_ports::TreeFile;
use std::collections::{BTreeMap, BTreeSet};

/// What to plan.
#[derive(Debug, Args)]
pub struct Plan {
    /// A commit, branch or tag that was pushed; default: the working tree, compared with what was pushed last
    rev: Option<String>,
}

/// `slipway plan`.
pub async fn plan(global: &Global, plan: &Plan) -> Done {
    let view = match &plan.rev {
        Some(rev) => of_commit(global, rev).await?,
        None => of_working_tree(global).await?,
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

async fn of_commit(global: &Global, rev: &str) -> Result<PlanView, Exit> {
    let client = find(global)?;
    let named = commitish(rev);
    let mut view = pushed(&client, &named, None).await?;
    if named != rev {
        view.warnings.push(format!("this is the plan of {}", named.get(..7).unwrap_or(&named)));
    }
    Ok(view)
}

async fn pushed(client: &Client, rev: &str, branch: Option<&str>) -> Result<PlanView, Exit> {
    let branch = branch.map(|branch| format!("&branch={}", encode(branch))).unwrap_or_default();
    client.get(&path(client, &format!("plan?rev={}{branch}", encode(rev))).await?).await
}

async fn of_working_tree(global: &Global) -> Result<PlanView, Exit> {
    let tree = tree(global)?;
    let client = find(global);
    let compared = match &client {
        Ok(client) => compare(client, &tree).await,
        Err(_) => None,
    };
    let Some((base, plan)) = compared else {
        let mut view = slipway_feedback::change::plan_view(&draft(&tree)?);
        let why = if client.is_ok() { "no server has a commit of this branch" } else { "no server is known" };
        view.warnings.push(format!("{why}, so nothing is known of earlier results and everything runs"));
        return Ok(view);
    };
    let mut view = slipway_feedback::change::plan_view(&plan);
    view.warnings.push(format!("compared with {}, which was pushed", base.short()));
    Ok(view)
}

/// The plan of the working tree by what the server knows of the newest commit of this branch that it has.
async fn compare(client: &Client, tree: &Tree) -> Option<(CommitId, slipway_model::plan::Plan)> {
    let tracking = format!("refs/remotes/slipway/{}", tree.branch);
    for rev in ["HEAD", tracking.as_str(), "refs/remotes/slipway/main"] {
        let Ok(found) = git(&tree.root, &["rev-parse", "-q", "--verify", &format!("{rev}^{{commit}}")]) else {
            continue;
        };
        let Ok(commit) = CommitId::parse(&text(&found)) else { continue };
        if let Ok(view) = pushed(client, commit.as_str(), Some(&tree.branch)).await {
            let plan = against(tree, &commit, &view).ok()?;
            return Some((commit, plan));
        }
    }
    None
}

/// Items whose content is that of the commit are judged as the server judges them there.
fn against(tree: &Tree, commit: &CommitId, view: &PlanView) -> Result<slipway_model::plan::Plan, Exit> {
    let (base, changed) = tree_of(tree, commit)?;
    let mut known: BTreeMap<ContentKey, Known> = BTreeMap::new();
    for item in undecided(&base, None)?.plan.items {
        let word = view.items.iter().find(|known| known.id == item.id).map(|known| known.decision.as_str());
        // What the server leaves out of an idle plan is done already.
        let satisfied = match word {
            Some("run") => continue,
            Some("failed-before") => false,
            _ => true,
        };
        let previous =
            Previous { change: no_change(tree, commit)?, commit: commit.clone(), outcome: None, image: None };
        known.insert(item.key.clone(), Known { previous, satisfied, took_ms: 0 });
    }
    Ok(slipway_plan::decide(undecided(tree, Some(changed))?, &known))
}

fn no_change(tree: &Tree, commit: &CommitId) -> Result<ChangeId, Exit> {
    let project = ProjectName::parse(&tree.name).map_err(crate::exit::surroundings)?;
    Ok(ChangeId::derive(&project, "plan", "", "", commit.as_str()))
}

/// The tree of a commit, and the paths in which the working tree differs from it.
fn tree_of(tree: &Tree, commit: &CommitId) -> Result<(Tree, BTreeSet<String>), Exit> {
    let listed = git(&tree.root, &["ls-tree", "-r", "-z", "--full-tree", commit.as_str()])?;
    let differing = git(&tree.root, &["diff", "--name-only", "--no-renames", "-z", commit.as_str()])?;
    let mut changed: BTreeSet<String> = names(&differing).map(ToOwned::to_owned).collect();
    let here: BTreeMap<&str, &TreeFile> = tree.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut files = Vec::new();
    for line in names(&listed) {
        let Some((head, path)) = line.split_once('\t') else { continue };
        let mut head = head.split(' ');
        let (Some(mode), Some("blob")) = (head.next(), head.next()) else { continue };
        match here.get(path).filter(|_| !changed.contains(path)) {
            Some(same) => files.push((*same).clone()),
            None => {
                let bytes = git(&tree.root, &["cat-file", "blob", &format!("{commit}:{path}")])?;
                let mode = u32::from_str_radix(mode, 8).unwrap_or(0o100_644);
                files.push(TreeFile { path: path.to_owned(), mode, id: Digest::of(&bytes).hex().to_owned() });
            }
        }
    }
    changed.extend(
        here.keys().filter(|path| !files.iter().any(|file| file.path == **path)).map(|path| (*path).to_owned()),
    );
    let blob = |path: &str| git(&tree.root, &["cat-file", "blob", &format!("{commit}:{path}")]);
    let config = if files.iter().any(|file| file.path == FILE) {
        read_config(&blob(FILE)?).map_err(crate::exit::surroundings)?
    } else {
        slipway_config::Config::default()
    };
    let mut texts = BTreeMap::new();
    for file in files.iter().filter(|file| is_read(&file.path, &config)) {
        texts.insert(file.path.clone(), String::from_utf8_lossy(&blob(&file.path)?).into_owned());
    }
    let base = Tree {
        root: tree.root.clone(),
        name: tree.name.clone(),
        remote: tree.remote.clone(),
        files,
        config,
        texts,
        branch: tree.branch.clone(),
    };
    Ok((base, changed))
}

fn names(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty())
}
