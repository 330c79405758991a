//! The order in which releases take requests: their shares exact over any short while, the order unknown to everybody.
//!
//! In: weights, a seed, the number of a request. Out: whose turn it is. Immutable after it was made, so that many
//! threads ask it at once without a lock.
//!
//! A fixed order would give a client that is in step with it (one that asks the same ten URLs again and again while
//! every tenth request is the new release's) always the same URL of the new release.

use crate::routes::mix;

/// Turns that are shuffled together; the share of a release is exact, up to one turn, within as many.
const WINDOW: usize = 100;

/// One period of turns, each release as often as its weight says.
pub(crate) struct Deck {
    /// Smooth weighted round robin: as evenly spread as possible.
    turns: Vec<u8>,
    windows: usize,
    seed: u64,
}

impl Deck {
    pub(crate) fn new(weights: &[u32], seed: u64) -> Deck {
        let turns = period(weights);
        let windows = turns.len().div_ceil(WINDOW).max(1);
        Deck { turns, windows, seed }
    }

    /// Whose turn the request with this number is; nobody's when no weight is left.
    pub(crate) fn turn(&self, number: u64) -> Option<usize> {
        let count = self.turns.len();
        let at = match count {
            0 => return None,
            1 => 0,
            _ => self.shuffled(number / count as u64, below(number, count)),
        };
        self.turns.get(at).map(|turn| usize::from(*turn))
    }

    /// Each window is shuffled anew, and each period begins at another turn: a permutation of the period.
    fn shuffled(&self, period: u64, place: usize) -> usize {
        let count = self.turns.len();
        let key = mix(self.seed ^ mix(period));
        let window = ((place + 1) * self.windows - 1) / count;
        let begin = window * count / self.windows;
        let end = (window + 1) * count / self.windows;
        let card = begin + card(mix(key ^ window as u64), end - begin, place - begin);
        (card + below(key, count)) % count
    }
}

/// The card at a place of a deck of `count`, by an affine permutation that the key chooses.
fn card(key: u64, count: usize, place: usize) -> usize {
    let mut step = key >> 32;
    // It ends: sooner or later the step is one more than a multiple of the count.
    while gcd(step % count as u64, count as u64) != 1 {
        step += 1;
    }
    let offset = u128::from(key & u64::from(u32::MAX));
    let number = u128::from(step) * place as u128 + offset;
    // The remainder is smaller than `count`, so it fits.
    usize::try_from(number % count as u128).unwrap_or(0)
}

fn below(number: u64, count: usize) -> usize {
    usize::try_from(number % count as u64).unwrap_or(0)
}

/// One period of smooth weighted round robin, weights reduced by their common divisor.
fn period(weights: &[u32]) -> Vec<u8> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b)));
    if divisor == 0 {
        return Vec::new();
    }
    let weights: Vec<i64> = weights.iter().map(|w| i64::try_from(u64::from(*w) / divisor).unwrap_or(0)).collect();
    let sum: i64 = weights.iter().sum();
    let mut current = vec![0_i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..sum {
        for (have, weight) in current.iter_mut().zip(&weights) {
            *have += weight;
        }
        // The last of equals is the newest release: it is tried early rather than late.
        let best = (0..current.len()).max_by_key(|i| current.get(*i).copied());
        if let Some(have) = best.and_then(|best| current.get_mut(best)) {
            *have -= sum;
        }
        turns.extend(best.and_then(|best| u8::try_from(best).ok()));
    }
    turns
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], seed: u64, from: u64, count: u64) -> Vec<usize> {
        let deck = Deck::new(weights, seed);
        (from..from + count).map(|number| deck.turn(number).expect("there is a weight")).collect()
    }

    fn share(turns: &[usize], of: usize) -> usize {
        turns.iter().filter(|turn| **turn == of).count()
    }

    // R286
    #[test]
    fn the_share_is_exact_over_a_period_and_off_by_one_over_each_hundred_of_it() {
        for (weights, period, of_one) in [
            (&[90, 10][..], 10, 1),
            (&[2, 1], 3, 1),
            (&[9_999, 1], 10_000, 1),
            (&[6_667, 3_333], 10_000, 3_333),
            (&[7, 0, 94], 101, 0),
        ] {
            for seed in 0..5 {
                for from in [0, 10 * period, 977 * period] {
                    let turns = turns(weights, seed, from, period);
                    assert_eq!(share(&turns, 1) as u64, of_one, "{weights:?}");
                }
            }
        }
        for seed in 0..5 {
            for hundred in turns(&[6_667, 3_333], seed, 0, 30_000).chunks(100) {
                assert!((32..=34).contains(&share(hundred, 1)), "{}", share(hundred, 1));
            }
        }
    }

    // R286
    #[test]
    fn no_client_that_is_in_step_is_left_out_or_gets_more() {
        // Each asks every `step`-th time, which divides the period, or is a multiple of it.
        for (weights, step) in
            [(&[90, 10][..], 10), (&[1, 1], 2), (&[3, 1], 4), (&[75, 25], 100), (&[99, 1], 100), (&[100, 1], 101)]
        {
            let deck = Deck::new(weights, 42);
            let expected = f64::from(weights[1]) / f64::from(weights.iter().sum::<u32>());
            for first in 0..step {
                let asked = 20_000_u64;
                let new = (0..asked).filter(|n| deck.turn(first + n * step) == Some(1)).count();
                let seen = new as f64 / asked as f64;
                let deviation = (expected * (1.0 - expected) / asked as f64).sqrt();
                assert!((seen - expected).abs() < 5.0 * deviation, "{weights:?} from {first}: {seen} of {expected}");
            }
        }
    }

    #[test]
    fn the_order_is_another_for_another_seed_and_the_same_for_the_same() {
        let order = |seed| turns(&[90, 10], seed, 0, 200);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn without_a_weight_it_is_nobodys_turn() {
        assert_eq!(Deck::new(&[], 1).turn(0), None);
        assert_eq!(Deck::new(&[0, 0], 1).turn(3), None);
        assert_eq!(Deck::new(&[0, 5], 1).turn(3), Some(1));
    }
}
