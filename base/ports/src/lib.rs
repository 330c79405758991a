//! Ports: the outside world as the stages see it.
//!
//! In: nothing. Out: traits, the shapes they speak in, and fakes for tests. Never: an implementation that touches
//! the machine; those are `engines/`.

pub mod clock;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod fleet;
pub mod images;
pub mod machine;
pub mod repository;
pub mod runner;
pub mod secrets;
pub mod store;

pub use clock::Clock;
pub use fleet::{Fleet, FleetError, Metrics, NodeEvent, Smoked, Traffic};
pub use images::{BuildError, BuildRequest, Built, Images};
pub use machine::Machine;
pub use repository::{CommitInfo, RepoError, Repository, TreeFile};
pub use runner::{LogLine, RunRequest, Runner, RunnerError};
pub use secrets::Secrets;
pub use store::{Append, IndexRow, Intent, NewIntent, Store, StoreError};

use std::future::Future;
use std::pin::Pin;

/// A future behind a pointer, so that ports can be trait objects.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
