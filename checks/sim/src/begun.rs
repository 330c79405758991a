//! What ends the server again and again is given up, and nothing else is.

use crate::run::real;
use crate::world::World;
use slipway_change::Road;
use slipway_model::fact::{Body, ChangeState};
use slipway_model::{ChangeId, CommitId, Fact};
use slipway_ports::fakes::repository::Files;
use slipway_ports::fakes::{Chance, Life, StoreFault};
use slipway_source::RefMove;
use std::time::Duration;

fn world() -> World {
    World::new(&mut Chance::new(1), real())
}

fn start(world: &World) -> (Life, Road) {
    let life = Life::default();
    let road = world.serve(&life);
    let driving = road.clone();
    tokio::spawn(async move { driving.run().await });
    (life, road)
}

async fn push(world: &World, road: &Road, branch: &str, file: &str) -> CommitId {
    let files = Files::from([
        ("slipway.yaml".to_owned(), file.to_owned()),
        ("api/Dockerfile".to_owned(), "FROM scratch\nCOPY . /\n".to_owned()),
        ("api/app".to_owned(), format!("version of {branch}\nready 50\n")),
    ]);
    let commit = world.repository.commit_files(&world.project, &[], "kim", branch, files);
    let name = format!("refs/heads/{branch}");
    world.repository.set_ref(&world.project, &name, &commit);
    let moved = RefMove { name, old: None, new: Some(commit.clone()) };
    let branches = [branch.to_owned()];
    road.stages().source.receive(&world.project, &[moved], "kim", &[], &branches).await.unwrap();
    commit
}

/// Waits for a fact, in virtual time.
async fn fact<T>(world: &World, find: impl Fn(&Fact) -> Option<T>) -> T {
    for _ in 0..100_000 {
        if let Some(found) = world.store.look(|facts| facts.iter().find_map(&find)) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // waits: virtual time, moved on by the runtime
    }
    panic!("it did not come: {:?}", world.complaints());
}

fn of(world: &World, commit: &CommitId) -> ChangeId {
    let received = |fact: &Fact| match &fact.body {
        Body::ChangeReceived(info) if info.commit == *commit => Some(info.id.clone()),
        _ => None,
    };
    world.store.look(|facts| facts.iter().find_map(received)).unwrap()
}

async fn planned(world: &World, commit: &CommitId) {
    let change = of(world, commit);
    let is_plan = |fact: &Fact| matches!(fact.body, Body::PlanMade { .. }) && fact.change.as_ref() == Some(&change);
    fact(world, |fact| is_plan(fact).then_some(())).await;
}

const GOOD: &str = "services: { api: { path: api, port: 8080 } }\n";

#[tokio::test(start_paused = true)]
async fn a_plan_that_ends_the_server_three_times_fails_its_change_and_the_rest_goes_on() {
    let world = world();
    let (mut life, road) = start(&world);
    // What this plan comes to is recorded as the end of its change: the process dies of it each time.
    world.store.arm(Some("change.ended"), 0, StoreFault::DiesBefore);
    let bad = push(&world, &road, "bad", "services: [").await;
    let good = push(&world, &road, "good", GOOD).await;
    for _ in 0..2 {
        world.store.died().await;
        life.end();
        world.store.arm(Some("change.ended"), 0, StoreFault::DiesBefore);
        (life, _) = start(&world);
    }
    world.store.died().await;
    life.end();
    let (_life, road) = start(&world);
    let change = of(&world, &bad);
    let reason = fact(&world, |fact| match &fact.body {
        Body::ChangeEnded { state, reason } if fact.change.as_ref() == Some(&change) => {
            assert_eq!(*state, ChangeState::Failed);
            Some(reason.clone())
        }
        _ => None,
    })
    .await;
    assert!(reason.starts_with("making its plan ended the server 3 times, so it is not tried again"), "{reason}");
    planned(&world, &good).await;
    let next = push(&world, &road, "next", GOOD).await;
    planned(&world, &next).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_ends_the_server_three_times_fails_alone_and_may_be_tried_once_more() {
    let world = world();
    let (mut life, road) = start(&world);
    world.store.arm(Some("image.built"), 0, StoreFault::DiesBefore);
    let commit = push(&world, &road, "main", GOOD).await;
    for _ in 0..2 {
        world.store.died().await;
        life.end();
        world.store.arm(Some("image.built"), 0, StoreFault::DiesBefore);
        (life, _) = start(&world);
    }
    world.store.died().await;
    life.end();
    let (_life, road) = start(&world);
    let reason = fact(&world, |fact| match &fact.body {
        Body::ImageFailed { reason, infrastructure: false, .. } => Some(reason.clone()),
        _ => None,
    })
    .await;
    assert!(reason.starts_with("building it ended the server 3 times"), "{reason}");
    assert_eq!(world.store.open(), [], "nothing of it is begun again");
    let change = of(&world, &commit);
    let view = |fact: &Fact| matches!(&fact.body, Body::ChangeEnded { state: ChangeState::Failed, .. });
    fact(&world, |fact| (view(fact) && fact.change.as_ref() == Some(&change)).then_some(())).await;
    let next = push(&world, &road, "next", GOOD).await;
    planned(&world, &next).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_of_its_own_will_blames_nothing() {
    let world = world();
    let (mut life, mut road) = start(&world);
    // Nothing can be recorded of this plan for a while: it is tried again, over many starts.
    for _ in 0..200 {
        world.store.arm(Some("plan.made"), 0, StoreFault::Full);
    }
    let commit = push(&world, &road, "main", GOOD).await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(30)).await; // waits: virtual time, moved on by the runtime
        road.leave().await.unwrap();
        life.end();
        (life, road) = start(&world);
    }
    world.store.disarm();
    planned(&world, &commit).await;
}
