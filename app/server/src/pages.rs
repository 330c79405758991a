//! Pages that people look at (PAGES.md): the same HTML for a browser with scripts and for one without.
//!
//! In: views. Out: pages, their few files, the streams that keep them alive. Never: an act; each problem shows the command
//! instead.

mod ansi;
mod assets;
mod banners;
mod commit;
mod environment;
mod figures;
mod frame;
mod history;
mod home;
mod job;
mod live;
mod road;
mod service;
mod sign;
mod words;

pub use assets::{asset, theme};
pub use commit::commit;
pub use environment::environment;
pub use frame::Look;
pub use history::history;
pub use home::{home, project};
pub use job::{job, stream};
pub use live::live;
pub use service::service;
pub use sign::{login, refused, sign_in};
