//! Stage 4, image: has a service's image built once, tagged once, and remembered by content.
//!
//! In: an image item whose jobs are satisfied. Out: `image.started`, `image.built`, `image.failed`. Never: a tag for
//! other content, an environment inside a build (R129).

pub mod decide;
pub mod drive;

pub use drive::{Building, Ports, Wanted};
