//! Smoke requests: directly inside, to every ready instance of a release.
//!
//! In: doors, requests. Out: one answer per instance and request. Never through the proxy, never longer than 5 s each.

use crate::http;
use crate::inside::Inside;
use futures::future::join_all;
use slipway_model::InstanceId;
use slipway_model::policy::Smoke;
use slipway_ports::Smoked;
use std::time::Duration;
use tokio::time::Instant;

/// For one request, connection included.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Instances at the same time; requests to one of them in their order.
pub(crate) async fn smoke(inside: &Inside, instances: &[InstanceId], requests: &[Smoke]) -> Vec<Smoked> {
    let asked = instances.iter().map(|id| async move {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(one(inside, id, request).await);
        }
        answers
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn one(inside: &Inside, id: &InstanceId, request: &Smoke) -> Smoked {
    let begun = Instant::now();
    let answer = async {
        let door = inside.door(id.as_str()).ok_or_else(|| "the instance does not run".to_owned())?;
        let stream = tokio::time::timeout(REQUEST_LIMIT, door.connect()).await;
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
