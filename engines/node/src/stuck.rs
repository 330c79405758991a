//! Whether waiting longer for a process is of no use.
//!
//! In: what a process that is not ready listens on, says and uses, look by look, with the time. Out: yes once it has
//! listened elsewhere than it should for a while, and neither said nor done anything meanwhile. Never yes for one
//! that still works: many open a port for their metrics first and the one that counts when they are done.

use std::time::Duration;
use tokio::time::Instant;

/// So long nothing may change.
const QUIET: Duration = Duration::from_secs(5);
/// One that uses more of a processor than this is at work: reading its data, compiling, trying again.
const IDLE_PERCENT_MAX: u64 = 5;

/// What is seen of a process in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Ports on which it listens, when the one that counts is not among them.
    pub(crate) elsewhere: Vec<u16>,
    /// Lines that it has written.
    pub(crate) lines: u64,
    /// Processor time that it has used.
    pub(crate) cpu_ms: u64,
}

/// Since when nothing changes.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    since: Option<(Instant, Signs)>,
}

impl Quiet {
    /// Takes a look into account; whether waiting longer is of no use.
    pub(crate) fn take(&mut self, signs: Signs, now: Instant) -> bool {
        if signs.elsewhere.is_empty() {
            self.since = None;
            return false;
        }
        let still = self.since.as_ref().filter(|(since, before)| {
            let passed = u64::try_from(now.duration_since(*since).as_millis()).unwrap_or(u64::MAX);
            let used = signs.cpu_ms.saturating_sub(before.cpu_ms);
            before.elsewhere == signs.elsewhere
                && before.lines == signs.lines
                && used.saturating_mul(100) <= passed.saturating_mul(IDLE_PERCENT_MAX)
        });
        match still {
            Some((since, _)) => now.duration_since(*since) >= QUIET,
            None => {
                self.since = Some((now, signs));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look a second: `8080 3 20` is its port, its lines, its processor time; `-` when it listens as it should.
    #[track_caller]
    fn check(looks: &[&str], expected: Option<usize>) {
        let begin = Instant::now();
        let mut quiet = Quiet::default();
        let found = looks.iter().enumerate().position(|(second, look)| {
            let words: Vec<u64> = look.split(' ').filter_map(|word| word.parse().ok()).collect();
            let signs = match words[..] {
                [port, lines, cpu_ms] => Signs { elsewhere: vec![port as u16], lines, cpu_ms },
                _ => Signs::default(),
            };
            quiet.take(signs, begin + Duration::from_secs(second as u64))
        });
        assert_eq!(found, expected, "{looks:?}");
    }

    #[test]
    fn one_that_listens_elsewhere_and_is_done_is_given_up_after_five_seconds() {
        check(&["8080 1 20"; 8], Some(5));
    }

    #[test]
    fn one_that_still_works_or_speaks_or_opens_ports_is_waited_for() {
        check(&["9090 1 20", "9090 1 120", "9090 1 220", "9090 1 320", "9090 1 420", "9090 1 520", "9090 1 620"], None);
        check(&["9090 1 20", "9090 1 20", "9090 2 20", "9090 3 20", "9090 4 20", "9090 5 20", "9090 6 20"], None);
        check(&["9090 1 20", "9090 1 20", "9091 1 20", "9091 1 20", "9091 1 20", "9091 1 20", "9091 1 20"], None);
        check(&["-"; 9], None);
    }
}
