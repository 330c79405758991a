//! Slots, crashes, and runs that are asked for again.

use crate::support::*;
use slipway_worker::{Answer, Ask, Worker, WorkerError, trees_in_use};
use std::num::NonZeroUsize;

/// A runtime that can be ended like a killed process: nothing of it is tidied up.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn crash(runtime: tokio::runtime::Runtime, worker: Worker) {
    drop(worker);
    // Waits for the threads, so that the lock is free when it returns.
    runtime.shutdown_timeout(LIMIT);
}

#[test]
fn a_job_outlives_its_worker_and_is_joined_by_the_next() {
    let place = Place::new();
    let mut job = job(&format!("{WAITS}; echo made > made; echo end; exit 0"));
    job.produces = vec!["api/made".into()];
    let request = place.request(job);
    let first = runtime();
    let worker = first.block_on(async {
        let worker = place.worker().await;
        start(&worker, &request).await;
        line_comes(&worker, &request.run, "waits").await;
        worker
    });
    assert_eq!(trees_in_use(&place.data.join("work")).unwrap(), [place.tree()]);
    crash(first, worker);
    runtime().block_on(async {
        let worker = place.worker().await;
        // The same request, as after a restart of the control plane.
        start(&worker, &request).await;
        go(&place.sandbox(&request.run));
        assert_eq!(said(&ended(&worker, &request.run).await), "passed");
        let ran = run_on(&worker, request.clone()).await;
        assert_eq!(ran.text(), "waits\nend\n", "it ran once");
    });
    assert!(trees_in_use(&place.data.join("work")).unwrap().is_empty());
    assert!(!place.sandbox(&request.run).exists());
}

#[test]
fn a_job_that_ended_while_no_worker_lived_is_concluded_by_the_next() {
    let place = Place::new();
    let mut job = job(&format!("{WAITS}; printf v1 > $SLIPWAY_OUTPUTS/version; echo test result: ok. 4 passed"));
    job.artifacts.insert("all".into(), slipway_model::job::ArtifactDef { paths: vec!["README".into()], keep_ms: 0 });
    let request = place.request(job);
    let first = runtime();
    let worker = first.block_on(async {
        let worker = place.worker().await;
        start(&worker, &request).await;
        line_comes(&worker, &request.run, "waits").await;
        worker
    });
    crash(first, worker);
    let slipway_sandbox::Attached::Running(shim) = slipway_sandbox::attach(&place.sandbox(&request.run)).unwrap()
    else {
        panic!("it does not run")
    };
    go(shim.dir());
    assert!(shim.wait(LIMIT).unwrap().is_some());
    let second = runtime();
    let (worker, outcome) = second.block_on(async {
        let worker = place.worker().await;
        let outcome = ended(&worker, &request.run).await;
        (worker, outcome)
    });
    assert_eq!(said(&outcome), "passed");
    assert_eq!(place.get(&outcome.outputs["version"]), b"v1");
    assert_eq!(outcome.artifacts.len(), 1);
    assert_eq!(outcome.tests.unwrap().passed, 4);
    crash(second, worker);
    // And asked for once more, it is the same outcome; nothing runs.
    runtime().block_on(async {
        let worker = place.worker().await;
        start(&worker, &request).await;
        assert_eq!(ended(&worker, &request.run).await, outcome);
    });
}

#[test]
fn why_a_job_is_ended_outlives_the_worker() {
    let place = Place::new();
    let request = place.request(job("trap 'echo asked; while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 0' TERM; echo up; while :; do sleep 0.02; done"));
    let first = runtime();
    let worker = first.block_on(async {
        let worker = place.worker().await;
        start(&worker, &request).await;
        line_comes(&worker, &request.run, "up").await;
        worker.answer(Ask::Cancel { run: request.run.clone() }).await;
        line_comes(&worker, &request.run, "asked").await;
        worker
    });
    crash(first, worker);
    runtime().block_on(async {
        let outcome = ended(&place.worker().await, &request.run).await;
        assert_eq!(said(&outcome), "cancelled: it was cancelled");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_the_disk_did_not_take_is_concluded_again_and_not_run_again() {
    let place = Place::new();
    let request = place.request(job(&format!("{WAITS}; echo 'error: no'; exit 1")));
    let worker = place.worker().await;
    start(&worker, &request).await;
    line_comes(&worker, &request.run, "waits").await;
    let in_the_way = place.data.join("work/jobs").join(request.run.as_str()).join("outcome.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    go(&place.sandbox(&request.run));
    let outcome = ended(&worker, &request.run).await;
    assert!(said(&outcome).starts_with("lost: cannot write `"), "{}", said(&outcome));
    std::fs::remove_dir(&in_the_way).unwrap();
    start(&worker, &request).await;
    let outcome = ended(&worker, &request.run).await;
    assert_eq!(said(&outcome), "failed: step `test` exited with 1");
    assert_eq!(outcome.first_error, ["error: no"], "from the log that is kept already");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_uses_a_folder() {
    let place = Place::new();
    let _worker = place.worker().await;
    assert!(matches!(Worker::open(place.options()).await, Err(WorkerError::InUse(_))));
}

// R073
#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_slot_in_their_order_and_can_be_cancelled_there() {
    let place = Place::new();
    let mut options = place.options();
    options.slots = NonZeroUsize::MIN;
    let worker = Worker::open(options).await.unwrap();
    let requests: Vec<_> =
        (0..4).map(|_| place.request(job(&format!("date +%s%N > $SLIPWAY_OUTPUTS/at; {WAITS}")))).collect();
    start(&worker, &requests[0]).await;
    line_comes(&worker, &requests[0].run, "waits").await;
    for request in &requests[1..] {
        start(&worker, request).await;
    }
    worker.answer(Ask::Cancel { run: requests[2].run.clone() }).await;
    assert_eq!(said(&ended(&worker, &requests[2].run).await), "cancelled: it was cancelled");
    assert!(!place.sandbox(&requests[2].run).exists());
    let mut began = Vec::new();
    for request in [&requests[0], &requests[1], &requests[3]] {
        let Answer::Running { jobs } = worker.answer(Ask::Running).await else { panic!("no list") };
        let in_slots = jobs.iter().filter(|job| place.sandbox(&job.run).exists()).count();
        assert!(in_slots <= 1, "{in_slots}");
        // A page comes only when it runs; until then the answer waits.
        let log = Ask::Log { project: project(), run: request.run.clone(), from: 0, limit_ms: LIMIT_MS };
        assert!(matches!(worker.answer(log).await, Answer::Log(page) if page.lines.len() == 1));
        go(&place.sandbox(&request.run));
        let outcome = ended(&worker, &request.run).await;
        assert_eq!(said(&outcome), "passed");
        assert!(outcome.set_up_ms < 5_000, "waiting is not set-up: {}", outcome.set_up_ms);
        began.push(String::from_utf8(place.get(&outcome.outputs["at"])).unwrap());
    }
    assert!(began.is_sorted(), "{began:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_for_good_loses_its_jobs() {
    let place = Place::new();
    let worker = place.worker().await;
    let request = place.request(job("echo up; sleep 1000"));
    start(&worker, &request).await;
    line_comes(&worker, &request.run, "up").await;
    worker.lose_all("its worker was stopped");
    worker.idle().await;
    assert_eq!(said(&ended(&worker, &request.run).await), "lost: its worker was stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_old_outcomes_and_logs_are_kept() {
    let place = Place::new();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let request = place.request(job("seq 1000"));
        place.run_request(request.clone()).await;
        runs.push(request.run);
    }
    let limited = |options: &mut slipway_worker::WorkerOptions| {
        options.limits.outcomes = 1;
        options.limits.logs_bytes = 25_000;
    };
    let worker = place.worker_with(limited).await;
    // Tidying goes on beside; the folder's change is what is waited for.
    let jobs = place.data.join("work/jobs");
    let gone = async {
        while std::fs::read_dir(&jobs).unwrap().count() > 1
            || std::fs::read_dir(place.data.join("logs/shop")).unwrap().count() > 1
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
    assert_eq!(said(&ended(&worker, &runs[2]).await), "passed");
}

/// Printed with `--nocapture`; the bench in the workspace holds the numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_adds_little_to_the_start_of_a_sandbox() {
    use slipway_sandbox::{Kind, Launcher, Root, Spec, Step, Workspace};
    let place = Place::new();
    let worker = place.worker().await;
    let options = place.options();
    let (mut plain, mut with_worker) = (Vec::new(), Vec::new());
    for n in 0..15 {
        let dir = place.data.join(format!("plain{n}"));
        let root = Root::HostTools { tools: options.tools.tools.clone(), caches: options.tools.caches.clone() };
        let mut spec = Spec::new(format!("p{}-{n}", std::process::id()), &dir, Kind::Job, root);
        spec.workspace = Some(Workspace { lower: place.tree(), target: "/workspace".into() });
        spec.steps = vec![Step::new("x", &["/bin/sh", "-e", "-c", "true"])];
        let launcher = Launcher::new(&options.shim);
        let begun = std::time::Instant::now();
        let shim = tokio::task::spawn_blocking(move || launcher.launch(&spec).unwrap()).await.unwrap();
        plain.push(begun.elapsed());
        shim.wait(LIMIT).unwrap();
        let request = place.request(job("true"));
        let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        start(&worker, &request).await;
        let run = request.run.clone();
        ended(&worker, &run).await;
        let _ = begun;
        let outcome = ended(&worker, &run).await;
        with_worker.push(outcome.set_up_ms);
    }
    plain.sort();
    with_worker.sort_unstable();
    println!("median start: sandbox {:?}, as a job {} ms", plain[7], with_worker[7]);
    assert!(with_worker[7] <= plain[7].as_millis() as u64 + 25, "{with_worker:?} {plain:?}");
}
