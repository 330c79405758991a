//! How jobs end, and what they see.

use crate::support::*;
use slipway_model::job::JobResult;
use slipway_worker::{Answer, Ask};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_passes_with_its_last_step_and_says_what_it_used() {
    let place = Place::new();
    let ran = place
        .run_job(steps(&[
            ("build", "echo building; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"),
            ("test", "echo test result: ok. 3 passed\\; 0 failed\\; 1 ignored >&2"),
        ]))
        .await;
    assert_eq!(ran.said(), "passed");
    assert_eq!(ran.outcome.exit_code, Some(0));
    assert!(ran.outcome.usage.cpu_ms > 0);
    let tests = ran.outcome.tests.unwrap();
    assert_eq!((tests.passed, tests.failed, tests.skipped), (3, 0, 1));
    assert!(ran.outcome.first_error.is_empty());
    let lines: Vec<_> = ran.lines.iter().map(|line| (line.step.as_str(), line.error, line.text.as_str())).collect();
    assert_eq!(lines, [("build", false, "building"), ("test", true, "test result: ok. 3 passed; 0 failed; 1 ignored")]);
    assert!(ran.lines.iter().all(|line| line.at_ms > 1_700_000_000_000));
}

// R066
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_names_step_command_exit_code_and_first_error() {
    let place = Place::new();
    let ran = place
        .run_job(steps(&[
            ("one", "true"),
            ("two", "echo fine; echo 'error: no such table' >&2; exit 3"),
            ("three", "echo never"),
        ]))
        .await;
    assert_eq!(ran.said(), "failed: step `two` exited with 3");
    assert_eq!(ran.outcome.step.as_deref(), Some("two"));
    assert_eq!(ran.outcome.command.as_deref(), Some("echo fine; echo 'error: no such table' >&2; exit 3"));
    assert_eq!(ran.outcome.exit_code, Some(3));
    assert_eq!(ran.outcome.first_error, ["error: no such table"]);
    assert!(!ran.text().contains("never"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_command_that_fails_ends_the_step() {
    let place = Place::new();
    let ran = place.run("echo a; false; echo b").await;
    assert_eq!((ran.said().as_str(), ran.text().as_str()), ("failed: step `test` exited with 1", "a\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_78_is_neutral_and_a_signal_has_its_code() {
    let place = Place::new();
    assert_eq!(place.run("exit 78").await.outcome.result, JobResult::Neutral);
    let ran = place.run("kill -SEGV $$").await;
    assert_eq!(ran.said(), "failed: step `test` was ended by signal 11 (SIGSEGV)");
    assert_eq!(ran.outcome.exit_code, Some(139));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_passes_its_limit_is_killed_with_everything_it_started() {
    let place = Place::new();
    let mut job = job("setsid sleep 98765 & trap '' TERM; echo up; while :; do sleep 98766; done");
    job.steps[0].timeout_ms = Some(200);
    let ran = place.run_job(job).await;
    assert_eq!(ran.said(), "timed-out: step `test` ran longer than its 0.2s");
    let left = std::process::Command::new("pgrep").args(["-f", "sleep 9876[56]"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_job_holds_over_all_steps() {
    let place = Place::new();
    let mut job = steps(&[("one", "sleep 0.3"), ("two", "sleep 1000")]);
    job.timeout_ms = 600;
    let ran = place.run_job(job).await;
    assert_eq!(ran.said(), "timed-out: it ran longer than its 0.6s; it was in step `two`");
    assert!(ran.outcome.run_ms < 10_000, "{}", ran.outcome.run_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_is_named() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.memory_bytes = Some(64 << 20);
    let worker = slipway_worker::Worker::open(options).await.unwrap();
    let ran = run_on(&worker, place.request(job("head -c 300m /dev/zero | tail -c 300m > /dev/null"))).await;
    assert_eq!(ran.said(), "failed: memory limit 64 MiB reached");
    assert_eq!(ran.outcome.exit_code, Some(137));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_soon() {
    let place = Place::new();
    let worker = place.worker().await;
    let request = place.request(job("echo up; sleep 1000"));
    start(&worker, &request).await;
    line_comes(&worker, &request.run, "up").await;
    worker.answer(Ask::Cancel { run: request.run.clone() }).await;
    let outcome = ended(&worker, &request.run).await;
    assert_eq!(said(&outcome), "cancelled: it was cancelled");
    assert!(outcome.first_error.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_sandbox_is_killed_is_lost() {
    let place = Place::new();
    let worker = place.worker().await;
    let request = place.request(job("echo up; sleep 1000"));
    start(&worker, &request).await;
    line_comes(&worker, &request.run, "up").await;
    let slipway_sandbox::Attached::Running(shim) = slipway_sandbox::attach(&place.sandbox(&request.run)).unwrap()
    else {
        panic!("it does not run")
    };
    let pid = i32::try_from(shim.status().unwrap().shim_pid).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(said(&ended(&worker, &request.run).await), "lost: its sandbox was killed from outside");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why() {
    let place = Place::new();
    let mut nowhere = job("true");
    nowhere.folder = "not/there".into();
    let ran = place.run_job(nowhere).await;
    assert_eq!(ran.said(), "failed: working folder `/workspace/not/there`: no such file or directory");
    let mut request = place.request(job("true"));
    request.tree = Some("/not/a/tree".into());
    let ran = place.run_request(request).await;
    assert!(ran.said().starts_with("lost: its sandbox could not be started: "), "{}", ran.said());
    let mut image = job("true");
    image.image = slipway_model::job::JobImage::Image("shop/tools:1".into());
    let ran = place.run_job(image).await;
    assert_eq!(ran.said(), "failed: image `shop/tools:1` is not in the registry");
}

// R518
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_files_and_masked_and_on_no_disk() {
    let place = Place::new();
    let mut request = place.request(job("cat $SLIPWAY_SECRETS/TOKEN; echo; base64 $SLIPWAY_SECRETS/TOKEN; env; cat /proc/*/cmdline | tr '\\0' ' '; stat -c %a $SLIPWAY_SECRETS/TOKEN; echo error: $(cat $SLIPWAY_SECRETS/TOKEN); exit 1"));
    request.secrets.insert("TOKEN".into(), secret("hunter22-hunter22"));
    let ran = place.run_request(request).await;
    assert!(ran.text().starts_with("****\n****"), "{}", ran.text());
    assert!(ran.text().contains("400\n") && !ran.text().contains("hunter22"), "{}", ran.text());
    assert_eq!(ran.outcome.first_error, ["error: ****"]);
    let found = std::process::Command::new("grep")
        .args(["-rl", "hunter22-hunter22"])
        .arg(place.data.join("work"))
        .arg(place.data.join("logs"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_finds_its_folders_and_its_environment() {
    let place = Place::new();
    let mut job = job(
        "pwd; cat ../README; echo $CI $LEVEL $ONE $SLIPWAY_OUTPUTS; ls $SLIPWAY_INPUTS $SLIPWAY_ARTIFACTS; echo hi > $SLIPWAY_SUMMARY; touch $TMPDIR/x; echo $HOME; hostname; echo changed > ../README",
    );
    job.steps[0].env.insert("ONE".into(), "1".into());
    let mut request = place.request(job);
    request.env.insert("LEVEL".into(), "2".into());
    request.env.insert("SLIPWAY_OUTPUTS".into(), "/elsewhere".into());
    let ran = place.run_request(request).await;
    assert_eq!(ran.said(), "passed", "{}", ran.text());
    let expected = "/workspace/api\ncommitted\ntrue 2 1 /run/slipway/outputs\n/run/slipway/artifacts:\n\n/run/slipway/inputs:\n/home/build\nslipway-job\n";
    assert_eq!(ran.text(), expected);
    assert_eq!(std::fs::read_to_string(place.tree().join("README")).unwrap(), "committed\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_network_is_said_in_the_log() {
    let place = Place::new();
    let mut job = job("echo up");
    job.network = true;
    let ran = place.run_job(job).await;
    assert_eq!(ran.said(), "passed");
    assert_eq!(ran.lines[0].step, "slipway");
    assert!(ran.lines[0].text.starts_with("network: shared with this machine"), "{}", ran.lines[0].text);
    let ran = place.run("ls /sys/class/net; ip link | wc -l").await;
    assert!(ran.lines.iter().all(|line| !line.text.contains("shared")));
}

// R320
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_keeps_its_beginning_and_its_end() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.log_bytes = 1 << 20;
    let worker = slipway_worker::Worker::open(options).await.unwrap();
    let request =
        place.request(job("echo first; seq 1 1000000; echo 'test result: ok. 1 passed; 0 failed'; echo last"));
    let ran = run_on(&worker, request.clone()).await;
    assert_eq!(ran.said(), "passed");
    let Answer::Log(page) =
        worker.answer(Ask::Log { project: project(), run: request.run.clone(), from: 0, limit_ms: 0 }).await
    else {
        panic!("no log")
    };
    assert_eq!(page.lines[0].text, "first");
    assert_eq!(ran.lines.last().unwrap().text, "last");
    assert_eq!(ran.outcome.tests.unwrap().passed, 1);
    let kept = place.data.join("logs/shop").join(request.run.as_str());
    let bytes: u64 = std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < (1 << 20) + 4096, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_log_is_text_with_time_step_and_stream() {
    let place = Place::new();
    let request = place.request(steps(&[("a", "echo one"), ("b", "echo two >&2")]));
    place.run_request(request.clone()).await;
    let text = std::fs::read_to_string(place.data.join("logs/shop").join(request.run.as_str()).join("log")).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["0 o one", "1 e two"]);
}
