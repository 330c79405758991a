//! Connections into sandboxes.

use crate::escapes::attacker;
use crate::support::*;
use slipway_sandbox::*;
use std::io::{Read, Write};
use std::time::Duration;

/// Answers every connection with its own process id, on the port given.
const ECHO: &str = r#"import socket, sys
s = socket.socket(socket.AF_INET6 if len(sys.argv) > 2 else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[2] if len(sys.argv) > 2 else '127.0.0.1', int(sys.argv[1])))
s.listen(64)
print('listening', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b'hello ' + c.recv(100))
    c.close()
"#;

pub fn echo(scratch: &Scratch, arguments: &[&str]) -> Shim {
    let mut spec = scratch.spec(Kind::Instance, "");
    spec.steps[0].argv = ["/usr/bin/python3", "-c", ECHO].iter().chain(arguments).map(|a| (*a).to_owned()).collect();
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "listening");
    shim
}

fn talk(mut stream: std::net::TcpStream) -> String {
    stream.write_all(b"there").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_shim_connects_into_the_sandbox_from_many_threads_at_once() {
    let scratch = Scratch::new();
    let shim = echo(&scratch, &["80"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(talk(shim.connect(80, LIMIT).unwrap()), "hello there");
                }
            });
        }
    });
}

#[test]
fn an_address_of_the_other_family_is_found_too() {
    let scratch = Scratch::new();
    let shim = echo(&scratch, &["3000", "::1"]);
    assert_eq!(talk(shim.connect(3000, LIMIT).unwrap()), "hello there");
}

#[test]
fn a_port_where_nothing_listens_is_told_with_those_that_do() {
    let scratch = Scratch::new();
    let shim = echo(&scratch, &["8080"]);
    let error = shim.connect(3000, LIMIT).unwrap_err();
    assert!(matches!(error, SandboxError::NothingListens { port: 3000 }), "{error}");
    let found: Vec<_> = shim.listening_ports().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(found, ["127.0.0.1:8080"]);
}

#[test]
fn a_connector_answers_out_of_band() {
    let scratch = Scratch::new();
    let shim = echo(&scratch, &["80"]);
    let connector = shim.connector().unwrap();
    connector.request(7, 80, LIMIT).unwrap();
    connector.request(8, 81, LIMIT).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let mut fds = [rustix::event::PollFd::new(&connector, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
        while let Some((number, stream)) = connector.try_answer().unwrap() {
            seen.push((number, stream.is_some()));
        }
    }
    assert_eq!(seen, [(7, true), (8, false)]);
}

#[test]
fn a_full_queue_is_waited_for_up_to_the_limit() {
    let scratch = Scratch::new();
    let mut spec = scratch.spec(Kind::Instance, "/attack listen 80");
    spec.binds = vec![Bind { source: attacker().clone(), target: "/attack".into(), read_only: true }];
    let shim = launcher().launch(&spec).unwrap();
    wait_for_line(&shim, "ok");
    let short = Duration::from_millis(50);
    let mut kept = Vec::new();
    let error = loop {
        match shim.connect(80, short) {
            Ok(stream) => kept.push(stream),
            Err(error) => break error,
        }
        assert!(kept.len() < 100);
    };
    assert!(whole(&error).contains("not accepted in time"), "{}", whole(&error));
    shim.status().unwrap();
}

/// A listener on every address of the host, and the host's addresses that a sandbox could try.
fn host_server() -> (std::net::TcpListener, Vec<String>) {
    let server = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let shown = std::process::Command::new("hostname").arg("-I").output().unwrap();
    let mut addresses: Vec<String> =
        String::from_utf8_lossy(&shown.stdout).split_whitespace().map(str::to_owned).collect();
    addresses.retain(|address| !address.contains(':'));
    addresses.push("127.0.0.1".into());
    (server, addresses)
}

#[test]
fn a_way_out_leads_past_the_host_and_never_to_it() {
    let (server, mut addresses) = host_server();
    let port = server.local_addr().unwrap().port();
    addresses.push("$(ip route | awk '/default/ {print $3}')".into());
    let tries: String = addresses
        .iter()
        .map(|a| format!("timeout 1 bash -c \"echo > /dev/tcp/{a}/{port}\" 2>/dev/null && echo reached {a};"))
        .collect();
    let scratch = Scratch::new();
    let mut spec = scratch.job(&format!("ip -4 -o addr show eth0; ip route; {tries} echo end"));
    spec.network = Network::Outbound;
    let text = run(&spec).text;
    assert!(text.contains("inet 198.1") && text.contains("default via 198.1"), "{text}");
    assert!(!text.contains("reached") && text.ends_with("end\n"), "{text}");
}

#[test]
fn sandboxes_with_a_way_out_do_not_reach_each_other() {
    let (one, two) = (Scratch::new(), Scratch::new());
    let mut spec = one.spec(Kind::Instance, "");
    spec.network = Network::Outbound;
    spec.steps[0].argv = ["/usr/bin/python3", "-c", ECHO, "80", "0.0.0.0"].map(str::to_owned).to_vec();
    spec.steps[0].argv[2] = ECHO.replace("AF_INET6 if", "AF_INET if");
    let server = launcher().launch(&spec).unwrap();
    wait_for_line(&server, "listening");
    let command = Command {
        argv: ["sh", "-c", "ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1"].map(str::to_owned).to_vec(),
        env: vec![],
        cwd: "/".into(),
        timeout_ms: 10_000,
    };
    let address = server.exec(command).unwrap().output;
    assert!(address.starts_with("198.1"), "{address}");
    let mut spec = two.job(&format!(
        "timeout 1 bash -c 'echo > /dev/tcp/{}/80' 2>/dev/null && echo reached; echo end",
        address.trim()
    ));
    spec.network = Network::Outbound;
    assert_eq!(run(&spec).text, "end\n");
    assert_eq!(talk(server.connect(80, LIMIT).unwrap()), "hello there");
}
