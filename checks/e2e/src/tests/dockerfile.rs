//! Dockerfiles that run commands, on a base that came from elsewhere.

use crate::http::get;
use crate::machine::{level, lives, processes, until};
use crate::repo::Repo;
use crate::world::{World, said};
use std::path::PathBuf;
use std::process::Command;

const TOOLS: &[&str] = &[
    "cat", "chmod", "chown", "cp", "cut", "date", "grep", "id", "ln", "ls", "mkdir", "rm", "sh", "sleep", "stat",
    "test", "wc",
];

/// A root file system with a shell, as a tar.
fn root_file_system(world: &World) -> PathBuf {
    let root = world.dir.join("root");
    for folder in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("the package busybox-static is installed");
    for tool in TOOLS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), passwd).unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n").unwrap();
    std::fs::write(root.join("etc/gone"), "").unwrap();
    std::fs::write(root.join("etc/kept"), "kept\n").unwrap();
    root_tar(world)
}

fn root_tar(world: &World) -> PathBuf {
    let (root, tar) = (world.dir.join("root"), world.dir.join("root.tar"));
    said(Command::new("tar").args(["--owner=0", "--group=0", "-C"]).arg(&root).arg("-cf").arg(&tar).arg(".")).expect(0);
    tar
}

/// A project whose registry has `base:1`.
fn with_base<'a>(world: &'a World, project: &str) -> Repo<'a> {
    let repo = Repo::web(world, project, 1);
    let tar = root_file_system(world).display().to_string();
    let import = ["image", "import", &tar, "--rootfs", "--name", "base:1"];
    assert!(repo.slipway(&import).expect(0).out.starts_with(&format!("{project}/base:1  sha256:")));
    repo
}

/// What the image of the newest change is called.
fn digest(repo: &Repo<'_>) -> String {
    repo.status()["changes"][0]["images"][0]["digest"].as_str().unwrap().to_owned()
}

// R117 R126 R551
#[test]
fn commands_run_in_a_sandbox_and_the_same_input_is_the_same_image() {
    let world = World::start();
    let repo = with_base(&world, "runs");
    let dockerfile = "FROM runs/base:1 AS made\n\
         ARG LEVEL=low\n\
         ENV NAME=made\n\
         WORKDIR /made\n\
         COPY behaviour /in\n\
         RUN cp /in text && rm /etc/gone && chmod 4750 /etc/kept && mkdir -p /opt/a /home/app && ln -s /in /opt/link \\\n\
         \x20   && chown app:app /home/app 2>/dev/null; chmod 1777 /home/app && date > /home/date\n\
         USER app\n\
         RUN <<EOF\n\
         echo \"$(cat /made/text) $NAME $LEVEL $HOME $(id -u) $(ls /etc/gone 2>/dev/null) $(ls -l /etc/kept | cut -c1-10) $(stat -c %u /home/app)\" > /home/app/said\n\
         EOF\n\
         RUN --network=none test $(grep -c : /proc/net/dev) = 1\n\
         USER 0\n\
         RUN --mount=type=cache,target=/cache echo x >> /cache/lines; wc -l < /cache/lines > /count\n\
         RUN test ! -e /cache && test -u /etc/kept && test $(cat /count) -ge 1 && test ! -e /run/secrets\n\
         FROM runs/base:1\n\
         COPY server /server\n\
         COPY --from=made /home/app/said /behaviour\n\
         RUN test ! -e /home && test -e /etc/gone\n\
         ENTRYPOINT [\"/server\"]\n";
    // An account with one id has nobody else to run as.
    let user = if level() == "single-id" { "USER 0" } else { "USER app" };
    repo.write("web/Dockerfile", &dockerfile.replace("USER app", user));
    repo.commit("one");
    repo.push_main().says("LIVE");
    let body = get(&repo.address("web"), "/").unwrap().body;
    let (home, id) = if level() == "single-id" { ("/root", 0) } else { ("/home/app", 1000) };
    let owner = if level() == "root" { 1000 } else { 0 };
    assert_eq!(body.trim_end(), format!("version one made low {home} {id}  -rwsr-x--- {owner}"));
    let first = digest(&repo);

    // What was run is not run again, and gives the same image when it is.
    repo.write("web/.dockerignore", "# nothing of the image\n");
    repo.commit("two");
    repo.push_main().says("same content as before");
    assert_eq!(digest(&repo), first);
    std::fs::remove_dir_all(world.data().join("work/layers")).unwrap();
    repo.write("web/.dockerignore", "# nothing of the image at all\n");
    repo.commit("three");
    repo.push_main().says("same content as before");
    assert_eq!(digest(&repo), first);
    assert!(processes(&format!("{}/work/build", world.data().display())).is_empty());
}

#[test]
fn a_command_that_fails_is_told_with_its_place_and_its_last_lines() {
    let world = World::start();
    let repo = with_base(&world, "fails");
    let dockerfile =
        "FROM fails/base:1\nCOPY server /server\n  RUN echo first; \\\n    printf '\\033[2Jodd\\n' >&2; exit 3\n";
    repo.write("web/Dockerfile", dockerfile);
    let commit = repo.commit("one");
    let pushed = repo.push(&["slipway", "main"]);
    let pushed = pushed.says("web/Dockerfile:3:3: `RUN echo first;").says("exited with 3; its last lines:");
    assert!(!pushed.says("first").says("odd").text.contains('\u{1b}'));
    assert!(repo.slipway(&["why", &commit]).expect(0).out.contains("exited with 3"));
    repo.write("web/Dockerfile", "FROM fails/base:1\nUSER nobody\nRUN true\n");
    repo.commit("two");
    repo.push(&["slipway", "main"]).says("web/Dockerfile:3:1: `RUN true` could not be started: user `nobody`");
    repo.write("web/Dockerfile", "FROM fails/base:1\nRUN [\"/bin/none\"]\n");
    repo.commit("three");
    repo.push(&["slipway", "main"]).says("web/Dockerfile:2:1: `RUN [\"/bin/none\"]` could not be started: ");
}

// R321
#[test]
fn a_command_does_not_outlive_a_killed_server_and_runs_again() {
    let world = World::start();
    let repo = with_base(&world, "killed");
    repo.write(
        "web/Dockerfile",
        "FROM killed/base:1\nCOPY server /server\nCOPY behaviour /behaviour\n\
         RUN --mount=type=cache,target=/gate until [ -e /gate/go ]; do sleep 0.1; done\nENTRYPOINT [\"/server\"]\n",
    );
    let commit = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    let runs = || processes("/gate/go").into_iter().map(|(pid, _)| pid).find(|pid| is_of(*pid, &world));
    let first = until("the command runs", runs);
    world.kill("serve");
    let second = until("the command runs again", || runs().filter(|pid| *pid != first));
    assert!(!lives(first), "the first one still runs");
    let caches = world.data().join("work/run-caches/killed");
    let cache = std::fs::read_dir(caches).unwrap().next().unwrap().unwrap().path().join("content");
    std::fs::write(cache.join("go"), "").unwrap();
    repo.slipway(&["watch", &commit, "--timeout", "60"]).expect(0);
    assert!(!lives(second));
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version one");
    // One that runs when everything is stopped is stopped too.
    std::fs::remove_file(cache.join("go")).unwrap();
    repo.behave("web", "version two");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    let third = until("the command runs", runs);
    world.end(rustix::process::Signal::TERM);
    until("the command is gone", || (!lives(third)).then_some(()));
}

#[test]
fn a_cancelled_change_ends_the_command_that_runs_for_it() {
    let world = World::start();
    let repo = with_base(&world, "killed");
    repo.write("web/Dockerfile", "FROM killed/base:1\nRUN --mount=type=cache,target=/c while :; do sleep 0.1; done\n");
    let commit = repo.commit("one");
    let mut pushing = repo.pushing(&["slipway", "main"]);
    pushing.line("change");
    let runs = || processes("while :").into_iter().map(|(pid, _)| pid).find(|pid| is_of(*pid, &world));
    let command = until("the command runs", runs);
    repo.slipway(&["cancel", &commit, "-y"]).expect(0);
    until("the command is gone", || (!lives(command)).then_some(()));
    pushing.end().says("cancelled");
}

/// Whether a process is the shell of a command in a sandbox of this world.
fn is_of(pid: i32, world: &World) -> bool {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with("/bin/sh\0-c\0") && mounts.contains("run-caches/killed") && mounts.contains(&name_of(world))
}

fn name_of(world: &World) -> String {
    world.dir.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn an_image_goes_out_by_skopeo_and_comes_in_again_from_a_file() {
    let world = World::start();
    let repo = with_base(&world, "moves");
    let docker = |arguments: &[&str]| super::registry::skopeo(&world, arguments).expect(0);
    let host = super::registry::sign_in(&world);
    let image = format!("docker://{host}/moves/base:1");
    docker(&["copy", "--src-tls-verify=false", &image, "oci:out:1"]);
    docker(&["copy", "oci:out:1", "oci-archive:out.tar"]);
    docker(&["copy", "oci:out:1", "docker-archive:docker.tar:x:1"]);
    let path = |name: &str| world.dir.join(name).display().to_string();
    let import = |from: &str, name: &str| repo.slipway(&["image", "import", &path(from), "--name", name, "--json"]);
    let first = import("out", "copy:1").expect(0).json();
    assert_eq!((&first["image"], &first["new"]), (&"moves/copy:1".into(), &true.into()));
    assert_eq!(import("out.tar", "copy:1").expect(0).json()["new"], false);
    let of_docker = import("docker.tar", "copy:2").expect(0).json();
    assert_eq!(import("docker.tar", "copy:2").expect(0).json()["digest"], of_docker["digest"]);
    assert_eq!(of_docker["digest"], first["digest"], "the same content is the same image, whatever wrote it");
    std::fs::write(world.dir.join("root/etc/more"), "").unwrap();
    let other = root_tar(&world).display().to_string();
    let taken = repo.slipway(&["image", "import", &other, "--rootfs", "--name", "copy:1"]).expect(1);
    assert!(taken.err.contains("is another image already") && taken.err.contains("choose another tag"), "{taken:?}");
    assert!(import("out", "copy:latest").expect(2).err.contains("latest"));
    assert!(import("out", "copy").expect(2).err.contains("has no tag"));
    assert!(import("slipway.none", "copy:3").expect(1).err.contains("slipway.none"));
    repo.write(
        "web/Dockerfile",
        "FROM moves/copy:2\nCOPY server /server\nRUN echo version seven > /behaviour\nCMD [\"/server\"]\n",
    );
    repo.commit("one");
    repo.push_main().says("LIVE");
    assert_eq!(get(&repo.address("web"), "/").unwrap().body, "version seven");
}
