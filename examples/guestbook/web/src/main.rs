//! The guestbook as a page.
//!
//!     GET /        a form, the rules of the house, the release that answers
//!     GET /health  alive and able to work
//!
//! In: requests, `PORT`, `GREETING`, `API_URL`, what Slipway says about the
//! instance, and a file of rules, one per line, named as the only argument.
//! Out: HTML without any script. Never: a call of another service; the
//! visitor's browser sends the form to `api` itself.

use guestbook::text::html;
use guestbook::{About, Request, Response};
use std::process::ExitCode;

fn main() -> ExitCode {
    let web = About::from_env("web", 8081).and_then(|about| {
        let file = std::env::args().nth(1).unwrap_or_else(|| "rules.txt".to_owned());
        let rules = std::fs::read_to_string(&file);
        let rules = rules.map_err(|error| format!("cannot read the rules in `{file}`: {error}"))?;
        let api_url = std::env::var("API_URL").ok().filter(|url| !url.is_empty());
        Ok(Web { about, rules: rules.lines().map(str::to_owned).collect(), api_url })
    });
    match web {
        Ok(web) => guestbook::run(&web.about.clone(), move |request| web.answer(request)),
        Err(error) => {
            guestbook::log(&format!("web: {error}"));
            ExitCode::from(2)
        }
    }
}

struct Web {
    about: About,
    rules: Vec<String>,
    /// Where browsers reach `api`; none means: guessed from our own address.
    api_url: Option<String>,
}

impl Web {
    fn answer(&self, request: &Request) -> Response {
        match request.route() {
            ("GET", "/") => Response::html(200, self.page(request)),
            ("GET", "/health") => Response::text(200, "healthy\n"),
            (_, "/" | "/health") => Response::not_allowed("GET, HEAD"),
            _ => Response::text(404, "there is nothing here; see /\n"),
        }
    }

    fn page(&self, request: &Request) -> String {
        let rules: String = self.rules.iter().map(|rule| format!("<li>{}</li>\n", html(rule))).collect();
        format!(
            include_str!("page.html"),
            greeting = html(&self.about.greeting),
            form = self.form(request),
            rules = rules,
            release = html(self.about.release_or_local()),
        )
    }

    fn form(&self, request: &Request) -> String {
        let host = request.header("host").unwrap_or_default();
        match self.api_url.clone().or_else(|| sibling(host)) {
            Some(api) => format!(include_str!("form.html"), api = html(&api)),
            None => "<p>Set <code>API_URL</code> to let visitors write.</p>\n".to_owned(),
        }
    }
}

/// Slipway calls us `web-ENVIRONMENT-PROJECT.DOMAIN`, so `api` is next door.
fn sibling(host: &str) -> Option<String> {
    host.strip_prefix("web-").map(|rest| format!("//api-{rest}"))
}

#[cfg(test)]
mod tests;
