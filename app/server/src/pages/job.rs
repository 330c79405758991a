//! A job with its log: the first error on top (R066), then every line, live while it runs.
//!
//! In: a job of a change. Out: the page; its lines as server-sent events, from any line on. Never: a line that is not
//! escaped, or more of them in one page than a browser can hold.

use super::frame::{Look, Place, page};
use super::words::{ago, command, mark, since, took};
use super::{ansi, sign};
use crate::{Problem, Server};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use maud::{Markup, html};
use serde::Deserialize;
use slipway_feedback::road::is_bad;
use slipway_model::view::{ChangeView, JobView};
use slipway_model::{At, ProjectName, RunId};
use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Last lines that a page has; the raw log has all.
const LINES: usize = 2_000;
/// The worker has so long to give them.
const WAIT: Duration = Duration::from_secs(2);
/// Lines of one event.
const BATCH: usize = 200;
/// Silence after which the stream says that it lives.
const BEAT: Duration = Duration::from_secs(2);

/// The address of a job's page.
pub fn address(project: &ProjectName, view: &ChangeView, job: &str) -> String {
    format!("/p/{project}/c/{}/job/{job}", view.commit.short())
}

struct Found {
    project: ProjectName,
    view: ChangeView,
    job: JobView,
    run: Option<RunId>,
}

async fn find(server: &Server, name: &str, commit: &str, job: &str) -> Result<Found, String> {
    let project = ProjectName::parse(name).map_err(|_| format!("There is no project {name}."))?;
    let view = server.find_change(&project, commit).await.map_err(|problem| problem.detail)?;
    let found = view.jobs.iter().find(|known| known.name == job).cloned();
    let job = found.ok_or_else(|| format!("There is no job {job} in {}.", view.commit.short()))?;
    let run = RunId::parse(&job.id).ok().filter(|_| job.attempt > 0);
    Ok(Found { project, view, job, run })
}

/// `GET /p/{project}/c/{commit}/job/{*job}`.
pub async fn job(
    State(server): State<Server>,
    Path((name, commit, job)): Path<(String, String, String)>,
    look: Look,
) -> Response {
    let found = match find(&server, &name, &commit, &job).await {
        Ok(found) => found,
        Err(why) => return sign::nothing(&look, &why, "slipway status"),
    };
    let lines = match &found.run {
        Some(run) => lines(&server, &found.project, run).await,
        None => Ok(Lines::default()),
    };
    let runs = matches!(found.job.result.as_str(), "running" | "queued");
    let body = body(&found, &lines, server.now());
    let short = found.view.commit.short().to_owned();
    let place = Place {
        title: format!("{} of {short}", found.job.name),
        crumbs: vec![
            (short.clone(), format!("/p/{}/c/{short}", found.project)),
            (found.job.name.clone(), String::new()),
        ],
        project: Some(found.project),
        every_seconds: Some(if runs { 2 } else { 30 }),
    };
    page(&server, &look, &place, body)
}

/// The last lines of a log, and how many there were before them.
#[derive(Default)]
struct Lines {
    before: usize,
    lines: Vec<String>,
}

async fn lines(server: &Server, project: &ProjectName, run: &RunId) -> Result<Lines, &'static str> {
    let asked = tokio::time::timeout(WAIT, server.parts.logs.job(project, run, false)).await;
    let Ok(Ok(mut stream)) = asked else { return Err("The worker does not give the log now; it is kept.") };
    let (mut lines, mut before) = (std::collections::VecDeque::new(), 0);
    let until = tokio::time::Instant::now() + WAIT;
    while let Ok(Some(line)) = tokio::time::timeout_at(until, stream.recv()).await {
        lines.push_back(line);
        if lines.len() > LINES {
            lines.pop_front();
            before += 1;
        }
    }
    Ok(Lines { before, lines: lines.into() })
}

fn body(found: &Found, lines: &Result<Lines, &'static str>, now: At) -> Markup {
    let job = &found.job;
    let tests = job.tests.as_ref();
    html! {
        div class="title" {
            h1 { (job.name) }
            p class="soft" { a href={ "/p/" (found.project) "/c/" (found.view.commit.short()) } { (found.view.subject) } " · " code { (found.view.commit.short()) } " on " (found.view.branch) @if let Some(started) = job.started { " · began " (ago(started, now)) } }
            p class="verdict" role="status" {
                (mark(&job.result)) " "
                span { @match (job.started, job.ended) { (Some(started), None) => { "runs for " (since(started, now)) } (Some(started), Some(ended)) => { "took " (took(ended.since_ms(started))) } _ => { (job.reason) } }
                    @if job.attempt > 1 { ", attempt " (job.attempt) }
                    @if let Some(tests) = tests { " · " (tests.passed) " tests passed" @if tests.failed > 0 { ", " (tests.failed) " failed" } @if tests.skipped > 0 { ", " (tests.skipped) " skipped" } }
                }
            }
        }
        (first_error(found, lines))
        (usage(job))
        (log(found, lines))
    }
}

fn first_error(found: &Found, lines: &Result<Lines, &'static str>) -> Markup {
    let job = &found.job;
    let at = lines.as_ref().ok().and_then(|log| {
        let first = job.first_error.first()?.trim();
        let here = log.lines.iter().position(|line| !first.is_empty() && line.contains(first))?;
        Some(log.before + here + 1)
    });
    html! {
        @if is_bad(job) {
            section class="card bad" aria-label="first error" {
                div class="head" { h2 { "The first error" } @if let Some(at) = at { p { a href={ "#L" (at) } { "In the log, line " (at) } } } }
                @if job.first_error.is_empty() { p { (job.reason) } } @else { pre class="err" tabindex="0" { @for line in &job.first_error { (ansi::html(line)) "\n" } } }
                @if let (Some(step), Some(run)) = (&job.step, &job.command) { p class="soft" { "step " b { (step) } ": " code { (run) } @if let Some(code) = job.exit_code { " ended with exit code " (code) } } }
                p { span class="soft" { "the same on your machine " } (command(&format!("slipway run {}", job.name))) " " span class="soft" { "once more here " } (command(&format!("slipway retry {}", job.name))) }
            }
        }
    }
}

fn usage(job: &JobView) -> Markup {
    let used = &job.usage;
    html! {
        @if job.ended.is_some() {
            dl class="figures small" {
                div { dt { "waited" } dd { (took(job.queued_ms)) } }
                div { dt { "set up" } dd { (took(job.set_up_ms)) } }
                div { dt { "ran" } dd { (took(job.run_ms)) } }
                @if used.cpu_ms > 0 { div { dt { "processor" } dd { (took(used.cpu_ms)) } } }
                @if used.memory_peak_bytes > 0 { div { dt { "memory, at most" } dd { (used.memory_peak_bytes.div_ceil(1 << 20)) " MiB" } } }
            }
        }
    }
}

fn log(found: &Found, lines: &Result<Lines, &'static str>) -> Markup {
    let job = &found.job;
    let raw = format!("/api/v1/projects/{}/logs?what={}", found.project, job.name);
    let next = lines.as_ref().map_or(0, |log| log.before + log.lines.len());
    let follows = found.run.is_some() && matches!(job.result.as_str(), "running" | "queued");
    let stream = format!("/p/{}/c/{}/log/{}", found.project, found.view.commit.short(), job.name);
    html! {
        section class="card" id="log-panel" aria-labelledby="log-title" {
            div class="head" { h2 id="log-title" { "Log" } p { (command(&format!("slipway logs {}", job.name))) " " a href=(raw) { "Raw" } } }
            @match lines {
                Err(why) => { p class="soft" { (why) } }
                Ok(log) => {
                    @if log.before > 0 { p class="soft" { (log.before) " earlier lines are in the raw log." } }
                    @if log.lines.is_empty() && !follows { p class="soft" { (silent(found)) } }
                    @else {
                        pre class="log lines" id={ "log-" (job.attempt) } tabindex="0" aria-label="log" data-keep data-next=(next) data-stream=[follows.then_some(&stream)] {
                            @for (index, line) in log.lines.iter().enumerate() { (log_line(log.before + index + 1, line)) }
                        }
                    }
                }
            }
        }
    }
}

fn silent(found: &Found) -> &'static str {
    match (&found.run, found.job.result.as_str()) {
        (Some(_), _) => "It printed nothing.",
        (None, "queued") => "It has not begun.",
        (None, _) => "It did not run for this commit, so it has no log here.",
    }
}

/// `AT STEP MARK TEXT`, where the mark is `!` for standard error.
fn log_line(number: usize, line: &str) -> Markup {
    let (at, rest) = line.split_once(' ').unwrap_or(("", line));
    let (split, error) = match (rest.find(" ! "), rest.find("   ")) {
        (Some(mark), other) if other.is_none_or(|other| mark < other) => (Some(mark), true),
        (_, other) => (other, false),
    };
    let text = split.and_then(|split| rest.get(split + 3..)).unwrap_or(rest);
    html! { span class={ "l" @if error { " e" } } id={ "L" (number) } { a href={ "#L" (number) } tabindex="-1" title=(at) { (number) } " " (ansi::html(text)) "\n" } }
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    from: usize,
}

/// `GET /p/{project}/c/{commit}/log/{*job}?from=N`: lines from there on, as they come, then `end`.
pub async fn stream(
    State(server): State<Server>,
    Path((name, commit, job)): Path<(String, String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = find(&server, &name, &commit, &job).await.map_err(Problem::not_found)?;
    let run = found.run.ok_or_else(|| Problem::not_found("it has not begun"))?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let lines = server.parts.logs.job(&found.project, &run, true).await.map_err(Problem::broken)?;
    let following = Following { lines, number: 0, after: last.unwrap_or(asked.from), ended: false };
    let body = futures::stream::unfold(following, |mut following| async move {
        let text = following.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(text)), following))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}

struct Following {
    lines: Receiver<String>,
    number: usize,
    after: usize,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let mut taken = Vec::with_capacity(BATCH);
        loop {
            let limit = BATCH - taken.len();
            let Ok(count) = tokio::time::timeout(BEAT, self.lines.recv_many(&mut taken, limit)).await else {
                return Some("event: beat\ndata: \n\n".into());
            };
            self.ended = count == 0;
            let first = self.number + 1;
            self.number += count;
            let skip = self.after.saturating_sub(first - 1).min(taken.len());
            let mut text = String::new();
            for (index, line) in taken.iter().enumerate().skip(skip) {
                let shown = log_line(first + index, line).into_string();
                let _ = writeln!(text, "data: {}", shown.trim_end_matches("\n</span>"));
            }
            if self.ended {
                return Some("event: end\ndata: \n\n".into());
            }
            if !text.is_empty() {
                return Some(format!("id: {}\n{text}\n", self.number));
            }
            taken.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_number_and_loses_its_control_signs() {
        let line = log_line(7, "2026-03-01T12:00:00.000Z test ! \u{1b}[31mno <b>\u{1b}[0m").into_string();
        assert_eq!(
            line,
            "<span class=\"l e\" id=\"L7\"><a href=\"#L7\" tabindex=\"-1\" title=\"2026-03-01T12:00:00.000Z\">7</a> <span \
             class=\"a1\">no &lt;b&gt;</span>\n</span>"
        );
        assert!(log_line(1, "2026-03-01T12:00:00.000Z test   a ! b").into_string().contains("</a> a ! b\n"));
    }

    #[tokio::test]
    async fn a_stream_goes_on_after_the_line_that_was_seen_last() {
        let (send, lines) = tokio::sync::mpsc::channel(8);
        for text in ["one", "two", "three"] {
            send.send(format!("2026-03-01T12:00:00.000Z test   {text}")).await.unwrap();
        }
        drop(send);
        let mut following = Following { lines, number: 0, after: 2, ended: false };
        let text = following.next().await.unwrap();
        assert!(text.starts_with("id: 3\ndata: <span") && text.contains("three") && !text.contains("two"), "{text}");
        assert_eq!(following.next().await.unwrap(), "event: end\ndata: \n\n");
        assert_eq!(following.next().await, None);
    }
}
