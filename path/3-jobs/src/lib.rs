//! Stage 3, jobs: has the jobs of a plan carried out, each attempt once, and remembers their results by content.
//!
//! In: items whose needs are satisfied. Out: `job.started`, `job.ended`. Never: decides whether a job is needed,
//! remembers a failure of the machine as a failure of the code, puts a secret into a record.

pub mod decide;
pub mod drive;
pub mod explain;

pub use drive::{Jobs, Ports, Wanted};

#[cfg(test)]
mod tests;
