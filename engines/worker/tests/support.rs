//! Runs small scripts as jobs.

use slipway_blobs::Blobs;
use slipway_model::job::{JobDef, JobOutcome};
use slipway_model::{CommitId, Digest, ProjectName, RunId, Secret};
use slipway_ports::{LogLine, RunRequest};
use slipway_sandbox::{Attached, Command, SandboxError, attach};
use slipway_worker::{Answer, Ask, Worker, WorkerError, WorkerOptions, run_here};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Far more than anything here takes; a test that reaches it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const LIMIT_MS: u64 = 60_000;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A data folder and a checkout that go away.
pub struct Place {
    pub data: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let data = std::env::temp_dir().join(format!("slipway-worker-{}-{n}", std::process::id()));
        std::fs::create_dir_all(data.join("tree/api")).unwrap();
        std::fs::write(data.join("tree/README"), "committed\n").unwrap();
        Self { data }
    }

    pub fn tree(&self) -> PathBuf {
        self.data.join("tree")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.tree().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn blobs(&self) -> Blobs {
        Blobs::open(self.data.join("blobs")).unwrap()
    }

    pub fn options(&self) -> WorkerOptions {
        options(&self.data)
    }

    pub async fn worker(&self) -> Worker {
        self.worker_with(|_| {}).await
    }

    /// Waits for a former worker of this test, which may still be removing what its jobs left.
    pub async fn worker_with(&self, change: impl Fn(&mut WorkerOptions)) -> Worker {
        let opened = async {
            loop {
                let mut options = self.options();
                change(&mut options);
                match Worker::open(options).await {
                    Err(WorkerError::InUse(_)) => tokio::task::yield_now().await,
                    other => return other.unwrap(),
                }
            }
        };
        tokio::time::timeout(LIMIT, opened).await.unwrap()
    }

    /// Runs a script as the only step of a job.
    pub async fn run(&self, script: &str) -> Ran {
        self.run_job(job(script)).await
    }

    pub async fn run_job(&self, job: JobDef) -> Ran {
        let request = self.request(job);
        self.run_request(request).await
    }

    pub async fn run_request(&self, request: RunRequest) -> Ran {
        run_on(&self.worker().await, request).await
    }

    pub fn request(&self, job: JobDef) -> RunRequest {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        RunRequest {
            run: RunId::parse(&format!("0011223344556677-{}-{n}", job.key.name)).unwrap(),
            project: project(),
            commit: commit(),
            tree: Some(self.tree().display().to_string()),
            job,
            env: [("CI".to_owned(), "true".to_owned())].into(),
            secrets: Default::default(),
            image: None,
            artifacts: Default::default(),
            outputs: Default::default(),
        }
    }

    pub fn sandbox(&self, run: &RunId) -> PathBuf {
        self.data.join("work/jobs").join(run.as_str()).join("sandbox")
    }

    pub fn get(&self, digest: &Digest) -> Vec<u8> {
        self.blobs().read(&digest.as_str().parse().unwrap(), 1 << 24).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.data.join("work/jobs")).into_iter().flatten().flatten() {
            if let Ok(Attached::Running(shim)) = attach(&entry.path().join("sandbox")) {
                let _ = shim.kill();
                let _ = shim.wait(LIMIT);
            }
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

pub fn options(data: &Path) -> WorkerOptions {
    let blobs = Blobs::open(data.join("blobs")).unwrap();
    let mut options = WorkerOptions::new(data, blobs, env!("CARGO_BIN_EXE_slipway-worker-shim"));
    options.slots = NonZeroUsize::new(4).unwrap();
    options
}

/// What came of a run, and what it said.
pub struct Ran {
    pub outcome: JobOutcome,
    pub lines: Vec<LogLine>,
}

impl Ran {
    pub fn text(&self) -> String {
        self.lines.iter().filter(|line| line.step != "slipway").map(|line| format!("{}\n", line.text)).collect()
    }

    /// `passed`, or `failed: why`.
    pub fn said(&self) -> String {
        said(&self.outcome)
    }
}

pub fn said(outcome: &JobOutcome) -> String {
    let word = outcome.result.word();
    if outcome.reason.is_empty() { word.to_owned() } else { format!("{word}: {}", outcome.reason) }
}

pub async fn run_on(worker: &Worker, request: RunRequest) -> Ran {
    let mut lines = Vec::new();
    let running = run_here(worker, request, |line| lines.push(line.clone()));
    let outcome = tokio::time::timeout(LIMIT, running).await.expect("the job ends in time").unwrap();
    Ran { outcome, lines }
}

pub fn project() -> ProjectName {
    ProjectName::parse("shop").unwrap()
}

pub fn commit() -> CommitId {
    CommitId::parse(&"a".repeat(40)).unwrap()
}

pub fn job(script: &str) -> JobDef {
    steps(&[("test", script)])
}

pub fn steps(steps: &[(&str, &str)]) -> JobDef {
    let steps: Vec<_> = steps
        .iter()
        .map(|(name, run)| serde_json::json!({"name": name, "run": run, "env": {}, "timeout_ms": null}))
        .collect();
    serde_json::from_value(serde_json::json!({
        "key": {"service": "api", "name": "test"}, "kind": "unit", "steps": steps, "needs": [], "image": "host", "env": {},
        "secrets": [], "inputs": [], "produces": [], "artifacts": {}, "retry": {"max": 0, "on": []},
        "timeout_ms": LIMIT_MS, "network": false, "folder": "api",
    }))
    .unwrap()
}

pub fn secret(text: &str) -> Secret {
    Secret(text.as_bytes().to_vec())
}

/// A script that goes on when [`go`] is called.
pub const WAITS: &str = "echo waits; while ! [ -e /tmp/go ]; do sleep 0.02; done";

/// Lets a job of [`WAITS`] go on.
pub fn go(sandbox: &Path) {
    let Attached::Running(shim) = attach(sandbox).unwrap() else { panic!("it does not run") };
    let argv = ["/bin/sh", "-c", "echo > /tmp/go"].map(str::to_owned).to_vec();
    match shim.exec(Command { argv, env: vec![], cwd: "/".into(), timeout_ms: LIMIT_MS }) {
        Ok(executed) => assert!(executed.succeeded()),
        // It went on and ended before the answer came.
        Err(SandboxError::Gone { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

pub async fn start(worker: &Worker, request: &RunRequest) {
    let tree = PathBuf::from(request.tree.clone().unwrap());
    let answer = worker.answer(Ask::Start { request: Box::new(request.clone()), tree }).await;
    assert!(!matches!(answer, Answer::Failed { .. } | Answer::Unknown), "{answer:?}");
}

/// Returns when the run has logged a line with this text.
pub async fn line_comes(worker: &Worker, run: &RunId, text: &str) {
    let mut from = 0;
    loop {
        let ask = Ask::Log { project: project(), run: run.clone(), from, limit_ms: LIMIT_MS };
        let Answer::Log(page) = worker.answer(ask).await else { panic!("no log") };
        if page.lines.iter().any(|line| line.text.contains(text)) {
            return;
        }
        assert!(!page.ended && page.next != from, "`{text}` did not come");
        from = page.next;
    }
}

pub async fn ended(worker: &Worker, run: &RunId) -> JobOutcome {
    match worker.answer(Ask::Wait { run: run.clone(), limit_ms: LIMIT_MS }).await {
        Answer::Ended { outcome } => *outcome,
        other => panic!("{other:?}"),
    }
}

impl Place {
    /// The same request on this place's checkout.
    pub fn request_with(&self, request: &RunRequest) -> RunRequest {
        RunRequest { tree: Some(self.tree().display().to_string()), ..request.clone() }
    }
}
