//! The end-to-end tests as an ordinary user.
//!
//! In: a kind of account, names of tests. Out: what the tests print, and whether they hold. Makes the account if it is
//! missing (as root), and leaves it for the next time. Never: an account that can sign in; a test that this account cannot pass.

use crate::packages::cargo;
use crate::{Outcome, tools};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const IDS: u32 = 65_536;
/// Below lie what systems give to people's accounts.
const FIRST_ID: u32 = 600_000;

/// A kind of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// With subordinate ids.
    Subordinate,
    /// With one id.
    Single,
}

/// What a plain run of `--as` holds: the road, its bad days, and what is different for an ordinary user.
const USUAL: [&str; 9] =
    ["road::", "rollout::", "kills::", "lost::", "leaving::", "local::", "secrets::", "users::", "doctor::"];
/// Mounts, as root only.
const ROOT_ONLY: [&str; 1] = ["disk::"];

impl Account {
    /// All kinds.
    pub const ALL: [Account; 2] = [Account::Subordinate, Account::Single];

    /// By the word of the command line.
    pub fn parse(word: &str) -> Option<Account> {
        Account::ALL.into_iter().find(|account| account.word() == word)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Account::Subordinate => "subordinate",
            Account::Single => "single",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Account::Subordinate => "slipway-subordinate",
            Account::Single => "slipway-single",
        }
    }

    /// The level that `slipway doctor` is to find.
    fn level(self) -> &'static str {
        match self {
            Account::Subordinate => "subordinate-ids",
            Account::Single => "single-id",
        }
    }

    /// Its user and group number; made if it is missing.
    fn provide(self) -> Result<(u32, u32)> {
        let name = self.name();
        if said("id", &["-u", name]).is_err() {
            said("useradd", &["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name])?;
        }
        let taken = fs::read_to_string("/etc/subuid").unwrap_or_default();
        if self == Account::Subordinate && !taken.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            let first = next_free(&taken);
            let range = format!("{first}-{}", first + IDS - 1);
            said("usermod", &["--add-subuids", &range, "--add-subgids", &range, name])?;
        }
        Ok((said("id", &["-u", name])?.parse()?, said("id", &["-g", name])?.parse()?))
    }
}

/// The first id behind all that are given away (subuid(5)).
fn next_free(taken: &str) -> u32 {
    let end = |line: &str| {
        let mut numbers = line.split(':').skip(1).map(|number| number.trim().parse::<u32>().ok());
        numbers.next()??.checked_add(numbers.next()??)
    };
    taken.lines().filter_map(end).fold(FIRST_ID, u32::max)
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("`{program}` cannot be started"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "`{program} {}` failed: {}", arguments.join(" "), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// A folder that the account may read and write in, with all programs that the tests need.
struct Place(PathBuf);

impl Place {
    fn make(root: &Path, owner: (u32, u32)) -> Result<Place> {
        let place = Place(std::env::temp_dir().join(format!("slipway-as-{}", std::process::id())));
        for folder in ["", "home", "tmp", "bin/deps"] {
            let folder = place.0.join(folder);
            fs::create_dir_all(&folder)?;
            chown(&folder, Some(owner.0), Some(owner.1))?;
        }
        let (tests, binary) = build(root)?;
        let server = place.0.join("bin/server");
        let source = root.join("checks/e2e/fixtures/server.c");
        let path = |path: &Path| path.display().to_string();
        said("cc", &["-static", "-O1", "-s", "-pthread", "-o", &path(&server), &path(&source)])?;
        fs::copy(tests, place.0.join("bin/deps/e2e"))?;
        fs::copy(binary, place.0.join("bin/slipway"))?;
        for program in ["bin/server", "bin/slipway", "bin/deps/e2e"] {
            fs::set_permissions(place.0.join(program), fs::Permissions::from_mode(0o755))?;
        }
        Ok(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The tests' program, and the binary that they test.
fn build(root: &Path) -> Result<(PathBuf, PathBuf)> {
    let built = |words: &[&str], name: &str, is_test: bool| -> Result<PathBuf> {
        let mut command = cargo(root);
        command.args(words).args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
        let output = command.output().context("`cargo` cannot be started")?;
        ensure!(output.status.success(), "`cargo {}` failed", words.join(" "));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found =
            text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|line| {
                let is_it = line["target"]["name"] == name && line["profile"]["test"] == is_test;
                line["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
            });
        found.with_context(|| format!("`cargo {}` made no program", words.join(" ")))
    };
    let binary = built(&["build", "-q", "-p", "slipway"], "slipway", false)?;
    Ok((built(&["test", "-q", "-p", "slipway-e2e", "--no-run"], "slipway_e2e", true)?, binary))
}

/// Runs tests as an account: those named, or the usual part.
pub fn run(account: Account, tests: &[&str]) -> Result<Outcome> {
    if !tools::is_root()? {
        bail!("only root can make the account that the tests run as; as an ordinary user: cargo test -p slipway-e2e");
    }
    let (uid, gid) = account.provide()?;
    let place = Place::make(&crate::tree::root()?, (uid, gid))?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups", "--"]);
    command.arg(place.at("bin/deps/e2e"));
    command.args(if tests.is_empty() { &USUAL[..] } else { tests });
    for name in ROOT_ONLY {
        command.args(["--skip", name]);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", place.at("home")).env("TMPDIR", place.at("tmp"));
    command.env("SLIPWAY_E2E_BINARY", place.at("bin/slipway")).env("SLIPWAY_E2E_SERVER", place.at("bin/server"));
    command.env("SLIPWAY_E2E_LEVEL", account.level()).env("USER", account.name());
    let status = command.current_dir(place.at("home")).stdin(Stdio::null()).status();
    let holds = status.context("`setpriv` cannot be started")?.success();
    let left = fs::read_dir(place.at("tmp"))?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<String> = left.collect();
    if holds && !left.is_empty() {
        println!("left behind: {}", left.join(", "));
        return Ok(Outcome::Broken);
    }
    Ok(if holds { Outcome::Holds } else { Outcome::Broken })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_behind_those_of_others() {
        assert_eq!(next_free(""), FIRST_ID);
        assert_eq!(next_free("ann:100000:65536\n"), FIRST_ID);
        assert_eq!(next_free("ann:100000:65536\nben:700000:10\nbad\n"), 700_010);
    }
}
