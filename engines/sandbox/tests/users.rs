//! What is different for ordinary users. As root these tests have nothing to show; `levels` runs them as accounts of both kinds.

use crate::support::*;
use slipway_sandbox::*;
use std::os::unix::fs::MetadataExt;

fn is_user() -> bool {
    level() != Level::Root
}

fn own_id() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn another_user_inside_is_refused_where_there_is_one_id_only() {
    if level() != Level::SingleId {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = scratch.job("id -u");
    spec.user = "build".into();
    let error = whole(&launcher().launch(&spec).unwrap_err());
    assert!(error.starts_with("user `build`: it needs a second id"), "{error}");
    assert!(error.contains("`slipway doctor`"), "{error}");
    spec.user = "0".into();
    assert_eq!(run(&spec).text, "0\n");
}

#[test]
fn another_user_inside_is_another_user_outside_and_told_what_it_cannot_do() {
    if level() != Level::SubordinateIds {
        return;
    }
    let scratch = Scratch::new();
    let layer = scratch.0.join("layer");
    std::fs::create_dir_all(layer.join("app")).unwrap();
    std::fs::copy(crate::escapes::attacker(), layer.join("attack")).unwrap();
    let mut spec = scratch.spec(Kind::Instance, "");
    spec.root = Root::Layers { lower: vec![layer] };
    spec.user = "1000".into();
    spec.steps[0].argv = vec!["/attack".into(), "setuid".into()];
    let shim = launcher().launch(&spec).unwrap();
    let notes = shim.setup().unwrap().notes.clone();
    assert!(notes.iter().any(|note| note.contains("belong to root inside")), "{notes:?}");
    shim.wait(LIMIT).unwrap().unwrap();
    let log = text(&spec.dir);
    assert!(log.contains("euid 1000\n") && log.contains("belong to root inside"), "{log}");
    let scratch = Scratch::new();
    let mut spec = scratch.job("id -u");
    spec.user = "65000:70000".into();
    assert!(whole(&launcher().launch(&spec).unwrap_err()).starts_with("user `65000:70000`"));
}

/// Files and folders that their owner outside could neither read nor remove.
const AWKWARD: &str = "cd /tmp; mkdir -p a/b; echo x > a/b/c; chmod 000 a/b/c a/b; chmod 555 a; cd /workspace; \
    echo y > file; chmod 000 file; mkdir d; chmod 000 d; cd /shared; mkdir e; echo z > e/f; chmod 0 e/f e; echo done";
const AWKWARD_OTHER: &str = "setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'umask 077; mkdir -p /tmp/o/p; \
    echo x > /tmp/o/p/q; mkdir /shared/o; echo x > /shared/o/p'";

fn awkward(scratch: &Scratch, kind: Kind, end: &str) -> Spec {
    let (lower, shared) = (scratch.0.join("lower"), scratch.0.join("shared"));
    std::fs::create_dir_all(&lower).unwrap();
    std::fs::create_dir_all(&shared).unwrap();
    let other = if level() == Level::SubordinateIds { AWKWARD_OTHER } else { "true" };
    let mut spec = scratch.spec(kind, &format!("set -e; chmod 777 /shared; {other}; {AWKWARD}; {end}"));
    spec.workspace = Some(Workspace { lower, target: "/workspace".into() });
    spec.binds = vec![Bind { source: shared, target: "/shared".into(), read_only: false }];
    spec
}

#[test]
fn what_a_job_leaves_belongs_to_the_account_that_ran_it() {
    if !is_user() {
        return;
    }
    let scratch = Scratch::new();
    let spec = awkward(&scratch, Kind::Job, "true");
    let ran = run(&spec);
    assert_eq!(ran.code(), 0, "{}", ran.text);
    let merged = Merged::workspace(&spec.dir, &scratch.0.join("lower"));
    assert_eq!(std::io::read_to_string(merged.open("file".as_ref()).unwrap()).unwrap(), "y\n");
    assert_eq!(std::fs::read_to_string(scratch.0.join("shared/e/f")).unwrap(), "z\n");
    for path in ["run/tmp/a/b/c", "run/workspace/upper/file", "shared/e/f"] {
        assert_eq!(std::fs::metadata(scratch.0.join(path)).unwrap().uid(), own_id(), "{path}");
    }
    let mode = |path: &str| std::fs::metadata(scratch.0.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("run/tmp/a"), mode("run/tmp/a/b"), mode("run/tmp/a/b/c")), (0o555, 0o500, 0o400));
    launcher().remove(&scratch.0).unwrap();
    assert!(!scratch.0.exists());
}

#[test]
fn what_a_killed_shim_leaves_can_be_removed() {
    if !is_user() {
        return;
    }
    let scratch = Scratch::new();
    let spec = awkward(&scratch, Kind::Instance, "exec tail -f /dev/null");
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "done");
    let ended = shim.ended_fd().unwrap();
    let pid = rustix::process::Pid::from_raw(shim.status().unwrap().shim_pid as i32).unwrap();
    let init = rustix::process::Pid::from_raw(shim.status().unwrap().init_pid as i32).unwrap();
    let init = rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    for fd in [&ended, &init] {
        let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
    }
    assert!(std::fs::remove_dir_all(&scratch.0).is_err());
    launcher().remove(&scratch.0).unwrap();
    assert!(!scratch.0.exists());
}

#[test]
fn a_limit_that_nobody_keeps_is_told() {
    if !is_user() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = scratch.job("true");
    spec.limits.memory_bytes = Some(64 << 20);
    spec.limits.cpu_millis = Some(500);
    let shim = launcher().launch(&spec).unwrap();
    assert_eq!(shim.setup().unwrap().level, level());
    let notes = shim.setup().unwrap().notes.clone();
    let want = [
        "memory is not limited to 64 MiB: no control group with `memory` is delegated to this account",
        "cpu is not limited to 0.500 cores: no control group with `cpu` is delegated to this account",
    ];
    assert_eq!(notes, want);
    shim.wait(LIMIT).unwrap().unwrap();
}

/// A listener on every address of the host, and those addresses.
fn host_addresses() -> Vec<String> {
    let shown = std::process::Command::new("hostname").arg("-I").output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    text.split_whitespace().filter(|address| !address.contains(':')).map(str::to_owned).collect()
}

#[test]
fn a_way_out_by_a_program_leads_past_the_host_and_never_to_it() {
    if !is_user() {
        return;
    }
    let server = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let gateway = "$(ip route | awk '/default/ {print $3}')".to_owned();
    let addresses = host_addresses().into_iter().chain(["127.0.0.1".into(), "169.254.169.254".into(), gateway]);
    let tries: String = addresses
        .map(|a| format!("timeout 1 bash -c \"echo > /dev/tcp/{a}/{port}\" 2>/dev/null && echo reached {a};"))
        .collect();
    for outbound in [Outbound::Pasta, Outbound::Slirp4netns] {
        let installed = std::path::Path::new("/usr/bin").join(outbound.word()).exists();
        if !installed {
            continue;
        }
        let scratch = Scratch::new();
        let mut spec =
            scratch.job(&format!("exec 2>&1; ip route show default; {tries} ip route del default; echo end"));
        spec.network = outbound.network();
        let text = run(&spec).text;
        assert!(text.starts_with("default via "), "{}: {text}", outbound.word());
        assert!(!text.contains("reached") && text.contains("not permitted") && text.ends_with("end\n"), "{text}");
    }
}

#[test]
fn the_program_of_a_way_out_ends_with_a_killed_shim() {
    if !is_user() || !std::path::Path::new("/usr/bin/pasta").exists() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = scratch.job("echo up; tail -f /dev/null");
    spec.network = Outbound::Pasta.network();
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "up");
    let pid = rustix::process::Pid::from_raw(shim.status().unwrap().shim_pid as i32).unwrap();
    // The program holds the shim's network by the guard's descriptors; that none is left is looked at by `levels`.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn the_hosts_network_is_shared_only_when_that_is_asked_for() {
    if !is_user() {
        return;
    }
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    for (network, want) in [(Network::Host, "reached\n"), (Network::None, "")] {
        let scratch = Scratch::new();
        let mut spec = scratch.job(&format!("bash -c 'echo > /dev/tcp/127.0.0.1/{port}' 2>/dev/null && echo reached"));
        spec.network = network;
        assert_eq!(run(&spec).text, want, "{network:?}");
    }
    let scratch = Scratch::new();
    let mut spec = scratch.job("true");
    spec.network = Network::Outbound;
    let error = whole(&launcher().launch(&spec).unwrap_err());
    assert_eq!(error, "outbound network: only root can make links with address translation");
}
