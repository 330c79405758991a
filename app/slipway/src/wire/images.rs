//! Builder, content store and registry as the images port.

use crate::exit::chain;
use crate::wire::run_steps::SandboxSteps;
use slipway_blobs::Blobs;
use slipway_builder::{
    BaseImages, BuildError as EngineError, Dockerfile, FileCache, Ignore, ImageReference, Instruction, Platform,
    ResolveError, Steps,
};
use slipway_model::job::Artifact;
use slipway_model::{Digest, ProjectName};
use slipway_ports::{BuildError, BuildRequest, Built, Fut, Images};
use slipway_registry::{FileIndex, Index, Published, Registry, Repository, Tag};
use slipway_worker::Trees;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Images of this machine.
#[derive(Clone)]
pub struct LocalImages {
    /// The content store.
    pub blobs: Blobs,
    /// The registry.
    pub registry: Registry,
    /// Its index, for tags.
    pub index: Arc<FileIndex>,
    /// Checkouts.
    pub trees: Arc<dyn Trees>,
    /// Scratch and the memory of packed layers.
    pub work: PathBuf,
    /// Runs the commands of Dockerfiles.
    pub steps: Arc<SandboxSteps>,
    /// Builds under way.
    pub under_way: UnderWay,
}

/// What ends a build, by the tag that it shall get.
pub type UnderWay = Arc<Mutex<BTreeMap<String, Stop>>>;

/// What ends a build.
#[derive(Clone)]
pub struct Stop {
    stop: Arc<AtomicBool>,
    scratch: PathBuf,
}

fn machine(error: &dyn std::error::Error) -> BuildError {
    BuildError::Machine(chain(error))
}

fn model(digest: &slipway_blobs::Digest) -> Digest {
    Digest::parse(&digest.to_string()).unwrap_or_else(|_| unreachable!("both have one form"))
}

fn blob(digest: &Digest) -> Option<slipway_blobs::Digest> {
    digest.as_str().parse().ok()
}

/// The largest Dockerfile or .dockerignore that is read.
const TEXT_BYTES: u64 = 1024 * 1024;

/// A path of the repository, which must stay within it: a link that a pusher made must not lead the control plane to
/// files of this machine.
fn within(tree: &Path, path: &str) -> Result<PathBuf, BuildError> {
    let missing = |error: std::io::Error| BuildError::Change(format!("`{path}` cannot be opened: {error}"));
    let root = tree.canonicalize().map_err(|error| machine(&error))?;
    let real = tree.join(path).canonicalize().map_err(missing)?;
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(BuildError::Change(format!("`{path}` leads out of the repository; make it a file of it")))
    }
}

fn read_within(tree: &Path, path: &str) -> Result<String, BuildError> {
    let real = within(tree, path)?;
    let broken = |error: std::io::Error| BuildError::Change(format!("`{path}` cannot be read: {error}"));
    let meta = real.metadata().map_err(broken)?;
    if !meta.is_file() || meta.len() > TEXT_BYTES {
        return Err(BuildError::Change(format!("`{path}` is not a file of at most {} KiB", TEXT_BYTES / 1024)));
    }
    std::fs::read_to_string(real).map_err(broken)
}

/// Images that a Dockerfile may begin with: those of its own project.
struct Bases {
    registry: Registry,
    project: Option<ProjectName>,
}

impl BaseImages for Bases {
    fn resolve(&self, reference: &ImageReference) -> Result<Option<slipway_blobs::Digest>, ResolveError> {
        let Ok(repository) = reference.repository.parse::<Repository>() else { return Ok(None) };
        let owner = reference.repository.split('/').next().unwrap_or_default();
        if self.project.as_ref().is_some_and(|project| project.as_str() != owner) {
            return Ok(None);
        }
        if let Some(digest) = &reference.digest {
            return Ok(self.registry.has_manifest(&repository, digest)?.then_some(*digest));
        }
        let Some(Ok(tag)) = reference.tag.as_ref().map(|tag| tag.parse::<Tag>()) else { return Ok(None) };
        Ok(self.registry.resolve(&repository, &tag)?)
    }
}

impl LocalImages {
    fn build_now(
        &self,
        request: &BuildRequest,
        tree: &Path,
        scratch: &Path,
        stop: Arc<AtomicBool>,
    ) -> Result<Built, BuildError> {
        let text = read_within(tree, &request.def.dockerfile)?;
        let dockerfile = slipway_builder::parse(&text)
            .map_err(|problems| BuildError::Change(places(&request.def.dockerfile, &problems)))?;
        let context = within(tree, &request.def.folder)?;
        let jobs = self.job_folders(request, scratch)?;
        let ignore_file = Path::new(&request.def.folder).join(".dockerignore");
        let ignore = if tree.join(&ignore_file).exists() {
            let text = read_within(tree, &ignore_file.display().to_string())?;
            Ignore::parse(&text).map_err(|problems| BuildError::Change(places(".dockerignore", &problems)))?
        } else {
            Ignore::default()
        };
        let engine = slipway_builder::BuildRequest {
            dockerfile,
            context,
            ignore,
            jobs,
            arguments: request.def.args.clone(),
            target: request.def.target.clone(),
            labels: BTreeMap::new(),
            platform: Platform::host(),
            scratch: scratch.to_owned(),
            stop,
        };
        let bases = Bases { registry: self.registry.clone(), project: Some(request.project.clone()) };
        let cache = FileCache::new(self.work.join("layers"));
        let runner = self.steps.of(request.project.as_str());
        let steps = Steps { runner: &runner, layers: &self.steps.layers, project: request.project.as_str() };
        let built = slipway_builder::build(&engine, &self.blobs, &bases, &cache, Some(steps));
        self.steps.layers.tidy();
        let built = built.map_err(|error| explained(&request.def.dockerfile, &error))?;
        let mut published = self.publish(request, &built)?;
        if runs_commands(&engine.dockerfile) && !rustix::process::geteuid().is_root() {
            published.warnings.push(OWNERS_LOST.to_owned());
        }
        Ok(published)
    }

    fn publish(&self, request: &BuildRequest, built: &slipway_builder::Built) -> Result<Built, BuildError> {
        let (name, tag) = request.reference.rsplit_once(':').unwrap_or((&request.reference, ""));
        let repository: Repository = name.parse().map_err(|error| BuildError::Machine(format!("{error}")))?;
        let known = self.registry.has_manifest(&repository, &built.manifest).map_err(|error| machine(&error))?;
        let older = if known { self.tag_of(&repository, &built.manifest) } else { None };
        let reference = match &older {
            Some(tag) => format!("{name}:{tag}"),
            None => {
                let tag: Tag = tag.parse().map_err(|error| BuildError::Machine(format!("{error}")))?;
                match self.registry.publish(&repository, &built.manifest, &[tag]).map_err(|error| machine(&error))? {
                    Published::New | Published::Same => request.reference.clone(),
                    Published::TagTaken { tag, holds } => {
                        return Err(BuildError::Change(format!(
                            "tag `{tag}` of `{name}` holds other content ({holds}); use `build: {{ tag: githash-buildid }}`"
                        )));
                    }
                }
            }
        };
        let port = |text: &String| text.split('/').next().and_then(|port| port.parse().ok());
        Ok(Built {
            digest: model(&built.manifest),
            size_bytes: built.size_bytes,
            ports: built.exposed_ports.iter().filter_map(port).collect(),
            reference,
            reused: older.is_some(),
            warnings: built.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    fn end(&self, stop: &Stop) {
        stop.stop.store(true, Ordering::Relaxed);
        self.steps.end(&stop.scratch);
    }

    fn tag_of(&self, repository: &Repository, manifest: &slipway_blobs::Digest) -> Option<Tag> {
        let tags = self.index.list_tags(repository, None, 10_000).ok()??;
        tags.into_iter().rev().find(|tag| self.index.get_tag(repository, tag).ok().flatten().as_ref() == Some(manifest))
    }

    /// What jobs left, unpacked; paths are those within the service's folder, as its Dockerfile says them.
    fn job_folders(&self, request: &BuildRequest, scratch: &Path) -> Result<BTreeMap<String, PathBuf>, BuildError> {
        let mut folders = BTreeMap::new();
        for (job, artifacts) in &request.artifacts {
            let folder = scratch.join("jobs").join(job);
            std::fs::create_dir_all(&folder).map_err(|error| machine(&error))?;
            for artifact in artifacts {
                self.unpack_artifact(artifact, &folder)?;
            }
            // The job may have made the folder a link; what it leads to is not what the job left.
            let inner =
                if folder.join(&request.def.folder).is_dir() { within(&folder, &request.def.folder)? } else { folder };
            folders.insert(job.clone(), inner);
        }
        Ok(folders)
    }

    fn unpack_artifact(&self, artifact: &Artifact, folder: &Path) -> Result<(), BuildError> {
        let digest = blob(&artifact.digest)
            .ok_or_else(|| BuildError::Machine(format!("artifact `{}` has no digest", artifact.name)))?;
        let file = self.blobs.open_file(&digest).map_err(|error| machine(&error))?;
        slipway_worker::unpack(file, folder).map_err(|error| machine(&error))
    }
}

fn places(file: &str, problems: &[slipway_builder::Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| place(file, problem)).collect();
    lines.join("\n")
}

fn place(file: &str, problem: &slipway_builder::Problem) -> String {
    let hint = problem.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{file}:{}:{}: {}{hint}", problem.line, problem.column, problem.message)
}

fn explained(file: &str, error: &EngineError) -> BuildError {
    match error {
        EngineError::Refused(problems) => BuildError::Change(places(file, problems)),
        EngineError::Stopped => BuildError::Change("cancelled".to_owned()),
        EngineError::RunFailed { output, .. } => {
            let mut text = format!("{file}:{error}");
            if !output.is_empty() {
                text.push_str("; its last lines:");
            }
            output.iter().for_each(|line| text.push_str(&format!("\n  {line}")));
            BuildError::Change(text)
        }
        other => machine(other),
    }
}

/// What an image is told that was made where only root can give files to others.
const OWNERS_LOST: &str = "this account is not root, so everything that a RUN made belongs to root in the image, \
                           whatever `chown` said";

fn runs_commands(dockerfile: &Dockerfile) -> bool {
    let steps = dockerfile.stages.iter().flat_map(|stage| &stage.steps);
    steps.into_iter().any(|step| matches!(step.instruction, Instruction::Run(_)))
}

/// A folder for one build, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(work: &Path) -> std::io::Result<Scratch> {
        let unique = slipway_vault::random::<8>()
            .map(|bytes| slipway_model::hex(&bytes))
            .map_err(|_| std::io::Error::other("no random bytes"))?;
        let folder = work.join("build").join(unique);
        std::fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A build under way; it is stopped when nobody waits for it any more.
struct Building {
    images: LocalImages,
    reference: String,
    stop: Stop,
}

impl Building {
    fn begin(images: &LocalImages, reference: &str, stop: Stop) -> Building {
        let mut under_way = images.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(reference.to_owned(), stop.clone());
        Building { images: images.clone(), reference: reference.to_owned(), stop }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        self.images.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.reference);
        self.images.end(&self.stop);
    }
}

impl Images for LocalImages {
    fn build(&self, request: BuildRequest) -> Fut<'_, Result<Built, BuildError>> {
        Box::pin(async move {
            let lease = self.trees.lease(&request.project, &request.commit).await.map_err(BuildError::Machine)?;
            let scratch = Scratch::new(&self.work).map_err(|error| machine(&error))?;
            let stop = Arc::new(AtomicBool::new(false));
            let ending = Stop { stop: stop.clone(), scratch: scratch.0.clone() };
            let building = Building::begin(self, &request.reference, ending);
            let images = self.clone();
            let task = tokio::task::spawn_blocking(move || {
                let built = images.build_now(&request, &lease.path, &scratch.0, stop);
                drop((lease, scratch));
                built
            });
            let built = task.await.map_err(|error| machine(&error))?;
            drop(building);
            if self.steps.leaves() {
                // It is built by the next server; that this one ended says nothing about it.
                return std::future::pending().await;
            }
            built
        })
    }

    fn cancel(&self, reference: &str) {
        let found = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned();
        if let Some(stop) = found {
            self.end(&stop);
        }
    }

    fn exists(&self, digest: &Digest) -> Fut<'_, bool> {
        let (blobs, digest) = (self.blobs.clone(), blob(digest));
        Box::pin(async move { digest.is_some_and(|digest| blobs.has(&digest)) })
    }

    fn resolve(&self, reference: &str) -> Fut<'_, Option<Digest>> {
        let bases = Bases { registry: self.registry.clone(), project: None };
        let found =
            reference.parse::<ImageReference>().ok().and_then(|reference| bases.resolve(&reference).ok().flatten());
        Box::pin(async move { found.map(|digest| model(&digest)) })
    }

    fn has_blob(&self, digest: &Digest) -> Fut<'_, bool> {
        self.exists(digest)
    }
}
