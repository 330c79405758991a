//! The command line: one verb per command, the same global options for all.
//!
//! In: arguments. Out: a call of the command's file, an exit code. Never: a command's logic.

use crate::commands::{acts, ask, demo, doctor, list, local, open, parts, push, secret, token, up, watch};
use crate::exit::{Done, Exit, USAGE};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// From `git push` to a verified production release, and back when it was wrong.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The server's address; default: the `slipway` remote, else the server of the data folder
    #[arg(long, global = true, env = "SLIPWAY_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// The project; default: that of the `slipway` remote
    #[arg(long, global = true, value_name = "NAME")]
    pub project: Option<String>,
    /// The data folder
    #[arg(long, global = true, env = "SLIPWAY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// A thing: a commit, branch or tag, `api`, `api@r41`, `34e57f01`, `api/test`.
#[derive(Debug, Clone, Args)]
pub struct What {
    /// A commit, branch or tag, a service, a release (`api@r41`, `34e57f01`), a job (`api/test`)
    #[arg(value_name = "WHAT")]
    pub what: Option<String>,
    /// The environment
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
}

/// An act on a thing.
#[derive(Debug, Clone, Args)]
pub struct Act {
    #[command(flatten)]
    pub what: What,
    /// Why
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Do not ask
    #[arg(short = 'y', long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Control plane, node and worker on this machine, until Ctrl-C
    Up(up::Up),
    /// Stop the control plane; with --services also what it runs
    Down(up::Down),
    /// The control plane alone
    #[command(hide = true)]
    Serve(parts::Serve),
    /// The node alone
    #[command(hide = true)]
    Node(parts::Part),
    /// The worker alone
    #[command(hide = true)]
    Worker(parts::Part),
    /// The tour of the README on a scratch folder
    Demo(demo::Demo),
    /// Where things are, what needs you first
    Status,
    /// A change as it goes, live
    Watch(watch::Watch),
    /// Lines of a service (`api`) or job (`api/test`)
    Logs(ask::Logs),
    /// Why it ran, waits, failed, was skipped, was taken back
    Why(What),
    /// What was deployed when, by whom
    History(ask::History),
    /// What would happen for a commit or the working tree, and why
    Plan(local::Plan),
    /// The effective process and where every default comes from
    Explain(local::Explain),
    /// Check slipway.yaml
    Lint,
    /// The same jobs, in the same sandbox, on the working tree
    Run(local::Run),
    /// `git push` that also waits and exits accordingly
    Push(push::Push),
    /// Put a release into an environment
    Deploy(Act),
    /// Put a release into the next environment
    Promote(Act),
    /// Back to the newest release that succeeded there
    Rollback(acts::Rollback),
    /// Let a waiting release go on
    Approve(Act),
    /// Do not let a waiting release go on
    Reject(Act),
    /// End a running rollout: traffic goes back
    Abort(Act),
    /// End a job or change
    Cancel(Act),
    /// Run what failed once more
    Retry(Act),
    /// Keep a commit from being deployed
    Hold(Act),
    /// Let a held commit be deployed again
    Unhold(Act),
    /// Secrets: ls, add (value from standard input), rm
    Secret(secret::Secret),
    /// Tokens: ls, add, rm
    Token(token::Token),
    /// The page in a browser, signed in by a one-time link
    Open(open::Open),
    /// Images: ls, show
    Image(list::Images),
    /// Releases: ls, show, diff
    Release(list::Releases),
    /// What of this machine works, with causes and remedies
    Doctor,
    /// The version
    Version,
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let worker_threads = if matches!(cli.verb, Verb::Serve(_) | Verb::Demo(_)) { 2 } else { 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(worker_threads).enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(dispatch(cli));
            // A thread that still reads standard input or a lost connection must not keep the program.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Exit::new(crate::exit::SURROUNDINGS, format!("threads: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            exit.print();
            ExitCode::from(exit.code)
        }
    }
}

async fn dispatch(cli: Cli) -> Done {
    let global = &cli.global;
    match cli.verb {
        Verb::Up(up) => up::up(global, up).await,
        Verb::Down(down) => up::down(global, &down).await,
        Verb::Serve(serve) => parts::serve(global, serve).await,
        Verb::Node(part) => parts::node(global, part).await,
        Verb::Worker(_) => parts::worker(global).await,
        Verb::Demo(demo) => demo::demo(demo).await,
        Verb::Status => ask::status(global).await,
        Verb::Watch(watch) => watch::watch(global, watch).await,
        Verb::Logs(logs) => ask::logs(global, &logs).await,
        Verb::Why(what) => ask::why(global, &what).await,
        Verb::History(history) => ask::history(global, &history).await,
        Verb::Plan(plan) => local::plan(global, &plan).await,
        Verb::Explain(explain) => local::explain(global, &explain),
        Verb::Lint => local::lint(global),
        Verb::Run(run) => local::run(global, &run).await,
        Verb::Push(push) => push::push(global, &push).await,
        Verb::Deploy(act) => acts::act(global, "deploy", &act, None).await,
        Verb::Promote(act) => acts::act(global, "promote", &act, None).await,
        Verb::Rollback(rollback) => acts::act(global, "rollback", &rollback.act, rollback.to).await,
        Verb::Approve(act) => acts::act(global, "approve", &act, None).await,
        Verb::Reject(act) => acts::act(global, "reject", &act, None).await,
        Verb::Abort(act) => acts::act(global, "abort", &act, None).await,
        Verb::Cancel(act) => acts::act(global, "cancel", &act, None).await,
        Verb::Retry(act) => acts::act(global, "retry", &act, None).await,
        Verb::Hold(act) => acts::act(global, "hold", &act, None).await,
        Verb::Unhold(act) => acts::act(global, "unhold", &act, None).await,
        Verb::Secret(secret) => secret::secret(global, &secret).await,
        Verb::Token(token) => token::token(global, &token).await,
        Verb::Open(open) => open::open(global, &open).await,
        Verb::Image(images) => list::images(global, &images).await,
        Verb::Release(releases) => list::releases(global, &releases).await,
        Verb::Doctor => doctor::doctor(global).await,
        Verb::Version => {
            println!("slipway {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// An address to listen on: `8400`, `127.0.0.1:8400`, `0.0.0.0:80`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| format!("`{text}` is no address; write it as 127.0.0.1:8400, or a port alone"))
}
