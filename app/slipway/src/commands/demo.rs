//! `slipway demo`: the tour of the README.
//!
//! In: nothing. Out: a running Slipway on a scratch folder, a push that goes live, a bad one that is taken back and
//! explained. Never: touches anything outside its scratch folder and free ports.

use crate::cli::Global;
use crate::client::{Client, encode};
use crate::exit::{BUG, Done, Exit, SURROUNDINGS, surroundings};
use crate::term;
use crate::wire::serve::program;
use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use slipway_model::view::Status;
use slipway_sandbox::{Launcher, Level};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

include!(concat!(env!("OUT_DIR"), "/guestbook.rs"));

/// The line of the example that its bad version turns on.
const GOOD: &str = "const BROKEN: bool = false;";
const BAD: &str = "const BROKEN: bool = true;";
/// The tour ends with an error when a step takes longer.
const STEP: Duration = Duration::from_secs(600);
/// A look at the level takes milliseconds.
const PROBE: Duration = Duration::from_secs(10);

/// How the tour ends.
#[derive(Debug, Args)]
pub struct Demo {
    /// End after the tour: 0 only if every step was seen to happen
    #[arg(long)]
    exit: bool,
}

/// `slipway demo`.
pub async fn demo(global: &Global, demo: Demo) -> Done {
    if global.data.is_some() {
        eprintln!("the tour makes a scratch folder of its own; `--data` is not used");
    }
    tools()?;
    let scratch = std::env::temp_dir().join(format!("slipway-demo-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(surroundings)?;
    let mut tour = match Tour::start(&scratch).await {
        Ok(tour) => tour,
        Err(exit) => {
            let _ = slipway_sandbox::remove_folder(&scratch);
            return Err(exit);
        }
    };
    let mut interrupt =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(surroundings)?;
    let toured = tokio::select! {
        toured = tour.go() => toured,
        _ = interrupt.recv() => Err(Exit::new(SURROUNDINGS, "interrupted")),
    };
    if toured.is_ok() && !demo.exit {
        println!();
        println!("{} Ctrl-C ends it and removes {}", term::good("It stays up."), scratch.display());
        println!(
            "In another terminal: slipway status --server {}    or the page: slipway open --server {0}",
            tour.client.url
        );
        interrupt.recv().await;
    }
    tour.stop().await;
    let _ = slipway_sandbox::remove_folder(&scratch);
    toured
}

/// The example is compiled in jobs: what that needs is looked for before anything is started.
fn tools() -> Done {
    for tool in ["git", "cargo", "cc"] {
        let answer = std::process::Command::new(tool).arg("--version").stdin(Stdio::null()).output();
        let why = match answer {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(Exit::new(SURROUNDINGS, format!("the tour needs `{tool}`, which does not work here: {why}"))
            .hint("install it; jobs find tools by the HOME and PATH that Slipway was started with"));
    }
    Ok(())
}

/// A Dockerfile whose program runs as root inside.
fn without_user(dockerfile: &[u8]) -> Vec<u8> {
    let lines = dockerfile.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"USER ")).flatten().copied().collect()
}

struct Tour {
    up: Child,
    client: Client,
    scratch: PathBuf,
    token: String,
}

fn say(text: &str) {
    println!();
    println!("{}", term::strong(text));
}

impl Tour {
    async fn start(scratch: &Path) -> Result<Tour, Exit> {
        say("1. Start Slipway on free ports, with all its data in one folder");
        let data = scratch.join("data");
        let mut up = Command::new(program()?)
            .args(["up", "--json", "--http", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(surroundings)?;
        let stdout = up.stdout.take().ok_or_else(|| Exit::new(BUG, "no output of `up`"))?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(STEP, lines.next_line()).await;
        let Ok(Ok(Some(line))) = first else {
            let _ = up.kill().await;
            return Err(Exit::new(SURROUNDINGS, "`slipway up` did not become ready")
                .hint("`slipway doctor` says what this machine lacks"));
        };
        // Nobody reads its events further; its pipe must not fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let ready: serde_json::Value = serde_json::from_str(&line).map_err(surroundings)?;
        let text = |key: &str| ready.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let token = std::fs::read_to_string(text("token_file")).map_err(surroundings)?.trim().to_owned();
        println!("   {}   data in {}", text("url"), data.display());
        let client = Client::new(&text("url"), &token, Some("guestbook"));
        Ok(Tour { up, client, scratch: scratch.to_owned(), token })
    }

    async fn go(&mut self) -> Done {
        let repository = self.scratch.join("guestbook");
        say("2. A repository with two services, a library they share and one slipway.yaml");
        let has_one_id = self.level().await? == Level::SingleId;
        if has_one_id {
            println!("   this account has one id, so the images go without their USER; `slipway doctor` says more");
        }
        for (path, bytes) in GUESTBOOK {
            let file = repository.join(path);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder).map_err(surroundings)?;
            }
            let bytes = if has_one_id && path.ends_with("Dockerfile") { without_user(bytes) } else { bytes.to_vec() };
            std::fs::write(&file, bytes).map_err(surroundings)?;
        }
        self.git(&["init", "-q", "-b", "main"]).await?;
        let remote = format!("{}/git/guestbook.git", self.client.url);
        self.git(&["remote", "add", "slipway", &remote]).await?;
        self.commit("A guestbook").await?;
        say("3. git push slipway main");
        let said = self.push().await?;
        expect(
            said.iter().filter(|line| line.contains("LIVE production")).count() >= 2,
            "both services to go LIVE",
            &said,
        )?;
        let status: Status = self.client.get("/api/v1/projects/guestbook/status").await?;
        let address = address(&status, "api")?;
        expect(fetch(&address, "/entries").await == Some(200), "GET /entries to answer 200 through the proxy", &said)?;
        println!("   {}/entries answers 200", address);
        self.bad_version(&repository, &address).await
    }

    async fn level(&self) -> Result<Level, Exit> {
        let (exe, scratch) = (program()?, self.scratch.join("probe"));
        let probing = tokio::task::spawn_blocking(move || Launcher::new(exe).probe_sandbox(&scratch, PROBE));
        Ok(probing.await.map_err(surroundings)?.level)
    }

    async fn bad_version(&mut self, repository: &Path, address: &str) -> Done {
        say("4. A version whose tests pass, but which answers 500 for one URL, pushed while users are there");
        let users = Users::start(address);
        let source = repository.join("api/src/main.rs");
        let text = std::fs::read_to_string(&source).map_err(surroundings)?;
        std::fs::write(&source, text.replace(GOOD, BAD)).map_err(surroundings)?;
        self.commit("Cache the entries").await?;
        let said = self.push().await?;
        expect(
            said.iter().any(|line| line.contains("ROLLED BACK production api")),
            "the bad version to be ROLLED BACK",
            &said,
        )?;
        let (asked, failed) = users.stop().await;
        println!("   users asked {asked} times meanwhile and got {failed} failures");
        expect(fetch(address, "/entries").await == Some(200), "GET /entries to answer 200 again", &said)?;
        say("5. slipway why api@r2");
        let why: serde_json::Value =
            self.client.get(&format!("/api/v1/projects/guestbook/why?what={}", encode("api@r2"))).await?;
        let lines: Vec<String> = why
            .get("lines")
            .and_then(|lines| lines.as_array())
            .into_iter()
            .flatten()
            .filter_map(|line| line.as_str())
            .map(ToOwned::to_owned)
            .collect();
        for line in &lines {
            println!("   {line}");
        }
        expect(lines.iter().any(|line| line.contains("/entries")), "the explanation to name /entries", &lines)?;
        say("6. slipway status");
        let status: Status = self.client.get("/api/v1/projects/guestbook/status").await?;
        for line in slipway_feedback::status::lines(&status, crate::wire::clock::now()) {
            println!("   {line}");
        }
        println!();
        println!("{}", term::good("Every step was seen to happen."));
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.scratch.join("guestbook"))
            .args(arguments)
            .stdin(Stdio::null())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_COUNT", "3")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: Bearer {}", self.token))
            .env("GIT_CONFIG_KEY_1", "user.name")
            .env("GIT_CONFIG_VALUE_1", "kim")
            .env("GIT_CONFIG_KEY_2", "user.email")
            .env("GIT_CONFIG_VALUE_2", "kim@example.com");
        command
    }

    async fn git(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().await.map_err(surroundings)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Exit::new(
            SURROUNDINGS,
            format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()),
        ))
    }

    async fn commit(&self, subject: &str) -> Done {
        self.git(&["add", "-A"]).await?;
        self.git(&["commit", "-q", "-m", subject]).await
    }

    /// Pushes and shows each line as it comes.
    async fn push(&self) -> Result<Vec<String>, Exit> {
        let mut child =
            self.command(&["push", "-q", "slipway", "main"]).stderr(Stdio::piped()).spawn().map_err(surroundings)?;
        let stderr = child.stderr.take().ok_or_else(|| Exit::new(BUG, "no output of `git push`"))?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let reading = async {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("   {}", term::line(line.trim_end()));
                said.push(line);
            }
        };
        if tokio::time::timeout(STEP, reading).await.is_err() {
            return Err(Exit::new(SURROUNDINGS, "the push did not end in time"));
        }
        let status = child.wait().await.map_err(surroundings)?;
        if status.success() { Ok(said) } else { Err(Exit::new(SURROUNDINGS, "git push failed")) }
    }

    async fn stop(&mut self) {
        let pid = self.up.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        if tokio::time::timeout(Duration::from_secs(60), self.up.wait()).await.is_err() {
            let _ = self.up.kill().await;
        }
    }
}

fn expect(happened: bool, what: &str, said: &[String]) -> Done {
    if happened {
        return Ok(());
    }
    let last = said.iter().rev().take(3).rev().cloned().collect::<Vec<_>>().join("\n  ");
    Err(Exit::new(SURROUNDINGS, format!("expected {what}, and it did not happen; last said:\n  {last}")))
}

/// The address of a service that every resolver knows: the port of its own.
fn address(status: &Status, service: &str) -> Result<String, Exit> {
    let lanes = status.environments.iter().flat_map(|environment| &environment.services);
    let lane = lanes.into_iter().find(|lane| lane.name.as_str() == service);
    let numbered = |address: &&String| address.contains("127.0.0.1:");
    lane.and_then(|lane| lane.addresses.iter().find(numbered))
        .cloned()
        .ok_or_else(|| Exit::new(SURROUNDINGS, format!("`{service}` has no address")))
}

/// The status of a GET, or nothing when no answer came.
async fn fetch(address: &str, path: &str) -> Option<u16> {
    let host = address.strip_prefix("http://")?;
    let stream = tokio::net::TcpStream::connect(host).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", host).body(Empty::<bytes::Bytes>::new()).ok()?;
    let answer = sender.send_request(request).await.ok()?;
    let status = answer.status().as_u16();
    let _ = answer.into_body().collect().await;
    Some(status)
}

/// Somebody who reads the guestbook all the time.
struct Users {
    stop: Arc<AtomicBool>,
    counts: Arc<(AtomicU64, AtomicU64)>,
    task: tokio::task::JoinHandle<()>,
}

impl Users {
    fn start(address: &str) -> Users {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new((AtomicU64::new(0), AtomicU64::new(0))));
        let (ending, counting, address) = (stop.clone(), counts.clone(), address.to_owned());
        let task = tokio::spawn(async move {
            let mut pages = ["/", "/entries", "/version"].iter().cycle();
            while !ending.load(Ordering::Relaxed) {
                let answered = fetch(&address, pages.next().unwrap_or(&"/")).await;
                counting.0.fetch_add(1, Ordering::Relaxed);
                if answered.is_none_or(|status| status >= 500) {
                    counting.1.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Users { stop, counts, task }
    }

    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.task.await;
        (self.counts.0.load(Ordering::Relaxed), self.counts.1.load(Ordering::Relaxed))
    }
}
