//! The page as a visitor gets it: real requests to a free port.

use super::*;
use guestbook::{Limits, Stop, serve};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// What the service answers to one request.
fn answer(api_url: Option<&str>, method_and_path: &str, host: &str) -> String {
    let about = About {
        service: "web".to_owned(),
        release: Some("34e57f01".to_owned()),
        instance: None,
        greeting: "Hi & welcome".to_owned(),
        port: 0,
    };
    let rules = vec!["No <script>.".to_owned(), "Be kind.".to_owned()];
    let web = Web { about, rules, api_url: api_url.map(str::to_owned) };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let head = format!("{method_and_path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let stop = Stop::new().unwrap();
    let asked = stop.clone();
    let app = move |request: &Request| web.answer(request);
    let server = thread::spawn(move || serve(listener, asked, Limits::default(), app));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    drop(stream);
    stop.ask().unwrap();
    assert_eq!(server.join().unwrap().unwrap().unfinished, 0);
    answer
}

#[test]
fn the_page_shows_greeting_rules_and_release_as_text() {
    let page = answer(None, "GET /", "localhost");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    assert!(page.contains("<h1>Hi &amp; welcome</h1>"), "{page}");
    assert!(page.contains("<li>No &lt;script&gt;.</li>\n<li>Be kind.</li>"), "{page}");
    assert!(page.contains("release 34e57f01"), "{page}");
    assert!(page.contains("Set <code>API_URL</code>"), "{page}");
}

#[test]
fn the_form_goes_to_the_api_next_door() {
    let page = answer(None, "GET /", "web-production-guestbook.localhost:8480");
    let action = r#"action="//api-production-guestbook.localhost:8480/entries""#;
    assert!(page.contains(action), "{page}");
    let page = answer(Some("https://api.example.com"), "GET /", "web-production-guestbook.localhost");
    assert!(page.contains(r#"action="https://api.example.com/entries""#), "{page}");
}

#[test]
fn a_forged_host_stays_inside_its_quotes() {
    let page = answer(None, "GET /", r#"web-"><script>x</script>"#);
    assert!(page.contains("api-&quot;&gt;&lt;script&gt;") && !page.contains("<script>"), "{page}");
}

#[test]
fn it_is_healthy_and_says_no_politely() {
    assert!(answer(None, "GET /health", "x").ends_with("\r\n\r\nhealthy\n"));
    assert!(answer(None, "POST /", "x").starts_with("HTTP/1.1 405 "));
    assert!(answer(None, "GET /nowhere", "x").starts_with("HTTP/1.1 404 "));
}
