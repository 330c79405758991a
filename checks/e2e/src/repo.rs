//! A repository of a test, and pushes of it.
//!
//! In: files. Out: commits, pushes with every line and when it came. Never: touches the user's Git configuration.

use crate::machine::{DEADLINE, server, until};
use crate::world::{Said, World, said};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A repository with a `slipway` remote.
pub struct Repo<'a> {
    pub world: &'a World,
    pub root: PathBuf,
    pub project: String,
}

/// A push that ended.
#[derive(Debug)]
pub struct Pushed {
    pub ok: bool,
    pub text: String,
}

impl Pushed {
    /// Asserts that a line contains this.
    #[track_caller]
    pub fn says(self, text: &str) -> Pushed {
        assert!(self.text.contains(text), "`{text}` is missing in:\n{}", self.text);
        self
    }

    /// Asserts that no line contains this.
    #[track_caller]
    pub fn not(self, text: &str) -> Pushed {
        assert!(!self.text.contains(text), "`{text}` is in:\n{}", self.text);
        self
    }
}

/// A push under way.
pub struct Pushing {
    child: Child,
    lines: Receiver<String>,
    pub seen: String,
}

impl Pushing {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits for a line that contains this; the line.
    pub fn line(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("`{text}` was not said:\n{}", self.seen);
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Pushed {
        let mut text = std::mem::take(&mut self.seen);
        let until = Instant::now() + DEADLINE;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            text.push_str(&line);
            text.push('\n');
        }
        assert!(Instant::now() < until, "the push does not end:\n{text}");
        Pushed { ok: self.child.wait().unwrap().success(), text }
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `slipway.yaml` says of a service in most tests; the tests set what differs.
pub fn service(name: &str, replicas: u32) -> String {
    format!(
        "  {name}:\n    path: {name}\n    port: 8080\n    health: /health\n    replicas: {replicas}\n    jobs:\n      \
         test: {{ run: ./test.sh, network: off }}\n"
    )
}

/// A file with these services and one environment that does not wait long.
pub fn file(services: &[String]) -> String {
    format!("services:\n{}environments:\n  production:\n    verify: {{ {VERIFY} }}\n", services.concat())
}

/// What a job does until the test lets it go on.
pub const GATE: &str = "echo waits; until [ -e go ]; do sleep 0.02; done; echo goes on";

/// Short times, so that tests are quick.
pub const VERIFY: &str = "hold: 200ms, bake: 100ms";

impl<'a> Repo<'a> {
    /// An empty repository for a project.
    pub fn new(world: &'a World, project: &str) -> Repo<'a> {
        let repo = Repo { world, root: world.dir.join(format!("repo-{project}")), project: project.to_owned() };
        std::fs::create_dir_all(&repo.root).unwrap();
        repo.git(&["init", "-q", "-b", "main"]).expect(0);
        repo.git(&["remote", "add", "slipway", &format!("{}/git/{project}.git", world.url)]).expect(0);
        // Commits of two worlds never have the same id.
        repo.write("world", &world.dir.display().to_string());
        repo
    }

    /// A repository with one service `web` of so many instances.
    pub fn web(world: &'a World, project: &str, replicas: u32) -> Repo<'a> {
        let repo = Repo::new(world, project);
        repo.write("slipway.yaml", &file(&[service("web", replicas)]));
        repo.add("web", "version one");
        repo
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// Writes a program.
    pub fn script(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(path, &format!("#!/bin/sh\nset -e\n{text}\n"));
        std::fs::set_permissions(self.root.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Adds a service folder: the server, its behaviour, its image, its test.
    pub fn add(&self, service: &str, behaviour: &str) {
        self.write(&format!("{service}/behaviour"), &format!("{behaviour}\n"));
        self.write(
            &format!("{service}/Dockerfile"),
            "FROM scratch\nCOPY server /server\nCOPY behaviour /behaviour\nENTRYPOINT [\"/server\"]\n",
        );
        self.script(&format!("{service}/test.sh"), "echo tested");
        std::fs::copy(server(), self.root.join(service).join("server")).unwrap();
    }

    /// Git in this repository, with the token.
    pub fn git_command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.root).args(arguments).stdin(Stdio::null());
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_COUNT", "3");
        let header = format!("Authorization: Bearer {token}");
        let pairs = [("http.extraHeader", header.as_str()), ("user.name", "kim"), ("user.email", "kim@example.com")];
        for (index, (key, value)) in pairs.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }

    pub fn git(&self, arguments: &[&str]) -> Said {
        said(&mut self.git_command(&self.world.token, arguments))
    }

    /// Commits everything; the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]).expect(0);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]).expect(0);
        self.head()
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).expect(0).out.trim().to_owned()
    }

    /// Another behaviour of a service, committed.
    pub fn behave(&self, service: &str, behaviour: &str) -> String {
        self.write(&format!("{service}/behaviour"), &format!("{behaviour}\n"));
        self.commit(behaviour.lines().next().unwrap_or_default())
    }

    /// Starts a push in a process group of its own.
    pub fn pushing(&self, arguments: &[&str]) -> Pushing {
        self.pushing_with(&self.world.token, arguments)
    }

    /// Starts a push with another token.
    pub fn pushing_with(&self, token: &str, arguments: &[&str]) -> Pushing {
        let mut all = vec!["push"];
        all.extend(arguments);
        let mut command = self.git_command(token, &all);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let reader = BufReader::new(child.stderr.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if say.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Pushing { child, lines, seen: String::new() }
    }

    /// Pushes to the remote and waits.
    pub fn push(&self, arguments: &[&str]) -> Pushed {
        self.pushing(arguments).end()
    }

    /// Pushes `main`, which has to be accepted.
    #[track_caller]
    pub fn push_main(&self) -> Pushed {
        let pushed = self.push(&["slipway", "main"]);
        assert!(pushed.ok, "{}", pushed.text);
        pushed
    }

    /// Lets a job go on that waits with [`GATE`]; the job has to be there.
    pub fn open_gate(&self, commit: &str, script: &str) {
        until("a job waits at its gate", || {
            let jobs = crate::machine::processes(&format!("SLIPWAY_COMMIT={commit}"));
            let (pid, _) = jobs.into_iter().find(|(_, line)| line.contains(script))?;
            std::fs::write(format!("/proc/{pid}/cwd/go"), "").ok()
        });
    }

    /// Waits until a job has come to its [`GATE`].
    pub fn gate_waits(&self, commit: &str, script: &str) {
        until("a job waits at its gate", || {
            let jobs = crate::machine::processes(&format!("SLIPWAY_COMMIT={commit}"));
            let sleeps = jobs.iter().any(|(_, line)| line.starts_with("sleep"));
            (sleeps && jobs.iter().any(|(_, line)| line.contains(script))).then_some(())
        });
    }

    /// A command of the binary in this repository.
    pub fn slipway(&self, arguments: &[&str]) -> Said {
        said(&mut self.world.command(&self.root, arguments))
    }

    /// `status --json`, from the API.
    pub fn status(&self) -> Value {
        self.world.api(&format!("/api/v1/projects/{}/status", self.project))
    }

    /// A service in an environment.
    pub fn lane(&self, environment: &str, service: &str) -> Value {
        let status = self.status();
        let named = |list: &Value, name: &str| {
            list.as_array().and_then(|all| all.iter().find(|one| one["name"] == name).cloned()).unwrap_or_default()
        };
        named(&named(&status["environments"], environment)["services"], service)
    }

    /// The address of a service in production that every resolver knows: its own port.
    pub fn address(&self, service: &str) -> String {
        self.address_in("production", service)
    }

    /// The address of a service in an environment: its own port.
    pub fn address_in(&self, environment: &str, service: &str) -> String {
        let lane = self.lane(environment, service);
        let addresses = lane["addresses"].as_array().unwrap_or_else(|| panic!("{service} has no address: {lane}"));
        let own = addresses.iter().filter_map(Value::as_str).find(|address| address.contains("127.0.0.1:"));
        own.unwrap_or_else(|| panic!("{service} has no port: {lane}")).to_owned()
    }

    /// Ids and process ids of the instances that are ready.
    pub fn instances(&self, service: &str) -> Vec<(String, i32)> {
        let lane = self.lane("production", service);
        let ready = lane["instances"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<(String, i32)> = ready
            .iter()
            .filter(|instance| instance["state"] == "ready")
            .map(|instance| {
                let id = instance["id"].as_str().unwrap().to_owned();
                let pid = until("an instance has a process", || crate::machine::pid_of_instance(&id));
                (id, pid)
            })
            .collect();
        found.sort();
        found
    }

    /// Waits until a lane is so.
    pub fn until(&self, what: &str, service: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.lane("production", service)).filter(&is))
    }

    /// Waits until a rollout of a service has come to its end.
    pub fn succeeded(&self, service: &str) {
        self.until("the rollout succeeds", service, |lane| lane["phase"] == "succeeded");
    }
}
