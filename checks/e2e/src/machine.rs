//! What the tests need of this machine: the binary, the fixture server, a look at processes.
//!
//! In: the folder this test was compiled into. Out: programs made once per run. Never: kills by name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The level at which the tests run: `root`, or that of the account which `cargo xtask e2e --as` made for them.
pub fn level() -> String {
    std::env::var("SLIPWAY_E2E_LEVEL").unwrap_or_else(|_| "root".to_owned())
}

/// The longest that anything is waited for.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The folder of this profile below the target folder: `target/debug`.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a program");
    test.parent().and_then(Path::parent).expect("a test lies in `deps`").to_owned()
}

/// The binary, built by the cargo that runs this, into the same folder.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("SLIPWAY_E2E_BINARY") {
            return given.into();
        }
        let folder = profile_folder();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
        let profile = if name == "debug" { "dev" } else { name };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "-q", "-p", "slipway", "--profile", profile, "--target-dir"])
            .arg(folder.parent().expect("a profile lies in the target folder"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "the binary does not build");
        folder.join("slipway")
    })
}

/// The fixture server, a static program.
pub fn server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| {
        if let Some(given) = std::env::var_os("SLIPWAY_E2E_SERVER") {
            return given.into();
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/server.c");
        let program = profile_folder().join(format!("e2e-server-{}", std::process::id()));
        let built = Command::new("cc")
            .args(["-static", "-O1", "-s", "-Wall", "-Wextra", "-pthread", "-o"])
            .args([&program, &source])
            .status()
            .expect("a C compiler is there");
        assert!(built.success(), "fixtures/server.c does not compile");
        let kept = profile_folder().join("e2e-server");
        std::fs::rename(&program, &kept).unwrap();
        kept
    })
}

/// Every process whose command line or environment contains a text, with its command line.
pub fn processes(text: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let line = read("cmdline");
        // A process that has ended and is only not yet looked at has neither.
        if pid != i32::try_from(std::process::id()).unwrap() && (line.contains(text) || read("environ").contains(text))
        {
            found.push((pid, line));
        }
    }
    found
}

/// The process that runs the server of an instance.
pub fn pid_of_instance(instance: &str) -> Option<i32> {
    processes(&format!("SLIPWAY_INSTANCE={instance}"))
        .into_iter()
        .find(|(_, line)| line.starts_with("/server"))
        .map(|(pid, _)| pid)
}

/// Sends a signal.
pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether a process lives; one that only waits to be looked at does not.
pub fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// A pause between two looks at something outside that wakes nobody, such as another process's end.
pub fn pause(duration: Duration) {
    let (_keep, nothing) = std::sync::mpsc::channel::<()>();
    let _ = nothing.recv_timeout(duration);
}

/// Looks again and again until there is something to see.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: did not happen");
        pause(Duration::from_millis(20));
    }
}
