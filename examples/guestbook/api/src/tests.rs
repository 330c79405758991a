//! The service as its users see it: real requests to a free port.

use super::*;
use guestbook::{Limits, Stop, serve};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Starts the service, sends each request on its own connection, stops it, and
/// compares status and body.
fn check(write_key: Option<&str>, exchanges: &[(&str, &str)]) {
    let about = About { service: "api".to_owned(), release: None, instance: None, greeting: "Hi".to_owned(), port: 0 };
    let api = Api { about, write_key: write_key.map(str::to_owned), book: Mutex::default() };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Stop::new().unwrap();
    let asked = stop.clone();
    let app = move |request: &Request| api.answer(request);
    let server = thread::spawn(move || serve(listener, asked, Limits::default(), app));
    for (request, expected) in exchanges {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let (first, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{first} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(format!("{} {body}", &head[9..12]), *expected, "\n{request}");
    }
    stop.ask().unwrap();
    assert_eq!(server.join().unwrap().unwrap().unfinished, 0);
}

#[test]
fn what_is_written_can_be_read() {
    let json = "POST /entries\nContent-Type: application/json\n\n{\"name\":\"Ada\",\"text\":\"hello\"}";
    let form = "POST /entries\nContent-Type: application/x-www-form-urlencoded\n\nname=Bo&text=a+b";
    check(
        None,
        &[
            ("GET /entries", r#"200 {"written":0,"entries":[]}"#),
            (json, r#"201 {"number":1,"name":"Ada","text":"hello"}"#),
            (form, r#"201 {"number":2,"name":"Bo","text":"a b"}"#),
            (
                "GET /entries",
                concat!(
                    r#"200 {"written":2,"entries":[{"number":2,"name":"Bo","text":"a b"},"#,
                    r#"{"number":1,"name":"Ada","text":"hello"}]}"#
                ),
            ),
        ],
    );
}

#[test]
fn what_cannot_be_taken_says_why() {
    let post = |body: &str| format!("POST /entries\nContent-Type: application/json\n\n{body}");
    check(
        None,
        &[
            (&post("hello"), r#"400 {"error":"expected an object in `{ }`"}"#),
            (&post(r#"{"name":"Ada"}"#), r#"422 {"error":"`text` is empty"}"#),
            ("POST /entries\n\nhello", r#"415 {"error":"send application/json or a form"}"#),
            ("DELETE /entries", "405 use GET, HEAD, POST\n"),
            ("POST /health", "405 use GET, HEAD\n"),
            ("GET /nowhere", r#"404 {"error":"there is nothing here; see /"}"#),
            ("GET /slow?ms=60000", r#"400 {"error":"`ms` must be a number up to 5000"}"#),
        ],
    );
}

#[test]
fn it_says_who_it_is() {
    let paths = r#"["/entries","/health","/version","/slow?ms=500"]"#;
    check(
        None,
        &[
            ("GET /", &format!(r#"200 {{"greeting":"Hi","paths":{paths}}}"#)),
            ("GET /health", r#"200 {"healthy":true}"#),
            ("GET /version", r#"200 {"service":"api","release":"local","instance":"local","write_key":false}"#),
            ("GET /slow?ms=1", r#"200 {"waited_ms":1}"#),
        ],
    );
}

#[test]
fn with_a_write_key_only_its_holders_write_and_everybody_reads() {
    let post = |key: &str| {
        let headers = format!("Content-Type: application/json\nAuthorization: {key}");
        format!("POST /entries\n{headers}\n\n{{\"name\":\"Ada\",\"text\":\"hello\"}}")
    };
    let refused = r#"401 {"error":"writing needs the header `Authorization: Bearer WRITE_KEY`"}"#;
    check(
        Some("sesame"),
        &[
            (&post("Bearer sesam"), refused),
            (&post("Bearer sesamf"), refused),
            (&post("Basic sesame"), refused),
            (&post("Bearer sesame"), r#"201 {"number":1,"name":"Ada","text":"hello"}"#),
            ("GET /entries", r#"200 {"written":1,"entries":[{"number":1,"name":"Ada","text":"hello"}]}"#),
        ],
    );
}
