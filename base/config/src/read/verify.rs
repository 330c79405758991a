//! In: the table `verify` of an environment. Out: the numbers that it gives.
//! Never switches verification off: the smallest one is readiness alone.

use crate::model::{Smoke, Spanned, Verify};
use crate::problem::quoted;
use crate::read::quantities::DurationRule;
use crate::read::services::request_path;
use crate::read::{Reader, Section, is_off};
use crate::units::{DAY, HOUR};
use crate::yaml::Node;

const VERIFY: Section =
    Section { what: "`verify`", read: &["hold", "requests", "wait", "errors", "p95", "smoke", "bake"], later: &[] };

/// A step that holds longer than an hour is a soak.
const STEP_WAIT: DurationRule = DurationRule { usual: "s", least: 0, most: HOUR };

const BAKE: DurationRule = DurationRule { usual: "m", least: 0, most: DAY };

/// The most smoke requests of one step.
const SMOKE_MAX: usize = 50;

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node) -> Verify {
    let mut verify = Verify::default();
    if is_off(node) {
        let hint = "`smoke: []` with `requests: 1` leaves readiness and real requests alone";
        reader.error(node.at, "`verify` cannot be switched off", Some(hint));
        return verify;
    }
    let Some(table) = reader.table(node, &VERIFY) else {
        return verify;
    };
    if let Some(node) = table.get("hold") {
        verify.hold = reader.duration(node, "hold", &STEP_WAIT);
    }
    if let Some(node) = table.get("requests") {
        verify.requests = reader.number(node, "requests", 1, 1_000_000);
    }
    if let Some(node) = table.get("wait") {
        verify.wait = reader.duration(node, "wait", &STEP_WAIT);
    }
    if let Some(node) = table.get("errors") {
        verify.errors = reader.percent(node, "errors", 100);
    }
    if let Some(node) = table.get("p95") {
        verify.p95 = reader.increase(node, "p95");
    }
    if let Some(node) = table.get("smoke") {
        verify.smoke = smoke(reader, node);
    }
    if let Some(node) = table.get("bake") {
        verify.bake = reader.duration(node, "bake", &BAKE);
    }
    if let (Some(hold), Some(wait)) = (&verify.hold, &verify.wait)
        && hold.value > wait.value
    {
        let message = format!("`hold` ({}) is longer than `wait` ({})", hold.value, wait.value);
        let hint = "`wait` is the most that a step waits, `hold` a part of it";
        reader.error(hold.at, &message, Some(hint));
    }
    verify
}

fn smoke(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<Vec<Smoke>>> {
    let requests = reader.texts(node, "smoke")?;
    if requests.len() > SMOKE_MAX {
        let message = format!("`smoke` has more than {SMOKE_MAX} requests");
        reader.error(node.at, &message, None);
    }
    let smoke = requests.iter().take(SMOKE_MAX).filter_map(|request| smoke_request(reader, request)).collect();
    Some(Spanned::new(smoke, node.at))
}

fn smoke_request(reader: &mut Reader<'_>, request: &Spanned<String>) -> Option<Smoke> {
    let (method, path) = match request.value.split_once(' ') {
        Some((method, path)) => (method, path.trim()),
        None => ("GET", request.value.as_str()),
    };
    if !["GET", "HEAD", "OPTIONS"].contains(&method) {
        let message = format!("a smoke request cannot be {}", quoted(method));
        let hint = "it must have no effect: `GET`, `HEAD` or `OPTIONS`";
        reader.error(request.at, &message, Some(hint));
        return None;
    }
    let path = request_path(reader, request, "smoke", path)?;
    Some(Smoke { method: method.to_owned(), path })
}
