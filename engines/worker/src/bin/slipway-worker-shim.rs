//! A program that is the shim, or a worker process, for this package's tests.

use std::path::PathBuf;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let word = args.next().unwrap_or_default();
    let code = match word.to_str() {
        Some("shim") => slipway_sandbox::shim_main(args),
        Some("worker") => work(args.map(PathBuf::from).collect()),
        Some(_) | None => 2,
    };
    std::process::exit(code);
}

/// `worker DATA SOCKET`, until it is killed.
fn work(args: Vec<PathBuf>) -> i32 {
    let [data, socket] = &args[..] else { return 2 };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else { return 3 };
    let Ok(blobs) = slipway_blobs::Blobs::open(data.join("blobs")) else { return 3 };
    let options = slipway_worker::WorkerOptions::new(data, blobs, "/proc/self/exe");
    let (_never, shutdown) = tokio::sync::watch::channel(slipway_worker::Shutdown::No);
    match runtime.block_on(slipway_worker::Worker::run(options, socket, shutdown)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}
