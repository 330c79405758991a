//! In: things and what each must come after. Out: an order, or the circles
//! that make one impossible. Pure; never recurses.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Environment;
use crate::nearest;
use crate::problem::quoted;
use crate::read::Reader;

/// How many circles are reported.
const CIRCLES_MAX: usize = 20;

/// What must come before each thing. Unknown names are not listed.
pub(crate) type Before = BTreeMap<String, BTreeSet<String>>;

/// Circles in this graph, each once and by its names in order.
pub(crate) fn circles(before: &Before) -> Vec<Vec<String>> {
    let mut left = before.clone();
    let mut found = Vec::new();
    while found.len() < CIRCLES_MAX {
        peel(&mut left);
        let Some(first) = left.keys().next().cloned() else {
            break;
        };
        let circle = walk(&left, first);
        for name in &circle {
            left.remove(name);
        }
        for names in left.values_mut() {
            names.retain(|name| !circle.contains(name));
        }
        found.push(circle);
    }
    found
}

/// Takes away, again and again, what waits for nothing that is left.
fn peel(left: &mut Before) {
    let mut waiters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for (name, names) in left.iter() {
        let mut count = 0;
        for one in names.iter().filter(|one| left.contains_key(*one)) {
            waiters.entry(one.clone()).or_default().push(name.clone());
            count += 1;
        }
        open.insert(name.clone(), count);
    }
    let mut ready: Vec<String> = open.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.clone()).collect();
    while let Some(name) = ready.pop() {
        left.remove(&name);
        for waiter in waiters.remove(&name).unwrap_or_default() {
            if let Some(count) = open.get_mut(&waiter) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push(waiter);
                }
            }
        }
    }
}

/// Follows what waits for what until a name comes again. Every name that is
/// left waits for another one that is left.
fn walk(left: &Before, first: String) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut current = first;
    loop {
        if let Some(start) = place.get(&current) {
            return path.split_off(*start);
        }
        place.insert(current.clone(), path.len());
        path.push(current.clone());
        let next = left.get(&current).and_then(|names| names.iter().find(|name| left.contains_key(*name)));
        match next {
            Some(next) => current = next.clone(),
            None => return path,
        }
    }
}

/// `a` → `b` → `a`, for messages.
pub(crate) fn shown(circle: &[String]) -> String {
    let mut names: Vec<String> = circle.iter().take(10).map(|name| quoted(name)).collect();
    if circle.len() > 10 {
        names.push("…".to_owned());
    }
    names.extend(circle.first().map(|name| quoted(name)));
    names.join(" → ")
}

/// The environments with none before what it is `after`; otherwise in the
/// order of the file.
pub(crate) fn by_promotion(reader: &mut Reader<'_>, environments: Vec<Environment>) -> Vec<Environment> {
    let names: BTreeSet<String> = environments.iter().map(|one| one.name.clone()).collect();
    let mut before = Before::new();
    for environment in &environments {
        let known = known_after(reader, environment, &names);
        before.insert(environment.name.clone(), known);
    }
    let circles = circles(&before);
    for circle in &circles {
        let message = format!("environments wait for each other: {}", shown(circle));
        let at = environments
            .iter()
            .find(|one| circle.first() == Some(&one.name))
            .and_then(|one| one.after.as_ref())
            .map(|after| after.at)
            .unwrap_or_default();
        reader.error(at, &message, Some("remove one `after`"));
    }
    if !circles.is_empty() {
        return environments;
    }
    sorted(environments, &before)
}

fn sorted(environments: Vec<Environment>, before: &Before) -> Vec<Environment> {
    let mut waiting = environments;
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|one| before.get(&one.name).is_none_or(|names| names.is_subset(&done)));
        // There is no circle, so one is always ready.
        let next = waiting.remove(ready.unwrap_or(0));
        done.insert(next.name.clone());
        ordered.push(next);
    }
    ordered
}

fn known_after(reader: &mut Reader<'_>, environment: &Environment, names: &BTreeSet<String>) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for after in environment.after.iter().flat_map(|after| &after.value) {
        if names.contains(&after.value) {
            known.insert(after.value.clone());
            continue;
        }
        let others: Vec<&str> = names.iter().filter(|name| **name != environment.name).map(String::as_str).collect();
        let message = format!("unknown environment {}", quoted(&after.value));
        let hint = nearest::hint(&after.value, &others);
        reader.error(after.at, &message, hint.as_deref());
    }
    known
}
