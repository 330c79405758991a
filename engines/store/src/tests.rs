use super::*;
use slipway_model::{At, Body, NewFact};
use std::sync::atomic::{AtomicU64, Ordering};

fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("slipway-store-{}-{}-{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(unique);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn open(folder: &Path) -> Journal {
    Journal::open(&folder.join("slipway.db"), Arc::new(|| At(1000))).unwrap()
}

fn shop() -> ProjectName {
    ProjectName::parse("shop").unwrap()
}

fn notice(text: &str) -> NewFact {
    NewFact::new(None, Body::NoticeSent { to: "kim".into(), text: text.into() })
}

#[tokio::test]
async fn facts_are_numbered_without_gaps_and_survive_a_restart() {
    let folder = scratch("restart");
    let journal = open(&folder);
    for text in ["one", "two", "three"] {
        journal.append(Append::to(&shop(), "a").fact(notice(text))).await.unwrap();
    }
    drop(journal);
    let journal = open(&folder);
    let facts = journal.since(0, 10).await.unwrap();
    assert_eq!(facts.iter().map(|fact| fact.n).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(facts[2].version, 3);
    assert_eq!(*journal.newest().borrow(), 3);
}

#[tokio::test]
async fn of_two_decisions_on_the_same_version_one_is_refused_and_leaves_nothing() {
    let journal = open(&scratch("conflict"));
    let decision = || Append::to(&shop(), "a").expecting(0).fact(notice("x")).intent("jobs", "start", 1.into());
    let (first, second) = tokio::join!(journal.append(decision()), journal.append(decision()));
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
    assert!(matches!(first.and(second), Err(StoreError::Conflict { found: 1, .. })));
    assert_eq!(journal.since(0, 10).await.unwrap().len(), 1);
    assert_eq!(journal.open_intents().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_intent_stays_open_until_it_is_acknowledged_in_the_transaction_of_its_outcome() {
    let journal = open(&scratch("intent"));
    let made = journal.append(Append::to(&shop(), "a").intent("jobs", "start", 1.into())).await.unwrap();
    let again = journal.append(Append::to(&shop(), "a").intent("jobs", "start", 1.into())).await.unwrap();
    assert!(again.intents.is_empty(), "the same decision is not recorded twice");
    let id = made.intents[0].id;
    journal.append(Append::to(&shop(), "a").fact(notice("done")).ack(id)).await.unwrap();
    assert!(journal.open_intents().await.unwrap().is_empty());
}

#[tokio::test]
async fn counters_and_cursors_count_on_after_a_restart() {
    let folder = scratch("count");
    let journal = open(&folder);
    assert_eq!(journal.next(&shop(), "build").await.unwrap(), 1);
    journal.set_cursor("road", 7).await.unwrap();
    drop(journal);
    let journal = open(&folder);
    assert_eq!(journal.next(&shop(), "build").await.unwrap(), 2);
    assert_eq!(journal.cursor("road").await.unwrap(), 7);
}

#[tokio::test]
async fn rows_are_found_by_prefix_and_projects_do_not_see_each_other() {
    let journal = open(&scratch("rows"));
    let other = ProjectName::parse("other").unwrap();
    journal
        .append(Append::to(&shop(), "a").row("reuse", "k1", Some(1.into())).row("reuse", "k2", Some(2.into())))
        .await
        .unwrap();
    assert_eq!(journal.rows(&shop(), "reuse", "k").await.unwrap().len(), 2);
    assert_eq!(journal.row(&other, "reuse", "k1").await.unwrap(), None);
    journal.append(Append::to(&shop(), "a").row("reuse", "k1", None)).await.unwrap();
    assert_eq!(journal.row(&shop(), "reuse", "k1").await.unwrap(), None);
}

#[test]
fn a_newer_format_is_refused_with_the_reason() {
    let folder = scratch("newer");
    let path = folder.join("slipway.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = Journal::open(&path, Arc::new(|| At(0))).err().unwrap();
    assert!(error.to_string().contains("has format 99"), "{error}");
}
