//! One Slipway of a test: its data folder, its `up`, its event log, and its end.
//!
//! In: nothing. Out: a running `slipway up` on free ports. Never: outlives its test, also when the test fails.

use crate::machine::{DEADLINE, binary, lives, processes, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Asserts its exit code and gives its output.
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[derive(Default)]
struct Log {
    events: Mutex<BTreeMap<u64, Value>>,
    came: Condvar,
}

/// One Slipway.
pub struct World {
    /// The scratch folder; nothing else carries its name.
    pub dir: PathBuf,
    /// `http://127.0.0.1:…`.
    pub url: String,
    /// The proxy's address.
    pub proxy: String,
    /// The first token.
    pub token: String,
    up: Mutex<Option<Child>>,
    log: Arc<Log>,
    keep: bool,
}

/// A name for a scratch folder that nothing else carries.
pub fn scratch() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("slipway-e2e-{}-{count}", std::process::id()))
}

impl World {
    /// Starts one on a new data folder.
    pub fn start() -> World {
        World::start_in(scratch())
    }

    /// Starts one in a scratch folder that was prepared.
    pub fn start_in(dir: PathBuf) -> World {
        std::fs::create_dir_all(&dir).unwrap();
        let mut world = World {
            dir,
            url: String::new(),
            proxy: String::new(),
            token: String::new(),
            up: Mutex::default(),
            log: Arc::default(),
            keep: std::env::var_os("SLIPWAY_E2E_KEEP").is_some(),
        };
        let ready = world.up();
        ready["url"].as_str().unwrap().clone_into(&mut world.url);
        ready["proxy"][0].as_str().unwrap().clone_into(&mut world.proxy);
        world.token = std::fs::read_to_string(ready["token_file"].as_str().unwrap()).unwrap().trim().to_owned();
        world
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts `up` (again) and waits until it is ready; the line that says so.
    pub fn up(&self) -> Value {
        let mut child = Command::new(binary())
            .args(["up", "--json", "--http", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--data"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().create(true).append(true).open(self.dir.join("up.err")).unwrap())
            .env_remove("SLIPWAY_DATA")
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().and_then(Result::ok);
        *self.up.lock().unwrap() = Some(child);
        let first = first.unwrap_or_else(|| panic!("up did not become ready: {}", self.said_by_up()));
        let ready: Value = serde_json::from_str(&first).unwrap();
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(n) = event["n"].as_u64() {
                    log.events.lock().unwrap().insert(n, event);
                    log.came.notify_all();
                }
            }
        });
        ready
    }

    /// What `up` said on its standard error.
    pub fn said_by_up(&self) -> String {
        std::fs::read_to_string(self.dir.join("up.err")).unwrap_or_default()
    }

    /// The process of a part: `up`, `serve`, `node`, `worker`.
    pub fn pid(&self, part: &str) -> i32 {
        if part == "up" {
            return i32::try_from(self.up.lock().unwrap().as_ref().expect("up runs").id()).unwrap();
        }
        let file = self.data().join(format!("run/{part}.pid"));
        until("a part has a process id", || {
            let text = std::fs::read_to_string(&file).ok()?;
            let pid = text.split(' ').next()?.parse().ok()?;
            lives(pid).then_some(pid)
        })
    }

    /// Kills a part; for `up`, looks at its end too.
    pub fn kill(&self, part: &str) {
        let pid = self.pid(part);
        signal(pid, Signal::KILL);
        if part == "up" {
            self.ended();
        }
        until("a killed part is gone", || (!lives(pid)).then_some(()));
    }

    /// Sends `up` a signal and waits for its end; its exit code.
    pub fn end(&self, with: Signal) -> Option<i32> {
        signal(self.pid("up"), with);
        self.ended()
    }

    pub fn ended(&self) -> Option<i32> {
        let mut up = self.up.lock().unwrap();
        let child = up.as_mut()?;
        let status = until("up ends", || child.try_wait().unwrap());
        *up = None;
        status.code()
    }

    /// Runs a command of the binary, in a folder, on this Slipway.
    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("SLIPWAY_DATA", self.data());
        command.env("NO_COLOR", "1").env_remove("SLIPWAY_SERVER").env_remove("SLIPWAY_TOKEN");
        command
    }

    /// Runs a command of the binary outside a repository.
    pub fn slipway(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(&self.dir, arguments))
    }

    /// Looks at the events until one is found.
    pub fn event<T>(&self, what: &str, mut find: impl FnMut(&Value) -> Option<T>) -> T {
        let start = Instant::now();
        let mut events = self.log.events.lock().unwrap();
        loop {
            if let Some(found) = events.values().find_map(&mut find) {
                return found;
            }
            assert!(start.elapsed() < DEADLINE, "no event came: {what}");
            events = self.log.came.wait_timeout(events, Duration::from_millis(200)).unwrap().0;
        }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        self.log.events.lock().unwrap().values().cloned().collect()
    }

    /// What the API answers.
    pub fn api(&self, path: &str) -> Value {
        let mut http = crate::http::Http::connect(&self.url).unwrap();
        let header = format!("authorization: Bearer {}\r\n", self.token);
        let answer = http.send("GET", path, &header, b"").unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            for name in ["serve", "node", "worker"] {
                let log = std::fs::read_to_string(self.data().join(format!("logs/{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(8).collect();
                println!("--- {name}\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        let up = self.up.lock().map(|mut up| up.take()).unwrap_or_default();
        if let Some(mut child) = up {
            signal(i32::try_from(child.id()).unwrap(), Signal::INT);
            let start = Instant::now();
            while child.try_wait().is_ok_and(|ended| ended.is_none()) && start.elapsed() < Duration::from_secs(30) {
                crate::machine::pause(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        } else {
            let _ = self.slipway(&["down", "--services"]);
        }
        let name = self.dir.display().to_string();
        let mut left = processes(&name);
        let start = Instant::now();
        while !left.is_empty() && start.elapsed() < Duration::from_secs(5) {
            crate::machine::pause(Duration::from_millis(50));
            left = processes(&name);
        }
        for (pid, _) in &left {
            signal(*pid, Signal::KILL);
        }
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
        assert!(failing || left.is_empty(), "processes stay behind: {left:?}");
    }
}
