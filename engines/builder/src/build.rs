//! Walks the stages of a Dockerfile and makes the image.
//!
//! In: a [`BuildRequest`], the store, base images, the memory of packed layers, who runs commands.
//! Out: [`Built`]: an image in the store, and a hold on its blobs until it is recorded.
//! Never: a stage that nothing needs; a layer for a stage that is only copied from, unless a RUN stands on it.

mod run_step;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slipway_blobs::{Blobs, Digest, Lease};

use crate::base::{self, BaseImages};
use crate::cache::{CachedLayer, LayerCache};
use crate::chown;
use crate::copy::{Attributes, Entries, Placing};
use crate::error::{BuildError, Position, Problem};
use crate::folder::Folder;
use crate::ignore::Ignore;
use crate::layer;
use crate::oci::{self, Descriptor, History, Image, LayerBlob, Manifest, Platform, RootFs};
use crate::parse::{Copy, CopyFrom, Dockerfile, Instruction, Stage, Step, Text};
use crate::paths::absolute;
use crate::run::Steps;
use crate::run_config::{Given, RunConfig, expand_with};
use crate::source::{FolderSource, Picked, pick_from_tree};
use crate::spool::Spool;
use crate::stages::{self, Base, Use};
use crate::tree::Tree;
use crate::warnings::{self, Warning};

/// What to build and from what.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// The build context; only read. Its `.git` is not part of it.
    pub context: PathBuf,
    /// What of the context is left out.
    pub ignore: Ignore,
    /// For `COPY --from=job.NAME`: job → the folder with what it produced.
    pub jobs: BTreeMap<String, PathBuf>,
    /// Values for ARGs. `SOURCE_DATE_EPOCH` (seconds) sets all times of the image.
    pub arguments: BTreeMap<String, String>,
    /// The stage to publish; the last one if none is named.
    pub target: Option<String>,
    /// Labels to add. Nothing in them may differ between builds of the same inputs.
    pub labels: BTreeMap<String, String>,
    /// For which platform.
    pub platform: Platform,
    /// A folder for temporary files.
    pub scratch: PathBuf,
    /// Set it to stop the build soon.
    pub stop: Arc<AtomicBool>,
}

/// An image that is in the store.
#[derive(Debug)]
pub struct Built {
    /// The name of the image.
    pub manifest: Digest,
    /// Its configuration.
    pub config: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What its blobs take together, in bytes.
    pub size_bytes: u64,
    /// `8080/tcp` …
    pub exposed_ports: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// What its owner should know.
    pub warnings: Vec<Warning>,
    /// Hold the blobs until the image is recorded.
    pub leases: Vec<Lease>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The compressed blob.
    pub digest: Digest,
    /// The digest of the uncompressed bytes.
    pub diff_id: Digest,
    /// Its compressed size.
    pub size_bytes: u64,
    /// Whether it was there before: of the base image, or made by an earlier build.
    pub reused: bool,
}

/// Builds the image. Without `steps` a RUN is refused.
pub fn build(
    request: &BuildRequest,
    blobs: &Blobs,
    bases: &dyn BaseImages,
    cache: &dyn LayerCache,
    steps: Option<Steps<'_>>,
) -> Result<Built, BuildError> {
    Builder::new(request, blobs, bases, cache, steps)?.run()
}

/// The state of a stage; the next stage may begin with a copy of it.
#[derive(Debug, Clone, Default)]
struct State {
    tree: Tree,
    config: RunConfig,
    layers: Vec<(LayerBlob, bool)>,
    /// What COPYs made of a stage that is only copied from: packed when a RUN needs it on disk.
    pending: Vec<(String, Entries)>,
    history: Vec<History>,
}

struct Builder<'a> {
    request: &'a BuildRequest,
    blobs: &'a Blobs,
    bases: &'a dyn BaseImages,
    cache: &'a dyn LayerCache,
    steps: Option<Steps<'a>>,
    given: Given,
    epoch_seconds: u64,
    spool: Spool<'a>,
    context: Arc<Folder>,
    leases: Vec<Lease>,
}

impl<'a> Builder<'a> {
    fn new(
        request: &'a BuildRequest,
        blobs: &'a Blobs,
        bases: &'a dyn BaseImages,
        cache: &'a dyn LayerCache,
        steps: Option<Steps<'a>>,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            request,
            blobs,
            bases,
            cache,
            steps,
            given: given(request)?,
            epoch_seconds: epoch_seconds(request)?,
            spool: Spool::new(blobs, &request.scratch)?,
            context: Folder::open(&request.context)?,
            leases: Vec::new(),
        })
    }

    fn run(mut self) -> Result<Built, BuildError> {
        let dockerfile = &self.request.dockerfile;
        let target = stages::target(dockerfile, self.request.target.as_deref())?;
        let bases = self.base_of_each_stage()?;
        let uses = stages::uses(dockerfile, &bases, target);
        let mut states: Vec<State> = Vec::new();
        for (index, stage) in dockerfile.stages[..=target].iter().enumerate() {
            let state = match uses[index] {
                Use::Skipped => State::default(),
                used => self.run_stage(stage, &bases[index], used, &states)?,
            };
            states.push(state);
        }
        let state = states.pop().expect("a Dockerfile that was read has a stage");
        self.finish(state)
    }

    fn base_of_each_stage(&self) -> Result<Vec<Base>, BuildError> {
        let dockerfile = &self.request.dockerfile;
        let lookup = |name: &str| {
            let global = self.given.global.get(name);
            global.or_else(|| self.given.predefined.get(name)).cloned()
        };
        let read = |stage: &Stage| {
            let platform = stage.platform.as_ref();
            let platform =
                platform.map(|text| Ok::<_, Problem>((expand_with(text, dockerfile.escape, &lookup)?, text)));
            if let Some((named, text)) = platform.transpose()?
                && named != platform_text(&self.request.platform)
            {
                return Err(Problem::new(text.at, format!("building for `{named}` is not yet supported"))
                    .hint(format!("this machine builds for `{}`", platform_text(&self.request.platform))));
            }
            let text = expand_with(&stage.base, dockerfile.escape, &lookup)?;
            let here = dockerfile.stages.iter().position(|other| other.at == stage.at).unwrap_or(0);
            let earlier = dockerfile.stage(&text).filter(|index| *index < here);
            Base::read(&text, stage.base.at, earlier)
        };
        Ok(dockerfile.stages.iter().map(read).collect::<Result<_, _>>()?)
    }

    fn run_stage(&mut self, stage: &Stage, base: &Base, used: Use, before: &[State]) -> Result<State, BuildError> {
        let mut state = match base {
            Base::Scratch => State::default(),
            Base::Stage(index) => before[*index].clone(),
            Base::Image(reference) => {
                let (loaded, tree) = base::load(self.blobs, self.bases, reference, &self.request.platform, stage.at)?;
                State {
                    pending: Vec::new(),
                    tree,
                    history: padded_history(&loaded),
                    layers: loaded.layers.into_iter().map(|layer| (layer, true)).collect(),
                    config: RunConfig { image: loaded.image.config, ..RunConfig::default() },
                }
            }
        };
        // ARGs of another stage are not seen here.
        state.config.arguments.clear();
        for step in &stage.steps {
            if self.request.stop.load(Ordering::Relaxed) {
                return Err(BuildError::Stopped);
            }
            self.run_step(step, &mut state, used, before)?;
        }
        Ok(state)
    }

    fn run_step(&mut self, step: &Step, state: &mut State, used: Use, before: &[State]) -> Result<(), BuildError> {
        let escape = self.request.dockerfile.escape;
        let layers_before = state.layers.len();
        let entries = match &step.instruction {
            Instruction::Run(run) => {
                self.run_command(run, step, state)?;
                Entries::new()
            }
            Instruction::Copy(copy) => self.copy(copy, step.at, state, before)?,
            Instruction::Workdir(text) => {
                let folder = state.config.expand(text, escape)?;
                let path = absolute(&state.config.image.working_dir, &folder);
                state.config.image.working_dir = format!("/{path}");
                Placing::new(&mut state.tree, Attributes::default(), step.at).folder(&path)?
            }
            other => {
                state.config.apply(other, &self.given, escape)?;
                Entries::new()
            }
        };
        if !entries.is_empty() {
            match used {
                Use::Published => {
                    let layer = self.layer(&step.source, entries)?;
                    state.layers.push(layer);
                }
                Use::CopiedFrom | Use::Skipped => state.pending.push((step.source.clone(), entries)),
            }
        }
        state.history.push(History {
            created: Some(oci::rfc3339(self.epoch_seconds)),
            created_by: Some(step.source.clone()),
            empty_layer: state.layers.len() == layers_before,
        });
        Ok(())
    }

    fn copy(&mut self, copy: &Copy, at: Position, state: &mut State, before: &[State]) -> Result<Entries, BuildError> {
        let escape = self.request.dockerfile.escape;
        let expand = |text: &Text| state.config.expand(text, escape);
        let mut picked = Vec::new();
        for source in &copy.sources {
            let text = expand(source)?;
            picked.extend(self.pick(copy, &text, source.at, before)?);
        }
        let destination = expand(&copy.destination)?;
        if copy.sources.len() > 1 && !destination.ends_with('/') {
            let message = format!("several sources are copied, so `{destination}` has to end with a slash");
            return Err(Problem::new(copy.destination.at, message).into());
        }
        let owner = copy.chown.as_ref().map(|text| Ok::<_, Problem>((expand(text)?, text.at))).transpose()?;
        let mode = copy.chmod.as_ref().map(|text| Ok::<_, Problem>((expand(text)?, text.at))).transpose()?;
        let owner = owner.as_ref().map(|(text, at): &(String, Position)| (text.as_str(), *at));
        let mode = mode.as_ref().map(|(text, at): &(String, Position)| (text.as_str(), *at));
        let attributes = chown::attributes(owner, mode, &state.tree, &mut self.spool)?;
        let working_folder = state.config.image.working_dir.clone();
        Placing::new(&mut state.tree, attributes, at).copy(picked, &working_folder, &destination)
    }

    fn pick(&self, copy: &Copy, source: &str, at: Position, before: &[State]) -> Result<Vec<Picked>, BuildError> {
        let nothing = Ignore::default();
        let from_folder = |folder: &Arc<Folder>, label: &str, ignore: &Ignore, leaves_git_out| {
            let stop = &self.request.stop;
            FolderSource { folder, label, ignore, leaves_git_out, stop }.pick(source, at)
        };
        match &copy.from {
            CopyFrom::Context => from_folder(&self.context, "the build context", &self.request.ignore, true),
            CopyFrom::Job(name) => {
                let label = format!("what job `{name}` produced");
                let Some(path) = self.request.jobs.get(name) else {
                    return Err(Problem::new(at, format!("there is nothing that a job `{name}` produced"))
                        .hint(format!(
                            "name the job in slipway.yaml with `produces:`, so that it runs before the image; \
                                       known are: {}",
                            known(&self.request.jobs)
                        ))
                        .into());
                };
                from_folder(&Folder::open(path)?, &label, &nothing, false)
            }
            CopyFrom::Stage(index) => {
                let stage = &self.request.dockerfile.stages[*index];
                let name = stage.name.clone().unwrap_or_else(|| index.to_string());
                pick_from_tree(&before[*index].tree, source, at, &format!("stage `{name}`"))
            }
            CopyFrom::Image(reference) => {
                let platform = &self.request.platform;
                let (_, tree) = base::load(self.blobs, self.bases, reference, platform, at)?;
                pick_from_tree(&tree, source, at, &format!("image `{reference}`"))
            }
        }
    }

    /// Packs the entries, unless a build before did. True: it was there.
    fn layer(&mut self, name: &str, mut entries: Entries) -> Result<(LayerBlob, bool), BuildError> {
        self.spool.fetch(entries.values_mut())?;
        let key = layer::key(&entries, self.epoch_seconds);
        if let Some(layer) = self.remembered(&key)? {
            return Ok((layer, true));
        }
        let name = format!("layer of {name}");
        let (layer, lease) = layer::pack(self.blobs, &name, &entries, self.epoch_seconds, &self.request.stop)?;
        self.keep(&key, &layer, lease);
        Ok((layer, false))
    }

    /// The layer that an earlier build made of the same, held.
    fn remembered(&mut self, key: &Digest) -> Result<Option<LayerBlob>, BuildError> {
        let Some(CachedLayer { digest, diff_id, size_bytes }) = self.cache.get(key) else { return Ok(None) };
        let Some(lease) = self.blobs.lease(&digest)? else { return Ok(None) };
        self.leases.push(lease);
        Ok(Some(LayerBlob { digest, diff_id, size_bytes, is_gzip: true }))
    }

    /// Holds a new layer and remembers it.
    fn keep(&mut self, key: &Digest, layer: &LayerBlob, lease: Lease) {
        self.leases.push(lease);
        let LayerBlob { digest, diff_id, size_bytes, .. } = *layer;
        self.cache.put(key, &CachedLayer { digest, diff_id, size_bytes });
    }

    fn finish(mut self, mut state: State) -> Result<Built, BuildError> {
        check_shell(&state)?;
        state.config.image.labels.extend(self.request.labels.clone());
        for (layer, _) in &state.layers {
            let lease = self.blobs.lease(&layer.digest)?;
            let missing = slipway_blobs::BlobError::Missing { digest: layer.digest };
            self.leases.push(lease.ok_or(missing)?);
        }
        let image = Image {
            created: Some(oci::rfc3339(self.epoch_seconds)),
            architecture: self.request.platform.architecture.clone(),
            os: self.request.platform.os.clone(),
            config: state.config.image.clone(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: state.layers.iter().map(|(layer, _)| layer.diff_id).collect(),
            },
            history: std::mem::take(&mut state.history),
        };
        let config = self.put_json("image configuration", oci::CONFIG, &image)?;
        let layers = state.layers.iter().map(|(layer, _)| Descriptor {
            media_type: if layer.is_gzip { oci::LAYER_GZIP } else { oci::LAYER }.to_owned(),
            digest: layer.digest,
            size: layer.size_bytes,
            platform: None,
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: oci::MANIFEST.to_owned(),
            config: config.clone(),
            layers: layers.collect(),
        };
        let manifest = self.put_json("image manifest", oci::MANIFEST, &manifest)?;
        let of_layers: u64 = state.layers.iter().map(|(layer, _)| layer.size_bytes).sum();
        let image = state.config.image.clone();
        Ok(Built {
            manifest: manifest.digest,
            config: config.digest,
            size_bytes: of_layers + config.size + manifest.size,
            exposed_ports: image.exposed_ports.keys().cloned().collect(),
            warnings: self.warnings(&state),
            layers: state
                .layers
                .into_iter()
                .map(|(layer, reused)| Layer {
                    digest: layer.digest,
                    diff_id: layer.diff_id,
                    size_bytes: layer.size_bytes,
                    reused,
                })
                .collect(),
            entrypoint: image.entrypoint,
            cmd: image.cmd,
            env: image.env,
            user: image.user,
            leases: self.leases,
        })
    }

    fn put_json(
        &mut self,
        name: &str,
        media_type: &str,
        document: &impl serde::Serialize,
    ) -> Result<Descriptor, BuildError> {
        let bytes = serde_json::to_vec(document).expect("maps with text keys always become JSON");
        let stored = self.blobs.put_bytes(name, &bytes)?;
        self.leases.push(stored.lease);
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: stored.digest,
            size: stored.size_bytes,
            platform: None,
        })
    }

    fn warnings(&self, state: &State) -> Vec<Warning> {
        let dockerfile = &self.request.dockerfile;
        let in_stages = dockerfile.stages.iter().flat_map(|stage| &stage.steps);
        let in_stages = in_stages.filter_map(|step| match &step.instruction {
            Instruction::Arg(arguments) => Some(arguments),
            _ => None,
        });
        let declared: BTreeSet<&str> = in_stages
            .flatten()
            .chain(&dockerfile.arguments)
            .map(|argument| argument.name.as_str())
            .chain(["SOURCE_DATE_EPOCH"])
            .collect();
        let unused = self.request.arguments.keys().filter(|name| !declared.contains(name.as_str()));
        let mut found: Vec<Warning> = unused.map(|name| Warning::UnusedArgument { name: name.clone() }).collect();
        found.extend(warnings::program(&state.tree, &state.config.image));
        found.extend(warnings::build_tools(&state.tree));
        found
    }
}

/// The shell form needs a shell in the image.
fn check_shell(state: &State) -> Result<(), BuildError> {
    let config = &state.config;
    let Some(text) = config.shell_entrypoint.as_ref().or(config.shell_cmd.as_ref()) else {
        return Ok(());
    };
    let shell = config.shell.first().map_or("/bin/sh", String::as_str);
    if warnings::is_executable(&state.tree, &absolute("", shell)) {
        return Ok(());
    }
    let words: Vec<&str> = text.raw.split_whitespace().collect();
    let json = serde_json::to_string(&words).unwrap_or_default();
    Err(Problem::new(text.at, format!("the shell form needs `{shell}`, which is not in the image"))
        .hint(format!("write it as a JSON list: `{json}`"))
        .into())
}

fn given(request: &BuildRequest) -> Result<Given, BuildError> {
    let mut given = Given { arguments: request.arguments.clone(), ..Given::default() };
    let Platform { architecture, os } = &request.platform;
    for side in ["TARGET", "BUILD"] {
        let all = [("PLATFORM", platform_text(&request.platform)), ("OS", os.clone()), ("ARCH", architecture.clone())];
        given.predefined.extend(all.map(|(name, value)| (format!("{side}{name}"), value)));
    }
    for argument in &request.dockerfile.arguments {
        let lookup = |name: &str| given.global.get(name).or_else(|| given.predefined.get(name)).cloned();
        let default = argument.default.as_ref();
        let default = default.map(|text| expand_with(text, request.dockerfile.escape, &lookup)).transpose()?;
        if let Some(value) = given.arguments.get(&argument.name).cloned().or(default) {
            given.global.insert(argument.name.clone(), value);
        }
    }
    Ok(given)
}

fn platform_text(platform: &Platform) -> String {
    format!("{}/{}", platform.os, platform.architecture)
}

fn epoch_seconds(request: &BuildRequest) -> Result<u64, BuildError> {
    /// The year 9999, after which RFC 3339 has no dates.
    const SECONDS_MAX: u64 = 253_402_300_799;
    let Some(text) = request.arguments.get("SOURCE_DATE_EPOCH") else {
        return Ok(0);
    };
    let seconds = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
    let start = Position { line: 1, column: 1 };
    let problem = || Problem::new(start, format!("SOURCE_DATE_EPOCH is `{text}`, which is no number of seconds"));
    Ok(seconds.ok_or_else(problem)?)
}

/// Exactly one entry per layer, also for images that say less.
fn padded_history(loaded: &oci::Loaded) -> Vec<History> {
    let mut history = loaded.image.history.clone();
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    if told > loaded.layers.len() {
        history.clear();
    }
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    history.extend((told..loaded.layers.len()).map(|_| History::default()));
    history
}

fn known(jobs: &BTreeMap<String, PathBuf>) -> String {
    match jobs.is_empty() {
        true => "none".to_owned(),
        false => jobs.keys().cloned().collect::<Vec<_>>().join(", "),
    }
}
