//! `slipway plan`: what a push would do, for a commit or for the working tree.
//!
//! In: the working tree or a commit, and the server, which plans either as if it were pushed. Out: a plan with reasons.
//! Never: a guess at what passed; without a server everything counts as new, and that is said.

use crate::cli::Global;
use crate::client::{NO_PROJECT, encode, find};
use crate::commands::ask::{commitish, path, print_json};
use crate::commands::local::{draft, tree};
use crate::exit::{Done, Exit, SURROUNDINGS};
use crate::term;
use clap::Args;
use http::Method;
use slipway_model::view::PlanView;
use slipway_plan::AskedTree;
use slipway_plan::drive::FILE;

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
    let mut view: PlanView = client.get(&path(&client, &format!("plan?rev={}", encode(&named))).await?).await?;
    if named != rev {
        view.warnings.push(format!("this is the plan of {}", named.get(..7).unwrap_or(&named)));
    }
    Ok(view)
}

async fn of_working_tree(global: &Global) -> Result<PlanView, Exit> {
    let tree = tree(global)?;
    let alone = |why: &str| -> Result<PlanView, Exit> {
        let mut view = slipway_feedback::change::plan_view(&draft(&tree)?);
        view.warnings.push(format!("{why}, so nothing is known of earlier results and everything runs"));
        Ok(view)
    };
    let Ok(client) = find(global) else { return alone("no server is known") };
    let file = match std::fs::read_to_string(tree.root.join(FILE)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Exit::new(SURROUNDINGS, format!("{FILE}: {error}"))),
    };
    let (branch, files, texts) = (tree.branch.clone(), tree.files.clone(), tree.texts.clone());
    let asked = AskedTree { branch, files, file, texts };
    let project = format!("/api/v1/projects/{}/plan", encode(client.project.as_deref().unwrap_or(&tree.name)));
    match client.send(Method::POST, &project, &asked).await {
        Err(problem) if problem.kind == NO_PROJECT => alone("nothing of this project was pushed yet"),
        Err(problem) if problem.code == SURROUNDINGS && problem.kind.is_empty() => {
            eprintln!("{} {}", term::soft("note:"), problem.what);
            alone("no server answers")
        }
        answer => answer,
    }
}
