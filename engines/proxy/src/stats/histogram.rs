//! Latencies in fixed logarithmic buckets.
//!
//! In: durations, from any thread. Out: [`Latencies`], which can be subtracted, merged and asked for
//! percentiles. Never allocates while recording; an error of a percentile is at most one bucket,
//! that is 25 %, and mostly below 10 % because values are interpolated within a bucket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Below 64 µs all is one bucket; then four buckets per power of two, up to 134 s.
const FIRST_OCTAVE: u32 = 6;
const LAST_OCTAVE: u32 = 26;
const PER_OCTAVE: u32 = 4;
/// One below, the octaves, one above.
const BUCKETS: usize = ((LAST_OCTAVE - FIRST_OCTAVE + 1) * PER_OCTAVE + 2) as usize;

pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(usize::from(bucket_of(micros))) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn read(&self) -> Latencies {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        Latencies {
            buckets: (0_u16..).zip(counts).filter(|(_, n)| *n > 0).collect(),
            sum_micros: self.sum_micros.load(Relaxed),
        }
    }
}

fn bucket_of(micros: u64) -> u16 {
    let Some(octave) = micros.checked_ilog2().filter(|o| *o >= FIRST_OCTAVE) else {
        return 0;
    };
    if octave > LAST_OCTAVE {
        return BUCKETS as u16 - 1;
    }
    let quarter = (micros >> (octave - 2)) & 3;
    ((octave - FIRST_OCTAVE) * PER_OCTAVE + 1) as u16 + quarter as u16
}

/// Where a bucket begins, in microseconds.
fn begin_of(bucket: u16) -> u64 {
    let Some(step) = bucket.checked_sub(1) else {
        return 0;
    };
    let (octave, quarter) = (u32::from(step) / PER_OCTAVE, u64::from(step) % 4);
    (4 + quarter) << (octave + FIRST_OCTAVE - 2).min(60)
}

/// How many requests took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Bucket number to count; empty buckets are left out. Bucket 0 is below 64 µs; then there are
    /// four per power of two, up to 134 s; the last is all above. As JSON, a list of pairs.
    #[serde(with = "pairs")]
    buckets: BTreeMap<u16, u64>,
    sum_micros: u64,
}

/// JSON has no numbers as keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(buckets: &BTreeMap<u16, u64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(buckets)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u64>, D::Error> {
        let pairs = Vec::<(u16, u64)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

impl Latencies {
    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// The mean; `None` without a record.
    pub fn mean(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.sum_micros.checked_div(self.count())?))
    }

    /// The latency that the share `q` (0 to 1) of requests did not exceed; `None` without a record.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * q.clamp(0.0, 1.0)).max(f64::MIN_POSITIVE);
        let mut below = 0.0;
        for (bucket, count) in &self.buckets {
            let here = *count as f64;
            if below + here >= rank {
                let (begin, end) = (begin_of(*bucket), begin_of(bucket.saturating_add(1)));
                let inside = (rank - below) / here * (end - begin) as f64;
                return Some(Duration::from_micros(begin + inside as u64));
            }
            below += here;
        }
        None
    }

    /// The median.
    pub fn p50(&self) -> Option<Duration> {
        self.quantile(0.50)
    }

    /// The 95th percentile.
    pub fn p95(&self) -> Option<Duration> {
        self.quantile(0.95)
    }

    /// The 99th percentile.
    pub fn p99(&self) -> Option<Duration> {
        self.quantile(0.99)
    }

    /// What was recorded after `earlier` was read.
    pub fn since(&self, earlier: &Latencies) -> Latencies {
        let before = |bucket| earlier.buckets.get(bucket).copied().unwrap_or(0);
        Latencies {
            buckets: (self.buckets.iter())
                .map(|(bucket, count)| (*bucket, count.saturating_sub(before(bucket))))
                .filter(|(_, count)| *count > 0)
                .collect(),
            sum_micros: self.sum_micros.saturating_sub(earlier.sum_micros),
        }
    }

    /// Adds what another part recorded.
    pub fn merge(&mut self, other: &Latencies) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_begins_where_the_former_ends() {
        for bucket in 0..BUCKETS as u16 {
            let begin = begin_of(bucket);
            assert_eq!(bucket_of(begin), bucket, "begin {begin}");
            if bucket > 0 {
                assert_eq!(bucket_of(begin - 1), bucket - 1);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS as u16 - 1);
    }

    // R300
    #[test]
    fn percentiles_lie_within_a_bucket_of_the_truth() {
        let histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis));
        }
        let read = histogram.read();
        assert_eq!(read.count(), 1000);
        assert_eq!(read.mean(), Some(Duration::from_micros(500_500)));
        for (q, truth) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let seen = read.quantile(q).unwrap().as_secs_f64() * 1000.0;
            assert!((seen / truth - 1.0).abs() < 0.10, "{q}: {seen} of {truth}");
        }
        assert_eq!(Latencies::default().p50(), None);
    }

    #[test]
    fn a_difference_holds_only_what_came_later() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(1));
        let earlier = histogram.read();
        histogram.record(Duration::from_secs(1));
        let later = histogram.read().since(&earlier);
        assert_eq!(later.count(), 1);
        assert!(later.p50().unwrap() > Duration::from_millis(800));
        let mut merged = earlier.clone();
        merged.merge(&later);
        assert_eq!(merged, histogram.read());
    }
}
