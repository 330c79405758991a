//! Runs histories.
//!
//! In: seeds and the machine's function. Out: outcomes. Never: two runs of one seed that differ.

use crate::coverage::{Coverage, Recorder};
use crate::history::{Act, history};
use crate::people::People;
use crate::show;
use crate::watch::{Invariant, Violation};
use crate::world::World;
use slipway_change::Road;
use slipway_model::Fact;
use slipway_ports::fakes::{Chance, Life, MemoryStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until}; // waits: virtual time, moved on by the runtime

pub use slipway_rollout::drive::StepFn as Step;

/// People look so often.
const LOOK_MS: u64 = 500;
/// After the last fault everything must have settled within this time: the longest wait of the machine is the
/// judge's, 60 s and the policy's; a rollout may have several.
const SETTLE_MS: u64 = 900_000;
/// Threads: as many as the smallest machine has processors.
const THREADS: usize = 2;

/// What came of one history.
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What was violated.
    pub violations: Vec<Violation>,
    /// What was passed.
    pub coverage: Coverage,
    /// How often a process died.
    pub deaths: u64,
    /// The project's file.
    pub config: String,
    /// What shall happen, with times.
    pub acts: Vec<(u64, Act)>,
    /// What processes complained about.
    pub complaints: Vec<String>,
    store: Arc<MemoryStore>,
}

impl Outcome {
    /// The journal.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        self.store.look(<[Fact]>::to_vec)
    }

    /// The whole history for a person, ending in how to see it again.
    #[must_use]
    pub fn report(&self) -> String {
        let mut lines = vec![format!("seed {}", self.seed), self.config.clone()];
        lines.extend(self.acts.iter().map(|(at, act)| format!("{at:>6} ms {act:?}")));
        lines.extend(self.facts().iter().map(show::line));
        lines.extend(self.complaints.iter().map(|text| format!("complaint: {text}")));
        for violation in &self.violations {
            lines.push(format!("VIOLATED {:?} at fact {}: {}", violation.invariant, violation.n, violation.what));
        }
        lines.push(format!("again: cargo run -p slipway-sim -- --seeds 1 --from {}", self.seed));
        lines.join("\n")
    }
}

/// The machine's real function.
#[must_use]
pub fn real() -> Step {
    Arc::new(slipway_rollout::step)
}

/// Runs one history.
///
/// # Panics
/// When this process may not make a runtime.
#[must_use]
pub fn run(seed: u64, step: &Step) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O needs nothing of the machine").block_on(live(seed, step.clone()))
}

/// Runs histories on all threads until `each` says that it is enough. Outcomes come in no particular order.
pub fn run_many(from: u64, count: u64, step: &Step, each: impl Fn(Outcome) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(from), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    if !each(run(seed, step)) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

struct Serving {
    life: Life,
    road: Road,
    deaths: u64,
}

impl Serving {
    fn begin(world: &World, deaths: u64) -> Serving {
        let life = Life::default();
        let road = world.serve(&life);
        let (sink, alive) = (road.clone(), life.clone());
        world.fleet.tell(move |event| {
            if !alive.is_over() {
                sink.node_event(event);
            }
        });
        let (starting, repository, project) = (road.clone(), world.repository.clone(), world.project.clone());
        tokio::spawn(async move {
            let source = starting.stages().source.clone();
            tokio::spawn(async move { starting.run().await });
            while source.reconcile(&project, &repository.refs(&project)).await.is_err() {
                sleep(Duration::from_millis(LOOK_MS)).await; // waits: virtual time, moved on by the runtime
            }
        });
        Serving { life, road, deaths }
    }

    async fn again(&mut self, world: &World, down_ms: u64) {
        self.life.end();
        sleep(Duration::from_millis(down_ms)).await; // waits: virtual time, moved on by the runtime
        *self = Serving::begin(world, self.deaths + 1);
    }

    /// Waits, and starts the process again whenever it dies meanwhile.
    async fn until(&mut self, at: Instant, world: &World, people: &mut People, chance: &mut Chance) {
        loop {
            let look = at.min(Instant::now() + Duration::from_millis(LOOK_MS));
            tokio::select! {
                biased;
                () = world.store.died() => self.again(world, chance.between(5, 2_000)).await,
                () = sleep_until(look) => people.answer(world, &self.road), // waits: virtual time
            }
            if Instant::now() >= at {
                return;
            }
        }
    }
}

async fn live(seed: u64, step: Step) -> Outcome {
    let mut chance = Chance::new(seed);
    let recorder = Recorder::default();
    let world = World::new(&mut chance, recorder.around(step));
    let plan = history(seed, &mut chance.fork());
    let mut people = People::new(chance.fork(), plan.config.clone(), plan.approves_percent);
    let node = world.fleet.clone();
    tokio::spawn(async move { node.live().await });
    let began = Instant::now();
    let mut serving = Serving::begin(&world, 0);
    for (at, act) in &plan.acts {
        serving.until(began + Duration::from_millis(*at), &world, &mut people, &mut chance).await;
        perform(&world, &mut serving, &mut people, &mut chance, act).await;
    }
    serving.until(Instant::now() + Duration::from_secs(3), &world, &mut people, &mut chance).await;
    world.store.disarm();
    settle(&world, &mut serving, &mut people, &mut chance).await;
    serving.life.end();
    let coverage = Coverage { moves: recorder.moves(), faults: world.store.fired() };
    Outcome {
        seed,
        violations: world.watch.violations(),
        coverage,
        deaths: serving.deaths,
        config: plan.config,
        acts: plan.acts,
        complaints: world.complaints(),
        store: world.store.clone(),
    }
}

async fn perform(world: &World, serving: &mut Serving, people: &mut People, chance: &mut Chance, act: &Act) {
    match act {
        Act::Crash => serving.again(world, chance.between(5, 3_000)).await,
        Act::Unlink(ms) => {
            world.fleet.link(false);
            later(*ms, world, |fleet| fleet.link(true));
        }
        Act::NodeGone(ms) => {
            world.fleet.process(false);
            later(*ms, world, |fleet| fleet.process(true));
        }
        Act::InstanceEnds => world.fleet.crash_one(),
        Act::ClockJumps(ms) => world.clock.jump(*ms),
        Act::Load(requests) => world.fleet.load_all(*requests),
        Act::Store(point, skip, fault) => world.store.arm(*point, *skip, *fault),
        Act::ImageGone => {
            let newest = world.store.look(|facts| {
                facts.iter().rev().find_map(|fact| match &fact.body {
                    slipway_model::Body::ImageBuilt(image) => Some(image.digest.clone()),
                    _ => None,
                })
            });
            if let Some(digest) = newest {
                world.images.remove(&digest);
            }
        }
        Act::CleanUp => clean_up(world, &serving.road).await,
        Act::Push(_)
        | Act::Rollback
        | Act::Deploy
        | Act::Abort
        | Act::Hold
        | Act::Unhold
        | Act::Cancel
        | Act::Retry => people.act(world, &serving.road, act),
    }
}

/// What is given up is gone at once; what the node shall run must not be among it.
async fn clean_up(world: &World, road: &Road) {
    // A process that dies meanwhile answers nobody.
    let asked = tokio::time::timeout(Duration::from_secs(5), road.retire(&world.project)).await;
    for (service, image) in asked.ok().and_then(Result::ok).unwrap_or_default() {
        let is_wanted = world.fleet.look(|lanes| {
            let wishes = lanes.values().flat_map(|lane| &lane.wish);
            wishes.flat_map(|wish| &wish.slots).any(|slot| slot.spec.image == image)
        });
        if is_wanted {
            world.watch.violated(Invariant::Settles, format!("the clean-up takes an image of {service} that runs"));
        }
        world.images.remove(&image);
    }
}

fn later(ms: u64, world: &World, act: impl FnOnce(&slipway_ports::fakes::FakeFleet) + Send + 'static) {
    let fleet = world.fleet.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(ms)).await; // waits: virtual time, moved on by the runtime
        act(&fleet);
    });
}

/// No more faults: in the end everything is final or waits for a person.
async fn settle(world: &World, serving: &mut Serving, people: &mut People, chance: &mut Chance) {
    let deadline = Instant::now() + Duration::from_millis(SETTLE_MS);
    let mut pause = 2_000;
    let mut calm = false;
    loop {
        if !world.watch.is_clean() {
            return;
        }
        match people.ledger.settled(world) {
            // Twice in a row, so that what was just answered may still move something.
            Ok(()) if calm => return,
            Ok(()) => calm = true,
            Err(what) if Instant::now() >= deadline => {
                return world.watch.violated(Invariant::Settles, what);
            }
            Err(_) => calm = false,
        }
        serving.until(Instant::now() + Duration::from_millis(pause), world, people, chance).await;
        if Instant::now() + Duration::from_millis(SETTLE_MS / 2) > deadline {
            pause = 20_000;
        }
    }
}
