//! The guestbook as JSON.
//!
//!     GET  /             what is here                GET /health   alive and able to work
//!     GET  /entries      all entries, newest first   GET /version  which release answers
//!     POST /entries      {"name": …, "text": …}      GET /slow     answers after `?ms=500`
//!
//! In: requests, `PORT`, `GREETING`, what Slipway says about the instance, and
//! the secret `WRITE_KEY` when there is one. Out: JSON. Never: a file or another
//! service; the entries live in memory and end with the instance.

mod book;

use book::Book;
use guestbook::{About, Request, Response, json, text};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The demo's bad version turns this on. Like many real faults it shows only
/// where the program is deployed, so every test still passes.
const BROKEN: bool = false;

/// The longest answer of `/slow`; shorter than the ten seconds of draining.
const SLOW_MS_MAX: u64 = 5_000;

fn main() -> ExitCode {
    let api = About::from_env("api", 8080).and_then(|about| {
        let write_key = guestbook::secret(Path::new("/run/secrets"), "WRITE_KEY")?;
        Ok(Api { about, write_key, book: Mutex::default() })
    });
    match api {
        Ok(api) => guestbook::run(&api.about.clone(), move |request| api.answer(request)),
        Err(error) => {
            guestbook::log(&format!("api: {error}"));
            ExitCode::from(2)
        }
    }
}

struct Api {
    about: About,
    /// When there is one, writing needs it as a bearer token.
    write_key: Option<String>,
    book: Mutex<Book>,
}

impl Api {
    fn answer(&self, request: &Request) -> Response {
        match request.route() {
            ("GET", "/") => self.index(),
            ("GET", "/health") => Response::json(200, r#"{"healthy":true}"#),
            ("GET", "/version") => self.version(),
            ("GET", "/entries") => self.entries(),
            ("POST", "/entries") => self.write(request),
            ("GET", "/slow") => slow(request),
            (_, "/entries") => Response::not_allowed("GET, HEAD, POST"),
            (_, "/" | "/health" | "/version" | "/slow") => Response::not_allowed("GET, HEAD"),
            _ => problem(404, "there is nothing here; see /"),
        }
    }

    fn index(&self) -> Response {
        let greeting = json::quote(&self.about.greeting);
        let paths = r#"["/entries","/health","/version","/slow?ms=500"]"#;
        Response::json(200, format!(r#"{{"greeting":{greeting},"paths":{paths}}}"#))
    }

    fn version(&self) -> Response {
        let About { service, instance, .. } = &self.about;
        let instance = instance.as_deref().unwrap_or("local");
        Response::json(
            200,
            format!(
                r#"{{"service":{},"release":{},"instance":{},"write_key":{}}}"#,
                json::quote(service),
                json::quote(self.about.release_or_local()),
                json::quote(instance),
                self.write_key.is_some(),
            ),
        )
    }

    fn entries(&self) -> Response {
        if BROKEN && self.about.release.is_some() {
            return problem(500, "the page of the book is torn");
        }
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        Response::json(200, book.to_json())
    }

    fn write(&self, request: &Request) -> Response {
        if !self.may_write(request) {
            return problem(401, "writing needs the header `Authorization: Bearer WRITE_KEY`")
                .header("www-authenticate", "Bearer");
        }
        let body = String::from_utf8_lossy(&request.body);
        // Scripts send JSON, the page of `web` sends a form.
        let kind = request.header("content-type").unwrap_or_default();
        let fields = match kind.split(';').next().map(str::trim) {
            Some("application/json") => json::read_object(&body),
            Some("application/x-www-form-urlencoded") => Ok(text::form(&body)),
            _ => return problem(415, "send application/json or a form"),
        };
        let fields = match fields {
            Ok(fields) => fields,
            Err(reason) => return problem(400, reason),
        };
        let given = |name| text::field(&fields, name).unwrap_or_default();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        match book.write(given("name"), given("text")) {
            Ok(entry) => Response::json(201, entry.to_json()),
            Err(reason) => problem(422, &reason),
        }
    }

    fn may_write(&self, request: &Request) -> bool {
        let Some(key) = &self.write_key else {
            return true;
        };
        let given = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        given.is_some_and(|given| same(given.as_bytes(), key.as_bytes()))
    }
}

/// Answers late, so that a graceful stop can be watched.
#[allow(clippy::disallowed_methods, reason = "to sleep is what this path is for")]
fn slow(request: &Request) -> Response {
    let fields = text::form(&request.query);
    match text::field(&fields, "ms").unwrap_or("500").parse::<u64>() {
        Ok(ms) if ms <= SLOW_MS_MAX => {
            thread::sleep(Duration::from_millis(ms));
            Response::json(200, format!(r#"{{"waited_ms":{ms}}}"#))
        }
        _ => problem(400, &format!("`ms` must be a number up to {SLOW_MS_MAX}")),
    }
}

fn problem(status: u16, detail: &str) -> Response {
    Response::json(status, format!(r#"{{"error":{}}}"#, json::quote(detail)))
}

/// Compares without telling by its time how much was right.
fn same(given: &[u8], key: &[u8]) -> bool {
    let differing = given.iter().zip(key).fold(0, |seen, (a, b)| seen | (a ^ b));
    given.len() == key.len() && differing == 0
}

#[cfg(test)]
mod tests;
