//! Jobs that are killed from outside, and what they leave.

use crate::machine::{processes, signal, until};
use crate::repo::{GATE, Repo};
use crate::world::World;
use rustix::process::Signal;

#[test]
fn a_job_whose_process_is_killed_fails_with_the_signal_and_its_children_end_too() {
    let world = World::start();
    let repo = Repo::web(&world, "killed", 1);
    repo.script("web/test.sh", &format!("sleep 1000 &\n{GATE}"));
    let commit = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    let mark = format!("SLIPWAY_COMMIT={commit}");
    let (pid, _) = until("the job runs", || {
        let all = processes(&mark);
        all.iter().find(|(_, line)| line.contains("sleep 1000"))?;
        all.into_iter().find(|(_, line)| line.contains("test.sh"))
    });
    signal(pid, Signal::KILL);
    let pushed = pushing.end().says("test web         failed").says("FAILED").not("LIVE");
    assert!(pushed.text.contains('9') || pushed.text.contains("KILL"), "{}", pushed.text);
    until("nothing of the job is left", || processes(&mark).is_empty().then_some(()));
    repo.slipway(&["watch", &commit]).expect(1);
    assert!(repo.lane("production", "web")["release"].is_null());
}
