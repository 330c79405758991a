//! The tests' program: a shim when its first argument is `shim`, else a small HTTP server that behaves as its
//! environment says.
//!
//! `LISTEN` another port than `PORT` · `HEALTH` the status of `/health` · `CRASH` exits with this code at once ·
//! `GET /slow` logs, and answers after 300 ms · `GET /exit/N` exits with N · `GET /before` logs · `GET /health/N` changes `HEALTH` ·
//! `GET /eat` takes 256 MiB · `GET /file/NAME` shows a file · first argument `ask PATH`: asks the server in the same sandbox; `check PATH`: exits with 0 when it answers 200.

// Its output is what the tests look at.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Tells one process from the next.
static BORN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
static HEALTH: AtomicU16 = AtomicU16::new(200);

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_ref().is_some_and(|word| word == "shim") {
        std::process::exit(slipway_sandbox::shim_main(arguments));
    }
    let variable = |name: &str| std::env::var(name).ok();
    let port = variable("PORT").expect("PORT is given");
    if first.as_ref().is_some_and(|word| word == "ask") {
        let path = arguments.next().expect("a path").into_string().expect("a text");
        print!("{}", ask(&port, &path));
        return;
    }
    if first.is_some_and(|word| word == "check") {
        let path = arguments.next().expect("a path").into_string().expect("a text");
        let answer = ask(&port, &path);
        let status = answer.split(' ').nth(1).expect("a status").to_owned();
        println!("{status} of {path}");
        std::process::exit(i32::from(status != "200"));
    }
    if let Some(code) = variable("CRASH") {
        println!("about to crash");
        std::process::exit(code.parse().expect("a number"));
    }
    if let Some(status) = variable("HEALTH") {
        HEALTH.store(status.parse().expect("a number"), Ordering::SeqCst);
    }
    let port = variable("LISTEN").unwrap_or(port);
    let listener = TcpListener::bind(("0.0.0.0", port.parse().expect("a number"))).expect("the port is free");
    println!("listening on :{port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn ask(port: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the server is there");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it reads");
    // The server closes when no further request can come.
    stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).ok()? > 2 {
            header.clear();
        }
        let path = line.split(' ').nth(1)?.to_owned();
        let (status, body) = respond(&path);
        let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(reply.as_bytes()).ok()?;
    }
}

fn respond(path: &str) -> (u16, String) {
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(2, '/').collect();
    let own = || {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let born = BORN.get_or_init(std::time::Instant::now);
        format!("{} {} {born:?}", variable("SLIPWAY_RELEASE"), variable("SLIPWAY_INSTANCE"))
    };
    match parts[..] {
        ["health"] => (HEALTH.load(Ordering::SeqCst), String::new()),
        ["health", status] => {
            HEALTH.store(status.parse().expect("a number"), Ordering::SeqCst);
            (200, String::new())
        }
        ["slow"] => {
            println!("slow begins");
            // The waiting is the server's behaviour; nobody sends anything.
            let (_sender, receiver) = mpsc::channel::<()>();
            let _ = receiver.recv_timeout(Duration::from_millis(300));
            (200, own())
        }
        ["exit", code] => {
            println!("told to exit with {code}");
            std::process::exit(code.parse().expect("a number"))
        }
        ["before"] => {
            println!("before the signal");
            (200, String::new())
        }
        ["file", name] => (200, std::fs::read_to_string(format!("/{name}")).unwrap_or_else(|e| e.to_string())),
        ["eat"] => {
            let eaten = vec![7_u8; 256 << 20];
            (200, eaten.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string())
        }
        ["error"] => (500, "broken".into()),
        ["interfaces"] => (200, std::fs::read_to_string("/proc/net/dev").unwrap_or_else(|e| e.to_string())),
        _ => (200, own()),
    }
}
