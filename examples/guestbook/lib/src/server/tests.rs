//! The server over real sockets, on a free port each. Nothing sleeps: where a
//! test needs "meanwhile", a channel says when.

use super::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// So that a mistake fails a test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: Arc<Stop>,
    server: JoinHandle<io::Result<Ended>>,
}

impl Running {
    fn start(limits: Limits, app: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::new().unwrap();
        let asked = Arc::clone(&stop);
        let server = thread::spawn(move || serve(listener, asked, limits, app));
        Running { address, stop, server }
    }

    fn echo(limits: Limits) -> Running {
        Running::start(limits, |request| {
            let Request { method, path, .. } = request;
            let body = String::from_utf8_lossy(&request.body);
            Response::text(200, format!("{method} {path} {body}"))
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn stop(self) -> Ended {
        self.stop.ask().unwrap();
        self.server.join().unwrap().unwrap()
    }
}

fn send(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.replace('\n', "\r\n").as_bytes()).unwrap();
}

/// Everything until the server closes.
fn read_to_end(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// One answer on a connection that stays open.
fn read_answer(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    loop {
        let head_end = text.find("\r\n\r\n");
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if let (Some(at), Some(length)) = (head_end, length)
            && text.len() >= at + 4 + length.parse::<usize>().unwrap()
        {
            return text;
        }
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "closed after {text:?}");
        text.push_str(str::from_utf8(&chunk[..count]).unwrap());
    }
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let running = Running::echo(Limits::default());
    let stream = running.connect();
    for round in 0..3 {
        send(&stream, &format!("GET /{round} HTTP/1.1\nHost: x\n\n"));
        let answer = read_answer(&stream);
        assert!(answer.ends_with(&format!("GET /{round} ")), "{answer}");
        assert!(answer.contains("connection: keep-alive"), "{answer}");
    }
    assert_eq!(running.stop(), Ended { answered: 3, unfinished: 0 });
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let running = Running::echo(Limits::default());
    let stream = running.connect();
    send(&stream, "POST /a HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi");
    send(&stream, "GET /b HTTP/1.1\nHost: x\nConnection: close\n\n");
    let text = read_to_end(&stream);
    let (a, b) = (text.find("POST /a hi").unwrap(), text.find("GET /b").unwrap());
    assert!(a < b, "{text}");
    assert_eq!(running.stop().answered, 2);
}

#[test]
fn head_has_the_length_but_not_the_body() {
    let running = Running::echo(Limits::default());
    let stream = running.connect();
    send(&stream, "HEAD /a HTTP/1.1\nHost: x\nConnection: close\n\n");
    let text = read_to_end(&stream);
    assert!(text.contains("content-length: 8\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    running.stop();
}

#[test]
fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let running = Running::echo(Limits::default());
    let stream = running.connect();
    send(&stream, "POST / HTTP/1.0\nContent-Length: 2\nExpect: 100-continue\n\n");
    let mut leave = [0; 25];
    (&stream).read_exact(&mut leave).unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    send(&stream, "hi");
    assert!(read_to_end(&stream).ends_with("POST / hi"));
    running.stop();
}

#[test]
fn what_is_too_large_too_slow_or_malformed_is_refused_and_closed() {
    let limits = Limits { head_bytes: 1000, body_bytes: 100, transfer: Duration::from_millis(50), ..Limits::default() };
    let running = Running::echo(limits);
    let long = "a".repeat(2000);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\nHost: x\n\n"), "431"),
        (format!("POST / HTTP/1.1\nHost: x\nContent-Length: 2000\n\n{long}"), "413"),
        ("GET / HTTP/1.1\nHos".to_owned(), "408"),
        ("POST / HTTP/1.1\nHost: x\nContent-Length: 9\n\nhi".to_owned(), "408"),
        ("hello\n\n".to_owned(), "400"),
    ] {
        let stream = running.connect();
        send(&stream, &request);
        let answer = read_to_end(&stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(running.stop(), Ended { answered: 0, unfinished: 0 });
}

#[test]
fn a_silent_connection_is_closed_after_a_while() {
    let running = Running::echo(Limits { idle: Duration::from_millis(10), ..Limits::default() });
    assert_eq!(read_to_end(&running.connect()), "");
    running.stop();
}

#[test]
fn one_connection_too_many_gets_a_503() {
    let running = Running::echo(Limits { connections: 1, ..Limits::default() });
    let first = running.connect();
    send(&first, "GET /a HTTP/1.1\nHost: x\n\n");
    read_answer(&first);
    let answer = read_to_end(&running.connect());
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    running.stop();
}

/// A server whose requests begin and end when the test says so.
fn gated(limits: Limits) -> (Running, Receiver<()>, Sender<()>) {
    let (began, begins) = channel();
    let (finish, finishes) = channel();
    let finishes = Mutex::new(finishes);
    let running = Running::start(limits, move |_| {
        began.send(()).unwrap();
        finishes.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Response::text(200, "done")
    });
    (running, begins, finish)
}

#[test]
fn a_stop_finishes_what_has_begun_and_closes_what_is_silent() {
    let (running, begins, finish) = gated(Limits::default());
    let (silent, busy) = (running.connect(), running.connect());
    send(&busy, "GET /slow HTTP/1.1\nHost: x\n\n");
    begins.recv_timeout(PATIENCE).unwrap();
    running.stop.ask().unwrap();
    assert_eq!(read_to_end(&silent), "");
    finish.send(()).unwrap();
    let answer = read_to_end(&busy);
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    drop(busy);
    assert_eq!(running.stop(), Ended { answered: 1, unfinished: 0 });
}

#[test]
fn a_request_that_crosses_with_the_stop_is_answered() {
    let running = Running::echo(Limits { last_call: PATIENCE, ..Limits::default() });
    let stream = running.connect();
    send(&stream, "GET /a HTTP/1.1\nHost: x\n\n");
    read_answer(&stream);
    running.stop.ask().unwrap();
    send(&stream, "GET /b HTTP/1.1\nHost: x\n\n");
    let answer = read_to_end(&stream);
    assert!(answer.contains("connection: close") && answer.ends_with("GET /b "), "{answer}");
    drop(stream);
    assert_eq!(running.stop(), Ended { answered: 2, unfinished: 0 });
}

#[test]
fn a_stop_still_serves_who_is_waiting_at_the_door() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    send(&stream, "GET / HTTP/1.1\nHost: x\n\n");
    let stop = Stop::new().unwrap();
    stop.ask().unwrap();
    let app = |_: &Request| Response::text(200, "welcome");
    let server = thread::spawn(move || serve(listener, stop, Limits::default(), app));
    assert!(read_to_end(&stream).ends_with("welcome"));
    drop(stream);
    assert_eq!(server.join().unwrap().unwrap(), Ended { answered: 1, unfinished: 0 });
}

#[test]
fn what_does_not_finish_in_time_is_counted() {
    let (running, begins, finish) = gated(Limits { drain: Duration::ZERO, ..Limits::default() });
    let busy = running.connect();
    send(&busy, "GET /slow HTTP/1.1\nHost: x\n\n");
    begins.recv_timeout(PATIENCE).unwrap();
    assert_eq!(running.stop(), Ended { answered: 0, unfinished: 1 });
    finish.send(()).unwrap();
}
