//! Ways out of a sandbox, each tried from inside by root inside.

use crate::support::*;
use slipway_sandbox::*;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The program that tries: built by the C compiler that the project needs anyway.
pub fn attacker() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(copy) = std::env::var_os(ATTACK) {
            return copy.into();
        }
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attack.c");
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("attack-{}", std::process::id()));
        let built =
            std::process::Command::new("cc").args(["-w", "-static", "-o"]).arg(&program).arg(source).status().unwrap();
        assert!(built.success());
        program
    })
}

/// A job that has the program at `/attack`.
fn armed(scratch: &Scratch, kind: Kind, script: &str) -> Spec {
    let mut spec = scratch.spec(kind, script);
    spec.binds = vec![Bind { source: attacker().clone(), target: "/attack".into(), read_only: true }];
    spec
}

fn attack(script: &str) -> String {
    let scratch = Scratch::new();
    run(&armed(&scratch, Kind::Job, &format!("exec 2>&1; {script}"))).text
}

#[test]
fn homes_and_data_folder_of_the_host_are_not_there() {
    let scratch = Scratch::new();
    let marker = scratch.0.join("marker");
    std::fs::write(&marker, "host").unwrap();
    let script = format!(
        "exec 2>&1; ls -A /root /home; ls -d {} {}; ls /var/lib; cat /etc/shadow",
        marker.display(),
        scratch.0.display()
    );
    let text = run(&scratch.job(&script)).text;
    assert!(text.starts_with("/home:\nbuild\n\n/root:\n"), "{text}");
    assert_eq!(text.matches("No such file or directory").count(), 3, "{text}");
}

#[test]
fn nothing_of_the_old_root_is_reachable() {
    let text = say(
        "cat /proc/1/environ; ls /proc/1/root/ /proc/1/cwd; readlink /proc/1/exe; ls -id / | cut -d' ' -f1; ls -id /.. | cut -d' ' -f1; cut -d' ' -f5 /proc/self/mountinfo | grep -c mnt$",
    );
    assert_eq!(text.matches("Permission denied").count(), 3, "{text}");
    let ends: Vec<_> = text.lines().rev().take(3).collect();
    assert_eq!(ends[0], "0", "{text}");
    assert_eq!(ends[1], ends[2], "{text}");
}

#[test]
fn processes_of_the_host_are_neither_seen_nor_killed() {
    let text = attack(&format!(
        "ls -d /proc/[0-9]* | wc -l; kill -9 {}; kill -9 1; /attack ptrace 1; echo alive",
        std::process::id()
    ));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() <= 5, "{text}");
    assert!(lines[1].contains("No such process"), "{text}");
    assert!(text.contains("EPERM") && text.ends_with("alive\n"), "{text}");
}

#[test]
fn system_calls_that_lead_out_are_denied() {
    for (what, want) in [
        ("mount", "EPERM"),
        ("fsopen", "EPERM"),
        ("umount", "EPERM"),
        ("unshare-user", "EPERM"),
        ("unshare-mount", "EPERM"),
        ("clone-user", "EPERM"),
        ("clone3", "ENOSYS"),
        ("setns", "EPERM"),
        ("mknod", "EPERM"),
        ("mknod-char", "EPERM"),
        ("handle", "EPERM"),
        ("keyctl", "EPERM"),
        ("bpf", "EPERM"),
        ("reboot", "EPERM"),
        ("module", "EPERM"),
        ("vsock", "EAFNOSUPPORT"),
        ("packet", "EAFNOSUPPORT"),
        ("tiocsti", "EPERM"),
        ("chown-away", "EINVAL"),
        ("raise-limit", "EPERM"),
    ] {
        assert_eq!(attack(&format!("/attack {what}")).trim(), want, "{what}");
    }
}

#[test]
fn only_instances_are_forbidden_to_trace_their_own_processes() {
    let script = "sleep 1000 & /attack ptrace $!";
    let scratch = Scratch::new();
    assert_eq!(run(&armed(&scratch, Kind::Instance, script)).text, "EPERM\n");
    assert_eq!(attack(script), "ok\n");
}

#[test]
fn the_hosts_programs_and_settings_cannot_be_written() {
    let text = say(
        "for f in /usr/x /etc/x /bin/x /x /dev/x/y /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/1/oom_score_adj; do (echo b > $f) 2>/dev/null && echo wrote $f; done; ls /sys; cat /proc/kcore | wc -c",
    );
    let text = text.replace("wrote /proc/sysrq-trigger\n", ""); // /dev/null lies there
    assert!(!text.contains("wrote"), "{text}");
    assert!(text.ends_with("\n0\n"), "{text}");
}

#[test]
fn sockets_and_ports_of_the_host_are_not_reachable() {
    let name = format!("slipway-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    assert_eq!(attack(&format!("/attack abstract {name}; /attack connect {port}")), "ECONNREFUSED\nECONNREFUSED\n");
    assert_eq!(say("find / -xdev -type s 2>/dev/null; find /run /tmp /dev -type s"), "");
}

#[test]
fn a_fork_bomb_stops_at_its_limit() {
    let scratch = Scratch::new();
    let mut spec = armed(&scratch, Kind::Job, "/attack bomb 500");
    spec.limits.processes = 50;
    let made: u32 = run(&spec).text.trim().parse().unwrap();
    assert!((40..50).contains(&made), "{made}");
}

#[test]
fn set_user_id_programs_give_nothing() {
    let script = "cp /attack /tmp/own && chown 0 /tmp/own && chmod 4755 /tmp/own && /tmp/own setuid; ls -l /tmp/own | cut -c1-10; id -u; sudo -n id; su -c id";
    let scratch = Scratch::new();
    let mut spec = armed(&scratch, Kind::Job, script);
    spec.user = "build".into();
    let text = run(&spec).text;
    assert!(!text.contains("euid 0") && !text.contains("uid=0"), "{text}");
    // What root inside makes set-user-id is of no use to another user inside either.
    let scratch = Scratch::new();
    let script =
        "cp /attack /tmp/own; chmod 4755 /tmp/own; setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/own setuid";
    assert_eq!(run(&armed(&scratch, Kind::Job, script)).text, "euid 1000\n");
}

#[test]
fn what_root_inside_writes_belongs_to_no_user_of_the_host() {
    let scratch = Scratch::new();
    let lower = scratch.0.join("lower");
    std::fs::create_dir(&lower).unwrap();
    let mut spec = scratch.job("id -u; echo x > /workspace/file; chmod 4755 /workspace/file");
    spec.workspace = Some(Workspace { lower, target: "/workspace".into() });
    assert_eq!(run(&spec).text, "0\n");
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(spec.dir.join("workspace/upper/file")).unwrap();
    assert!(file.uid() >= 1 << 30, "{}", file.uid());
    assert_eq!(std::fs::metadata(&spec.dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_link_in_the_workspace_leads_to_the_inside_only() {
    let scratch = Scratch::new();
    let lower = scratch.0.join("lower");
    std::fs::create_dir(&lower).unwrap();
    let secret = scratch.0.join("secret");
    std::fs::write(&secret, "host secret").unwrap();
    std::os::unix::fs::symlink(&secret, lower.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", lower.join("etc")).unwrap();
    std::os::unix::fs::symlink("../../../../../../root", lower.join("up")).unwrap();
    let mut spec = scratch.job("cat link; cat etc/shadow; ls -A up/; echo x > link; echo end");
    spec.workspace = Some(Workspace { lower: lower.clone(), target: "/workspace".into() });
    spec.steps[0].cwd = "/workspace".into();
    let text = run(&spec).text;
    assert!(!text.contains("host secret") && text.contains("end\n"), "{text}");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host secret");
    let merged = Merged::workspace(&spec.dir, &lower);
    assert!(merged.open("link".as_ref()).is_err() && merged.open("etc/shadow".as_ref()).is_err());
}

#[test]
fn an_image_cannot_make_the_host_write_through_its_links() {
    let scratch = Scratch::new();
    let (layer, victim) = (scratch.0.join("layer"), scratch.0.join("victim"));
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::create_dir_all(&victim).unwrap();
    for name in ["etc", "dev", "tmp", "proc", "run"] {
        std::os::unix::fs::symlink(&victim, layer.join(name)).unwrap();
    }
    std::fs::copy(attacker(), layer.join("attack")).unwrap();
    let mut spec = scratch.spec(Kind::Instance, "");
    spec.root = Root::Layers { lower: vec![layer] };
    spec.steps[0].argv = vec!["/attack".into(), "setuid".into()];
    spec.secrets = vec![Secret { name: "s".into(), bytes: "value-of-it".into() }];
    // Whether such an image runs does not matter.
    if let Ok(shim) = launcher().launch(&spec) {
        shim.wait(LIMIT).unwrap();
    }
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn a_process_left_in_the_background_ends_with_the_run() {
    let scratch = Scratch::new();
    let beat = scratch.0.join("shared");
    std::fs::create_dir(&beat).unwrap();
    let mut spec = scratch.job("(setsid nohup sh -c 'trap \"\" HUP TERM; exec 9>/shared/lock; flock 9; echo held > /shared/held; sleep 100000' >/dev/null 2>&1 &) ; until [ -e /shared/held ]; do :; done");
    spec.binds = vec![Bind { source: beat.clone(), target: "/shared".into(), read_only: false }];
    assert_eq!(run(&spec).code(), 0);
    let lock = std::fs::File::open(beat.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[test]
fn a_program_starts_with_three_descriptors_and_few_rights() {
    let text = say(
        "ls /proc/self/fd | wc -l; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; id -u; cat /proc/self/uid_map",
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "4", "{text}"); // 0, 1, 2 and the listing's own
    let capabilities = |name: &str| {
        let line = lines.iter().find(|l| l.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!((capabilities("CapEff"), capabilities("CapBnd")), (0x404fb, 0x404fb), "{text}");
    assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
    assert!(lines.contains(&"0"), "{text}");
}

// R518
#[test]
fn secrets_are_in_no_argument_no_environment_and_on_no_disk() {
    let scratch = Scratch::new();
    let value = format!("very-secret-{}", std::process::id());
    let mut spec = scratch.spec(Kind::Instance, "cat /run/secrets/key >/dev/null && echo read; sleep 1000");
    spec.secrets = vec![Secret { name: "key".into(), bytes: value.as_str().into() }];
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "read");
    let status = shim.status().unwrap();
    for pid in [status.shim_pid, status.init_pid] {
        for file in ["environ", "cmdline"] {
            match std::fs::read(format!("/proc/{pid}/{file}")) {
                Ok(bytes) => assert!(!contains(&bytes, value.as_bytes()), "{file}"),
                // Who is not root cannot even look.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{file}"),
            }
        }
    }
    let found = std::process::Command::new("grep").args(["-rlF", &value]).arg(&scratch.0).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let look = "grep -lF very-secret /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; echo x > /run/secrets/key; stat -c '%a %u' /run/secrets/key";
    let command = Command {
        argv: vec!["bash".into(), "-c".into(), look.into()],
        env: vec![],
        cwd: "/".into(),
        timeout_ms: 10_000,
    };
    let output = shim.exec(command).unwrap().output;
    assert!(!output.contains("/proc/1/") && output.contains("Read-only") && output.ends_with("400 0\n"), "{output}");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

#[test]
fn a_named_user_has_no_rights_but_may_serve_on_port_80() {
    let scratch = Scratch::new();
    let mut spec = armed(
        &scratch,
        Kind::Instance,
        "id -u; grep CapEff /proc/self/status; touch ~/x && touch /tmp/x && /attack listen 80 & sleep 1000",
    );
    spec.user = "build".into();
    spec.steps[0].env.push(("HOME".into(), HOME.into()));
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "ok");
    assert!(text(&spec.dir).starts_with("1000\nCapEff:\t0000000000000000\n"), "{}", text(&spec.dir));
}
