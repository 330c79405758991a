//! Users: threads that ask at a steady rate over connections they keep, and count what they got.
//!
//! In: an address, how often to ask for what. Out: how many were asked, each one that failed with its time, how long
//! answers took. Never: asks again what failed; a request without an answer is lost, whoever's fault it was.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than anything that is asked takes; then it counts as lost.
const ANSWER: Duration = Duration::from_secs(10);
/// Failures kept one by one; the rest is only counted.
const KEPT: usize = 100_000;

/// Wall-clock time in milliseconds since 1970, as facts have it, with fractions.
#[must_use]
pub fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, crate::milliseconds)
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the server ends the connection after it.
    pub closes: bool,
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to `127.0.0.1:80`.
    ///
    /// # Errors
    /// When nobody accepts.
    pub fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Connection { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// Asks and reads the whole answer.
    ///
    /// # Errors
    /// When the answer does not come, or not whole.
    pub fn ask(&mut self, method: &str, path: &str) -> io::Result<Answer> {
        let body = if method == "POST" { "a=1" } else { "" };
        let host = &self.host;
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(text.as_bytes())?;
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("`{first}`")))?;
        let (mut length, mut chunked, mut closes) = (0, false, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else { break };
            match (name, value.trim()) {
                ("content-length", value) => length = value.parse().unwrap_or(0),
                ("transfer-encoding", _) => chunked = true,
                ("connection", "close") => closes = true,
                _ => {}
            }
        }
        if chunked {
            self.skip_chunks()?
        } else {
            self.skip(length)?
        }
        Ok(Answer { status, closes })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let read = io::copy(&mut self.stream.by_ref().take(length), &mut io::sink())?;
        if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let length = u64::from_str_radix(line.split(';').next().unwrap_or_default(), 16).unwrap_or(0);
            self.skip(length)?;
            self.line()?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}

/// A group of users that behave alike.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many, each with a connection of its own.
    pub users: u32,
    /// How often each asks; 0 is as soon as it is answered.
    pub per_second: u32,
    /// What it asks for, one after the other: method and path.
    pub requests: &'static [(&'static str, &'static str)],
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct Bad {
    /// When that was known, in milliseconds since 1970.
    pub at_ms: f64,
    /// How.
    pub how: String,
}

/// What a group saw.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests.
    pub asked: u64,
    /// Those without an answer below 500.
    pub failed: u64,
    /// The first of them, by time.
    pub bad: Vec<Bad>,
    /// The longest answer in milliseconds.
    pub slowest_ms: f64,
    /// How long each answer took, in milliseconds.
    pub took_ms: Vec<f64>,
}

/// Users at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    groups: Vec<Vec<JoinHandle<Tally>>>,
    begun: Instant,
}

impl Load {
    /// Starts all groups.
    #[must_use]
    pub fn start(address: &str, paces: &[Pace]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let group = |pace: &Pace| {
            let user = |index| {
                let (address, pace, stop) = (address.to_owned(), *pace, stop.clone());
                std::thread::spawn(move || user(&address, pace, index, &stop))
            };
            (0..pace.users).map(user).collect()
        };
        let groups = paces.iter().map(group).collect();
        Load { stop, groups, begun: Instant::now() }
    }

    /// Ends them; what each group saw, and how long all of it took.
    #[must_use]
    pub fn stop(self) -> (Vec<Tally>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.begun.elapsed();
        let tally = |users: Vec<JoinHandle<Tally>>| {
            users.into_iter().filter_map(|user| user.join().ok()).fold(Tally::default(), Tally::with)
        };
        (self.groups.into_iter().map(tally).collect(), took)
    }
}

impl Tally {
    fn with(mut self, other: Tally) -> Tally {
        self.asked += other.asked;
        self.failed += other.failed;
        self.bad.extend(other.bad);
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        self.took_ms.extend(other.took_ms);
        self
    }
}

/// All failures by time.
#[must_use]
pub fn sorted(tallies: &[Tally]) -> Vec<Bad> {
    let mut bad: Vec<Bad> = tallies.iter().flat_map(|tally| tally.bad.clone()).collect();
    bad.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    bad
}

fn user(address: &str, pace: Pace, index: u32, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut connection: Option<Connection> = None;
    let apart = Duration::from_secs(1).checked_div(pace.per_second).unwrap_or_default();
    // Users of a group do not ask at the same moment.
    let mut due = Instant::now() + apart * index / pace.users.max(1);
    for (method, path) in pace.requests.iter().cycle().skip(index as usize) {
        crate::pause(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        due += apart;
        let begun = Instant::now();
        let answer = match connection.take().map_or_else(|| Connection::open(address), Ok) {
            Ok(mut open) => open.ask(method, path).map(|answer| (open, answer)),
            Err(error) => Err(error),
        };
        tally.asked += 1;
        let took = crate::milliseconds(begun.elapsed());
        tally.slowest_ms = tally.slowest_ms.max(took);
        tally.took_ms.push(took);
        let failed = match answer {
            Ok((open, answer)) => {
                connection = (!answer.closes).then_some(open);
                (answer.status >= 500).then(|| format!("{method} {path} answered {}", answer.status))
            }
            Err(error) => Some(format!("{method} {path}: {error}")),
        };
        if let Some(how) = failed {
            tally.failed += 1;
            if tally.bad.len() < KEPT {
                tally.bad.push(Bad { at_ms: now_ms(), how });
            }
        }
    }
    tally
}
