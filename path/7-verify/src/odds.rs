//! Exact odds for small counts.
//!
//! In: counts. Out: one-sided p-values. Never: an approximation for few requests, where approximations lie.

/// ln(n!) by summation for small n and Stirling's series (to 1/n³) above, where it is exact to 1e-12.
fn ln_factorial(n: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let x = n as f64;
    if n < 64 {
        return (2..=n)
            .map(|k| {
                #[allow(clippy::cast_precision_loss)]
                let k = k as f64;
                k.ln()
            })
            .sum();
    }
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3))
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Fisher's exact test, one-sided: how likely at least `new_errors` of all errors fall on the new release by chance.
#[must_use]
pub fn fisher(new_errors: u64, new_requests: u64, old_errors: u64, old_requests: u64) -> f64 {
    let (errors, requests) = (new_errors + old_errors, new_requests + old_requests);
    if new_requests == 0 || old_requests == 0 || errors == 0 {
        return 1.0;
    }
    let all = ln_choose(requests, errors);
    let most = errors.min(new_requests);
    let p: f64 = (new_errors..=most)
        .filter(|k| errors - k <= old_requests)
        .map(|k| (ln_choose(new_requests, k) + ln_choose(old_requests, errors - k) - all).exp())
        .sum();
    p.min(1.0)
}

/// How likely at least `errors` of `requests` fail when each fails with `rate` (0 to 1).
#[must_use]
pub fn binomial_tail(errors: u64, requests: u64, rate: f64) -> f64 {
    if errors == 0 || rate >= 1.0 {
        return 1.0;
    }
    if rate <= 0.0 {
        return 0.0;
    }
    // From the largest term downwards the rest soon adds nothing.
    let mut p = 0.0;
    for k in errors..=requests {
        #[allow(clippy::cast_precision_loss)]
        let term = (ln_choose(requests, k) + k as f64 * rate.ln() + (requests - k) as f64 * (1.0 - rate).ln()).exp();
        p += term;
        if term < p * 1e-12 {
            break;
        }
    }
    p.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 + b.abs() * 1e-6, "{a} is not {b}");
    }

    #[test]
    fn fisher_agrees_with_counting_by_hand() {
        close(fisher(5, 5, 0, 10), 1.0 / 3003.0); // 1 of C(15, 5)
        close(fisher(1, 1, 0, 20), 1.0 / 21.0);
        close(fisher(3, 10, 1, 30), 0.041_689_462_742_094_32); // summed with exact integers
        close(fisher(0, 10, 5, 10), 1.0);
    }

    #[test]
    fn the_binomial_tail_agrees_with_counting_by_hand() {
        close(binomial_tail(3, 3, 0.01), 1e-6);
        close(binomial_tail(1, 10, 0.5), 1.0 - 0.5_f64.powi(10));
        close(binomial_tail(0, 10, 0.5), 1.0);
    }

    #[test]
    fn large_counts_stay_finite() {
        let p = fisher(2_000, 100_000, 1_000, 100_000);
        assert!((0.0..1e-50).contains(&p), "{p}");
        assert!(fisher(2_000, 100_000, 2_000, 100_000) > 0.4);
    }
}
