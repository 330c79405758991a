//! The protocol over a real socket.

mod manifests;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use slipway_blobs::{Blobs, Digest};
use tokio::net::{TcpListener, TcpStream};

use crate::{Action, Challenge, FileIndex, Limits, Registry, Repository, router};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry on a free port, in a folder of its own.
struct Server {
    root: PathBuf,
    address: String,
    registry: Registry,
    blobs: Blobs,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }

    fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}

/// `Bearer NAME`: nobody is unknown, `reader` may not push, nobody but `eve` sees `eve/…`.
fn rights(parts: &Parts, repository: Option<&Repository>, action: Action) -> Result<(), Challenge> {
    let who = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let who = who.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Challenge::Unauthenticated)?;
    let is_private = repository.is_some_and(|repository| repository.project() == "eve");
    match action == Action::Push && who == "reader" || is_private && who != "eve" {
        true => Err(Challenge::Forbidden),
        false => Ok(()),
    }
}

impl Server {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("slipway-registry-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let blobs = Blobs::open(root.join("blobs")).unwrap();
        let index = FileIndex::open(root.join("index")).unwrap();
        let registry = Registry::with_limits(blobs.clone(), Arc::new(index), Arc::new(rights), limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = router(registry.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { root, address, registry, blobs }
    }

    async fn send_as(&self, who: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address);
        if !who.is_empty() {
            request = request.header("authorization", format!("Bearer {who}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send_as("adam", method, path, headers, body).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    /// Pushes a blob in one request.
    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let reply = self.send("POST", &path, &[], bytes).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        digest
    }

    /// Pushes an image of one layer.
    async fn push(&self, repository: &str, reference: &str, layer: &str) -> Reply {
        self.push_blob(repository, layer.as_bytes()).await;
        self.push_blob(repository, b"{}").await;
        let body = image(layer);
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send("PUT", &path, &[("content-type", IMAGE)], body.as_bytes()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// The manifest of an image with the configuration `{}` and one layer.
fn image(layer: &str) -> String {
    let part = |kind: &str, text: &str| {
        let digest = Digest::of(text.as_bytes());
        serde_json::json!({ "mediaType": kind, "digest": digest, "size": text.len() })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": IMAGE,
        "config": part("application/vnd.oci.image.config.v1+json", "{}"),
        "layers": [part("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    manifest.to_string()
}

fn repository(text: &str) -> Repository {
    text.parse().unwrap()
}
