//! A full disk: told clearly, nothing half-done, and it goes on once there is room.

use crate::http::get;
use crate::repo::Repo;
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

    /// Leaves nothing free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for size in [64 * 1024, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
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
    disk.fill();
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
