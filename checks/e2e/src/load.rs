//! Users: they ask all the time and count what they get.
//!
//! In: an address and what to ask. Out: how many requests, and each failure. Never: a request asked again.

use crate::http::Http;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What one user does.
#[derive(Debug, Clone, Copy)]
pub enum User {
    /// Reads on one connection.
    Reads(&'static str),
    /// Reads, each time on a new connection.
    Comes(&'static str),
    /// Writes on one connection.
    Writes(&'static str),
}

/// Users who ask.
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts one thread for each user; each pauses so long after an answer.
    pub fn start(address: &str, pause: Duration, users: &[User]) -> Load {
        let mut load =
            Load { stop: Arc::default(), asked: Arc::default(), failed: Arc::default(), threads: Vec::new() };
        for user in users {
            let (stop, asked, failed) = (load.stop.clone(), load.asked.clone(), load.failed.clone());
            let (user, address) = (*user, address.to_owned());
            load.threads.push(std::thread::spawn(move || {
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let asking = ask(user, &address, &mut kept);
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = asking {
                        kept = None;
                        failed.lock().unwrap().push(format!("{user:?}: {error}"));
                    }
                    crate::machine::pause(pause);
                }
            }));
        }
        load
    }

    /// How many were asked so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many failed so far.
    pub fn failed(&self) -> usize {
        self.failed.lock().unwrap().len()
    }

    /// Waits until so many more were asked.
    pub fn more(&self, count: u64) {
        let goal = self.asked() + count;
        crate::machine::until("users get answers", || (self.asked() >= goal).then_some(()));
    }

    /// Ends; the failures.
    pub fn stop(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        (self.asked(), std::mem::take(&mut *self.failed.lock().unwrap()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask(user: User, address: &str, kept: &mut Option<Http>) -> Result<(), String> {
    let mut http = match kept.take().filter(|http| !http.over) {
        Some(http) => http,
        None => Http::connect(address)?,
    };
    let answer = match user {
        User::Reads(path) => http.get(path)?,
        User::Comes(path) => http.send("GET", path, "connection: close\r\n", b"")?,
        User::Writes(path) => {
            let answer = http.post(path, &[b'x'; 3000])?;
            if answer.status == 200 && answer.body != "3000" {
                return Err(format!("POST {path}: {} of 3000 bytes arrived", answer.body));
            }
            answer
        }
    };
    if answer.status >= 500 {
        return Err(format!("{} {}", answer.status, answer.body.trim()));
    }
    if !matches!(user, User::Comes(_)) {
        *kept = Some(http);
    }
    Ok(())
}
