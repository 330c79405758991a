//! The world of one history: everything that outlives a process.
//!
//! In: a seed's chance. Out: ports for the processes that live in it. Never: a decision of Slipway's.

use crate::watch::Watch;
use slipway_change::{Road, Stages};
use slipway_image::Building;
use slipway_jobs::Jobs;
use slipway_model::job::JobResult;
use slipway_model::{CommitId, Digest, Lane, ProjectName};
use slipway_plan::Plans;
use slipway_ports::fakes::repository::Files;
use slipway_ports::fakes::{
    Behaviour, Chance, FakeClock, FakeFleet, FakeImages, FakeRepository, FakeRunner, FakeSecrets, Life, MemoryStore,
    Mortal, outcome,
};
use slipway_ports::{BuildError, BuildRequest, Fleet, Metrics, RunRequest, RunnerError, Store};
use slipway_release::Releases;
use slipway_rollout::drive::{Rollouts, StepFn};
use slipway_source::Source;
use slipway_verify::Verify;
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that outlives a process.
pub struct World {
    /// The project.
    pub project: ProjectName,
    /// Time.
    pub clock: Arc<FakeClock>,
    /// The journal.
    pub store: Arc<MemoryStore>,
    /// Commits.
    pub repository: Arc<FakeRepository>,
    /// Images.
    pub images: Arc<FakeImages>,
    /// The node.
    pub fleet: Arc<FakeFleet>,
    /// Who checks the invariants.
    pub watch: Arc<Watch>,
    /// The machine's function.
    pub step: StepFn,
    runner: Arc<FakeRunner>,
    secrets: Arc<FakeSecrets>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// An empty world.
    ///
    /// # Panics
    /// Never: the project's name is a name.
    #[must_use]
    pub fn new(chance: &mut Chance, step: StepFn) -> World {
        let project = ProjectName::parse("shop").unwrap_or_else(|_| unreachable!("a name"));
        let clock = Arc::new(FakeClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()).with_pace(chance.fork()));
        let repository = Arc::new(FakeRepository::default());
        let watch = Arc::new(Watch::new(store.clone(), repository.clone(), project.clone()));
        let observer = watch.clone();
        let fleet = Arc::new(FakeFleet::new(chance.fork(), move |happening| observer.happening(happening)));
        let runner = Arc::new(runner(repository.clone(), chance.fork()));
        let images = Arc::new(images(repository.clone(), fleet.clone(), chance.fork()));
        let (secrets, complaints) = (Arc::default(), Arc::default());
        World { project, clock, store, repository, images, fleet, watch, step, runner, secrets, complaints }
    }

    /// A process that serves, over this world.
    #[must_use]
    pub fn serve(&self, life: &Life) -> Road {
        self.store.held_by(life);
        let clock = Mortal::new(life, &Arc::new(self.clock.reborn()));
        let store: Arc<dyn Store> = Mortal::new(life, &self.store);
        let repository = Mortal::new(life, &self.repository);
        let fleet: Arc<dyn Fleet> = Mortal::new(life, &self.fleet);
        let metrics: Arc<dyn Metrics> = Mortal::new(life, &self.fleet);
        let images = Mortal::new(life, &self.images);
        let secrets = Mortal::new(life, &self.secrets);
        let runner = Mortal::new(life, &self.runner);
        let rollouts = slipway_rollout::drive::Ports {
            store: store.clone(),
            fleet: fleet.clone(),
            images: images.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
            hosts: Arc::new(|lane: &Lane| vec![format!("{}-{}.localhost", lane.service, lane.environment)]),
        };
        let complaints = self.complaints.clone();
        let stages = Stages {
            source: Source::new(slipway_source::Ports { store: store.clone(), repository: repository.clone() }),
            plans: Plans::new(slipway_plan::Ports {
                store: store.clone(),
                repository: repository.clone(),
                images: images.clone(),
                tools: "tools".into(),
            }),
            jobs: Jobs::new(slipway_jobs::Ports {
                store: store.clone(),
                runner,
                secrets: secrets.clone(),
                images: images.clone(),
            }),
            images: Building::new(slipway_image::Ports { store: store.clone(), images, clock: clock.clone() }),
            releases: Releases::new(slipway_release::Ports {
                store: store.clone(),
                repository: repository.clone(),
                secrets,
                clock: clock.clone(),
            }),
            rollouts: Rollouts::stepping_by(rollouts, self.step.clone()),
            verify: Verify::new(slipway_verify::Ports {
                store: store.clone(),
                fleet,
                metrics,
                repository,
                clock: clock.clone(),
            }),
            complain: Box::new(move |text| {
                complaints.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
            }),
            store,
            clock,
        };
        Road::new(stages)
    }

    /// What processes complained about.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The head of a branch.
    #[must_use]
    pub fn head(&self, branch: &str) -> Option<CommitId> {
        let name = format!("refs/heads/{branch}");
        self.repository.refs(&self.project).into_iter().find(|(known, _)| *known == name).map(|(_, commit)| commit)
    }
}

/// The program of a service at a commit.
fn program(files: &Files, folder: &str) -> String {
    files.get(&format!("{folder}/app")).cloned().unwrap_or_default()
}

fn runner(repository: Arc<FakeRepository>, chance: Chance) -> FakeRunner {
    let chance = Mutex::new(chance);
    FakeRunner::new(move |request: &RunRequest| {
        let mut chance = chance.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = chance.between(5, 900);
        if chance.percent(6) {
            return (ms, Err(RunnerError { what: "the worker is gone".into() }));
        }
        let files = repository.files_of(&request.project, &request.commit);
        let failed = program(&files, &request.job.folder).lines().any(|line| line == "tests fail");
        let ended =
            if failed { outcome(JobResult::Failed, "", Some(1)) } else { outcome(JobResult::Passed, "", Some(0)) };
        (ms, Ok(ended))
    })
}

fn images(repository: Arc<FakeRepository>, fleet: Arc<FakeFleet>, chance: Chance) -> FakeImages {
    let chance = Mutex::new(chance);
    FakeImages::new(move |request: &BuildRequest| {
        let ms = chance.lock().unwrap_or_else(PoisonError::into_inner).between(5, 600);
        let files = repository.files_of(&request.project, &request.commit);
        let program = program(&files, &request.def.folder);
        if program.lines().any(|line| line == "no image") {
            return (ms, Err(BuildError::Change(format!("{}:1:1: no such instruction", request.def.dockerfile))));
        }
        let digest = Digest::of(format!("{} {program}", request.def.folder).as_bytes());
        fleet.behaves(&digest, Behaviour::parse(&program));
        (ms, Ok(digest))
    })
}
