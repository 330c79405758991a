//! What `api` and `web` share.
//!
//! In: the environment that Slipway gives to an instance, and TCP connections.
//! Out: answers over HTTP/1.1, and a clean end on SIGTERM.
//! Never: other crates, other processes, files other than secrets.

mod about;
mod http;
pub mod json;
mod server;
mod stop;
pub mod text;

pub use about::{About, secret};
pub use http::{Refusal, Request, Response};
pub use server::{Ended, Limits, serve};
pub use stop::Stop;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

/// Runs a service until SIGTERM or SIGINT. The exit code is 0 when every
/// request was answered, 1 when it could not start or had to drop some.
pub fn run(about: &About, app: impl Fn(&Request) -> Response + Send + Sync + 'static) -> ExitCode {
    let name = &about.service;
    match listen_and_serve(about, app) {
        Ok(ended) if ended.unfinished == 0 => {
            log(&format!("{name}: stopped, {} requests answered", ended.answered));
            ExitCode::SUCCESS
        }
        Ok(ended) => {
            log(&format!("{name}: stopped, {} connections were still busy", ended.unfinished));
            ExitCode::FAILURE
        }
        Err(error) => {
            log(&format!("{name}: cannot serve on port {}: {error}", about.port));
            ExitCode::FAILURE
        }
    }
}

fn listen_and_serve(
    about: &About,
    app: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> std::io::Result<Ended> {
    let stop = Stop::on_signals()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, about.port))?;
    log(&format!("{}: listening on :{}", about.service, listener.local_addr()?.port()));
    // Every answer says which release gave it: `curl -i` shows a rollout.
    let release = about.release_or_local().to_owned();
    serve(listener, stop, Limits::default(), move |request| app(request).header("x-release", &release))
}

/// Writes a line to the log, which is standard error. A log that cannot be
/// written must not end the service, which is what `eprintln!` would do.
pub fn log(line: &str) {
    let _unheard = writeln!(std::io::stderr(), "{line}");
}
