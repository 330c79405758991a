//! The frame of every page, and how a page is answered.
//!
//! In: a body, where it stands, what the browser said. Out: a response with its tag, packed when the browser takes that,
//! under a policy that lets nothing but our own files in. Never: a script or a style within the page.

use super::{assets, banners};
use crate::Server;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use sha2::{Digest as _, Sha256};
use slipway_model::{ProjectName, hex};
use std::convert::Infallible;
use std::io::Write;

/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Below this packing gains nothing.
const PACK_BYTES_MIN: usize = 1024;
/// Browsers without scripts ask again after so many seconds.
const AGAIN_SECONDS: u32 = 5;

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// As the system prefers.
    Auto,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

impl Theme {
    /// All, in the order of the switch.
    pub const ALL: [Theme; 3] = [Theme::Auto, Theme::Light, Theme::Dark];

    /// Its word in the cookie and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }
}

/// What the browser said about how it wants a page.
#[derive(Debug, Clone)]
pub struct Look {
    theme: Theme,
    packs: bool,
    known: Option<String>,
    path: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Look {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Look, Infallible> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Look { path, ..Look::of(&parts.headers) })
    }
}

impl Look {
    /// What the headers say.
    pub fn of(headers: &HeaderMap) -> Look {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let word = text(header::COOKIE).split(';').find_map(|part| part.trim().strip_prefix("slipway-theme="));
        let theme = Theme::ALL.into_iter().find(|theme| Some(theme.word()) == word).unwrap_or(Theme::Auto);
        let packs = text(header::ACCEPT_ENCODING).split(',').any(|coding| coding.trim() == "gzip");
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()).map(ToOwned::to_owned);
        Look { theme, packs, known, path: "/".into() }
    }

    /// Answers with bytes that have a tag: not again when the browser has them, packed when it takes that.
    pub fn tagged(&self, status: StatusCode, kind: &'static str, keep: &'static str, bytes: &[u8]) -> Response {
        let tag = format!("W/\"{}\"", &hex(&Sha256::digest(bytes))[..20]);
        let common = [
            (header::ETAG, tag.clone()),
            (header::CACHE_CONTROL, keep.to_owned()),
            (header::VARY, "cookie, accept-encoding".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::REFERRER_POLICY, "same-origin".to_owned()),
            (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        ];
        let has = self.known.as_ref().is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
        if has && status == StatusCode::OK {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let kind = [(header::CONTENT_TYPE, kind)];
        // Pages hold nothing secret beside what a reader puts in, so that its length tells nothing (BREACH).
        match (self.packs && bytes.len() >= PACK_BYTES_MIN).then(|| packed(bytes)).flatten() {
            Some(packed) => (status, common, kind, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
            None => (status, common, kind, bytes.to_vec()).into_response(),
        }
    }
}

fn packed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// Where a page stands.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Its title.
    pub title: String,
    /// The project that it is about.
    pub project: Option<ProjectName>,
    /// From the project down: words and addresses.
    pub crumbs: Vec<(String, String)>,
    /// How often it is asked for again while nothing is recorded, in seconds; nothing live where it is absent.
    pub every_seconds: Option<u32>,
}

/// A page for somebody who is signed in.
pub fn page(server: &Server, look: &Look, place: &Place, body: Markup) -> Response {
    let n = server.road().look(|projection| projection.n);
    let text = whole(look, place, Some(n), banners::all(server), body).into_string();
    look.tagged(StatusCode::OK, "text/html; charset=utf-8", "private, no-cache", text.as_bytes())
}

/// A page that stands alone: sign-in, nothing there.
pub fn alone(look: &Look, status: StatusCode, title: &str, body: Markup) -> Response {
    let place = Place { title: title.to_owned(), ..Place::default() };
    let text = whole(look, &place, None, html! {}, body).into_string();
    look.tagged(status, "text/html; charset=utf-8", "private, no-store", text.as_bytes())
}

fn whole(look: &Look, place: &Place, n: Option<u64>, banners: Markup, body: Markup) -> Markup {
    let live = n.filter(|_| place.every_seconds.is_some());
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(look.theme.word()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content={
                    @match look.theme { Theme::Auto => "light dark", Theme::Light => "light", Theme::Dark => "dark" }
                };
                title { (place.title) " · Slipway" }
                link rel="stylesheet" href=(assets::address("slipway.css"));
                link rel="icon" href=(assets::address("icon.svg")) type="image/svg+xml";
                script src=(assets::address("live.js")) defer {}
                @if live.is_some() { noscript { meta http-equiv="refresh" content=(AGAIN_SECONDS); } }
            }
            body data-build=(assets::build()) data-n=[live] data-every=[live.and(place.every_seconds)]
                data-project=[live.and(place.project.as_ref())] {
                a class="skip" href="#main" { "Skip to the content" }
                (top(look, place, live.is_some()))
                div id="lost" class="lost" role="status" aria-live="polite" hidden {}
                div id="banners" { (banners) }
                main id="main" tabindex="-1" { (body) }
                footer { p { "Slipway " (env!("CARGO_PKG_VERSION")) " · everything here is also in a terminal: " code { "slipway status" } } }
            }
        }
    }
}

fn top(look: &Look, place: &Place, live: bool) -> Markup {
    html! {
        header class="top" {
            nav aria-label="where you are" {
                ol class="crumbs" {
                    li { a class="home" href="/" { "Slipway" } }
                    @if let Some(project) = &place.project { li { a href={ "/p/" (project) } { (project) } } }
                    @for (words, address) in &place.crumbs {
                        li { @if address.is_empty() { span aria-current="page" { (words) } } @else { a href=(address) { (words) } } }
                    }
                }
            }
            div class="side" {
                @if let Some(project) = &place.project { a href={ "/p/" (project) "/history" } { "History" } }
                form class="theme" action="/theme" method="get" {
                    input type="hidden" name="back" value=(look.path);
                    @for theme in Theme::ALL {
                        button name="to" value=(theme.word()) aria-pressed=(if theme == look.theme { "true" } else { "false" }) { (theme.word()) }
                    }
                }
                @if live { span id="live" class="pill soft" hidden { "live" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(pairs: &[(&'static str, &str)]) -> Look {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        Look::of(&headers)
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let bytes = "x".repeat(5000);
        let answer = |look: &Look| look.tagged(StatusCode::OK, "text/html", "no-cache", bytes.as_bytes());
        let first = answer(&look(&[("accept-encoding", "br, gzip")]));
        assert_eq!(first.headers()["content-encoding"], "gzip");
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(answer(&look(&[("if-none-match", &tag)])).status(), StatusCode::NOT_MODIFIED);
        assert!(answer(&look(&[])).headers().get("content-encoding").is_none());
    }

    #[test]
    fn the_policy_lets_no_inline_script_in_and_pages_have_none() {
        assert!(!POLICY.contains("unsafe"));
        let place = Place { title: "<script>".into(), every_seconds: Some(2), ..Place::default() };
        let text =
            whole(&look(&[("cookie", "a=b; slipway-theme=dark")]), &place, Some(7), html! {}, html! {}).into_string();
        assert!(text.contains("data-theme=\"dark\"") && text.contains("&lt;script&gt;"), "{text}");
        assert!(!text.contains("style=") && !text.contains("onclick"), "{text}");
    }
}
