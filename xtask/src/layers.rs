//! Who may use whom.
//!
//! In: the packages of the workspace, the table of edges of ARCHITECTURE.md. Out: every dependency that a rule
//! forbids, with the rule and what to do. Never: an exception that is not in that table.

use crate::architecture::{self, Edge};
use crate::packages::{Need, Package};
use crate::problem::Problem;
use crate::tree::Tree;
use anyhow::{Context, Result};

/// The part of the tree that a package lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Base,
    Path,
    Engines,
    App,
    Checks,
    Bench,
    Xtask,
}

/// Why a dependency is forbidden, and what to do instead.
type Rule = (&'static str, &'static str);

const STAGE_STAGE: Rule = (
    "a stage never names a stage",
    "stages exchange facts: put the noun into `base/model` and what follows from the fact into `app/change/src/road.rs`",
);
const STAGE_ENGINE: Rule = (
    "a stage reaches the world through ports",
    "use a trait of `base/ports`, or add one there with a fake; `app/slipway` wires the engine to it",
);
const ENGINE_STAGE: Rule = (
    "an engine never names a stage",
    "implement a port of `base/ports`, or take the decision as an argument; `app` joins the two",
);
const ENGINE_ENGINE: Rule = (
    "an engine uses another only by an edge that ARCHITECTURE.md lists",
    "take what is needed through a trait or a function, or add the edge to the table with its reason",
);
const BASE_UP: Rule =
    ("what everybody may use uses nothing above itself", "move the code up to its user, or the noun down into `base`");
const NOT_APP: Rule = (
    "nothing below `app` knows how it is put together",
    "take it as an argument or a port, or move the code into `app`",
);
const NOT_TOOLS: Rule =
    ("no product code rests on checks, benchmarks or xtask", "move what both need into the package that it is about");
const XTASK_ALONE: Rule = (
    "`xtask` judges the workspace and uses nothing of it",
    "read the files or ask cargo; else the judge does not compile when the code does not",
);
const ANYHOW: Rule = (
    "`anyhow` hides which failure it was; it is for programs alone (`app/slipway`, `bench`, `checks`, `xtask`)",
    "make an error enum with `thiserror`",
);
const NAME: &str = "packages are called `slipway-FOLDER`, without the folder's number";

/// All forbidden dependencies.
pub fn check(packages: &[Package], tree: &Tree) -> Result<Vec<Problem>> {
    let text =
        tree.text(architecture::FILE).context("ARCHITECTURE.md is missing; `layers` reads its table of edges")?;
    Ok(judge(packages, &architecture::edges(text)?))
}

fn judge(packages: &[Package], edges: &[Edge]) -> Vec<Problem> {
    let mut found = unknown_edges(packages, edges);
    for package in packages {
        let Some(layer) = layer(&package.folder) else {
            found.push(Problem::new(
                &package.folder,
                format!("package `{}` lies in no layer", package.name),
                "put it below base, path, engines, app, checks, bench or xtask",
            ));
            continue;
        };
        found.extend(misnamed(package));
        for need in &package.needs {
            let user = packages.iter().find(|other| other.name == need.name);
            let used = user.and_then(|other| Some((other, self::layer(&other.folder)?)));
            let rule = match used {
                Some((other, below)) => forbidden((package, layer), (other, below), edges),
                None => outside(package, layer, need),
            };
            found.extend(rule.map(|rule| problem(package, need, rule)));
        }
    }
    found
}

fn layer(folder: &str) -> Option<Layer> {
    Some(match folder.split('/').next()? {
        "base" => Layer::Base,
        "path" => Layer::Path,
        "engines" => Layer::Engines,
        "app" => Layer::App,
        "checks" => Layer::Checks,
        "bench" => Layer::Bench,
        "xtask" => Layer::Xtask,
        _ => return None,
    })
}

/// The rule that a dependency breaks. Tests and build scripts are no exception: what a stage's test names, the stage knows.
fn forbidden(user: (&Package, Layer), used: (&Package, Layer), edges: &[Edge]) -> Option<Rule> {
    let listed = || edges.iter().any(|e| e.from == short(&user.0.folder) && e.to == short(&used.0.folder));
    match (user.1, used.1) {
        (Layer::Xtask, _) => Some(XTASK_ALONE),
        (Layer::Checks, Layer::Checks) => None,
        (_, Layer::Checks | Layer::Bench | Layer::Xtask) => Some(NOT_TOOLS),
        (Layer::App | Layer::Checks | Layer::Bench, _) => None,
        (Layer::Base | Layer::Path | Layer::Engines, Layer::Base) => None,
        (_, Layer::App) => Some(NOT_APP),
        (Layer::Base, _) => Some(BASE_UP),
        (Layer::Path, Layer::Path) => Some(STAGE_STAGE),
        (Layer::Path, Layer::Engines) => Some(STAGE_ENGINE),
        (Layer::Engines, Layer::Path) => Some(ENGINE_STAGE),
        (Layer::Engines, Layer::Engines) if listed() => None,
        (Layer::Engines, Layer::Engines) => Some(ENGINE_ENGINE),
    }
}

/// The rule that a dependency on a package of others breaks.
fn outside(package: &Package, layer: Layer, need: &Need) -> Option<Rule> {
    let program = package.folder == "app/slipway" || matches!(layer, Layer::Bench | Layer::Checks | Layer::Xtask);
    (need.name == "anyhow" && !program).then_some(ANYHOW)
}

fn problem(package: &Package, need: &Need, (rule, hint): Rule) -> Problem {
    let what = format!("`{}` names `{}` under {}, but {rule}", package.name, need.name, need.kind.section());
    Problem::new(format!("{}/Cargo.toml", package.folder), what, hint)
}

fn misnamed(package: &Package) -> Option<Problem> {
    let wanted = match package.folder.as_str() {
        "app/slipway" => "slipway".to_owned(),
        "xtask" => "xtask".to_owned(),
        folder => format!("slipway-{}", short(folder)),
    };
    (package.name != wanted).then(|| {
        let what = format!("the package is called `{}`, but {NAME}", package.name);
        Problem::new(format!("{}/Cargo.toml", package.folder), what, format!("call it `{wanted}`"))
    })
}

fn unknown_edges(packages: &[Package], edges: &[Edge]) -> Vec<Problem> {
    let exists = |engine: &str| packages.iter().any(|package| package.folder == format!("engines/{engine}"));
    let ends = edges.iter().flat_map(|edge| [(edge.line, &edge.from), (edge.line, &edge.to)]);
    let missing = ends.filter(|(_, engine)| !exists(engine));
    let mut found: Vec<Problem> = missing
        .map(|(line, engine)| {
            let what = format!("the table of edges names `{engine}`, and there is no `engines/{engine}`");
            Problem::new(format!("{}:{line}", architecture::FILE), what, "correct the name, or take it out")
        })
        .collect();
    found.dedup();
    found
}

/// `path/2-plan` is `plan`.
fn short(folder: &str) -> &str {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    name.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::NeedKind;

    /// `folder: need need(dev)` a line; what is wrong, a line each: folder, need, the rule's first words.
    fn check(lines: &str, edges: &[(&str, &str)]) -> String {
        let package = |line: &str| {
            let (folder, needs) = line.split_once(':').unwrap();
            let need = |word: &str| match word.strip_suffix("(dev)") {
                Some(name) => Need { name: name.to_owned(), kind: NeedKind::Tests },
                None => Need { name: word.to_owned(), kind: NeedKind::Normal },
            };
            let name = match folder {
                "app/slipway" => "slipway".to_owned(),
                "xtask" => "xtask".to_owned(),
                folder => format!("slipway-{}", short(folder)),
            };
            let needs = needs.split_whitespace().map(need).collect();
            Package { name, folder: folder.to_owned(), needs, programs: Vec::new() }
        };
        let packages: Vec<_> = lines.lines().map(package).collect();
        let edge = |(from, to): &(&str, &str)| Edge { from: (*from).into(), to: (*to).into(), line: 1 };
        let found = judge(&packages, &edges.iter().map(edge).collect::<Vec<_>>());
        found.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>().join("\n")
    }

    const PACKAGES: &str = "base/model:\npath/2-plan: slipway-model\npath/3-jobs: slipway-model\nengines/node: \
                            slipway-proxy\nengines/proxy: slipway-model\napp/change: slipway-plan slipway-node \
                            slipway-model\nchecks/sim: slipway-plan(dev) slipway-change slipway-proxy anyhow";

    #[test]
    fn the_layers_as_they_are_meant_hold() {
        assert_eq!(check(PACKAGES, &[("node", "proxy")]), "");
    }

    #[test]
    fn an_edge_between_engines_must_be_listed() {
        let expected = "`slipway-node` names `slipway-proxy` under [dependencies], but an engine uses another only by an \
                        edge that ARCHITECTURE.md lists";
        assert_eq!(check(PACKAGES, &[]), expected);
    }

    #[test]
    fn a_listed_edge_names_engines_that_exist() {
        let expected = "the table of edges names `prox`, and there is no `engines/prox`";
        assert_eq!(check(PACKAGES, &[("node", "proxy"), ("node", "prox")]), expected);
    }

    #[test]
    fn every_forbidden_direction_is_caught() {
        let pairs = [
            ("path/2-plan: slipway-jobs", STAGE_STAGE),
            ("path/2-plan: slipway-jobs(dev)", STAGE_STAGE),
            ("path/2-plan: slipway-node", STAGE_ENGINE),
            ("path/2-plan: slipway-change", NOT_APP),
            ("engines/node: slipway-jobs", ENGINE_STAGE),
            ("engines/node: slipway-jobs(dev)", ENGINE_STAGE),
            ("engines/node: slipway-sim(dev)", NOT_TOOLS),
            ("base/model: slipway-jobs", BASE_UP),
            ("base/model: slipway-change", NOT_APP),
            ("app/change: slipway-sim", NOT_TOOLS),
            ("xtask: slipway-model", XTASK_ALONE),
            ("base/model: anyhow", ANYHOW),
            ("app/change: anyhow", ANYHOW),
        ];
        for (line, (rule, _)) in pairs {
            let folder = line.split(':').next().unwrap();
            let others = PACKAGES.lines().filter(|other| !other.starts_with(folder));
            let lines = others.chain([line]).collect::<Vec<_>>().join("\n");
            let found = check(&lines, &[("node", "proxy")]);
            assert!(found.ends_with(rule) && found.lines().count() == 1, "{line}: {found}");
        }
    }

    #[test]
    fn a_package_is_called_after_its_folder() {
        let package = Package { name: "plan".into(), folder: "path/2-plan".into(), ..Package::default() };
        assert_eq!(misnamed(&package).unwrap().hint, "call it `slipway-plan`");
    }
}
