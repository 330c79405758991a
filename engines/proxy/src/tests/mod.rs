//! The proxy over real sockets, with backends and clients of its own.

mod counting;
mod draining;
mod http2;
mod hygiene;
mod limits;
mod passing;
mod pooling;
mod routing;
mod tls;
mod upgrades;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::*;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// What a backend saw.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

/// A backend that answers 200 with its name. `/status/NNN` answers that; `/slow` waits for a permit
/// of `gate`; `/echo` answers the request's body; `/empty/NNN` has no body; `/items/bad-in-NAME` is
/// 500 if that is its name, and so is everything with a `noise` header.
#[derive(Clone)]
struct Origin {
    name: String,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    gate: Arc<Semaphore>,
    arrived: Arc<Semaphore>,
}

impl Origin {
    async fn start(name: &str) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin {
            name: name.to_owned(),
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            seen: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            arrived: Arc::new(Semaphore::new(0)),
        };
        let own = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                own.connections.fetch_add(1, SeqCst);
                let own = own.clone();
                let service = service_fn(move |request| own.clone().answer(request));
                let io = TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        origin
    }

    async fn answer(self, request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?;
        let seen = Seen {
            trailers: body.trailers().cloned().unwrap_or_default(),
            method: parts.method,
            uri: parts.uri.clone(),
            headers: parts.headers,
            body: body.to_bytes(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        self.arrived.add_permits(1);
        let path = parts.uri.path();
        let status = |prefix: &str| path.strip_prefix(prefix)?.parse::<u16>().ok();
        let mut response = Response::new(Full::from(self.name.clone()));
        if path == "/slow" {
            self.gate.acquire().await.unwrap().forget();
        } else if path == "/echo" {
            *response.body_mut() = Full::from(seen.body);
        } else if path == format!("/items/bad-in-{}", self.name) || seen.headers.contains_key("noise") {
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        } else if let Some(status) = status("/status/") {
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        } else if let Some(status) = status("/empty/") {
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            *response.body_mut() = Full::default();
        }
        let headers = response.headers_mut();
        headers.insert("keep-alive", "timeout=9".parse().unwrap());
        headers.insert("x-origin", "yes".parse().unwrap());
        Ok(response)
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

/// A backend that speaks bytes: every connection is handed to `speak`.
async fn raw_origin(speak: impl Fn(TcpStream, usize) -> BoxFuture<'static, ()> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            tokio::spawn(speak(stream, number));
        }
    });
    address
}

/// A backend that answers each request, none of which has a body, with these bytes.
async fn answering(bytes: &'static str) -> SocketAddr {
    raw_origin(move |mut stream, _| {
        Box::pin(async move {
            while !read_request(&mut stream).await.is_empty() {
                stream.write_all(bytes.as_bytes()).await.unwrap();
            }
        })
    })
    .await
}

/// Reads a head, and the body when it has a length.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return text;
            }
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or(0, |l| l.split("\r\n").next().unwrap().parse().unwrap());
        if read == 0 || body.len() >= length {
            return text;
        }
    }
}

/// A proxy with one listener for hosts.
struct World {
    proxy: Proxy,
    listener: Listener,
    address: SocketAddr,
    connector: Arc<TcpConnector>,
}

impl World {
    fn new() -> World {
        World::with(Limits::default())
    }

    fn with(limits: Limits) -> World {
        let connector = Arc::new(TcpConnector::new());
        let proxy = Proxy::new(limits, Arc::clone(&connector) as Arc<dyn Connector>, 7);
        let listener = listen(&proxy, Binding::Hosts);
        World { address: listener.local_addr(), proxy, listener, connector }
    }

    /// Routes `api` to one instance per origin, each its own release with a weight. Instances are
    /// named as the origins, releases `r-NAME`.
    fn route(&self, origins: &[(&Origin, u32)]) {
        let releases = origins.iter().map(|(origin, weight)| {
            self.connector.set(&origin.name, origin.address);
            release(&format!("r-{}", origin.name), *weight, &[&origin.name])
        });
        let table = Table { services: vec![service(releases.collect())] };
        self.proxy.apply(table).unwrap();
    }

    /// Routes `api` to one instance.
    fn serve(&self, instance: &str, address: SocketAddr) {
        self.connector.set(instance, address);
        let services = vec![service(vec![release("r1", 1, &[instance])])];
        self.proxy.apply(Table { services }).unwrap();
    }

    async fn client(&self) -> Client {
        Client::open(self.address).await
    }

    fn stats(&self) -> Stats {
        self.proxy.snapshot(&key()).unwrap()
    }
}

fn listen(proxy: &Proxy, binding: Binding) -> Listener {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.listen(socket, binding).unwrap()
}

fn key() -> ServiceKey {
    ServiceKey { project: "shop".to_owned(), environment: "production".to_owned(), service: "api".to_owned() }
}

fn service(releases: Vec<Upstreams>) -> Service {
    Service {
        key: key(),
        hosts: vec!["api.localhost".to_owned()],
        ports: vec![8080],
        affinity: Affinity::None,
        protocol: Protocol::Http1,
        hold_ms: 0,
        notice: Notice::default(),
        releases,
    }
}

fn release(id: &str, weight: u32, instances: &[&str]) -> Upstreams {
    let backends =
        instances.iter().map(|instance| Backend { instance: (*instance).to_owned(), state: BackendState::Serving });
    Upstreams { release: id.to_owned(), weight, backends: backends.collect() }
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

/// A client with one keep-alive connection.
struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    async fn open(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Reply {
        soon(self.try_send(request)).await.expect("an answer")
    }

    async fn try_send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn get(&mut self, path: &str) -> Reply {
        self.send(get(path)).await
    }

    async fn post(&mut self, path: &str, body: &str) -> Reply {
        let mut request = get(path);
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::from(body.to_owned());
        self.send(request).await
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "API.localhost:8080").body(Full::default()).unwrap()
}

/// Sends bytes, reads until the other side closes.
async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end, too.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("no answer")
}

fn tally(bodies: &[String]) -> HashMap<&str, usize> {
    let mut tally = HashMap::new();
    for body in bodies {
        *tally.entry(body.as_str()).or_default() += 1;
    }
    tally
}
