//! In: names that the file gives. Out: the same, checked. Never changes one.

use crate::problem::{Position, quoted};
use crate::read::Reader;
use crate::yaml::{Entry, Node};

/// The longest name. With project and environment it still fits a DNS name.
pub(crate) const NAME_MAX: usize = 40;

impl Reader<'_> {
    /// The entries of a table from names to things, those with good names.
    pub(crate) fn named<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> Vec<&'n Entry> {
        let Some(entries) = self.entries(node, &quoted(what)) else {
            return Vec::new();
        };
        if entries.len() > most {
            let message = format!("{} has more than {most} entries", quoted(what));
            self.error(node.at, &message, None);
        }
        let mut good = Vec::new();
        for entry in entries.iter().take(most) {
            if self.name(&entry.key, entry.key_at) {
                good.push(entry);
            }
        }
        good
    }

    /// Whether this is a name; says what is wrong with it otherwise.
    pub(crate) fn name(&mut self, name: &str, at: Position) -> bool {
        if is_name(name) {
            return true;
        }
        if name.contains("${{") {
            return false;
        }
        let message = format!("{} is not a name", quoted(name));
        let rule = format!("lower case letters, digits and `-` inside, at most {NAME_MAX} characters");
        let hint = match proposal(name) {
            Some(better) => format!("did you mean `{better}`? ({rule})"),
            None => rule,
        };
        self.error(at, &message, Some(&hint));
        false
    }

    /// Whether this can be the name of an environment variable of a program.
    pub(crate) fn variable(&mut self, name: &str, at: Position) -> bool {
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let good = begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good {
            if !name.contains("${{") {
                let message = format!("{} is not the name of a variable", quoted(name));
                self.error(at, &message, Some("use letters, digits and `_`"));
            }
            return false;
        }
        if name.starts_with("SLIPWAY_") {
            let message = format!("{} belongs to the product itself", quoted(name));
            let hint = "names that begin with `SLIPWAY_` are set by it; choose another";
            self.error(at, &message, Some(hint));
            return false;
        }
        true
    }

    /// Whether this is the name of a secret: `[A-Z_][A-Z0-9_]*`.
    pub(crate) fn secret_name(&mut self, name: &str, at: Position) -> bool {
        let begins = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
        let rest = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if begins && rest && name.len() <= 100 {
            return true;
        }
        let message = format!("{} is not the name of a secret", quoted(name));
        let hint = "write the name only, in capitals: `API_TOKEN`; \
                    its value is set with `slipway secret`";
        self.error(at, &message, Some(hint));
        false
    }
}

/// `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 40 characters.
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn proposal(name: &str) -> Option<String> {
    let better: String =
        name.to_lowercase().chars().map(|c| if matches!(c, '_' | ' ' | '.' | '/') { '-' } else { c }).collect();
    let better = better.trim_matches('-');
    is_name(better).then(|| better.to_owned())
}
