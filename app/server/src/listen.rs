//! Connections to the one address: accepted, limited, served.
//!
//! In: a listener and the router. Out: answers. Never: waits for ever for a request's head; takes more connections
//! than it can hold descriptors for.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 2048;
/// For the head of a request, also between two requests of one connection.
const HEAD: Duration = Duration::from_secs(30);
/// After a failed `accept` (no descriptors left, for one): it must not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Lines of a push are small and must not wait for one another.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // A broken connection is the client's affair; what it asked for was recorded or was not.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}
