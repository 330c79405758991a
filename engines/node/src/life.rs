//! The life of one instance: start, look, start again when it ends by itself, stop when told.
//!
//! In: a specification, orders. Out: tales to the supervisor, and an instance that is as they say.
//! Never: decides whether it is wanted; touches routing (the supervisor withdraws it before the order to stop comes);
//! stops a process because the node ends.

use crate::explain::{self, Asked};
use crate::http::millis;
use crate::inside::{Door, Inside};
use crate::meta::Meta;
use crate::probe::{Look, Turn, Watch, beside, look};
use crate::runs::Bell;
use crate::start::{Starter, is_gone, whole};
use crate::stop::{self, Process};
use crate::stuck::{Quiet, Signs};
use crate::supervisor::Message;
use crate::traffic::now;
use slipway_model::instance::{Exit, InstanceSpec};
use slipway_model::release::Places;
use slipway_proxy::Proxy;
use slipway_sandbox::{SandboxError, Shim, read_log_from};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The first pause before it is started again; doubled up to the next.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// An instance that was ready for so long starts anew with the first pause.
const GOOD_TIME: Duration = Duration::from_secs(60);
/// Before this nobody asks why it is not ready yet.
const EXPLAIN_AFTER: Duration = Duration::from_secs(1);
/// A process that is not ready for this many times its limit is started again.
const READY_LIMITS: u32 = 2;
/// And never sooner than this.
const HUNG_MIN: Duration = Duration::from_secs(10);

/// What all instances of a node share.
pub(crate) struct Common {
    pub(crate) starter: Starter,
    pub(crate) inside: Arc<Inside>,
    pub(crate) proxy: Proxy,
    pub(crate) bell: Bell,
    pub(crate) ended_kept: usize,
}

/// What an instance is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Finish your requests and end. Routing has left it.
    Stop,
    /// Requests to its release fail: look soon.
    Doubt,
    /// Processes started from now on have this specification, which stands there in the file.
    Spec(Box<InstanceSpec>, Places),
}

/// What an instance tells.
#[derive(Debug)]
pub(crate) enum Tale {
    /// A process was started.
    Started(Box<Meta>),
    /// It may get traffic.
    Ready(Box<Meta>),
    /// It may not any more, and why.
    Unready(String),
    /// Why it is not ready yet, and whether waiting longer is of no use.
    Reason(String, bool),
    /// It ended by itself and will be started again.
    Ended(Box<Meta>, String),
    /// It was adopted, and the first look at it is over.
    Looked,
    /// Its requests are done; it is told to end.
    Stopping,
    /// It is gone.
    Stopped(Option<Exit>),
}

/// How a life begins.
pub(crate) enum Begin {
    /// Nothing runs yet.
    Fresh,
    /// Its process runs.
    Adopted(Box<Shim>),
    /// Its process ended while nobody looked.
    Died(Option<Exit>, String),
}

/// How a process came to its end.
enum End {
    /// By itself.
    Fell(Option<Exit>, String),
    /// Told to.
    Stopped(Option<Exit>),
    /// It goes on; the node ends.
    Left,
}

/// One instance.
pub(crate) struct Life {
    pub(crate) common: Arc<Common>,
    pub(crate) meta: Meta,
    pub(crate) spec: InstanceSpec,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) supervisor: mpsc::Sender<Message>,
    /// Ends by itself in a row.
    pub(crate) falls: u32,
}

impl Life {
    /// Lives until it is stopped, or the node ends.
    pub(crate) async fn run(mut self, begin: Begin) {
        let mut begin = begin;
        loop {
            let end = match begin {
                Begin::Fresh => self.start().await,
                Begin::Adopted(shim) => self.attend(*shim, None).await,
                Begin::Died(exit, reason) => End::Fell(exit, reason),
            };
            match end {
                End::Left => return,
                End::Stopped(exit) => return self.finish(exit).await,
                End::Fell(exit, reason) => match self.back_off(exit, reason).await {
                    None => begin = Begin::Fresh,
                    Some(End::Left) => return,
                    Some(End::Fell(exit, _) | End::Stopped(exit)) => return self.finish(exit).await,
                },
            }
        }
    }

    async fn start(&mut self) -> End {
        let begun = Instant::now();
        match self.common.starter.start(&mut self.meta, &self.spec).await {
            Ok(shim) => {
                self.common.bell.ring();
                self.tell(Tale::Started(Box::new(self.meta.clone()))).await;
                self.attend(shim, Some(begun)).await
            }
            Err(reason) => {
                self.common.bell.ring();
                End::Fell(None, reason)
            }
        }
    }

    /// Stays with a process until its end. `begun`: when it was started, unless it was adopted.
    async fn attend(&mut self, shim: Shim, begun: Option<Instant>) -> End {
        let reached = Process::of(shim).and_then(|process| {
            let door = Door::of(&process.shim, self.spec.port)?;
            Ok((process, door))
        });
        let (process, door) = match reached {
            Ok(reached) => reached,
            Err(error) => return self.unreachable(error),
        };
        self.common.inside.open(self.meta.id.as_str(), Arc::clone(&door));
        let end = self.watch(&process, &door, begun).await;
        if !matches!(end, End::Left) {
            self.common.inside.close(self.meta.id.as_str());
        }
        end
    }

    async fn watch(&mut self, process: &Process, door: &Door, begun: Option<Instant>) -> End {
        let mut watch = Watch::new(&self.spec.health);
        let mut ready_since = None;
        let mut explained = Instant::now();
        let mut said = (String::new(), false);
        let mut quiet = Quiet::default();
        let mut first = begun.is_none();
        let health = self.spec.health.clone();
        let command = health.command.clone().map(|argv| beside(&self.meta, argv, health.timeout_ms));
        loop {
            let looking = async {
                watch.due().await;
                look(door, process, &health, command.as_ref()).await
            };
            let seen = tokio::select! {
                biased;
                () = process.ended() => return self.fell(process, ready_since).await,
                order = self.orders.recv() => match order {
                    None => return End::Left,
                    Some(Order::Stop) => return self.stop(process, door).await,
                    Some(Order::Doubt) => {
                        watch.doubt();
                        continue;
                    }
                    Some(Order::Spec(spec, places)) => {
                        (self.spec, self.meta.places) = (*spec, places);
                        continue;
                    }
                },
                seen = looking => seen,
            };
            match watch.take(&seen) {
                Turn::Ready => {
                    (ready_since, said) = (Some(Instant::now()), (String::new(), false));
                    self.ready(begun).await;
                }
                Turn::Unready => {
                    said = self.why(process, &seen, &mut quiet).await;
                    explained = Instant::now();
                    self.unready(said.0.clone()).await;
                }
                Turn::Same => {
                    let due = explained.elapsed() >= EXPLAIN_AFTER && watch.waited() >= EXPLAIN_AFTER;
                    if !watch.is_ready() && due {
                        explained = Instant::now();
                        let why = self.why(process, &seen, &mut quiet).await;
                        if why != said {
                            said.clone_from(&why);
                            self.tell(Tale::Reason(why.0, why.1)).await;
                        }
                    }
                }
            }
            if std::mem::take(&mut first) {
                self.tell(Tale::Looked).await;
            }
            if !watch.is_ready() && watch.waited() >= self.hung_after() {
                return self.hung(process, door, said.0).await;
            }
        }
    }

    fn hung_after(&self) -> Duration {
        (Duration::from_millis(self.spec.ready_ms) * READY_LIMITS).max(HUNG_MIN)
    }

    async fn ready(&mut self, begun: Option<Instant>) {
        self.meta.ready = true;
        if let (Some(begun), None) = (begun, self.meta.ready_ms) {
            self.meta.ready_ms = Some(millis(begun.elapsed()));
        }
        self.write_down().await;
        self.tell(Tale::Ready(Box::new(self.meta.clone()))).await;
    }

    async fn unready(&mut self, why: String) {
        self.meta.ready = false;
        self.write_down().await;
        self.tell(Tale::Unready(why)).await;
    }

    /// Writing fails on a full disk, for one: then a next node finds older facts, and looks for itself.
    async fn write_down(&self) {
        let (meta, data) = (self.meta.clone(), self.common.starter.data.clone());
        let _ = tokio::task::spawn_blocking(move || meta.write(&data)).await;
    }

    fn asked(&self) -> Asked<'_> {
        Asked::of(&self.meta, &self.spec)
    }

    /// Why it is not ready, and whether waiting longer is of no use.
    async fn why(&self, process: &Process, seen: &Look, quiet: &mut Quiet) -> (String, bool) {
        let listening = process.ask(|shim| shim.listening_ports()).await.unwrap_or_default();
        let status = process.ask(|shim| shim.status()).await.ok();
        let last_line = status.as_ref().map(|status| status.last_line.clone()).unwrap_or_default();
        let elsewhere = match seen {
            Look::NothingListens => explain::elsewhere(&self.spec, &listening),
            Look::Good | Look::BadStatus(_) | Look::NoAnswer(_) | Look::BadCommand(_) => Vec::new(),
        };
        // Without a status it is not known whether the process works: then it is waited for.
        let signs = status.map(|status| Signs { elsewhere, lines: status.log.lines, cpu_ms: status.cpu_ms });
        let stuck = quiet.take(signs.unwrap_or_default(), Instant::now());
        (explain::not_ready(self.asked(), seen, &listening, &last_line), stuck)
    }

    /// It did not become ready in time and says nothing better: a new process may.
    async fn hung(&mut self, process: &Process, door: &Door, why: String) -> End {
        let why = if why.is_empty() { "it was not ready in time".to_owned() } else { why };
        self.tell(Tale::Reason(why.clone(), false)).await;
        stop::stop(&self.meta, &self.spec, process, door).await;
        let exit = process.record().await.ok().map(|record| explain::ended(&record, self.asked()).0);
        End::Fell(exit, why)
    }

    async fn fell(&mut self, process: &Process, ready_since: Option<Instant>) -> End {
        if ready_since.is_some_and(|since| since.elapsed() >= GOOD_TIME) {
            self.falls = 0;
        }
        let (exit, reason) = match process.record().await {
            Ok(record) => explain::ended(&record, self.asked()),
            Err(_) => explain::lost(now(), &last_line(process.shim.dir())),
        };
        End::Fell(Some(exit), reason)
    }

    /// A shim that cannot be spoken to has ended, or the machine lacks something.
    fn unreachable(&self, error: SandboxError) -> End {
        let folder = self.meta.run_folder(&self.common.starter.data);
        match slipway_sandbox::read_record(&folder) {
            Ok(Some(record)) => {
                let (exit, reason) = explain::ended(&record, self.asked());
                End::Fell(Some(exit), reason)
            }
            _ if is_gone(&error) => {
                let (exit, reason) = explain::lost(now(), &last_line(&folder));
                End::Fell(Some(exit), reason)
            }
            _ => End::Fell(None, format!("it cannot be reached: {}", whole(&error))),
        }
    }

    async fn stop(&mut self, process: &Process, door: &Door) -> End {
        stop::drain(&self.common, &self.meta, &self.spec, process).await;
        self.tell(Tale::Stopping).await;
        stop::stop(&self.meta, &self.spec, process, door).await;
        let exit = match process.record().await {
            Ok(record) => {
                let exit = explain::ended(&record, self.asked()).0;
                if let Some(why) = explain::ignored(&exit, &self.spec) {
                    self.tell(Tale::Reason(why, false)).await;
                }
                exit
            }
            Err(_) => explain::lost(now(), &last_line(process.shim.dir())).0,
        };
        End::Stopped(Some(exit))
    }

    /// Waits before the next process. Something is returned when there shall be none.
    async fn back_off(&mut self, exit: Option<Exit>, reason: String) -> Option<End> {
        self.meta.restarts += 1;
        self.meta.run += 1;
        self.meta.ready = false;
        self.meta.exit.clone_from(&exit);
        self.write_down().await;
        self.tell(Tale::Ended(Box::new(self.meta.clone()), reason)).await;
        let pause = BACK_OFF_FIRST.saturating_mul(1 << self.falls.min(16)).min(BACK_OFF_MAX);
        self.falls += 1;
        let waiting = tokio::time::sleep(pause);
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    None => return Some(End::Left),
                    Some(Order::Stop) => return Some(End::Stopped(exit)),
                    Some(Order::Doubt) => {}
                    Some(Order::Spec(spec, places)) => (self.spec, self.meta.places) = (*spec, places),
                },
                () = &mut waiting => return None,
            }
        }
    }

    /// Puts the instance away: its log is kept, the rest goes.
    async fn finish(mut self, exit: Option<Exit>) {
        if exit.is_some() {
            self.meta.exit.clone_from(&exit);
        }
        let (meta, data, kept) = (self.meta.clone(), self.common.starter.data.clone(), self.common.ended_kept);
        // What cannot be put away now is put away at the next start.
        let _ = tokio::task::spawn_blocking(move || meta.archive(&data, kept)).await;
        self.common.bell.ring();
        self.tell(Tale::Stopped(exit)).await;
    }

    async fn tell(&self, tale: Tale) {
        // Nobody listens: the node ends, and so will this.
        let _ = self.supervisor.send(Message::Tale(self.meta.id.clone(), tale)).await;
    }
}

/// The last line of a log that says something.
pub(crate) fn last_line(folder: &Path) -> String {
    let (mut position, mut last) = (0, String::new());
    while let Ok(chunk) = read_log_from(folder, position, 256 * 1024) {
        if let Some(line) = chunk.lines.iter().rev().find(|line| !line.text.trim().is_empty()) {
            last.clone_from(&line.text);
        }
        if chunk.next == position {
            break;
        }
        position = chunk.next;
    }
    last
}
