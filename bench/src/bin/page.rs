//! The page of a change with 200 jobs: what is sent, and how soon it paints in Chromium on the loopback.
//!
//! No peer: the limits are fixed. Nothing is kept of an earlier page; files of the pages are sent again each time.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipway_bench::{Disk, Repository, Row, Slipway, binary, note, percentile, program, spread};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const JOBS: usize = 200;
const ROUNDS: usize = 15;
const PAGE_BYTES_MAX: usize = 50 * 1024;
const PAINT_MS_MAX: f64 = 100.0;
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let node = program("node", "nodejs")?;
    program("chromium", "chromium")?;
    let modules = modules()?;
    let disk = Disk::new()?;
    let slipway = Slipway::start(&binary()?, &disk.path("data"))?;
    let repository = Repository::new(&slipway, &disk.path("repository"), "many")?;
    let jobs: String = (1..=JOBS).map(|n| format!("  job-{n}: {{ run: \"true\", network: off }}\n")).collect();
    repository
        .write("slipway.yaml", &format!("project: many\nservices:\n  web: {{ path: ., port: 8080 }}\njobs:\n{jobs}"))?;
    repository.write("Dockerfile", "FROM scratch\nCOPY slipway.yaml /\n")?;
    repository.commit("Two hundred jobs")?;
    // A branch that leads nowhere: the jobs are what the page is about.
    repository.git(&["push", "-q", "slipway", "main:refs/heads/wide"])?;
    slipway.wait("the end of the change", LIMIT, |event| (event.kind == "change.ended").then_some(()))?;
    let path = "/p/many/c/wide";
    let (packed, plain) = (fetched(&slipway, path, "gzip")?, fetched(&slipway, path, "identity")?);
    note(&format!("{} bytes before packing", plain.len()));
    let shown = String::from_utf8_lossy(&plain).matches("job/job-").count();
    ensure!(shown >= JOBS, "the page shows {shown} of {JOBS} jobs");
    Row {
        case: "page of a change with 200 jobs, as sent (gzip), with its head",
        ours: format!("{:.1} KiB ({:.1} KiB unpacked)", kib(packed.len()), kib(plain.len())),
        against: "fixed limit",
        theirs: "50 KiB".into(),
        aim: "≤ 50 KiB",
        holds: packed.len() <= PAGE_BYTES_MAX,
    }
    .print(disk.kind());
    let took = painted(&node, &modules, &slipway, path)?;
    Row {
        case: "the same page, first contentful paint in Chromium, nothing kept from before",
        ours: spread(&took),
        against: "fixed limit",
        theirs: "100 ms".into(),
        aim: "median ≤ 100 ms",
        holds: percentile(&took, 50) <= PAINT_MS_MAX,
    }
    .print(disk.kind());
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // some thousand bytes
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}

/// One answer, head and body, as it comes over the connection.
fn fetched(slipway: &Slipway, path: &str, coding: &str) -> Result<Vec<u8>> {
    let address = slipway.url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address)?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\naccept-encoding: {coding}\r\nconnection: \
         close\r\n\r\n",
        slipway.token
    )?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{path}: {}",
        String::from_utf8_lossy(answer.get(..60).unwrap_or_default())
    );
    Ok(answer)
}

/// Milliseconds to the first paint.
fn painted(node: &Path, modules: &Path, slipway: &Slipway, path: &str) -> Result<Vec<f64>> {
    let said = slipway.ask("many", &["open", "--print"])?;
    let link =
        said.split_whitespace().find(|word| word.contains("/login?code=")).context("`slipway open` prints no link")?;
    let mut child = Command::new(node)
        .arg(root()?.join("checks/pages/paint.mjs"))
        .arg(ROUNDS.to_string())
        .env("SLIPWAY_PAGES_MODULES", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("`node` cannot be started")?;
    child
        .stdin
        .take()
        .context("no input of `node`")?
        .write_all(format!("{link}\n{}{path}\n", slipway.url).as_bytes())?;
    let answer = child.wait_with_output()?;
    ensure!(answer.status.success(), "the browser could not be driven");
    let took: Value = serde_json::from_slice(&answer.stdout).context("no milliseconds")?;
    Ok(took.as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package has no workspace")?.to_owned())
}

/// What the tests of the pages use, installed as their lock file says, beside the build's results.
fn modules() -> Result<PathBuf> {
    let build = std::env::current_exe()?;
    let place = build.ancestors().nth(2).context("a program lies in the target folder")?.join("pages");
    if !place.join("node_modules/puppeteer-core").is_dir() {
        std::fs::create_dir_all(&place)?;
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(root()?.join("checks/pages").join(name), place.join(name))?;
        }
        let npm = program("npm", "npm")?;
        let done = Command::new(npm)
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&place)
            .stdout(Stdio::null())
            .status()?;
        ensure!(done.success(), "`npm ci` failed");
    }
    Ok(place)
}
