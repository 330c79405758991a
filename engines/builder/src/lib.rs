//! Builds OCI images from Dockerfiles, without a daemon and without privileges, and unpacks them.
//!
//! In: the text of a Dockerfile, a folder, what jobs produced, base images of the own registry.
//! Out: an image in the content store ([`Built`]), the same bytes for the same inputs, whoever
//! builds it, wherever and whenever; or problems with line and column.
//! Never: a clock, a host name or a user's mode mask inside an image; a read outside the folders
//! that were given; the execution of anything: what RUN runs goes to who was given for it ([`RunsSteps`]).
//!
//! The road through the files: `parse` reads the text · `build` walks the stages, with `expand` for
//! variables and `source` for what COPY picks (`folder` and `ignore` for the context, `tree` for
//! stages) · `run` is what RUN needs, `changes` what it left · `layer` packs, through `cache` · `oci` is what goes into the store · `unpack` takes an
//! image apart for the machine that runs it · `import` reads images that others wrote.

mod base;
mod build;
mod cache;
mod changes;
mod chown;
mod copy;
mod error;
mod expand;
mod folder;
mod glob;
mod ignore;
mod import;
mod layer;
pub mod oci;
mod parse;
mod paths;
mod reference;
mod run;
mod run_config;
mod source;
mod spool;
mod stages;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
mod warnings;

pub use base::{BaseImages, NoBaseImages, ResolveError};
pub use build::{BuildRequest, Built, Layer, build};
pub use cache::{CachedLayer, FileCache, LayerCache, NoCache};
pub use error::{BuildError, Position, Problem};
pub use ignore::Ignore;
pub use import::{ImportError, Imported, Part, Source, import};
pub use oci::{ImageConfig, Platform};
pub use parse::{
    Argument, CacheMount, Command, Copy, CopyFrom, Dockerfile, Instruction, Run, Stage, Step, Text, parse,
};
pub use reference::{ImageReference, ReferenceError};
pub use run::{Cache, Owners, Ran, RunFailure, RunStep, RunsSteps, Steps};
pub use unpack::{KeptLayers, UnpackError, Unpacked, unpack};
pub use warnings::Warning;
