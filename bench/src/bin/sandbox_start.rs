//! What a sandbox costs: from launch to the first instruction of its program, to its end, a connection into it, a
//! line out of it. Each against the same with the plainest means.

use anyhow::{Context, Result};
use slipway_bench::{Disk, Row, binary, median, milliseconds, now_ms, program, program_of, spread, static_server};
use slipway_sandbox::{Bind, Kind, Launcher, Root, Shim, Spec, Step, read_log};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 100;
const LINES: usize = 200;
const LIMIT: Duration = Duration::from_secs(60);
/// Prints the wall-clock time in nanoseconds, as often as it is told, 2 ms apart.
const CLOCK: &str = "#include <stdio.h>\n#include <stdlib.h>\n#include <time.h>\n#include <unistd.h>\nint main(int count, \
                     char **words) {\n  struct timespec t;\n  for (int left = count > 1 ? atoi(words[1]) : 1; left; \
                     left--) {\n    clock_gettime(CLOCK_REALTIME, &t);\n    printf(\"%lld%09ld\\n\", (long \
                     long)t.tv_sec, t.tv_nsec);\n    fflush(stdout);\n    if (left > 1) usleep(2000);\n  }\n}\n";

struct Place {
    disk: Disk,
    launcher: Launcher,
    bwrap: PathBuf,
    count: u32,
}

fn main() -> Result<()> {
    let disk = Disk::new()?;
    program_of(CLOCK, &disk.path("clock"))?;
    static_server(&disk.path("server"))?;
    let bwrap = program("bwrap", "bubblewrap")?;
    let mut place = Place { launcher: Launcher::new(binary()?), disk, bwrap, count: 0 };
    starts(&mut place)?;
    connections(&mut place)?;
    lines(&mut place)
}

impl Place {
    /// A run of a program of the disk, shown inside.
    fn spec(&mut self, kind: Kind, name: &str, argument: &str) -> Spec {
        self.count += 1;
        let root = Root::HostTools { tools: Vec::new(), caches: Vec::new() };
        let id = format!("b{}-{}", std::process::id(), self.count);
        let mut spec = Spec::new(&id, self.disk.path(&id), kind, root);
        let inside = format!("/run/{name}");
        spec.binds.push(Bind { source: self.disk.path(name), target: PathBuf::from(&inside), read_only: true });
        spec.steps = vec![Step::new("main", &[inside.as_str(), argument])];
        spec
    }

    fn bwrap(&self, name: &str, argument: &str) -> Command {
        let mut command = Command::new(&self.bwrap);
        command
            .args(["--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink"])
            .args(["usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"])
            .args(["--tmpfs", "/tmp", "--ro-bind"])
            .arg(self.disk.path(name))
            .args(["/run/program", "/run/program", argument])
            .stdout(Stdio::piped());
        command
    }

    fn row(&self, case: &str, ours: &[f64], against: &str, theirs: &[f64]) {
        let ratio = median(ours) / median(theirs);
        let ours = format!("{} = {ratio:.2}x", spread(ours));
        Row { case, ours, against, theirs: spread(theirs), aim: "none", holds: true }.print(self.disk.kind());
    }
}

fn starts(place: &mut Place) -> Result<()> {
    let (mut first, mut end, mut their_first, mut their_end) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let spec = place.spec(Kind::Job, "clock", "1");
        let begun = now_ms();
        let shim = place.launcher.launch(&spec)?;
        shim.wait(LIMIT)?.context("the run did not end")?;
        end.push(now_ms() - begun);
        let log = read_log(&spec.dir)?;
        first.push(stamp(log.first().map_or("", |line| &line.text))? - begun);
        shim.release()?;
        let begun = now_ms();
        let answer = place.bwrap("clock", "1").output()?;
        their_end.push(now_ms() - begun);
        their_first.push(stamp(&String::from_utf8_lossy(&answer.stdout))? - begun);
    }
    place.row("sandbox: launch to first instruction", &first, "bwrap", &their_first);
    place.row("sandbox: launch to exit record on disk", &end, "bwrap, to its end", &their_end);
    Ok(())
}

fn connections(place: &mut Place) -> Result<()> {
    let mut spec = place.spec(Kind::Instance, "server", "");
    spec.steps[0].env.push(("PORT".into(), "80".into()));
    let shim = Running(place.launcher.launch(&spec)?);
    let until = Instant::now() + LIMIT;
    while shim.0.connect(80, LIMIT).is_err() {
        anyhow::ensure!(Instant::now() < until, "nothing listens in the sandbox");
        slipway_bench::pause(Duration::from_millis(1));
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * 10 {
        let begun = Instant::now();
        drop(shim.0.connect(80, LIMIT)?);
        ours.push(milliseconds(begun.elapsed()));
        let begun = Instant::now();
        drop(TcpStream::connect(address)?);
        theirs.push(milliseconds(begun.elapsed()));
    }
    place.row("sandbox: connection into it by its shim", &ours, "connection to a port of the machine", &theirs);
    Ok(())
}

fn lines(place: &mut Place) -> Result<()> {
    let spec = place.spec(Kind::Job, "clock", &LINES.to_string());
    let shim = Running(place.launcher.launch(&spec)?);
    let (mut follow, mut ours, mut theirs) = (shim.0.follow(0), Vec::new(), Vec::new());
    while let Some(chunk) = follow.next(LIMIT)? {
        let now = now_ms();
        for line in &chunk.lines {
            ours.push(now - stamp(&line.text)?);
        }
    }
    let mut child = place.bwrap("clock", &LINES.to_string()).spawn()?;
    for line in BufReader::new(child.stdout.take().context("no output of `bwrap`")?).lines() {
        theirs.push(now_ms() - stamp(&line?)?);
    }
    child.wait()?;
    place.row("sandbox: line printed to line followed", &ours, "bwrap and a pipe", &theirs);
    Ok(())
}

/// A run that does not outlive its benchmark.
struct Running(Shim);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait(LIMIT);
        let _ = slipway_sandbox::release(self.0.dir());
    }
}

/// Nanoseconds in milliseconds.
fn stamp(text: &str) -> Result<f64> {
    Ok(text.trim().parse::<f64>().with_context(|| format!("the program printed `{text}`"))? / 1e6)
}
