//! Monotonic milliseconds that fit an atomic, and what the two sides of a connection tell their
//! watchdogs through such atomics.
//!
//! In: progress of reads, writes and requests. Out: when the next deadline is due. A connection has
//! one timer for its life instead of several per request. Never reads the wall clock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::limits::Limits;

/// Milliseconds since the first call, starting at 1, so that 0 can mean "not at all".
pub(crate) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    millis(since) + 1
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// What a watchdog decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// All is well; look again after this long.
    Again(Duration),
    /// The client owes the rest of a request: answer 408 and close.
    RequestStalled,
    /// Idle for too long: close, unless a request has just come.
    Idle,
    /// The other side does not do its part: close at once.
    Close,
}

/// The earliest of several deadlines, and whether one has passed.
struct Deadlines {
    now: u64,
    next: u64,
}

impl Deadlines {
    fn new(now: u64, period: Duration) -> Self {
        Deadlines { now, next: now + millis(period).max(1) }
    }

    /// Notes a deadline; says whether it has passed. `since` 0 means that nothing runs.
    fn passed(&mut self, since: u64, limit: Duration) -> bool {
        if since == 0 {
            return false;
        }
        let due = since.saturating_add(millis(limit).max(1));
        self.next = self.next.min(due);
        due <= self.now
    }

    fn again(self) -> Watch {
        Watch::Again(Duration::from_millis(self.next.saturating_sub(self.now).max(1)))
    }
}

/// What a client connection does at the moment.
#[derive(Debug, Default)]
pub(crate) struct ClientClock {
    /// A request is being answered.
    busy: AtomicBool,
    /// When the last answer was over.
    idle_since: AtomicU64,
    /// When the first byte of the next head came; 0: none yet.
    head_since: AtomicU64,
    /// Since when a byte of the body is owed; 0: none is.
    body_since: AtomicU64,
    /// Since when a write makes no progress; 0: it does.
    write_since: AtomicU64,
}

impl ClientClock {
    pub(crate) fn new() -> Self {
        let clock = ClientClock::default();
        clock.idle_since.store(now_ms(), Relaxed);
        clock
    }

    pub(crate) fn read_some(&self) {
        if !self.busy.load(Relaxed) && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now_ms(), Relaxed);
        }
    }

    pub(crate) fn write_stalled(&self) {
        if self.write_since.load(Relaxed) == 0 {
            self.write_since.store(now_ms(), Relaxed);
        }
    }

    pub(crate) fn write_progress(&self) {
        if self.write_since.load(Relaxed) != 0 {
            self.write_since.store(0, Relaxed);
        }
    }

    pub(crate) fn body_owed(&self) {
        if self.body_since.load(Relaxed) == 0 {
            self.body_since.store(now_ms(), Relaxed);
        }
    }

    pub(crate) fn body_progress(&self) {
        if self.body_since.load(Relaxed) != 0 {
            self.body_since.store(0, Relaxed);
        }
    }

    pub(crate) fn request_begins(&self) {
        self.busy.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    pub(crate) fn request_ends(&self) {
        self.idle_since.store(now_ms(), Relaxed);
        self.body_progress();
        self.busy.store(false, Relaxed);
    }

    pub(crate) fn watch(&self, limits: &Limits) -> Watch {
        let mut deadlines = Deadlines::new(now_ms(), limits.client_watch());
        if deadlines.passed(self.write_since.load(Relaxed), limits.write_idle) {
            return Watch::Close;
        }
        if self.busy.load(Relaxed) {
            if deadlines.passed(self.body_since.load(Relaxed), limits.body_read_idle) {
                return Watch::RequestStalled;
            }
            return deadlines.again();
        }
        let head_since = self.head_since.load(Relaxed);
        if deadlines.passed(head_since, limits.head_read_timeout) {
            return Watch::RequestStalled;
        }
        let idle_since = self.idle_since.load(Relaxed);
        if head_since == 0 && deadlines.passed(idle_since, limits.keep_alive_idle) {
            return Watch::Idle;
        }
        deadlines.again()
    }
}

/// What a connection to an instance does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// In the pool.
    Idle = 0,
    /// The client owes a part of the request's body; its own clock watches that.
    Uploading = 1,
    /// The instance owes the head of the response.
    AwaitingHead = 2,
    /// The instance owes the body of the response, or a part of it.
    Body = 3,
}

/// See [`Phase`].
#[derive(Debug)]
pub(crate) struct UpstreamClock {
    phase: AtomicU8,
    since: AtomicU64,
    timed_out: AtomicBool,
}

impl UpstreamClock {
    pub(crate) fn new() -> Self {
        UpstreamClock {
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(now_ms()),
            timed_out: AtomicBool::new(false),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.since.store(now_ms(), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Bytes went over the wire: whatever is owed is owed from now.
    pub(crate) fn progress(&self) {
        if self.phase.load(Relaxed) != Phase::Idle as u8 {
            self.since.store(now_ms(), Relaxed);
        }
    }

    /// Whether the watchdog closed the connection because the instance did not answer.
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out.load(Relaxed)
    }

    pub(crate) fn watch(&self, limits: &Limits) -> Watch {
        let mut deadlines = Deadlines::new(now_ms(), limits.upstream_watch());
        let phase = self.phase.load(Relaxed);
        let limit = if phase == Phase::Idle as u8 {
            limits.pool_idle
        } else if phase == Phase::AwaitingHead as u8 {
            limits.response_head_timeout
        } else if phase == Phase::Body as u8 {
            limits.response_body_idle
        } else {
            return deadlines.again();
        };
        if deadlines.passed(self.since.load(Relaxed), limit) {
            self.timed_out.store(phase != Phase::Idle as u8, Relaxed);
            return Watch::Close;
        }
        deadlines.again()
    }
}
