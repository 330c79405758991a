//! All tests of this package once more, as accounts made for it: one with subordinate ids, one with a single id.

use crate::escapes::attacker;
use crate::support::*;
use slipway_sandbox::Level;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What only root's sandboxes do; users' have tests of their own in `users`.
const ROOT_ONLY: [&str; 6] = [
    "levels::",
    "escapes::what_root_inside_writes_belongs_to_no_user_of_the_host",
    "life::the_memory_limit_ends_a_step_as_out_of_memory",
    "network::a_way_out_leads_past_the_host_and_never_to_it",
    "network::sandboxes_with_a_way_out_do_not_reach_each_other",
    "tools::cargo_test_runs_offline_without_touching_the_hosts_cargo_home",
];
/// What needs a second id.
const SECOND_ID: [&str; 3] = [
    "escapes::set_user_id_programs_give_nothing",
    "escapes::a_named_user_has_no_rights_but_may_serve_on_port_80",
    "life::image_layers_are_a_root",
];
const IDS_EACH: u32 = 65_536;

/// An account made for tests; it stays for the next time.
struct Account {
    name: &'static str,
    uid: u32,
    gid: u32,
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Account {
    fn get(level: Level) -> Account {
        // Two test runs may want the same account at once, and `useradd` does not wait.
        let lock = std::fs::File::create(std::env::temp_dir().join("slipway-accounts.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let name = if level == Level::SubordinateIds { "slipway-subordinate" } else { "slipway-single" };
        if said("id", &["-u", name]).is_none() {
            // A system account gets no subordinate ids by itself.
            said("useradd", &["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]).unwrap();
        }
        let taken = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        if level == Level::SubordinateIds && !taken.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            let end = |line: &str| {
                let mut numbers = line.split(':').skip(1).map(|number| number.parse::<u32>().unwrap_or(0));
                Some(numbers.next()? + numbers.next()?)
            };
            let first = taken.lines().filter_map(end).max().unwrap_or(0).max(600_000);
            let range = format!("{first}-{}", first + IDS_EACH - 1);
            said("usermod", &["--add-subuids", &range, "--add-subgids", &range, name]).unwrap();
        }
        let number = |flag| said("id", &[flag, name]).unwrap().parse().unwrap();
        Account { name, uid: number("-u"), gid: number("-g") }
    }

    /// Whether an id is this account's or one of its subordinate ones.
    fn has(&self, id: u32) -> bool {
        let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        let own = ranges.lines().filter_map(|line| line.strip_prefix(&format!("{}:", self.name)));
        let mut firsts = own.filter_map(|rest| rest.split(':').next()?.parse::<u32>().ok());
        id == self.uid || firsts.any(|first| (first..first + IDS_EACH).contains(&id))
    }
}

/// A folder that the account may read, with the programs and a folder for scratch in it.
struct Place(PathBuf);

impl Place {
    fn new(account: &Account, what: &str) -> Place {
        let folder = std::env::temp_dir().join(format!("slipway-levels-{what}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("tmp")).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder.join("tmp"), Some(account.uid), Some(account.gid)).unwrap();
        let programs = [
            ("tests", std::env::current_exe().unwrap()),
            ("shim", env!("CARGO_BIN_EXE_slipway-shim").into()),
            ("attack", attacker().clone()),
        ];
        for (name, program) in programs {
            std::fs::copy(program, folder.join(name)).unwrap();
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Place(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs tests of this binary as an account; a script around it may put it elsewhere first.
fn run_as(account: &Account, place: &Place, level: Level, before: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("sh");
    let script =
        format!("{before} exec setpriv --reuid {0} --regid {1} --clear-groups -- \"$@\"", account.uid, account.gid);
    command.args(["-c", &script, "sh"]).arg(place.at("tests")).arg("--test-threads=2").args(arguments);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("TMPDIR", place.at("tmp")).env(LEVEL, level.word());
    command.env(SHIM, place.at("shim")).env(ATTACK, place.at("attack")).current_dir("/").stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "as {}:\n{text}", account.name);
    text
}

/// Nothing that the account's tests started or made is left.
fn assert_nothing_left(account: &Account, place: &Place) {
    let until = Instant::now() + Duration::from_secs(10);
    let living = || -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let own = entries.filter(|entry| entry.metadata().is_ok_and(|data| account.has(data.uid())));
        let line = |path: &Path| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        let ours = place.0.display().to_string();
        own.map(|entry| line(&entry.path())).filter(|line| line.contains(&ours)).collect()
    };
    while !living().is_empty() && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(living(), Vec::<String>::new());
    let left: Vec<PathBuf> = std::fs::read_dir(place.at("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn holds_at(level: Level, left_out: &[&str]) {
    let account = Account::get(level);
    let place = Place::new(&account, level.word());
    let skips: Vec<&str> = left_out.iter().flat_map(|name| ["--skip", name]).collect();
    let text = run_as(&account, &place, level, "", &skips);
    let ran =
        text.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|count| count > 30), "{text}");
    assert_nothing_left(&account, &place);
}

#[test]
fn everything_holds_for_an_account_with_subordinate_ids() {
    holds_at(Level::SubordinateIds, &ROOT_ONLY);
}

#[test]
fn everything_holds_for_an_account_with_a_single_id() {
    holds_at(Level::SingleId, &[&ROOT_ONLY[..], &SECOND_ID[..]].concat());
}

#[test]
fn limits_hold_for_an_account_that_was_given_control_groups() {
    let current = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let name = format!("slipway-levels-{}", std::process::id());
    let mut groups = Vec::new();
    for line in current.lines() {
        let fields: Vec<&str> = line.splitn(3, ':').collect();
        for controller in fields[1].split(',').filter(|one| ["memory", "pids", "cpu", "cpuacct"].contains(one)) {
            let parent = Path::new("/sys/fs/cgroup").join(controller).join(fields[2].trim_start_matches('/'));
            groups.extend(parent.is_dir().then(|| parent.join(&name)));
        }
    }
    if groups.is_empty() {
        return; // version 2 alone: its delegation is a service manager's
    }
    let account = Account::get(Level::SingleId);
    let place = Place::new(&account, "delegated");
    let mut before = String::new();
    for group in &groups {
        std::fs::create_dir_all(group).unwrap();
        for file in ["", "tasks", "cgroup.procs"] {
            chown(group.join(file), Some(account.uid), Some(account.gid)).unwrap();
        }
        before += &format!("echo $$ > {}/cgroup.procs; ", group.display());
    }
    let tests = ["life::the_memory_limit_ends_a_step_as_out_of_memory", "escapes::a_fork_bomb_stops_at_its_limit"];
    let text = run_as(&account, &place, Level::SingleId, &before, &[&["--exact"], &tests[..]].concat());
    assert!(text.contains("2 passed"), "{text}");
    assert_nothing_left(&account, &place);
    for group in &groups {
        // Nothing of a run is left in it, or it could not be removed.
        std::fs::remove_dir(group).unwrap();
    }
}
