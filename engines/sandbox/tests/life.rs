//! Start, end, record, attach.

use crate::support::*;
use slipway_sandbox::*;
use std::time::Duration;

#[test]
fn a_job_runs_its_steps_in_order_and_leaves_a_record() {
    let scratch = Scratch::new();
    let mut spec = scratch.job("echo one; echo two >&2");
    spec.steps.push(Step::new("second", &["sh", "-c", "echo three; exit 3"]));
    spec.steps.push(Step::new("third", &["echo", "never"]));
    let ran = run(&spec);
    assert_eq!(ran.record.steps.len(), 2);
    assert_eq!(ran.record.steps[0].ended, Ended::Exited { code: 0 });
    assert_eq!(ran.record.steps[1].ended, Ended::Exited { code: 3 });
    assert_eq!(ran.record.steps[1].last_line, "three");
    let lines = read_log(&spec.dir).unwrap();
    let shown: Vec<_> = lines.iter().map(|l| (l.step, l.stream, l.text.as_str())).collect();
    assert!(shown.contains(&(0, Stream::Out, "one")) && shown.contains(&(0, Stream::Err, "two")), "{shown:?}");
    assert!(shown.contains(&(1, Stream::Out, "three")), "{shown:?}");
    assert!(!ran.text.contains("never"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let mut spec = scratch.job("");
    spec.steps[0].argv = vec!["/api".into()];
    let error = launcher().launch(&spec).unwrap_err();
    assert_eq!(whole(&error), "exec of `/api`: no such file or directory");
    let Attached::Ended(record) = attach(&spec.dir).unwrap() else { panic!("it has ended") };
    assert!(matches!(record.steps[0].ended, Ended::NotStarted(_)));
    let scratch = Scratch::new();
    let mut spec = scratch.job("");
    spec.steps[0].argv = vec!["no-such-program".into()];
    let error = launcher().launch(&spec).unwrap_err();
    assert_eq!(whole(&error), "exec of `no-such-program`: not found in PATH");
}

#[test]
fn a_step_past_its_limit_is_stopped_with_everything_that_it_started() {
    let scratch = Scratch::new();
    let mut spec = scratch.job("trap '' TERM; sleep 1000 & sleep 1000; sleep 1000");
    spec.steps[0].timeout_ms = Some(200);
    spec.kill_grace_ms = 100;
    let ran = run(&spec);
    assert_eq!(*ran.ended(), Ended::TimedOut);
}

#[test]
fn stop_lets_an_instance_end_by_itself() {
    let scratch = Scratch::new();
    let spec =
        scratch.spec(Kind::Instance, "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 1000 & wait; done");
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "up");
    shim.stop(LIMIT).unwrap();
    let record = shim.wait(LIMIT).unwrap().unwrap();
    assert_eq!(record.steps[0].ended, Ended::Stopped { code: Some(7), signal: None });
    assert_eq!(record.steps[0].last_line, "bye");
}

// R321
#[test]
fn an_instance_outlives_who_started_it_and_is_found_again_with_its_true_exit_code() {
    let scratch = Scratch::new();
    let spec = scratch.spec(Kind::Instance, "echo up; read x < /tmp/go; echo last words; exit 42");
    let mut spec = spec;
    spec.steps[0].argv[2] = format!("mkfifo /tmp/go; {}", spec.steps[0].argv[2]);
    drop(launcher().launch(&spec).unwrap());
    let Attached::Running(shim) = attach(&spec.dir).unwrap() else { panic!("it runs") };
    wait_for_line(&shim, "up");
    let command = Command {
        argv: vec!["sh".into(), "-c".into(), "echo x > /tmp/go".into()],
        env: vec![],
        cwd: "/".into(),
        timeout_ms: 10_000,
    };
    // The fifo appears a moment after `up`; its end is awaited through another handle.
    let ended = shim.ended_fd().unwrap();
    let _ = shim.exec(command);
    drop(shim);
    let Attached::Ended(record) = wait_and_attach(&spec.dir, ended) else { panic!("it ended") };
    assert_eq!(record.steps[0].ended, Ended::Exited { code: 42 });
    assert_eq!(record.steps[0].last_line, "last words");
}

fn wait_and_attach(dir: &std::path::Path, ended: std::os::fd::OwnedFd) -> Attached {
    let mut fds = [rustix::event::PollFd::new(&ended, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
    attach(dir).unwrap()
}

#[test]
fn a_killed_shim_takes_everything_inside_with_it_and_is_reported_as_lost() {
    let scratch = Scratch::new();
    let spec = scratch.spec(Kind::Instance, "echo up; sleep 1000 & sleep 1000");
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "up");
    let status = shim.status().unwrap();
    let pid = |n: u32| rustix::process::Pid::from_raw(n as i32).unwrap();
    let init = rustix::process::pidfd_open(pid(status.init_pid), rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(pid(status.shim_pid), rustix::process::Signal::KILL).unwrap();
    let mut fds = [rustix::event::PollFd::new(&init, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
    assert!(matches!(attach(&spec.dir).unwrap(), Attached::Lost { panic: None }));
    assert!(matches!(shim.wait(LIMIT), Err(SandboxError::Gone { .. })));
}

#[test]
fn a_job_goes_before_everything_else_when_the_machine_runs_out_of_memory() {
    let scratch = Scratch::new();
    let ran = run(&scratch.job("cat /proc/self/oom_score_adj"));
    assert_eq!(ran.text.trim(), "500");
}

#[test]
fn the_memory_limit_ends_a_step_as_out_of_memory() {
    let scratch = Scratch::new();
    let mut spec = scratch.job("head -c 300m /dev/zero | tail -c 300m | wc -c; exit ${PIPESTATUS[1]}");
    spec.limits.memory_bytes = Some(64 << 20);
    let ran = run(&spec);
    assert_eq!(*ran.ended(), Ended::OutOfMemory, "{}", ran.text);
    let peak = ran.record.steps[0].usage.memory_peak_bytes;
    assert!((32 << 20..=64 << 20).contains(&peak), "{peak}");
}

#[test]
fn usage_is_counted() {
    let scratch = Scratch::new();
    let ran = run(&scratch.job("for i in {1..200000}; do :; done"));
    assert!(ran.record.steps[0].usage.cpu_ms > 20, "{:?}", ran.record.steps[0].usage);
}

#[test]
fn nothing_is_left_of_an_ended_run_but_its_folder() {
    let scratch = Scratch::new();
    let spec = scratch.job("sleep 1000 & echo $!");
    let ran = run(&spec);
    assert_eq!(ran.code(), 0);
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("slipway-{}-*", spec.id)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    assert!(!spec.dir.join("sock").exists());
    release(&spec.dir).unwrap();
    assert!(!spec.dir.exists());
}

#[test]
fn a_folder_is_used_by_one_shim_only() {
    let scratch = Scratch::new();
    let spec = scratch.spec(Kind::Instance, "sleep 1000");
    let shim = launcher().launch(&spec).unwrap();
    let error = whole(&launcher().launch(&spec).unwrap_err());
    assert!(error.contains("another shim uses it"), "{error}");
    shim.kill().unwrap();
    let record = shim.wait(LIMIT).unwrap().unwrap();
    assert_eq!(record.steps[0].ended, Ended::Stopped { code: None, signal: Some(9) });
    let error = whole(&launcher().launch(&spec).unwrap_err());
    assert!(error.contains("it holds an ended run"), "{error}");
}

#[test]
fn a_command_runs_beside_the_step_and_is_killed_at_its_limit() {
    let scratch = Scratch::new();
    let spec = scratch.spec(Kind::Instance, "sleep 1000");
    let shim = launcher().launch(&spec).unwrap();
    let command = |script: &str, timeout_ms| Command {
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![("GREETING".into(), "hello".into())],
        cwd: "/tmp".into(),
        timeout_ms,
    };
    let executed = shim.exec(command("echo $GREETING from $(pwd); exit 4", 10_000)).unwrap();
    assert_eq!((executed.code, executed.output.as_str()), (Some(4), "hello from /tmp\n"));
    let executed = shim.exec(command("sleep 1000", 50)).unwrap();
    assert!(executed.timed_out && executed.signal == Some(9));
    let mut missing = command("", 50);
    missing.argv = vec!["/nope".into()];
    assert_eq!(whole(&shim.exec(missing).unwrap_err()), "exec of `/nope`: no such file or directory");
    assert_eq!(shim.wait(Duration::ZERO).unwrap(), None);
}

#[test]
fn the_workspace_is_writable_inside_and_unchanged_outside() {
    let scratch = Scratch::new();
    let lower = scratch.0.join("checkout");
    std::fs::create_dir_all(lower.join("src")).unwrap();
    for (name, text) in [("a", "old"), ("b", "gone"), ("src/c", "kept")] {
        std::fs::write(lower.join(name), text).unwrap();
    }
    let mut spec = scratch.job("set -e; id -u; stat -c %u a; echo new > a; rm b; mkdir out; echo built > out/x; chmod +x out/x; ln -s /etc/shadow out/link; rm -r src; mkdir src; echo d > src/d");
    spec.workspace = Some(Workspace { lower: lower.clone(), target: "/workspace".into() });
    spec.steps[0].cwd = "/workspace".into();
    let ran = run(&spec);
    assert_eq!(ran.code(), 0, "{}", ran.text);
    assert_eq!(ran.text, "0\n0\n");
    assert_eq!(std::fs::read_to_string(lower.join("a")).unwrap(), "old");
    assert!(lower.join("b").exists() && !lower.join("out").exists());
    let merged = Merged::workspace(&spec.dir, &lower);
    let read = |path: &str| std::io::read_to_string(merged.open(path.as_ref()).unwrap()).unwrap();
    assert_eq!(read("out/x"), "built\n");
    assert_eq!(read("a"), "new\n");
    assert!(merged.entry("out/x".as_ref()).unwrap().unwrap().executable);
    assert_eq!(merged.entry("b".as_ref()).unwrap(), None);
    assert_eq!(merged.entry("src/c".as_ref()).unwrap(), None);
    assert_eq!(merged.entry("out/link".as_ref()).unwrap().unwrap().kind, EntryKind::Link("/etc/shadow".into()));
    assert!(merged.open("out/link".as_ref()).is_err());
    assert!(merged.open("../etc/passwd".as_ref()).is_err());
    let names: Vec<_> = merged.list("".as_ref()).unwrap().into_keys().collect();
    assert_eq!(names, ["a", "out", "src"]);
}

#[test]
fn image_layers_are_a_root() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.0.join("one"), scratch.0.join("two"));
    for layer in [&one, &two] {
        std::fs::create_dir_all(layer.join("etc")).unwrap();
    }
    std::fs::copy(static_busybox_like(&scratch), one.join("app")).unwrap();
    std::fs::write(one.join("etc/passwd"), "web:x:1234:99::/:/\n").unwrap();
    std::fs::write(two.join("etc/extra"), "x").unwrap();
    std::os::unix::fs::symlink("/root", two.join("run")).unwrap();
    let mut spec = scratch.spec(Kind::Instance, "");
    spec.root = Root::Layers { lower: vec![one.clone(), two] };
    spec.user = "web".into();
    spec.secrets = vec![Secret { name: "token".into(), bytes: "s3cret-token".into() }];
    spec.steps[0].argv = vec!["/app".into()];
    let ran = run(&spec);
    assert_eq!(ran.code(), 0, "{}", ran.text);
    // An ordinary user is told before what this user inside cannot do.
    assert!(ran.text.ends_with("uid 1234 gid 99 secret ****\n"), "{}", ran.text);
    assert!(!one.join("run").exists());
}

/// A program that needs nothing of a system: built by the C compiler that the project needs anyway.
fn static_busybox_like(scratch: &Scratch) -> std::path::PathBuf {
    let source = scratch.0.join("app.c");
    std::fs::write(
        &source,
        r#"#include <stdio.h>
#include <unistd.h>
int main(void){char b[64]={0};FILE*f=fopen("/run/secrets/token","r");if(!f){perror("secret");return 1;}
fgets(b,63,f);printf("uid %d gid %d secret %s\n",getuid(),getgid(),b);return 0;}"#,
    )
    .unwrap();
    let out = scratch.0.join("app.bin");
    assert!(
        std::process::Command::new("cc").args(["-static", "-o"]).arg(&out).arg(&source).status().unwrap().success()
    );
    out
}

#[test]
fn a_shim_whose_folder_was_removed_does_not_wait_for_it() {
    let scratch = Scratch::new();
    // Nobody can ask it to end any more: its step's own limit ends it.
    let mut spec = scratch.job("tail -f /dev/null");
    spec.steps[0].timeout_ms = Some(200);
    let shim = launcher().launch(&spec).unwrap();
    let shim_pid = rustix::process::Pid::from_raw(shim.setup().unwrap().shim_pid as i32).unwrap();
    let shim = rustix::process::pidfd_open(shim_pid, rustix::process::PidfdFlags::empty()).unwrap();
    // It may be writing its first files just now.
    let again = |error: &std::io::Error| error.kind() == std::io::ErrorKind::DirectoryNotEmpty;
    while std::fs::remove_dir_all(&spec.dir).is_err_and(|error| again(&error)) {}
    assert!(!spec.dir.exists());
    let mut poll = [rustix::event::PollFd::new(&shim, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut poll, Some(&limit)), Ok(1), "it waits");
}

#[test]
fn a_shim_that_is_kept_ready_takes_one_run_and_no_other() {
    let launcher = launcher().keeping_one_ready();
    let start = |word: &'static str| {
        let scratch = Scratch::new();
        let spec = scratch.job(&format!("echo {word}; tail -f /dev/null"));
        (word, launcher.launch(&spec).unwrap(), spec, scratch)
    };
    for (word, shim, spec, _scratch) in ["one", "two", "three", "four"].map(start) {
        wait_for_line(&shim, word);
        shim.stop(Duration::from_millis(10)).unwrap();
        shim.wait(LIMIT).unwrap();
        assert_eq!(text(&spec.dir).trim(), word);
    }
}
