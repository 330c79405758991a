//! Log lines of instances, as they are delivered.
//!
//! In: what is wanted. Out: lines with time, service, release and instance (R160), those on disk and those that
//! come. Never more than a page at once, and nothing that nobody follows any more.

use crate::protocol::{LogLine, LogsWanted, Say};
use crate::runs::{Bell, Run, runs};
use crate::wake;
use slipway_link::Peer;
use slipway_model::{At, Lane, ReleaseId};
use slipway_sandbox::{Follow, LogLine as Raw, Stream, read_log_from};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines of one message.
const PAGE_LINES: usize = 500;
/// Pages between a follower and the link.
const PAGES_WAITING: usize = 8;
/// Bytes of a log that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// The newest lines of a release, as text. Blocks.
pub(crate) fn tail(data: &Path, lane: &Lane, release: &ReleaseId, lines: usize) -> Vec<String> {
    let (mut found, _) = read(runs(data, lane, Some(release)));
    found.sort_by_key(|line| line.at);
    let skipped = found.len().saturating_sub(lines);
    found.iter().skip(skipped).map(LogLine::text_line).collect()
}

/// Every line of these runs, and up to where each was read.
fn read(runs: Vec<Run>) -> (Vec<LogLine>, Vec<(Run, u64)>) {
    let (mut lines, mut positions) = (Vec::new(), Vec::new());
    for run in runs {
        let mut position = 0;
        // A folder that vanishes meanwhile has no lines any more.
        while let Ok(chunk) = read_log_from(&run.folder, position, READ_BYTES) {
            lines.extend(chunk.lines.into_iter().map(|raw| line(&run, raw)));
            if chunk.next == position {
                break;
            }
            position = chunk.next;
        }
        positions.push((run, position));
    }
    (lines, positions)
}

fn line(run: &Run, raw: Raw) -> LogLine {
    LogLine {
        at: At(raw.at_ms),
        service: run.lane.service.clone(),
        release: run.release.clone(),
        number: run.number,
        instance: run.instance.clone(),
        stream: match raw.stream {
            Stream::Out => "out",
            Stream::Err => "err",
            Stream::Note => "note",
        }
        .into(),
        text: raw.text,
    }
}

/// Serves one stream to the other side of the link, to its end. Dropping the future ends it.
pub(crate) async fn serve(data: PathBuf, bell: &Bell, peer: Peer, stream: u64, wanted: LogsWanted) {
    let mut changed = bell.hear();
    let (first, ended) = (data.clone(), wanted.clone());
    let reading = tokio::task::spawn_blocking(move || read(runs(&first, &ended.lane, ended.release.as_ref())));
    let Ok((lines, positions)) = reading.await else { return };
    let say = async |lines: Vec<LogLine>, end: bool| peer.event(&Say::Log { stream, lines, end }).await.is_ok();
    let lines = choose(lines, &wanted);
    for page in lines.chunks(PAGE_LINES) {
        if !say(page.to_vec(), false).await {
            return;
        }
    }
    if !wanted.follow {
        say(Vec::new(), true).await;
        return;
    }
    let (pages, mut coming) = mpsc::channel(PAGES_WAITING);
    let mut followers = JoinSet::new();
    let mut known = HashSet::new();
    for (run, position) in positions {
        known.insert((run.instance.clone(), run.folder.file_name().map(ToOwned::to_owned)));
        followers.spawn(follow(run, position, pages.clone()));
    }
    loop {
        tokio::select! {
            page = coming.recv() => {
                let Some(page) = page else { return };
                if !say(page, false).await {
                    return;
                }
            }
            rung = changed.changed() => {
                if rung.is_err() {
                    return;
                }
                let (data, wanted) = (data.clone(), wanted.clone());
                let listing = tokio::task::spawn_blocking(move || runs(&data, &wanted.lane, wanted.release.as_ref()));
                for run in listing.await.unwrap_or_default() {
                    if known.insert((run.instance.clone(), run.folder.file_name().map(ToOwned::to_owned))) {
                        followers.spawn(follow(run, 0, pages.clone()));
                    }
                }
            }
            Some(_) = followers.join_next(), if !followers.is_empty() => {}
        }
    }
}

/// Those that were asked for, in the order of time.
fn choose(mut lines: Vec<LogLine>, wanted: &LogsWanted) -> Vec<LogLine> {
    lines.retain(|line| wanted.since.is_none_or(|since| line.at >= since));
    lines.sort_by_key(|line| line.at);
    let skipped = wanted.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    lines.split_off(skipped)
}

/// Sends what one process writes, until it has ended or nobody listens.
async fn follow(run: Run, position: u64, pages: mpsc::Sender<Vec<LogLine>>) {
    let mut follow = Follow::of(&run.folder, position);
    let wake = follow.wake_fd().and_then(|fd| fd.try_clone_to_owned().ok());
    let wake = wake.and_then(|fd| wake::on(fd).ok());
    loop {
        let ended = follow.is_ended();
        let Ok(chunk) = follow.take() else { return };
        if chunk.lines.is_empty() {
            match &wake {
                _ if ended => return,
                Some(wake) if !follow.is_ended() => {
                    let Ok(mut ready) = wake.readable().await else { return };
                    ready.clear_ready();
                }
                // It ended just now: once more, for its last lines.
                _ => {}
            }
            continue;
        }
        let lines: Vec<LogLine> = chunk.lines.into_iter().map(|raw| line(&run, raw)).collect();
        for page in lines.chunks(PAGE_LINES) {
            if pages.send(page.to_vec()).await.is_err() {
                return;
            }
        }
    }
}
