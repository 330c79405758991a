//! Broken files: whatever comes in, a configuration or problems come out.

use crate::{Facts, explain, lint, parse};

const SAMPLES: [&str; 3] = [
    "\
project: shop
branches: { production: main, include: ['feature/*'] }
services:
  api: &api
    path: ./api
    health: { path: /health, timeout: 1s }
    env: { A: x, B: { default: \"y\", production: 'z' } }
    secrets: [TOKEN, { name: KEY, as: file }]
    needs: [db]
  db: { <<: *api, path: /db, needs: [] }
",
    "\
jobs:
  test: off
  contract:
    steps:
      - run: |
          ./contract.sh \"$A\"
          \ttab
      - { name: ünïcödé 상점, run: 'x
            y' }
    on: [push]
    retry: { max: 2, on: [network, \"exit 75\"] }
    timeout: 10m
",
    "\
environments:
  staging: {}
  production:
    after: staging
    approve: { by: [leads], count: 2 }
    strategy: { rolling: { max_surge: 25%, max_unavailable: 0 } }
    verify: { errors: 1%, p95: +20%, smoke: [GET /, GET /health] }
",
];

const ODD: [char; 24] = [
    ' ', '\t', '\n', '\r', ':', '-', '{', '}', '[', ']', ',', '&', '*', '!', '|', '>', '\'', '"', '%', '#', '?', '\\',
    '\u{feff}', '상',
];

/// A linear congruential generator (Knuth, MMIX): the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

fn mutate(dice: &mut Dice, text: &mut Vec<char>) {
    let at = dice.below(text.len());
    match dice.below(6) {
        0 if !text.is_empty() => {
            text.remove(at);
        }
        1 => text.insert(at, ODD[dice.below(ODD.len())]),
        2 if !text.is_empty() => text[at] = ODD[dice.below(ODD.len())],
        3 => text.truncate(at.max(text.len() / 2)),
        4 => {
            let end = (at + dice.below(30)).min(text.len());
            let part: Vec<char> = text[at..end].to_vec();
            let to = dice.below(text.len());
            drop(text.splice(to..to, part));
        }
        _ => {
            let end = (at + dice.below(10)).min(text.len());
            text.drain(at..end);
        }
    }
}

#[test]
fn two_thousand_broken_files_never_panic() {
    let mut dice = Dice(20_240_917);
    let facts = Facts::default();
    for round in 0..2_000 {
        let mut text: Vec<char> = SAMPLES[round % SAMPLES.len()].chars().collect();
        for _ in 0..=dice.below(8) {
            mutate(&mut dice, &mut text);
        }
        let text: String = text.into_iter().collect();
        match parse("slipway.yaml", &text) {
            Ok(config) => {
                assert!(!explain(&config, &facts, None).is_empty());
                let _ = lint(&config, &text, &facts);
            }
            Err(problems) => {
                assert!(!problems.list.is_empty(), "in\n{text}");
                for problem in &problems.list {
                    assert!(problem.line > 0 && problem.column > 0, "{problem:?}\n{text}");
                    assert!(!problem.render(false).is_empty());
                }
            }
        }
    }
}

#[test]
fn the_samples_themselves_are_read() {
    for sample in SAMPLES {
        if let Err(problems) = parse("slipway.yaml", sample) {
            panic!("{problems}");
        }
    }
}
