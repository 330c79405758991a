//! Signing in by a one-time link, and pages for what is not there.
//!
//! In: a code, or what was looked for. Out: a session's cookie, or a page that says what to do. Never: why a code was
//! wrong.

use super::frame::{Look, alone};
use super::words::command;
use crate::{Problem, Server};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use maud::html;
use serde::Deserialize;

/// A browser keeps its session for half a day.
const SESSION_SECONDS: u32 = 43_200;

#[derive(Deserialize)]
pub struct Code {
    code: Option<String>,
}

/// `GET /login?code=`.
pub async fn login(State(server): State<Server>, Query(query): Query<Code>, look: Look) -> Response {
    let session = query.code.and_then(|code| server.parts.auth.redeem(&code, server.now()));
    match session {
        Some(session) => {
            let cookie = format!("slipway={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={SESSION_SECONDS}");
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        None => sign_in(&look),
    }
}

/// Shown to somebody without a session.
pub fn sign_in(look: &Look) -> Response {
    let body = html! {
        section class="card narrow" {
            h1 { "Sign in" }
            p { "You are not signed in here, or the link was used before or is too old. Make a new one in a terminal; it opens this page:" }
            p { (command("slipway open")) }
            p class="soft" { "The link works once, within ten minutes. Pages only show; what changes something is done in a terminal." }
        }
    };
    alone(look, StatusCode::UNAUTHORIZED, "Sign in", body)
}

/// Shown to somebody who may not look there.
pub fn refused(look: &Look, problem: &Problem) -> Response {
    let body = html! {
        section class="card narrow" {
            h1 { "Not for you" }
            p { (problem.detail) }
            @if !problem.hint.is_empty() { p class="soft" { (problem.hint) } }
            p { a href="/" { "What there is" } }
        }
    };
    alone(look, StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN), "Not for you", body)
}

/// Shown for what is not there: who looks with a browser reads no JSON.
pub fn nothing(look: &Look, what: &str, then: &str) -> Response {
    let body = html! {
        section class="card narrow" {
            h1 { "Not found" }
            p { (what) }
            p { a href="/" { "What there is" } ", or in a terminal: " (command(then)) }
        }
    };
    alone(look, StatusCode::NOT_FOUND, "Not found", body)
}

/// The same for a project.
pub fn no_project(look: &Look, name: &str) -> Response {
    nothing(look, &format!("There is no project {name}."), "slipway project ls")
}
