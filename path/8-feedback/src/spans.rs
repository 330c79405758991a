//! Where a change's time goes beside its jobs and rollouts: planning, building, waiting before environments (R075).
//!
//! In: facts of the change. Out: spans in its view. Never: a span without an end once the change is over.

use slipway_model::fact::{Body, Candidate, Fact, Gate};
use slipway_model::view::{ChangeView, SpanView};
use slipway_model::{At, ItemId, ServiceName};

/// Spans of one change; a gate that opens and closes for ever is not told to the end.
const SPANS: usize = 2_000;

/// Takes one fact of the change.
pub fn apply(view: &mut ChangeView, fact: &Fact) {
    let at = fact.at;
    match &fact.body {
        Body::PlanMade { .. } => add(view, span("plan", None, view.received, Some(at))),
        Body::ImageStarted { item, .. } => {
            let service = service_of(item);
            if open(view, "image", service.as_ref()).is_none() {
                add(view, span("image", service, at, None));
            }
        }
        Body::ImageBuilt(image) => close(view, "image", Some(&image.service), at),
        Body::ImageFailed { item, .. } => close(view, "image", service_of(item).as_ref(), at),
        Body::ReleaseMade { release, .. } => {
            let service = &release.bundle.service;
            let built = view.spans.iter().rev().find(|span| is(span, "image", Some(service)));
            let from = built.and_then(|span| span.to).unwrap_or(at);
            add(view, span("release", Some(service.clone()), from, Some(at)));
        }
        Body::ReleaseQueued(candidate) => waits(view, candidate, "its turn", at),
        Body::ReleaseGated { candidate, gate: Gate::Wait { reason, .. } } => waits(view, candidate, reason, at),
        Body::ReleaseGated { candidate, .. } => let_go(view, candidate, at),
        Body::ChangeEnded { .. } => {
            view.spans.iter_mut().filter(|span| span.to.is_none()).for_each(|span| span.to = Some(at));
        }
        _ => {}
    }
}

/// Since when nothing but a free place was missing to a job: the plan was made, and what it needs had ended.
pub fn free_since(view: &ChangeView, item: &ItemId) -> At {
    let planned = view.spans.iter().find(|span| span.station == "plan").and_then(|span| span.to);
    let needs = view.plan.items.iter().find(|known| &known.id == item).map(|known| known.needs.as_slice());
    let ended = needs.unwrap_or_default().iter().filter_map(|need| {
        let name = crate::change::name_of(need);
        view.jobs.iter().find(|job| job.name == name).and_then(|job| job.ended)
    });
    ended.chain(planned).max().unwrap_or(view.received)
}

fn service_of(item: &ItemId) -> Option<ServiceName> {
    ServiceName::parse(&crate::change::name_of(item)).ok()
}

fn span(station: &str, service: Option<ServiceName>, from: At, to: Option<At>) -> SpanView {
    SpanView { station: station.into(), service, environment: None, waits_for: None, from, to }
}

fn add(view: &mut ChangeView, span: SpanView) {
    if view.spans.len() < SPANS {
        view.spans.push(span);
    }
}

fn is(span: &SpanView, station: &str, service: Option<&ServiceName>) -> bool {
    span.station == station && span.service.as_ref() == service
}

fn open<'a>(view: &'a mut ChangeView, station: &str, service: Option<&ServiceName>) -> Option<&'a mut SpanView> {
    view.spans.iter_mut().find(|span| is(span, station, service) && span.to.is_none())
}

fn close(view: &mut ChangeView, station: &str, service: Option<&ServiceName>, at: At) {
    if let Some(span) = open(view, station, service) {
        span.to = Some(at);
    }
}

fn gate<'a>(view: &'a mut ChangeView, candidate: &Candidate) -> Option<&'a mut SpanView> {
    let lane = &candidate.lane;
    view.spans.iter_mut().find(|span| {
        is(span, "gate", Some(&lane.service))
            && span.environment.as_ref() == Some(&lane.environment)
            && span.to.is_none()
    })
}

/// It waits, from now on for this: another reason is another span, so that the longest wait has one name.
fn waits(view: &mut ChangeView, candidate: &Candidate, why: &str, at: At) {
    match gate(view, candidate) {
        Some(span) if span.waits_for.as_deref() == Some(why) => return,
        Some(span) => span.to = Some(at),
        None => {}
    }
    let lane = &candidate.lane;
    let wait = span("gate", Some(lane.service.clone()), at, None);
    add(view, SpanView { environment: Some(lane.environment.clone()), waits_for: Some(why.to_owned()), ..wait });
}

fn let_go(view: &mut ChangeView, candidate: &Candidate, at: At) {
    if let Some(span) = gate(view, candidate) {
        span.to = Some(at);
    }
}
