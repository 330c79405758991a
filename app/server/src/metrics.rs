//! `/metrics` in Prometheus' text format: the road in figures.

use crate::{Caller, Server};
use axum::extract::{Extension, State};
use http::header;
use slipway_model::instance::InstanceState;
use std::collections::BTreeMap;
use std::fmt::Write;

/// `GET /metrics`.
pub async fn metrics(
    State(server): State<Server>,
    Extension(caller): Extension<Caller>,
) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&server, &caller))
}

fn text(server: &Server, caller: &Caller) -> String {
    let mut out = String::new();
    server.road().look(|projection| {
        let _ = writeln!(out, "# HELP slipway_facts_total Facts in the journal.\n# TYPE slipway_facts_total counter\nslipway_facts_total {}", projection.n);
        let _ = writeln!(out, "# HELP slipway_changes Changes by state.\n# TYPE slipway_changes gauge");
        let visible = projection.projects.iter().filter(|(project, _)| caller.may("metrics", Some(project)));
        for (project, state) in visible {
            let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
            for change in &state.changes {
                *by_state.entry(change.state.word()).or_default() += 1;
            }
            for (word, count) in by_state {
                let _ = writeln!(out, "slipway_changes{{project=\"{project}\",state=\"{word}\"}} {count}");
            }
        }
        let _ = writeln!(out, "# HELP slipway_instances_ready Ready instances.\n# TYPE slipway_instances_ready gauge");
        each_lane(projection, caller, |labels, lane| {
            let ready = lane.seen.iter().flat_map(|seen| &seen.instances).filter(|instance| instance.state == InstanceState::Ready).count();
            let _ = writeln!(out, "slipway_instances_ready{{{labels}}} {ready}");
        });
        let _ = writeln!(out, "# HELP slipway_requests_total Requests that the proxy answered.\n# TYPE slipway_requests_total counter");
        each_release(projection, caller, |labels, counts| {
            let _ = writeln!(out, "slipway_requests_total{{{labels}}} {}", counts.requests);
        });
        let _ = writeln!(out, "# HELP slipway_request_errors_total Requests that got 5xx or no answer.\n# TYPE slipway_request_errors_total counter");
        each_release(projection, caller, |labels, counts| {
            let _ = writeln!(out, "slipway_request_errors_total{{{labels}}} {}", counts.errors);
        });
    });
    out
}

fn each_lane(
    projection: &slipway_feedback::Projection,
    caller: &Caller,
    mut each: impl FnMut(String, &slipway_feedback::lane::LaneState),
) {
    for (project, state) in &projection.projects {
        if !caller.may("metrics", Some(project)) {
            continue;
        }
        for lane in state.lanes.values() {
            let of = &lane.lane;
            each(
                format!("project=\"{}\",environment=\"{}\",service=\"{}\"", of.project, of.environment, of.service),
                lane,
            );
        }
    }
}

fn each_release(
    projection: &slipway_feedback::Projection,
    caller: &Caller,
    mut each: impl FnMut(String, slipway_model::traffic::Counts),
) {
    each_lane(projection, caller, |labels, lane| {
        for (release, traffic) in lane.traffic.iter().flat_map(|traffic| &traffic.releases) {
            each(format!("{labels},release=\"{release}\""), traffic.all);
        }
    });
}
