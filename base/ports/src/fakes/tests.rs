use super::{Chance, FakeClock, MemoryStore, StoreFault};
use crate::{Append, Store, StoreError};
use slipway_model::ProjectName;
use slipway_model::fact::{Body, NewFact};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn now<T>(call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits"),
    }
}

fn store() -> (MemoryStore, ProjectName) {
    (MemoryStore::new(Arc::new(FakeClock::default())), ProjectName::parse("shop").unwrap())
}

fn said(project: &ProjectName, text: &str) -> Append {
    let body = Body::NoticeSent { to: "kim".into(), text: text.into() };
    Append::to(project, "commands").fact(NewFact::new(None, body))
}

#[test]
fn an_append_on_an_old_version_is_refused_and_records_nothing() {
    let (store, project) = store();
    now(store.append(said(&project, "a"))).unwrap();
    let late = said(&project, "b").expecting(0).row("ref", "main", Some(serde_json::json!(1)));
    assert!(matches!(now(store.append(late)), Err(StoreError::Conflict { expected: 0, found: 1, .. })));
    assert_eq!(now(store.row(&project, "ref", "main")).unwrap(), None);
}

#[test]
fn one_name_in_one_stream_is_one_intent() {
    let (store, project) = store();
    let wanted = || said(&project, "a").intent("jobs", "run-1", serde_json::json!({}));
    let first = now(store.append(wanted())).unwrap().intents;
    assert!(now(store.append(wanted())).unwrap().intents.is_empty());
    now(store.append(Append::to(&project, "commands").ack(first[0].id))).unwrap();
    assert!(now(store.open_intents()).unwrap().is_empty());
}

#[test]
fn a_full_disk_records_nothing_once() {
    let (store, project) = store();
    store.arm(None, 1, StoreFault::Full);
    now(store.append(said(&project, "a"))).unwrap();
    assert!(matches!(now(store.append(said(&project, "b"))), Err(StoreError::Full { .. })));
    now(store.append(said(&project, "c"))).unwrap();
    assert_eq!(store.look(<[_]>::len), 2);
}

#[test]
fn chance_from_one_seed_is_the_same_chance() {
    let numbers = |seed| {
        let mut chance = Chance::new(seed);
        [chance.number(), chance.between(1, 6), chance.below(0)]
    };
    assert_eq!(numbers(7), numbers(7));
    assert_ne!(numbers(7), numbers(8));
}
