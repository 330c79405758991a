//! How an image behaves once it runs.

use std::collections::BTreeMap;

/// When an instance becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// After so many milliseconds.
    After(u64),
    /// Never; it lives and listens nowhere.
    Never,
    /// It ends with this code before it is ready.
    Exits(i32),
}

/// How an image behaves once it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// When it becomes ready.
    pub ready: Readiness,
    /// Failing requests: method and path, and how many of a thousand fail. `*` is every path.
    pub fails: BTreeMap<String, u64>,
    /// Typical latency.
    pub latency_us: u64,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour { ready: Readiness::After(50), fails: BTreeMap::new(), latency_us: 2_000 }
    }
}

impl Behaviour {
    /// Reads a behaviour from a source file of the fake world: `ready 200`, `never`, `exits 1`,
    /// `fails GET /entries 1000`, `latency 90000`; other lines are the rest of the program.
    #[must_use]
    pub fn parse(text: &str) -> Behaviour {
        let mut behaviour = Behaviour::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["ready", ms] => behaviour.ready = Readiness::After(ms.parse().unwrap_or(50)),
                ["never"] => behaviour.ready = Readiness::Never,
                ["exits", code] => behaviour.ready = Readiness::Exits(code.parse().unwrap_or(1)),
                ["fails", "*", permille] => drop(behaviour.fails.insert("*".into(), permille.parse().unwrap_or(1000))),
                ["fails", method, path, permille] => {
                    behaviour.fails.insert(format!("{method} {path}"), permille.parse().unwrap_or(1000));
                }
                ["latency", us] => behaviour.latency_us = us.parse().unwrap_or(2_000),
                _ => {}
            }
        }
        behaviour
    }

    /// How many of a thousand requests like this fail.
    #[must_use]
    pub fn fails_permille(&self, request: &str) -> u64 {
        self.fails.get(request).or_else(|| self.fails.get("*")).copied().unwrap_or(0)
    }
}
