use super::*;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::client::TlsStream;

/// Made once, for a hundred years, for these tests alone.
const API: (&str, &str) = (include_str!("fixtures/api.pem"), include_str!("fixtures/api-key.pem"));
const APPS: (&str, &str) = (include_str!("fixtures/apps.pem"), include_str!("fixtures/apps-key.pem"));

/// A folder of certificates, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let number = getrandom::u64().unwrap();
        let path = std::env::temp_dir().join(format!("slipway-proxy-{number:016x}"));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, pair: (&str, &str)) -> CertificateFiles {
        let files = CertificateFiles {
            certificate: self.0.join(format!("{name}.pem")),
            key: self.0.join(format!("{name}.key")),
        };
        replace(&files.certificate, pair.0, 0o644);
        replace(&files.key, pair.1, 0o600);
        files
    }
}

/// As tools that renew certificates do: another file takes the place.
fn replace(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A client that trusts both certificates.
async fn connect(address: SocketAddr, name: &'static str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for (certificate, _) in [API, APPS] {
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    soon(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

fn secure(world: &World, certificates: &Certificates) -> Listener {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.proxy.listen_tls(socket, Binding::Hosts, certificates).unwrap()
}

/// The certificate that was shown.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pair: (&str, &str)) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn a_service_is_reached_over_tls_with_both_versions_of_http() {
    let folder = Folder::new();
    let certificates = Certificates::read(vec![folder.write("api", API)]).unwrap();
    let world = World::new();
    let origin = Origin::start("one").await;
    world.route(&[(&origin, 1)]);
    let listener = secure(&world, &certificates);

    let mut stream = connect(listener.local_addr(), "api.localhost", &["http/1.1"]).await.unwrap();
    let big = "x".repeat(300_000);
    let asked = format!(
        "POST /echo HTTP/1.1\r\nHost: api.localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{big}",
        big.len()
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It ends with a goodbye: an end without one is an error here.
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&big));
    let seen = origin.last();
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["forwarded"], "for=127.0.0.1;host=\"api.localhost\";proto=https");

    let stream = connect(listener.local_addr(), "api.localhost", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://api.localhost/").body(()).unwrap();
    let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 200);
    assert_eq!(origin.last().headers["x-forwarded-proto"], "https");
}

#[tokio::test]
async fn the_name_that_is_asked_for_chooses_the_certificate() {
    let folder = Folder::new();
    let files = vec![folder.write("api", API), folder.write("apps", APPS)];
    let certificates = Certificates::read(files).unwrap();
    let world = World::new();
    let listener = secure(&world, &certificates);
    for (name, pair) in [("api.localhost", API), ("web.apps.localhost", APPS)] {
        let stream = connect(listener.local_addr(), name, &[]).await.unwrap();
        assert_eq!(shown(&stream), der(pair), "{name}");
    }
    // Nobody has it: the first is shown, and the client judges.
    assert!(connect(listener.local_addr(), "a.b.apps.localhost", &[]).await.is_err());
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change_and_only_if_they_are_good() {
    let folder = Folder::new();
    let files = folder.write("served", API);
    let certificates = Certificates::read(vec![files.clone()]).unwrap();
    let world = World::new();
    let listener = secure(&world, &certificates);
    let kept = connect(listener.local_addr(), "api.localhost", &[]).await.unwrap();
    assert!(!certificates.reload().unwrap(), "nothing has changed");

    replace(&files.certificate, APPS.0, 0o644);
    let error = certificates.reload().unwrap_err();
    assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
    let stream = connect(listener.local_addr(), "api.localhost", &[]).await.unwrap();
    assert_eq!(shown(&stream), der(API), "the former pair serves on");
    assert!(!certificates.reload().unwrap(), "it is said once");

    replace(&files.key, APPS.1, 0o600);
    assert!(certificates.reload().unwrap());
    let stream = connect(listener.local_addr(), "api.localhost", &[]).await.unwrap();
    assert_eq!(shown(&stream), der(APPS));
    assert_eq!(shown(&kept), der(API), "open connections live on");
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused_without_showing_it() {
    let folder = Folder::new();
    let files = folder.write("api", API);
    let read = || Certificates::read(vec![files.clone()]).map(drop).unwrap_err().to_string();
    replace(&files.key, API.1, 0o640);
    assert_eq!(
        read(),
        format!("`{}` is a private key that others may read (mode 0640); `chmod 600` it", files.key.display())
    );
    replace(&files.key, API.0, 0o600);
    assert_eq!(read(), format!("`{}` holds no private key in PEM", files.key.display()));
    replace(&files.key, API.1, 0o600);
    replace(&files.certificate, API.1, 0o644);
    assert_eq!(read(), format!("`{}` holds no certificate in PEM", files.certificate.display()));
    std::fs::remove_file(&files.certificate).unwrap();
    assert_eq!(read(), format!("`{}` cannot be read", files.certificate.display()));
    assert_eq!(Certificates::read(Vec::new()).map(drop).unwrap_err().to_string(), "no certificate was given");
}

#[test]
fn names_are_read_from_a_certificate_and_nonsense_has_none() {
    assert_eq!(crate::der::names(&der(API)), ["api.localhost"]);
    assert_eq!(crate::der::names(&der(APPS)), ["*.apps.localhost", "api.localhost"]);
    for end in 0..der(API).len() {
        // Cut anywhere it must come to an end, with or without a name.
        let _ = crate::der::names(&der(API)[..end]);
    }
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_closed() {
    let folder = Folder::new();
    let certificates = Certificates::read(vec![folder.write("api", API)]).unwrap();
    let world = World::with(Limits { head_read_timeout: Duration::from_millis(30), ..Limits::default() });
    let listener = secure(&world, &certificates);
    for sent in ["", "\x16\x03\x01\x02", "GET / HTTP/1.1\r\nHost: api.localhost\r\n\r\n"] {
        // Plain HTTP gets an alert of TLS; nobody gets a stack of open sockets.
        let answer = raw(listener.local_addr(), sent).await;
        assert!(!answer.contains("HTTP/1.1"), "{answer:?}");
    }
}
