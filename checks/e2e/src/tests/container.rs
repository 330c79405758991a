//! Inside a container of Debian's Docker Engine with its usual rights: refused, with the reason, at once.

use crate::machine::{binary, level, until};
use crate::world::{Said, said, scratch};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Docker Engine of its own, with one image that holds the binary and what that is linked to.
struct Engine {
    dir: PathBuf,
    daemon: Child,
}

impl Engine {
    fn start() -> Engine {
        let dir = scratch();
        std::fs::create_dir_all(dir.join("root/tmp")).unwrap();
        std::fs::set_permissions(dir.join("root/tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let daemon = Command::new("dockerd")
            .args(["--iptables=false", "--bridge=none", "-H", &format!("unix://{}", at("sock"))])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("`dockerd` is there (Debian: docker.io)");
        let engine = Engine { dir, daemon };
        until("the engine answers", || (engine.docker(&["version"]).code == 0).then_some(()));
        engine.import();
        engine
    }

    fn docker(&self, arguments: &[&str]) -> Said {
        let socket = format!("unix://{}", self.dir.join("sock").display());
        said(Command::new("docker").args(["-H", &socket]).args(arguments).stdin(Stdio::null()))
    }

    fn import(&self) {
        let root = self.dir.join("root");
        let linked = said(Command::new("ldd").arg(binary())).expect(0).out;
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        for file in libraries.chain([binary().to_owned()]) {
            let name = if file == binary() { Path::new("slipway") } else { file.strip_prefix("/").unwrap() };
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::copy(&file, root.join(name)).unwrap();
        }
        let archive = self.dir.join("root.tar");
        said(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".")).expect(0);
        self.docker(&["import", &archive.display().to_string(), "slipway"]).expect(0);
    }

    /// A command of the binary in a container of its own.
    fn slipway(&self, user: &str, arguments: &[&str]) -> Said {
        let run = ["run", "--rm", "--network", "none", "--user", user, "-e", "HOME=/tmp", "slipway", "/slipway"];
        self.docker(&[&run, arguments].concat())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        crate::machine::signal(i32::try_from(self.daemon.id()).unwrap(), rustix::process::Signal::TERM);
        let start = Instant::now();
        while self.daemon.try_wait().is_ok_and(|ended| ended.is_none()) && start.elapsed() < Duration::from_secs(30) {
            crate::machine::pause(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

#[test]
fn a_container_that_allows_no_namespaces_is_told_so_and_what_to_do() {
    if level() != "root" {
        return; // an engine is started by root
    }
    let engine = Engine::start();
    let doctor = engine.slipway("0:0", &["doctor"]).expect(3);
    assert_eq!(doctor.out, include_str!("../../golden/doctor-container.txt"));
    assert_eq!(engine.slipway("0:0", &["doctor", "--json"]).expect(3).json()["probe"]["level"], "refused");
    let up = engine.slipway("0:0", &["up"]).expect(3);
    assert!(up.err.contains("this account can make no sandbox here: namespaces: operation not permitted"), "{up:?}");
    assert!(up.err.contains("hint: this container allows no namespaces or mounts"), "{up:?}");
    let user = engine.slipway("1000:1000", &["doctor"]).expect(3);
    assert!(user.out.contains("making of a user namespace: operation not permitted"), "{user:?}");
    assert!(user.out.contains("this container allows no namespaces or mounts"), "{user:?}");
}
