//! A server with its hooks, a client's repository, and waits with a deadline.

use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::ListenerExt;
use http::{HeaderMap, Method, Uri};
use slipway_git::{Endpoint, Git, GitOptions, HookCall, HookKind, HookListener, Oid, ProjectName, Pusher, Service};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// A folder that goes when the test ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("slipway-git-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server and one client repository `work` with the remote `origin`.
pub struct Bench {
    pub git: Git,
    pub url: String,
    pub work: PathBuf,
    pub project: ProjectName,
    pub scratch: Scratch,
}

pub fn options(scratch: &Scratch) -> GitOptions {
    GitOptions::new(
        scratch.0.join("git"),
        env!("CARGO_BIN_EXE_slipway-git-test-hook"),
        scratch.0.join("hooks.socket"),
        scratch.0.join("trees"),
    )
}

pub async fn bench() -> (Bench, HookListener) {
    let scratch = Scratch::new();
    let options = options(&scratch);
    bench_with(scratch, options).await
}

pub async fn bench_with(scratch: Scratch, options: GitOptions) -> (Bench, HookListener) {
    let git = Git::open(options).await.unwrap();
    let hooks = git.listen().unwrap();
    let app = Router::new().route("/git/{project}/{*rest}", any(handle)).with_state(git.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/git", listener.local_addr().unwrap());
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let work = scratch.0.join("work");
    std::fs::create_dir(&work).unwrap();
    let bench = Bench { git, url, work, project: ProjectName::parse("shop").unwrap(), scratch };
    bench.run(["init", "--quiet", "-b", "main"]).await;
    let remote = format!("{}/shop.git", bench.url);
    bench.run(["remote", "add", "origin", &remote]).await;
    (bench, hooks)
}

async fn handle(
    State(git): State<Git>,
    UrlPath((project, rest)): UrlPath<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let endpoint = match Endpoint::parse(&method, &rest, uri.query()) {
        Ok(endpoint) => endpoint,
        Err(refusal) => return refusal.into_response(),
    };
    let project = ProjectName::from_url_segment(&project).unwrap();
    if endpoint.service() == Service::ReceivePack {
        let _ = git.create(&project).await;
    }
    let pusher = Pusher { name: "kim".to_owned() };
    git.serve(&project, endpoint, &headers, body, &pusher).await
}

/// Waits at most ten seconds.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("it happens within ten seconds")
}

/// Says yes to every push and ends every hook at once.
pub fn accept_all(mut hooks: HookListener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(call) = hooks.next().await {
            tokio::spawn(call.end(0));
        }
    })
}

pub async fn next(hooks: &mut HookListener, kind: HookKind) -> HookCall {
    let call = soon(hooks.next()).await.unwrap();
    assert_eq!(call.kind, kind);
    call
}

impl Bench {
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.scratch.0)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "Kim")
            .env("GIT_AUTHOR_EMAIL", "kim@example.org")
            .env("GIT_COMMITTER_NAME", "Kim")
            .env("GIT_COMMITTER_EMAIL", "kim@example.org")
            .args(args)
            .current_dir(&self.work)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a git command that must succeed and gives its standard output.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let (ok, out, err) = self.try_run(args).await;
        assert!(ok, "{out}{err}");
        out
    }

    pub async fn try_run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> (bool, String, String) {
        let output = self.command(args).output();
        let output = tokio::time::timeout(Duration::from_secs(120), output);
        let output = output.await.unwrap().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Writes files and commits them.
    pub async fn commit(&self, files: &[(&str, &str)], message: &str) -> Oid {
        for (path, text) in files {
            let path = self.work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.run(["add", "-A", "--force"]).await;
        self.run(["commit", "--quiet", "--allow-empty", "-m", message]).await;
        self.head().await
    }

    pub async fn head(&self) -> Oid {
        let id = self.run(["rev-parse", "HEAD"]).await;
        Oid::parse(id.trim()).unwrap()
    }

    /// Writes commits by `git fast-import`, which is quick.
    pub async fn import(&self, stream: String) {
        let mut command = self.command(["fast-import", "--quiet"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(stream.as_bytes()).await.unwrap();
        drop(stdin);
        assert!(child.wait().await.unwrap().success());
    }

    /// Starts a push in a process group of its own, as a shell does.
    pub fn push(&self, args: &[&str]) -> (Child, Lines<BufReader<ChildStderr>>) {
        let mut command = self.command([&["push"], args].concat());
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        (child, lines)
    }

    pub async fn ref_at(&self, name: &str) -> Option<Oid> {
        let view = self.git.view(&self.project).unwrap();
        view.ref_target(name).await.unwrap()
    }
}

/// Reads lines until one contains the text.
pub async fn until(lines: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let search = async {
        let mut seen = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("no line with {text:?} in:\n{seen}");
    };
    soon(search).await
}

/// The processes of one push that still live.
pub fn processes_of(push: &str) -> Vec<PathBuf> {
    let wanted = format!("SLIPWAY_PUSH={push}");
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    folders.map(|entry| entry.path()).filter(|path| has_variable(path, &wanted)).collect()
}

fn has_variable(process: &Path, wanted: &str) -> bool {
    let Ok(environment) = std::fs::read(process.join("environ")) else {
        return false;
    };
    let mut variables = environment.split(|byte| *byte == 0);
    variables.any(|one| one == wanted.as_bytes())
}
