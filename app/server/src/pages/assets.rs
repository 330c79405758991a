//! The few files that pages use, compiled in, and the switch between light and dark.
//!
//! In: a name with its hash. Out: bytes that never change under that name. Never: a file of the disk.

use super::frame::{Look, Theme};
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use slipway_model::hex;
use std::sync::OnceLock;

/// Name, kind, content.
const FILES: [(&str, &str, &str); 3] = [
    ("slipway.css", "text/css; charset=utf-8", include_str!("static/slipway.css")),
    ("live.js", "text/javascript; charset=utf-8", include_str!("static/live.js")),
    ("icon.svg", "image/svg+xml", include_str!("static/icon.svg")),
];

/// Half a year.
const THEME_SECONDS: u32 = 180 * 24 * 60 * 60;

/// Changes with every file; pages of another build are loaded anew.
pub fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        let mut hash = Sha256::new();
        FILES.iter().for_each(|(_, _, text)| hash.update(text.as_bytes()));
        hex(&hash.finalize()).chars().take(10).collect()
    })
}

/// The address of a file.
pub fn address(name: &str) -> String {
    format!("/assets/{}/{name}", build())
}

/// `GET /assets/{build}/{file}`.
pub async fn asset(Path((of, name)): Path<(String, String)>, look: Look) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    // Under the address of another build the newest is given, but not to keep.
    let keep = if of == build() { "public, max-age=31536000, immutable" } else { "no-cache" };
    look.tagged(StatusCode::OK, kind, keep, text.as_bytes())
}

#[derive(Deserialize)]
pub struct Switch {
    to: Option<String>,
    back: Option<String>,
}

/// `GET /theme?to=dark&back=/`: a preference of this browser, nothing else.
pub async fn theme(Query(switch): Query<Switch>) -> Response {
    let chosen = Theme::ALL.into_iter().find(|theme| Some(theme.word()) == switch.to.as_deref()).unwrap_or(Theme::Auto);
    let cookie = format!("slipway-theme={}; SameSite=Lax; Path=/; Max-Age={THEME_SECONDS}", chosen.word());
    ([(header::SET_COOKIE, cookie)], Redirect::to(ours(switch.back.as_deref()))).into_response()
}

/// An address of this server, or home: a link must not lead elsewhere through us.
fn ours(back: Option<&str>) -> &str {
    let safe = |back: &&str| {
        let mut signs = back.bytes();
        signs.next() == Some(b'/')
            && !matches!(signs.next(), Some(b'/' | b'\\'))
            && back.bytes().all(|sign| sign.is_ascii_graphic())
    };
    back.filter(safe).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_leads_nowhere_else() {
        for bad in ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nb: c"] {
            assert_eq!(ours(Some(bad)), "/", "{bad}");
        }
        assert_eq!(ours(Some("/p/shop?q=a%20b")), "/p/shop?q=a%20b");
    }
}
