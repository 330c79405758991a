//! Runs small scripts in sandboxes.

use slipway_sandbox::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Far more than anything here takes; a test that reaches it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A scratch folder that goes away.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("slipway-sandbox-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn dir(&self) -> PathBuf {
        self.0.join("run")
    }

    pub fn spec(&self, kind: Kind, script: &str) -> Spec {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = Root::HostTools { tools: Vec::new(), caches: Vec::new() };
        let mut spec = Spec::new(format!("t{}-{n}", std::process::id()), self.dir(), kind, root);
        spec.steps = vec![Step::new("main", &["/bin/bash", "-c", script])];
        spec
    }

    pub fn job(&self, script: &str) -> Spec {
        self.spec(Kind::Job, script)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(Attached::Running(shim)) = attach(&self.dir()) {
            let _ = shim.kill();
            let _ = shim.wait(LIMIT);
        }
        let _ = launcher().remove(&self.0);
    }
}

/// Where a copy of the shim lies that an account of the tests may read.
pub const SHIM: &str = "SLIPWAY_SANDBOX_SHIM";
/// The same for the program that attacks.
pub const ATTACK: &str = "SLIPWAY_SANDBOX_ATTACK";
/// The level that the account is to have; root's when it is not set.
pub const LEVEL: &str = "SLIPWAY_SANDBOX_LEVEL";

pub fn launcher() -> Launcher {
    match std::env::var_os(SHIM) {
        Some(copy) => Launcher::new(copy),
        None => Launcher::new(env!("CARGO_BIN_EXE_slipway-shim")),
    }
}

/// The level at which the tests run.
pub fn level() -> Level {
    let levels = [Level::SubordinateIds, Level::SingleId];
    let named = std::env::var(LEVEL).unwrap_or_default();
    levels.into_iter().find(|level| level.word() == named).unwrap_or(Level::Root)
}

/// How a run ended and what it said.
pub struct Ran {
    pub record: ExitRecord,
    pub text: String,
}

impl Ran {
    pub fn ended(&self) -> &Ended {
        &self.record.last_step().unwrap().ended
    }

    pub fn code(&self) -> i32 {
        match self.ended() {
            Ended::Exited { code } => *code,
            other => panic!("{other:?}; it said:\n{}", self.text),
        }
    }
}

pub fn run(spec: &Spec) -> Ran {
    let shim = launcher().launch(spec).unwrap_or_else(|e| panic!("{}", whole(&e)));
    let record = shim.wait(LIMIT).unwrap().expect("the run ends in time");
    Ran { record, text: text(&spec.dir) }
}

pub fn text(dir: &Path) -> String {
    read_log(dir).unwrap().into_iter().map(|line| line.text + "\n").collect()
}

/// Runs a script as a job and returns what it said.
pub fn say(script: &str) -> String {
    let scratch = Scratch::new();
    // The order of two streams is not kept; that of one is.
    run(&scratch.job(&format!("exec 2>&1; {script}"))).text
}

pub fn whole(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", whole(cause)),
        None => error.to_string(),
    }
}

/// Follows the log until a line holds `part`; panics when the run ends first.
pub fn wait_for_line(shim: &Shim, part: &str) -> LogLine {
    let mut follow = shim.follow(0);
    while let Some(chunk) = follow.next(LIMIT).unwrap() {
        assert!(!chunk.lines.is_empty(), "`{part}` did not come in time");
        if let Some(line) = chunk.lines.into_iter().find(|line| line.text.contains(part)) {
            return line;
        }
    }
    panic!("the run ended without `{part}`:\n{}", text(shim.dir()));
}
