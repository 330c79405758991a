//! Whom a connection waits for, since when, and when that is too long.
//!
//! In: progress. Out: the next deadline, and that one has passed. A connection has one timer for its life instead of
//! several per request: it is set for the earliest deadline there can be and looks again. Never reads the wall clock
//! for a deadline.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::limits::Limits;

/// For a connection whose deadline has passed to say so to the client.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Milliseconds since the first call, starting at 1.
pub(crate) fn now_ms() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let since = START.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX / 2) + 1
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2).max(1)
}

/// Whom a connection, or a stream of one, waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nobody: the next request may come or not.
    Idle,
    /// The client, for the rest of a head or of a handshake.
    Head,
    /// The client, for a part of the body.
    Upload,
    /// The instance, for the head of the response.
    Answer,
    /// The instance, for a part of the body.
    Download,
    /// The client, to take what is sent.
    Writing,
    /// Either, within an upgraded connection.
    Tunnel,
    /// Nobody in particular: each stream of a connection of HTTP/2 has a clock of its own.
    Busy,
}

impl Phase {
    fn limit(self, limits: &Limits) -> Duration {
        match self {
            Phase::Idle => limits.keep_alive_idle,
            Phase::Head => limits.head_read_timeout,
            Phase::Upload => limits.body_read_idle,
            Phase::Answer => limits.response_head_timeout,
            Phase::Download => limits.response_body_idle,
            Phase::Writing => limits.write_idle,
            Phase::Tunnel => limits.tunnel_idle,
            Phase::Busy => Duration::MAX,
        }
    }

    fn of(number: u8) -> Phase {
        let all =
            [Phase::Idle, Phase::Head, Phase::Upload, Phase::Answer, Phase::Download, Phase::Writing, Phase::Tunnel];
        all.into_iter().find(|phase| *phase as u8 == number).unwrap_or(Phase::Busy)
    }
}

/// See the module. Written and read by one task.
#[derive(Debug)]
pub(crate) struct Clock {
    phase: AtomicU8,
    since: AtomicU64,
    expired: AtomicBool,
}

impl Clock {
    pub(crate) fn new(phase: Phase) -> Self {
        Clock { phase: AtomicU8::new(phase as u8), since: AtomicU64::new(now_ms()), expired: AtomicBool::new(false) }
    }

    /// Waits for somebody else, or for the same anew.
    pub(crate) fn enter(&self, phase: Phase) {
        self.since.store(now_ms(), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Waits for this; if it did before and nothing moved, since then.
    pub(crate) fn waits(&self, phase: Phase, moved: bool) {
        if moved || self.phase() != phase {
            self.enter(phase);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Relaxed))
    }

    /// The deadline has passed; whoever is told must come to an end.
    pub(crate) fn expired(&self) -> bool {
        self.expired.load(Relaxed)
    }

    /// Whoever was told has given up what was late, and goes on.
    pub(crate) fn goes_on(&self, phase: Phase) {
        self.expired.store(false, Relaxed);
        self.enter(phase);
    }

    /// Until the deadline; `None` if it has passed.
    fn left(&self, limits: &Limits, finishing: bool) -> Option<Duration> {
        let phase = self.phase();
        if finishing && phase == Phase::Idle {
            return None;
        }
        let waited = now_ms().saturating_sub(self.since.load(Relaxed));
        millis(phase.limit(limits)).checked_sub(waited).filter(|left| *left > 0).map(Duration::from_millis)
    }
}

/// Runs a connection, or one stream, under its clock. `finishing` says when nothing new is wanted, `grace` how long
/// idle ones then stay. `None`: it was cut off, by `cut`, or because it did not end after its deadline.
pub(crate) async fn watched<F: Future>(
    clock: &Clock,
    limits: &Limits,
    mut stage: impl Stages,
    mut work: Pin<&mut F>,
) -> Option<F::Output> {
    let period = limits.watch();
    let mut timer = pin!(tokio::time::sleep(period));
    loop {
        tokio::select! {
            biased;
            output = &mut work => return Some(output),
            cut = stage.changed() => {
                if cut {
                    return None;
                }
                timer.as_mut().reset(Instant::now() + limits.shutdown_idle_grace);
            }
            () = &mut timer => {
                let finishing = stage.finishing();
                let again = match clock.left(limits, finishing) {
                    Some(left) if finishing => left.min(limits.shutdown_idle_grace.max(Duration::from_millis(1))),
                    Some(left) => left.min(period),
                    None if clock.expired() => return None,
                    None => {
                        clock.expired.store(true, Relaxed);
                        LAST_WORD
                    }
                };
                timer.as_mut().reset(Instant::now() + again);
            }
        }
    }
}

/// What the owner of a connection wants of it.
pub(crate) trait Stages {
    /// Waits until that changes; `true` cuts it off.
    async fn changed(&mut self) -> bool;
    /// Nothing new is wanted.
    fn finishing(&self) -> bool;
}

/// Whoever belongs to something that is told for all.
pub(crate) struct Unstaged;

impl Stages for Unstaged {
    async fn changed(&mut self) -> bool {
        std::future::pending().await
    }

    fn finishing(&self) -> bool {
        false
    }
}
