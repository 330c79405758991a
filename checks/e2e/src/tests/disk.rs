//! A full disk: told clearly, nothing half-done, and it goes on once there is room.

use crate::http::get;
use crate::machine::until;
use crate::repo::{GATE, Repo, file, service};
use crate::world::{World, scratch};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The data folder on a small memory disk of its own.
struct Disk {
    dir: PathBuf,
}

impl Disk {
    fn under(dir: &Path, options: &str) -> Disk {
        std::fs::create_dir_all(dir.join("data")).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "slipway-e2e"]).arg(dir.join("data"));
        assert!(mount.status().unwrap().success());
        Disk { dir: dir.to_owned() }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("data/ballast")
    }

    /// Leaves so much free, which is nothing or a multiple of a page.
    fn fill(&self, left: u64) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for size in [64 * 1024, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let size = file.metadata().unwrap().len();
        file.set_len(size - left.min(size)).unwrap();
    }

    fn room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.join("data")).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_full_disk_is_told_and_what_it_stopped_goes_on_when_there_is_room() {
    let dir = scratch();
    let disk = Disk::under(&dir, "size=64m");
    let world = World::start_in(dir);
    let repo = Repo::web(&world, "full", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let before = repo.instances("web");
    disk.fill(0);
    repo.behave("web", "version two");
    let pushed = repo.push(&["slipway", "main"]).not("LIVE");
    let text = pushed.text.to_lowercase();
    assert!(text.contains("no space") || text.contains("full"), "{}", pushed.text);
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    assert_eq!(repo.instances("web"), before);
    disk.room();
    repo.behave("web", "version three");
    repo.push_main().says("LIVE production web");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version three");
}

#[test]
fn a_disk_that_is_nearly_full_is_told_before_anything_fails() {
    let dir = scratch();
    let disk = Disk::under(&dir, "size=64m");
    let world = World::start_in(dir);
    let ready = || get(&world.url, "/readyz").unwrap();
    assert_eq!((ready().status, ready().body.as_str()), (200, "ok\n"));
    disk.fill(4 * 1024 * 1024);
    let told = ready();
    assert_eq!(told.status, 503, "{}", told.body);
    for part in [&format!("`{}` is nearly full", world.data().display()), "less than 16 MiB", "slipway image gc"] {
        assert!(told.body.contains(part), "`{part}` is missing in {}", told.body);
    }
    // It is a warning for who looks; what was asked for still works.
    assert_eq!(get(&world.url, "/healthz").unwrap().status, 200);
    let repo = Repo::new(&world, "tight");
    repo.write("slipway.yaml", "jobs: { test: { run: echo tested, network: off } }\n");
    repo.commit("one");
    repo.push_main().says("PASSED");
    disk.room();
    assert_eq!(ready().status, 200);
}

#[test]
fn a_disk_that_is_too_full_for_a_blob_is_told_and_the_job_is_tried_again() {
    let dir = scratch();
    let disk = Disk::under(&dir, "size=64m");
    let world = World::start_in(dir);
    let repo = Repo::web(&world, "blob", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let before = repo.instances("web");
    let makes = "      make: { run: ./make.sh, produces: [made], network: off }\n";
    repo.write("slipway.yaml", &file(&[service("web", 1) + makes]));
    repo.script("web/make.sh", &format!("head -c 4000000 /dev/urandom > made\n{GATE}"));
    let commit = repo.behave("web", "version two");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("image web");
    repo.gate_waits(&commit, "make.sh");
    // Records have room; four megabytes have not.
    disk.fill(1024 * 1024);
    repo.open_gate(&commit, "make.sh");
    pushing.line("make web         lost");
    let told = pushing.line("No space left on device");
    assert!(told.contains("data/blobs` is full"), "{told}");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    assert_eq!(repo.instances("web"), before);
    let half = std::fs::read_dir(world.data().join("blobs/tmp")).unwrap().count();
    assert_eq!(half, 0, "half a blob stays");
    // It says nothing about the change: the job is tried once more by itself.
    disk.room();
    repo.open_gate(&commit, "make.sh");
    pushing.end().says("make web         passed").says("LIVE production web r2");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
}

#[test]
fn a_disk_that_is_too_full_for_a_record_holds_the_change_until_there_is_room() {
    let dir = scratch();
    let disk = Disk::under(&dir, "size=64m");
    let world = World::start_in(dir);
    let repo = Repo::web(&world, "record", 1);
    repo.commit("one");
    repo.push_main().says("LIVE");
    repo.succeeded("web");
    let before = repo.instances("web");
    repo.script("web/test.sh", GATE);
    let commit = repo.behave("web", "version two");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("image web");
    repo.gate_waits(&commit, "test.sh");
    disk.fill(0);
    repo.open_gate(&commit, "test.sh");
    let ready =
        until("nothing can be recorded", || get(&world.url, "/readyz").ok().filter(|answer| answer.status == 503));
    assert!(ready.body.contains("no room to record in"), "{}", ready.body);
    let told = pushing.line("it is tried again until it works");
    assert!(told.contains("no room to record in"), "{told}");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    assert_eq!(repo.instances("web"), before);
    disk.room();
    pushing.end().says("test web         passed").says("LIVE production web r2");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version two");
    assert!(!repo.status()["changes"][0]["jobs"].to_string().contains("\"attempt\":2"), "the job ran twice");
}
