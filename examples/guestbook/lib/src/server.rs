//! A small HTTP/1.1 server.
//!
//! In: a listening socket and a function from request to answer. Out: answers,
//! and at the end how many. Never: a wait without a limit, a request dropped
//! because of a stop while there is time to finish it.
//!
//! One thread per connection, at most [`Limits::connections`] of them. After a
//! stop: connections that already wait in the queue are still taken, requests
//! that have begun are answered with `connection: close`, silent connections
//! are closed after a last call, and then the server ends.

mod wire;

use crate::http::{Refusal, Request, Response};
use crate::log;
use crate::stop::{Seen, Stop};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use wire::{Arrived, Wire};

/// Everything that is limited, and by how much.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; further ones get a 503.
    pub connections: usize,
    /// Bytes of a head; a longer one gets a 431.
    pub head_bytes: usize,
    /// Bytes of a body; a longer one gets a 413.
    pub body_bytes: usize,
    /// How long a request may take to arrive (then a 408), and an answer to leave.
    pub transfer: Duration,
    /// How long a connection may be silent between two requests.
    pub idle: Duration,
    /// How long a silent connection stays open after a stop, because its next
    /// request may be on its way already.
    pub last_call: Duration,
    /// How long to wait, after a stop, for requests that have begun.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head_bytes: 16 * 1024,
            body_bytes: 64 * 1024,
            transfer: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            last_call: Duration::from_millis(100),
            drain: Duration::from_secs(10),
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// Requests that were answered.
    pub answered: u64,
    /// Connections still busy when the time for draining was over.
    pub unfinished: usize,
}

/// Serves until `stop` is asked. Fails only when waiting on a descriptor does.
pub fn serve(
    listener: TcpListener,
    stop: Arc<Stop>,
    limits: Limits,
    app: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> io::Result<Ended> {
    // Not blocking: a client may give up between `wait` and `accept`.
    listener.set_nonblocking(true)?;
    let house = Arc::new(House {
        app,
        stop,
        limits,
        answered: AtomicU64::new(0),
        guests: Mutex::new(0),
        guest_left: Condvar::new(),
    });
    while !house.stop.is_asked()? {
        if house.stop.wait(&listener, None)? == Seen::Socket {
            house.accept(&listener);
        }
    }
    // Whoever connected before the stop is still served; whoever keeps
    // connecting cannot keep us from stopping.
    for _ in 0..house.limits.connections {
        if house.stop.wait(&listener, None)? == Seen::Stop {
            break;
        }
        house.accept(&listener);
    }
    drop(listener);
    Ok(house.drain())
}

/// What all threads of one server share.
struct House<A> {
    app: A,
    stop: Arc<Stop>,
    limits: Limits,
    answered: AtomicU64,
    /// Open connections.
    guests: Mutex<usize>,
    guest_left: Condvar,
}

/// One open connection; counted out when dropped, also by a panic.
struct Guest<A>(Arc<House<A>>);

impl<A> Drop for Guest<A> {
    fn drop(&mut self) {
        *self.0.guests() -= 1;
        self.0.guest_left.notify_all();
    }
}

impl<A> House<A> {
    fn guests(&self) -> MutexGuard<'_, usize> {
        // A count stays right even if a thread that held it has panicked.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_room(&self, at_most: Duration) {
        drop(self.guest_left.wait_timeout(self.guests(), at_most));
    }

    fn drain(&self) -> Ended {
        let waited = self.guest_left.wait_timeout_while(self.guests(), self.limits.drain, |left| *left > 0);
        let (left, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Ended { answered: self.answered.load(Ordering::SeqCst), unfinished: *left }
    }
}

impl<A: Fn(&Request) -> Response + Send + Sync + 'static> House<A> {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        match listener.accept() {
            Ok((stream, _)) => self.welcome(stream),
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                // Most likely too many open files. The connection stays in the
                // queue, so wait for somebody to leave rather than spin.
                log(&format!("cannot accept a connection: {error}"));
                self.wait_for_room(Duration::from_millis(100));
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: TcpStream) {
        {
            let mut guests = self.guests();
            if *guests >= self.limits.connections {
                drop(guests);
                return turn_away(stream);
            }
            *guests += 1;
        }
        let guest = Guest(Arc::clone(self));
        let thread = thread::Builder::new().name("connection".to_owned()).stack_size(256 * 1024);
        // A connection that breaks off is the client's business, so its error
        // is dropped; a thread that cannot start closes the connection.
        if let Err(error) = thread.spawn(move || drop(guest.0.converse(stream))) {
            log(&format!("cannot start a thread: {error}"));
        }
    }

    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut wire = Wire::new(stream, &self.limits)?;
        loop {
            let waited =
                if wire.has_bytes() { Seen::Socket } else { self.stop.wait(wire.stream(), Some(self.limits.idle))? };
            let more = match waited {
                Seen::Socket => true,
                Seen::Stop => wire.has_bytes_within(self.limits.last_call)?,
                Seen::Nothing => false,
            };
            if !more {
                return Ok(());
            }
            match wire.receive()? {
                Arrived::Nothing => return Ok(()),
                Arrived::Refused(Refusal(status, reason)) => {
                    wire.send(&Response::text(status, format!("{reason}\n")), false, false)?;
                    return wire.close();
                }
                Arrived::Request(request) => {
                    let answer = (self.app)(&request);
                    if answer.status >= 500 {
                        let Request { method, path, .. } = &request;
                        log(&format!("{method} {path} answered {}", answer.status));
                    }
                    // Asked after the work: a stop that came meanwhile counts.
                    let keep_alive = request.keep_alive && !self.stop.is_asked()?;
                    wire.send(&answer, keep_alive, request.method == "HEAD")?;
                    self.answered.fetch_add(1, Ordering::SeqCst);
                    if !keep_alive {
                        return wire.close();
                    }
                }
            }
        }
    }
}

/// Says no without waiting for anything: the answer fits into the socket's buffer.
fn turn_away(stream: TcpStream) {
    let busy = Response::text(503, "too many connections\n").header("retry-after", "1");
    let sent = stream.set_nonblocking(true).and_then(|()| {
        io::Write::write_all(&mut &stream, &busy.to_bytes(false, false))?;
        stream.shutdown(std::net::Shutdown::Write)
    });
    if let Err(error) = sent {
        log(&format!("cannot turn a connection away: {error}"));
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

#[cfg(test)]
mod tests;
