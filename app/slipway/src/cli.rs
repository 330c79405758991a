//! The command line: one verb per command, the same global options for all.
//!
//! In: arguments. Out: a call of the command's file, an exit code. Never: a command's logic.

use crate::commands::{
    acts, ask, backup, demo, doctor, init, lint, list, local, open, parts, plan, push, secret, token, up, watch,
};
use crate::exit::{Done, Exit, USAGE, surroundings};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

/// The heading of options that are not a command's own.
const EVERY: &str = "For every command";

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print data as JSON
    #[arg(long, global = true, help_heading = EVERY)]
    pub json: bool,
    /// Say less
    #[arg(short, long, global = true, help_heading = EVERY)]
    pub quiet: bool,
    /// The server's address; default: the `slipway` remote, else the server of the data folder
    #[arg(long, global = true, env = "SLIPWAY_SERVER", hide_env_values = true, value_name = "URL", help_heading = EVERY)]
    pub server: Option<String>,
    /// The project; default: that of the `slipway` remote
    #[arg(long, global = true, value_name = "NAME", help_heading = EVERY)]
    pub project: Option<String>,
    /// The data folder
    #[arg(long, global = true, env = "SLIPWAY_DATA", hide_env_values = true, value_name = "DIR", help_heading = EVERY)]
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
    /// Wait for the end of what it sets going; the exit is that of the rollout
    #[arg(long)]
    pub wait: bool,
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
    #[command(mut_arg("what", |what| what.help("A commit or branch, a service (`api`: its newest change), a release (`api@r41`); default: the commit checked out")))]
    Watch(watch::Watch),
    /// Lines of a service (`api`) or job (`api/test`)
    #[command(mut_arg("what", |what| what.help("A service (`api`), a release of it (`api@r41`), or a job (`api/test`)")))]
    Logs(ask::Logs),
    /// Why it ran, waits, failed, was skipped, was taken back
    #[command(mut_arg("what", |what| what.help("A commit or branch, a service (`api`), a release (`api@r41`), a job (`api/test`); default: the commit checked out")))]
    Why(What),
    /// What was deployed when, by whom
    #[command(mut_arg("what", |what| what.help("A service; default: all")))]
    History(ask::History),
    /// What would happen for a commit or the working tree, and why
    Plan(plan::Plan),
    /// The effective process and where every default comes from
    Explain(local::Explain),
    /// Recognise this repository and write its first slipway.yaml
    Init(init::Init),
    /// Check slipway.yaml and Dockerfiles
    Lint,
    /// The same jobs, in the same sandbox, on the working tree
    Run(local::Run),
    /// `git push` that also waits and exits accordingly
    Push(push::Push),
    /// Put a release into an environment
    #[command(mut_arg("what", |what| what.help("A release (`api@r41` or its id), a service (its newest release), or a commit (all its releases)")), mut_arg("env", |env| env.required(true)))]
    Deploy(Act),
    /// Put a release into the next environment
    #[command(mut_arg("what", |what| what.help("A release (`api@r41`), a service, or a commit; default: the commit checked out")))]
    Promote(Act),
    /// Back to the newest release that succeeded there
    #[command(mut_arg("what", |what| what.help("A service; default: all")))]
    Rollback(acts::Rollback),
    /// New instances of what serves, with the newest secrets
    #[command(mut_arg("what", |what| what.help("A service; default: all")))]
    Restart(Act),
    /// Let a waiting release go on
    #[command(mut_arg("what", |what| what.help("A commit or a release (`api@r41`); default: the commit checked out")))]
    Approve(Act),
    /// Do not let a waiting release go on
    #[command(mut_arg("what", |what| what.help("A commit or a release (`api@r41`); default: the commit checked out")))]
    Reject(Act),
    /// End a running rollout: traffic goes back
    #[command(mut_arg("what", |what| what.help("A service; default: whatever is being rolled out")))]
    Abort(Act),
    /// End a job or change
    #[command(mut_arg("what", |what| what.help("A commit or a job (`api/test`); default: the commit checked out")))]
    Cancel(Act),
    /// Run what failed once more
    #[command(mut_arg("what", |what| what.help("A commit (all that failed) or a job (`api/test`); default: the commit checked out")))]
    Retry(Act),
    /// Let nothing new into an environment
    #[command(mut_arg("what", |what| what.help("An environment").required(true)), mut_arg("env", |env| env.hide(true)))]
    Freeze(Act),
    /// Let new releases into a frozen environment again
    #[command(mut_arg("what", |what| what.help("An environment").required(true)), mut_arg("env", |env| env.hide(true)))]
    Unfreeze(Act),
    /// Keep a commit from being deployed
    #[command(mut_arg("what", |what| what.help("A commit, or a release (`api@r41`: its commit, for its service)")))]
    Hold(Act),
    /// Let a held commit be deployed again
    #[command(mut_arg("what", |what| what.help("A commit, or a release (`api@r41`: its commit, for its service)")))]
    Unhold(Act),
    /// Secrets: ls, add (value from standard input), rm
    Secret(secret::Secret),
    /// Tokens: ls, add, rm
    Token(token::Token),
    /// The page in a browser, signed in by a one-time link
    Open(open::Open),
    /// Images: ls, show, import, gc
    Image(list::Images),
    /// Releases: ls, show, diff
    Release(list::Releases),
    /// Everything but the master key, in one file, while Slipway runs
    Backup(backup::Backup),
    /// A backup, into an empty data folder
    Restore(backup::Restore),
    /// What of this machine works, with causes and remedies
    Doctor,
    /// Completion for a shell, on standard output
    Completion {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Manual pages, a file per command
    Man {
        /// The folder to write them into
        folder: PathBuf,
    },
    /// The version
    Version,
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(exit) = no_command(&error) {
                exit.print(false);
                return ExitCode::from(exit.code);
            }
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let json = cli.global.json;
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
            exit.print(json);
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
        Verb::Demo(demo) => demo::demo(global, demo).await,
        Verb::Status => ask::status(global).await,
        Verb::Watch(watch) => watch::watch(global, watch).await,
        Verb::Logs(logs) => ask::logs(global, &logs).await,
        Verb::Why(what) => ask::why(global, &what).await,
        Verb::History(history) => ask::history(global, &history).await,
        Verb::Plan(plan) => plan::plan(global, &plan).await,
        Verb::Explain(explain) => local::explain(global, &explain),
        Verb::Init(init) => init::init(global, &init),
        Verb::Lint => lint::lint(global),
        Verb::Run(run) => local::run(global, &run).await,
        Verb::Push(push) => push::push(global, &push).await,
        Verb::Deploy(act) => acts::act(global, "deploy", &act, None).await,
        Verb::Promote(act) => acts::act(global, "promote", &act, None).await,
        Verb::Rollback(rollback) => acts::act(global, "rollback", &rollback.act, rollback.to).await,
        Verb::Restart(act) => acts::act(global, "restart", &act, None).await,
        Verb::Approve(act) => acts::act(global, "approve", &act, None).await,
        Verb::Reject(act) => acts::act(global, "reject", &act, None).await,
        Verb::Abort(act) => acts::act(global, "abort", &act, None).await,
        Verb::Cancel(act) => acts::act(global, "cancel", &act, None).await,
        Verb::Retry(act) => acts::act(global, "retry", &act, None).await,
        Verb::Freeze(act) => acts::act(global, "freeze", &act, None).await,
        Verb::Unfreeze(act) => acts::act(global, "unfreeze", &act, None).await,
        Verb::Hold(act) => acts::act(global, "hold", &act, None).await,
        Verb::Unhold(act) => acts::act(global, "unhold", &act, None).await,
        Verb::Secret(secret) => secret::secret(global, &secret).await,
        Verb::Token(token) => token::token(global, &token).await,
        Verb::Open(open) => open::open(global, &open).await,
        Verb::Image(images) => list::images(global, &images).await,
        Verb::Release(releases) => list::releases(global, &releases).await,
        Verb::Backup(to) => backup::backup(global, &to),
        Verb::Restore(from) => backup::restore(global, &from),
        Verb::Doctor => doctor::doctor(global).await,
        Verb::Completion { shell } => completion(shell),
        Verb::Man { folder } => manuals(&folder),
        Verb::Version if global.json => ask::print_json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
        Verb::Version => {
            println!("slipway {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn completion(shell: clap_complete::Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "slipway", &mut script);
    println!("{}", String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

fn manuals(folder: &Path) -> Done {
    std::fs::create_dir_all(folder).map_err(surroundings)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder).map_err(surroundings)
}

/// A word that is no command. `frob` is not like `rollback`: a guess that is far off misleads.
fn no_command(error: &clap::Error) -> Option<Exit> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let guesses = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(all)) => all.clone(),
        Some(ContextValue::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    let near = guesses.into_iter().find(|guess| is_near(typed, guess));
    let hint = near.map_or_else(|| "`slipway --help` lists them".to_owned(), |near| format!("did you mean `{near}`?"));
    Some(Exit::new(USAGE, format!("there is no command `{typed}`")).hint(hint))
}

/// Whether a word may be a slip of the finger for another: the same first letter, and about as long.
fn is_near(typed: &str, meant: &str) -> bool {
    typed.chars().next() == meant.chars().next() && typed.len().abs_diff(meant.len()) <= 2
}

/// An address to listen on: `8400`, `127.0.0.1:8400`, `0.0.0.0:80`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| format!("`{text}` is no address; write it as 127.0.0.1:8400, or a port alone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// Every command's help, as a narrow and a wide terminal show it, is as it was: `SLIPWAY_GOLDEN=write` accepts changes.
    #[test]
    fn the_help_of_every_command_is_as_it_was() {
        for width in [60, 100] {
            let mut cli = Cli::command().term_width(width).disable_help_subcommand(true);
            cli.build();
            let mut text = String::new();
            write_help(&mut text, &cli, "slipway", width);
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/help-{width}.txt"));
            if std::env::var_os("SLIPWAY_GOLDEN").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let known = std::fs::read_to_string(&file).unwrap_or_default();
            let differing = known.lines().zip(text.lines()).find(|(known, now)| known != now);
            assert!(known == text, "{}: {differing:?}", file.display());
            let too_wide = text.lines().find(|line| line.chars().count() > width && line.contains("  "));
            assert!(width == 60 || too_wide.is_none(), "{too_wide:?}");
        }
    }

    fn write_help(text: &mut String, command: &clap::Command, path: &str, width: usize) {
        let help = command.clone().term_width(width).render_long_help();
        writeln!(text, "$ {path} --help\n{}\n", help.to_string().trim_end()).unwrap();
        for below in command.get_subcommands() {
            write_help(text, below, &format!("{path} {}", below.get_name()), width);
        }
    }

    #[test]
    fn the_command_line_is_whole_and_each_thing_is_described_as_its_command_takes_it() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        let help = |verb: &str| {
            let found = cli.find_subcommand(verb).unwrap().clone();
            found.get_arguments().find(|arg| arg.get_id() == "what").unwrap().get_help().unwrap().to_string()
        };
        assert_eq!(help("rollback"), "A service; default: all");
        assert!(help("watch").contains("its newest change"));
        assert!(Cli::try_parse_from(["slipway", "deploy", "api@r1"]).is_err(), "deploy needs an environment");
        assert!(Cli::try_parse_from(["slipway", "deploy", "api@r1", "--env", "production"]).is_ok());
    }

    #[test]
    fn only_a_near_word_is_proposed() {
        assert!(is_near("stauts", "status"));
        assert!(!is_near("frob", "rollback"));
    }
}
