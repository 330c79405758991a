//! The runner port, over the real link.

use crate::support::*;
use slipway_link::Links;
use slipway_model::job::JobResult;
use slipway_model::{CommitId, ProjectName};
use slipway_ports::{Fut, RunRequest, Runner};
use slipway_worker::{
    LinkLine, LocalLine, Shutdown, TreeLease, Trees, Worker, WorkerClient, WorkerError, trees_in_use,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// One folder for every commit; counts who holds it.
struct OneTree {
    path: PathBuf,
    holders: Arc<AtomicI32>,
    adopted: Mutex<Vec<PathBuf>>,
}

struct Held(Arc<AtomicI32>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl OneTree {
    fn new(path: PathBuf) -> Arc<OneTree> {
        Arc::new(OneTree { path, holders: Arc::default(), adopted: Mutex::default() })
    }

    fn hold(&self, path: &Path) -> TreeLease {
        self.holders.fetch_add(1, Ordering::SeqCst);
        TreeLease { path: path.to_owned(), guard: Box::new(Held(Arc::clone(&self.holders))) }
    }

    fn holders(&self) -> i32 {
        self.holders.load(Ordering::SeqCst)
    }
}

impl Trees for OneTree {
    fn lease(&self, _: &ProjectName, _: &CommitId) -> Fut<'_, Result<TreeLease, String>> {
        Box::pin(async move { Ok(self.hold(&self.path)) })
    }

    fn adopt(&self, path: &Path) -> Result<TreeLease, String> {
        self.adopted.lock().unwrap().push(path.to_owned());
        if path == self.path { Ok(self.hold(path)) } else { Err(format!("`{}` was moved", path.display())) }
    }
}

/// A control plane: the socket, the line that is given each connection.
struct Plane {
    line: LinkLine,
    accepting: tokio::task::JoinHandle<()>,
}

impl Plane {
    fn new(place: &Place) -> Plane {
        let mut links = Links::bind(&place.data.join("link.sock")).unwrap();
        let line = LinkLine::new();
        let given = line.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (peer, _inbox) = links.accept().await;
                given.connected(peer);
            }
        });
        Plane { line, accepting }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn worker_process(place: &Place) -> (tokio::task::JoinHandle<()>, watch::Sender<Shutdown>) {
    let (stop, stopping) = watch::channel(Shutdown::No);
    let (data, socket) = (place.data.clone(), place.data.join("link.sock"));
    let running = tokio::spawn(async move {
        // What the one before had begun on its threads may still hold the folder.
        while let Err(error) = Worker::run(options(&data), &socket, stopping.clone()).await {
            assert!(matches!(error, WorkerError::InUse(_)), "{error}");
            tokio::task::yield_now().await;
        }
    });
    (running, stop)
}

fn of_commit(place: &Place, script: &str) -> RunRequest {
    RunRequest { tree: None, ..place.request(job(script)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_over_the_link_with_its_log_and_its_end() {
    let place = Place::new();
    let plane = Plane::new(&place);
    let (_running, _stop) = worker_process(&place);
    let trees = OneTree::new(place.tree());
    let client = WorkerClient::new(Arc::new(plane.line.clone()), trees.clone(), Vec::new());
    let mut request = of_commit(&place, "echo one; cat ../README; cat $SLIPWAY_SECRETS/T; echo; exit 4");
    request.secrets.insert("T".into(), secret("very secret"));
    let outcome = tokio::time::timeout(LIMIT, client.run(request.clone())).await.unwrap().unwrap();
    assert_eq!(said(&outcome), "failed: step `test` exited with 4");
    assert_eq!(trees.holders(), 0);
    let mut stream = client.follow(&request.project, &request.run, 0);
    let mut text = String::new();
    while let Some(lines) = stream.next().await.unwrap() {
        lines.iter().for_each(|line| text += &format!("{} {}\n", line.step, line.text));
    }
    assert_eq!(text, "test one\ntest committed\ntest ****\n");
    // Again: the same, without running.
    assert_eq!(client.run(request).await.unwrap(), outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_is_waited_for_and_its_run_joined() {
    let place = Place::new();
    let plane = Plane::new(&place);
    let (running, stop) = worker_process(&place);
    let trees = OneTree::new(place.tree());
    let client = WorkerClient::new(Arc::new(plane.line.clone()), trees.clone(), Vec::new());
    let request = of_commit(&place, &format!("{WAITS}; echo end"));
    let (running_client, asked) = (client.clone(), request.clone());
    let outcome = tokio::spawn(async move { running_client.run(asked).await.unwrap() });
    let mut stream = client.follow(&request.project, &request.run, 0);
    while stream.next().await.unwrap().is_none() {
        stream = client.follow(&request.project, &request.run, 0);
    }
    stop.send_replace(Shutdown::LeaveJobs);
    running.await.unwrap();
    assert_eq!(trees.holders(), 1, "the folder is held while nobody knows");
    let (_running, _stop) = worker_process(&place);
    go(&place.sandbox(&request.run));
    assert_eq!(said(&tokio::time::timeout(LIMIT, outcome).await.unwrap().unwrap()), "passed");
    assert_eq!(trees.holders(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_control_plane_takes_over_folders_in_use_and_joins() {
    let place = Place::new();
    let worker = place.worker().await;
    let line = || Arc::new(LocalLine(worker.clone()));
    let requests = [of_commit(&place, WAITS), of_commit(&place, WAITS)];
    let before = WorkerClient::new(line(), OneTree::new(place.tree()), Vec::new());
    let mut waiting = Vec::new();
    for request in &requests {
        let (client, request) = (before.clone(), request.clone());
        waiting.push(tokio::spawn(async move { client.run(request).await }));
    }
    for request in &requests {
        let mut stream = before.follow(&request.project, &request.run, 0);
        while stream.next().await.unwrap().is_none() {
            stream = before.follow(&request.project, &request.run, 0);
        }
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let in_use = trees_in_use(&place.data.join("work")).unwrap();
    assert_eq!(in_use, [place.tree()]);
    let trees = OneTree::new(place.tree());
    let client = WorkerClient::new(line(), trees.clone(), in_use);
    client.take_over().await;
    assert_eq!(trees.holders(), 1, "adopted once for both");
    for (request, held) in requests.iter().zip([1, 0]) {
        go(&place.sandbox(&request.run));
        assert_eq!(said(&client.run(request.clone()).await.unwrap()), "passed");
        // The one that watches beside may be a moment later.
        let given_back = async {
            while trees.holders() != held {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, given_back).await.unwrap();
    }
    assert_eq!(*trees.adopted.lock().unwrap(), [place.tree()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_folder_is_no_longer_held_is_lost() {
    let place = Place::new();
    let worker = place.worker().await;
    let request = of_commit(&place, WAITS);
    start(&worker, &place.request_with(&request)).await;
    line_comes(&worker, &request.run, "waits").await;
    let trees = OneTree::new(PathBuf::from("/another/tree"));
    let client = WorkerClient::new(Arc::new(LocalLine(worker)), trees, vec![place.tree()]);
    let outcome = client.run(request).await.unwrap();
    assert!(said(&outcome).starts_with("lost: its files may have changed under it"), "{}", said(&outcome));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_cancelled_through_the_port() {
    let place = Place::new();
    let worker = place.worker().await;
    let client = WorkerClient::new(Arc::new(LocalLine(worker.clone())), OneTree::new(place.tree()), Vec::new());
    let request = of_commit(&place, "echo up; sleep 1000");
    let (running, asked) = (client.clone(), request.clone());
    let outcome = tokio::spawn(async move { running.run(asked).await.unwrap() });
    let mut stream = client.follow(&request.project, &request.run, 0);
    while stream.next().await.unwrap().is_none() {
        stream = client.follow(&request.project, &request.run, 0);
    }
    client.cancel(&request.run).await;
    assert_eq!(said(&outcome.await.unwrap()), "cancelled: it was cancelled");
    // Before anybody ran it: it does not start.
    let request = of_commit(&place, "true");
    client.cancel(&request.run).await;
    assert_eq!(said(&client.run(request.clone()).await.unwrap()), "cancelled: it was cancelled");
    assert!(!place.sandbox(&request.run).exists());
    // After its end: the end stays what it was.
    let request = of_commit(&place, "true");
    assert_eq!(said(&client.run(request.clone()).await.unwrap()), "passed");
    client.cancel(&request.run).await;
    assert_eq!(said(&client.run(request).await.unwrap()), "passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_that_ends_its_jobs_says_so_before_it_goes() {
    let place = Place::new();
    let plane = Plane::new(&place);
    let (running, stop) = worker_process(&place);
    let client = WorkerClient::new(Arc::new(plane.line.clone()), OneTree::new(place.tree()), Vec::new());
    let request = of_commit(&place, "echo up; sleep 1000");
    let (running_client, asked) = (client.clone(), request.clone());
    let outcome = tokio::spawn(async move { running_client.run(asked).await.unwrap() });
    let mut stream = client.follow(&request.project, &request.run, 0);
    while stream.next().await.unwrap().is_none() {
        stream = client.follow(&request.project, &request.run, 0);
    }
    stop.send_replace(Shutdown::EndJobs);
    running.await.unwrap();
    let (_running, _stop) = worker_process(&place);
    assert_eq!(said(&outcome.await.unwrap()), "lost: its worker was stopped");
}

/// A worker in a process of its own, to be killed.
struct Process(std::process::Child);

impl Process {
    fn start(place: &Place) -> Process {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slipway-worker-shim"));
        Process(command.arg("worker").arg(&place.data).arg(place.data.join("link.sock")).spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// R321
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_at_any_moment_and_no_job_runs_twice() {
    let place = Place::new();
    let plane = Plane::new(&place);
    let client = WorkerClient::new(Arc::new(plane.line.clone()), OneTree::new(place.tree()), Vec::new());
    let mut process = Process::start(&place);
    for n in 0..20 {
        let request = of_commit(&place, "echo began; echo made > $SLIPWAY_OUTPUTS/made; echo end");
        let (running, asked) = (client.clone(), request.clone());
        let outcome = tokio::spawn(async move { running.run(asked).await.unwrap() });
        // Another moment each time: somewhere between the question and the outcome.
        tokio::time::timeout(std::time::Duration::from_millis(n * 2), std::future::pending::<()>()).await.unwrap_err();
        process.kill();
        process = Process::start(&place);
        let outcome = tokio::time::timeout(LIMIT, outcome).await.unwrap().unwrap();
        let mut stream = client.follow(&request.project, &request.run, 0);
        let mut began = 0;
        while let Some(lines) = stream.next().await.unwrap() {
            began += lines.iter().filter(|line| line.text == "began").count();
        }
        println!("killed after {} ms: {}, began {began}", n * 2, said(&outcome));
        match outcome.result {
            JobResult::Passed => assert_eq!((began, outcome.outputs.len()), (1, 1)),
            // Killed while it started the sandbox: nobody can know how far that came.
            JobResult::Lost => assert!(began <= 1),
            other => panic!("{other:?}: {}", outcome.reason),
        }
    }
}
