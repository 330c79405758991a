//! In: the root of a file. Out: the whole `Config`, with what can only be
//! judged across sections.

use crate::model::{Branches, Config, Spanned};
use crate::problem::quoted;
use crate::read::{Reader, Section, check, environments, jobs, services};
use crate::yaml::Node;

const TOP: Section = Section {
    what: "the file",
    read: &["project", "branches", "services", "jobs", "environments"],
    later: &[
        "middleware",
        "groups",
        "compose",
        "limits",
        "include",
        "uses",
        "lock",
        "notify",
        "features",
        "team",
        "owners",
        "base",
    ],
};

const BRANCHES: Section = Section { what: "`branches`", read: &["production", "include", "exclude"], later: &[] };

/// The longest name of a branch, as Git's own file limits allow it.
const BRANCH_MAX: usize = 250;

pub(crate) fn read(reader: &mut Reader<'_>, root: &Node, file: &str) -> Config {
    let mut config = Config { file: file.to_owned(), ..Config::default() };
    let Some(table) = reader.table(root, &TOP) else {
        return config;
    };
    reader.environments = environments::names(table.get("environments"));
    if let Some(node) = table.get("project")
        && let Some(name) = reader.text(node, "project")
        && reader.name(&name.value, name.at)
    {
        config.project = Some(name);
    }
    if let Some(node) = table.get("branches") {
        config.branches = branches(reader, node);
    }
    if let Some(node) = table.get("services") {
        config.services = services::read(reader, node);
    }
    if let Some(node) = table.get("jobs") {
        config.jobs = jobs::read(reader, node, ".");
    }
    if let Some(node) = table.get("environments") {
        config.environments = environments::read(reader, node);
    }
    check::needs(reader, &config, root);
    config
}

fn branches(reader: &mut Reader<'_>, node: &Node) -> Branches {
    let mut branches = Branches::default();
    let Some(table) = reader.table(node, &BRANCHES) else {
        return branches;
    };
    if let Some(node) = table.get("production") {
        branches.production = production(reader, node);
    }
    if let Some(node) = table.get("include") {
        branches.include = reader.patterns(node, "include");
    }
    if let Some(node) = table.get("exclude") {
        branches.exclude = reader.patterns(node, "exclude");
    }
    branches
}

fn production(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let name = reader.text(node, "production")?;
    if name.value.contains(['*', '?']) {
        let hint = "write the name of the one branch that goes to production";
        reader.error(name.at, "`production` is one branch, not a pattern", Some(hint));
        return None;
    }
    reader.branch(&name).then_some(name)
}

impl Reader<'_> {
    /// Patterns of branch names: `*` within one part, `**` across parts.
    pub(crate) fn patterns(&mut self, node: &Node, key: &str) -> Option<Spanned<Vec<String>>> {
        let written = self.texts(node, key)?;
        let mut patterns = Vec::new();
        for pattern in written {
            if self.branch(&pattern) {
                patterns.push(pattern.value);
            }
        }
        Some(Spanned::new(patterns, node.at))
    }

    /// Whether this can be (a pattern of) a branch: git-check-ref-format(1).
    fn branch(&mut self, name: &Spanned<String>) -> bool {
        let text = name.value.as_str();
        let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '\\' | '[');
        let bad = text.len() > BRANCH_MAX
            || text.contains(forbidden)
            || text.contains("..")
            || text.contains("//")
            || text.starts_with(['/', '-'])
            || text.ends_with(['/', '.']);
        if bad {
            let message = format!("{} cannot be a branch", quoted(text));
            let hint = text.strip_prefix("refs/heads/").map(|short| format!("did you mean `{short}`?"));
            self.error(name.at, &message, hint.as_deref());
            return false;
        }
        if let Some(short) = text.strip_prefix("refs/heads/") {
            let hint = format!("did you mean `{short}`?");
            let message = format!("{} is a ref, not a branch", quoted(text));
            self.error(name.at, &message, Some(&hint));
            return false;
        }
        true
    }
}
