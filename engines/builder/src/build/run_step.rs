//! A RUN of a stage.
//!
//! In: the instruction, the state of its stage. Out: the state with the layer of what it changed, remembered by content.
//! Never: a command run whose result is remembered; a failed one remembered; a result of another project.

use std::sync::Arc;

use slipway_blobs::{Digest, Hasher};

use super::{Builder, State};
use crate::base;
use crate::changes;
use crate::chown;
use crate::error::{BuildError, Problem};
use crate::oci::LayerBlob;
use crate::parse::{CacheMount, Run, Step, Text};
use crate::paths::absolute;
use crate::run::{Cache, RunFailure, RunStep, Steps};

/// PATH of a command whose image has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A command as it is shown in messages.
const SHOWN_CHARACTERS: usize = 200;

/// A RUN with its variables replaced.
struct Prepared {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: String,
    network: bool,
    caches: Vec<Cache>,
}

impl Builder<'_> {
    pub(super) fn run_command(&mut self, run: &Run, step: &Step, state: &mut State) -> Result<(), BuildError> {
        let Some(steps) = self.steps else {
            return Err(Problem::new(step.at, "RUN is not possible here").into());
        };
        self.pack_pending(state)?;
        if state.layers.is_empty() {
            return Err(Problem::new(step.at, "there is nothing in this stage that could run a command")
                .hint("begin with an image that has a shell, or COPY a static program in before")
                .into());
        }
        let prepared = self.prepare(run, state)?;
        let key = self.run_key(&prepared, state, steps.project);
        let (layer, was_there) = match self.remembered(&key)? {
            Some(layer) => (layer, true),
            None => (self.run_now(steps, &prepared, step, state, &key)?, false),
        };
        base::read_layer(self.blobs, &Arc::new(layer.clone()), &mut state.tree)?;
        state.layers.push((layer, was_there));
        Ok(())
    }

    /// Packs the layers of a stage that so far was only copied from.
    fn pack_pending(&mut self, state: &mut State) -> Result<(), BuildError> {
        for (source, entries) in std::mem::take(&mut state.pending) {
            let layer = self.layer(&source, entries)?;
            state.layers.push(layer);
        }
        Ok(())
    }

    fn prepare(&self, run: &Run, state: &State) -> Result<Prepared, BuildError> {
        let escape = self.request.dockerfile.escape;
        let expand = |text: &Text| state.config.expand(text, escape);
        let cache = |mount: &CacheMount| {
            let target = format!("/{}", absolute(&state.config.image.working_dir, &expand(&mount.target)?));
            let id = mount.id.as_ref().map(expand).transpose()?.unwrap_or_else(|| target.clone());
            match target.as_str() {
                "/" => Err(Problem::new(mount.target.at, "a cache cannot be the root of the image")),
                _ => Ok(Cache { id, target, owner: mount.owner, mode: mount.mode }),
            }
        };
        Ok(Prepared {
            arguments: state.config.arguments_of(&run.command).0,
            environment: state.config.environment().into_iter().collect(),
            folder: match state.config.image.working_dir.as_str() {
                "" => "/".to_owned(),
                folder => folder.to_owned(),
            },
            network: run.network,
            caches: run.caches.iter().map(cache).collect::<Result<_, Problem>>()?,
        })
    }

    /// Everything that a command can see.
    fn run_key(&self, run: &Prepared, state: &State, project: &str) -> Digest {
        let mut hasher = Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(&format!("slipway run 1, times {}", self.epoch_seconds));
        add(project);
        add(&format!("{} {}", self.request.platform.os, self.request.platform.architecture));
        for part in [state.layers.len(), run.arguments.len(), run.environment.len(), run.caches.len()] {
            add(&part.to_string());
        }
        for (layer, _) in &state.layers {
            add(&layer.diff_id.to_string());
        }
        run.arguments.iter().for_each(|argument| add(argument));
        for (name, value) in &run.environment {
            add(name);
            add(value);
        }
        for cache in &run.caches {
            add(&cache.id);
            add(&cache.target);
            add(&format!("{:?} {:o}", cache.owner, cache.mode));
        }
        add(&run.folder);
        add(&state.config.image.user);
        add(if run.network { "network" } else { "no network" });
        hasher.finish()
    }

    fn run_now(
        &mut self,
        steps: Steps<'_>,
        prepared: &Prepared,
        step: &Step,
        state: &State,
        key: &Digest,
    ) -> Result<LayerBlob, BuildError> {
        let below: Vec<LayerBlob> = state.layers.iter().map(|(layer, _)| layer.clone()).collect();
        let held = steps.layers.hold(self.blobs, &below)?;
        let user = &state.config.image.user;
        let mut environment = prepared.environment.clone();
        let home = chown::home(user, &state.tree, &mut self.spool)?.unwrap_or_else(|| "/".to_owned());
        for (name, value) in [("PATH", PATH), ("HOME", home.as_str())] {
            if !environment.iter().any(|(known, _)| known == name) {
                environment.push((name.to_owned(), value.to_owned()));
            }
        }
        let command: String = step.source.chars().take(SHOWN_CHARACTERS).collect();
        let ran = steps.runner.run(&RunStep {
            name: &command,
            layers: &held.folders,
            arguments: &prepared.arguments,
            environment: &environment,
            folder: &prepared.folder,
            user,
            network: prepared.network,
            caches: &prepared.caches,
            scratch: &self.request.scratch,
            stop: &self.request.stop,
        });
        let ran = ran.map_err(|failure| match failure {
            RunFailure::Failed { why, output } => {
                BuildError::RunFailed { at: step.at, command: command.clone(), why, output }
            }
            RunFailure::Machine(source) => BuildError::Run { command: command.clone(), source },
            RunFailure::Stopped => BuildError::Stopped,
        })?;
        let source = changes::Source {
            upper: &ran.upper,
            owners: ran.owners,
            before: &state.tree,
            mounts: prepared.caches.iter().map(|cache| cache.target.clone()).collect(),
        };
        let label = format!("layer of {command}");
        let packed = changes::pack(&source, self.blobs, &label, self.epoch_seconds, &self.request.stop);
        let (layer, lease) = packed.map_err(|error| match error {
            BuildError::BadResult { path, message } => {
                let why = format!("left `{path}`, which cannot be part of an image: {message}");
                BuildError::RunFailed { at: step.at, command: command.clone(), why, output: Vec::new() }
            }
            other => other,
        })?;
        self.keep(key, &layer, lease);
        Ok(layer)
    }
}
