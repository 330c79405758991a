//! Smoke requests: directly inside, to every ready instance of a release.
//!
//! In: doors, requests. Out: one answer per instance and request. Never through the proxy, never longer than 5 s each,
//! never a failure that only happened once where asking again is safe.

use crate::http;
use crate::inside::Inside;
use futures::future::join_all;
use slipway_model::InstanceId;
use slipway_model::policy::Smoke;
use slipway_ports::Smoked;
use std::time::Duration;
use tokio::time::Instant;

/// For one request, connections and further tries included.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// A release that fails 2 % of everything is no worse than before: only a request that fails again and again is told.
const TRIES: u32 = 3;

/// Instances at the same time; requests to one of them in their order.
pub(crate) async fn smoke(inside: &Inside, instances: &[InstanceId], requests: &[Smoke]) -> Vec<Smoked> {
    let asked = instances.iter().map(|id| async move {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(tried(inside, id, request).await);
        }
        answers
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn tried(inside: &Inside, id: &InstanceId, request: &Smoke) -> Smoked {
    let begun = Instant::now();
    let tries = if matches!(request.method.as_str(), "GET" | "HEAD") { TRIES } else { 1 };
    let mut answer = one(inside, id, request, begun).await;
    for _ in 1..tries {
        if (1..500).contains(&answer.status) || begun.elapsed() >= REQUEST_LIMIT {
            break;
        }
        answer = one(inside, id, request, begun).await;
    }
    answer
}

async fn one(inside: &Inside, id: &InstanceId, request: &Smoke, begun: Instant) -> Smoked {
    let answer = async {
        let door = inside.door(id.as_str()).ok_or_else(|| "the instance does not run".to_owned())?;
        let stream = tokio::time::timeout(REQUEST_LIMIT.saturating_sub(begun.elapsed()), door.connect()).await;
        let stream = stream.map_err(|_| "did not accept a connection".to_owned())?.map_err(|e| e.to_string())?;
        http::request(stream, &request.method, &request.path, REQUEST_LIMIT.saturating_sub(begun.elapsed())).await
    };
    let (status, body) = match answer.await {
        Ok(answer) => (answer.status, answer.body),
        Err(why) => (0, why),
    };
    Smoked {
        instance: id.to_string(),
        request: format!("{} {}", request.method, request.path),
        status,
        latency_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        body,
    }
}
