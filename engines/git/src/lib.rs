//! Git hosting by the `git` program, reading by gix; both are hidden behind this package.
//!
//! In: pushes, fetches and clones over smart HTTP (already authenticated); questions about
//! commits, trees and differences; wishes for a work tree of a commit.
//! Out: answers streamed as git makes them; one [`HookCall`] per receive hook, through which
//! the caller judges a push and writes lines into the pusher's terminal; exact checkouts.
//! Never: decides what a push means, reads configuration of the host or of a user, runs
//! anything that a repository's content names, or lets a name become an option of git.
//!
//! The life of one push: [`Git::serve`] starts `git receive-pack`, which runs the hooks below
//! `root/hooks`. They are this same binary under another name ([`is_hook`], [`hook_main`]),
//! connect to [`HookListener`] and print what it sends. A lost pusher closes the hook's
//! connection, so the hook and receive-pack end by themselves; what was admitted stays stored.

mod command;
mod durable;
mod error;
mod frames;
mod git;
mod hook;
mod http_body;
mod http_serve;
mod listener;
mod names;
mod objects;
mod odb;
mod parse;
mod path;
mod pump;
mod pushes;
mod repository;
mod resolve;
mod tree_files;
mod tree_step;
mod trees;

pub use error::{Candidate, GitError};
pub use frames::HookKind;
pub use git::{Git, GitOptions, Limits};
pub use hook::{hook_main, is_hook};
pub use http_serve::{Endpoint, Pusher, Refusal, Service};
pub use listener::{HookCall, HookGone, HookListener, RefUpdate};
pub use names::{Oid, ProjectName};
pub use objects::{Diff, ObjectView};
pub use parse::{CommitInfo, EntryKind, RefEntry, TreeEntry};
pub use path::RepoPath;
pub use trees::CheckoutLease;
