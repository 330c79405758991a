//! Logs of real runs.

use crate::support::*;
use slipway_sandbox::*;

// R518
#[test]
fn secrets_are_masked_in_log_last_line_and_command_output() {
    let scratch = Scratch::new();
    let mut spec = scratch.spec(
        Kind::Instance,
        "cat /run/secrets/key; echo; base64 /run/secrets/key; stat -c %a /run/secrets/key; echo other-value; read x",
    );
    spec.secrets = vec![Secret { name: "key".into(), bytes: "hunter22-hunter22".into() }];
    spec.masks = vec!["other-value".into()];
    let ran = run(&spec);
    assert_eq!(ran.text, "****\n****I=\n400\n****\n");
    assert_eq!(ran.record.steps[0].last_line, "****");
}

#[test]
fn a_line_of_a_gigabyte_needs_no_memory() {
    let scratch = Scratch::new();
    let mut spec = scratch.job("head -c 1000m /dev/zero | tr '\\0' x; echo; echo end; sleep 1000");
    spec.limits.log_bytes = 1 << 20;
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "end");
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.status().unwrap().shim_pid)).unwrap();
    let peak: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok()).unwrap();
    assert!(peak < 32 * 1024, "{peak} KiB");
    let log = shim.status().unwrap().log;
    assert!(log.bytes >= 1000 << 20 && log.dropped_lines > 0); // R320
    let on_disk: u64 = std::fs::read_dir(&spec.dir)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_name().to_string_lossy().starts_with("log"))
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert!(on_disk <= (1 << 20) + 128, "{on_disk}");
}

#[test]
fn lines_are_followed_live_up_to_the_end() {
    let scratch = Scratch::new();
    let spec = scratch.job("for i in 1 2 3; do echo line $i; done; echo done");
    let shim = launcher().launch(&spec).unwrap();
    let mut follow = shim.follow(0);
    let mut seen = Vec::new();
    while let Some(chunk) = follow.next(LIMIT).unwrap() {
        assert!(!chunk.lines.is_empty(), "nothing came in time");
        seen.extend(chunk.lines.into_iter().map(|line| line.text));
    }
    assert_eq!(seen, ["line 1", "line 2", "line 3", "done"]);
    let mut late = Follow::of(&spec.dir, 0);
    assert_eq!(late.next(LIMIT).unwrap().unwrap().lines.len(), 4);
    assert_eq!(late.next(LIMIT).unwrap(), None);
}
