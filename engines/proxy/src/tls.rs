//! Certificates given as files, chosen by the name that a client asks for, and read again when they change.
//!
//! In: pairs of files. Out: what TLS needs. Never shows anything of a key, and takes none that others can read.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::der;

/// A file with more is none of certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Pairs of files of one proxy.
const PAIRS_MAX: usize = 256;
/// Whoever else may read or write a key.
const OTHERS: u32 = 0o077;

/// A certificate and its key, as files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and behind it those that it rests on.
    pub certificate: PathBuf,
    /// The private key; readable by its owner alone.
    pub key: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("`{}` cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// Others may read the key.
    #[error("`{}` is a private key that others may read (mode {mode:04o}); `chmod 600` it", .path.display())]
    Open {
        /// The key.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// There is no certificate in it.
    #[error("`{}` holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key in it.
    #[error("`{}` holds no private key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The key is not the certificate's.
    #[error("the key in `{}` does not belong to the certificate in `{}`", .key.display(), .certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// More than can be kept.
    #[error("{0} certificates were given, the limit is {PAIRS_MAX}")]
    TooMany(usize),
    /// None.
    #[error("no certificate was given")]
    None,
}

/// The certificates of a proxy. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Certificates {
    kept: Arc<Kept>,
}

struct Kept {
    files: Vec<CertificateFiles>,
    used: Arc<Chosen>,
    seen: Mutex<Vec<Stamp>>,
}

/// When and how large files were.
type Stamp = Option<(SystemTime, u64, u64)>;

/// What is used at the moment, by name.
struct Chosen(ArcSwap<ByName>);

#[derive(Default)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what stands behind the first label.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
    /// For whoever asks for no name, or one that no certificate has.
    first: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads the files. The first pair is for clients that ask for a name which none has.
    pub fn read(files: Vec<CertificateFiles>) -> Result<Certificates, CertificateError> {
        if files.is_empty() {
            return Err(CertificateError::None);
        }
        if files.len() > PAIRS_MAX {
            return Err(CertificateError::TooMany(files.len()));
        }
        let seen = stamps(&files);
        let used = Arc::new(Chosen(ArcSwap::from_pointee(by_name(&files)?)));
        Ok(Certificates { kept: Arc::new(Kept { files, used, seen: Mutex::new(seen) }) })
    }

    /// Reads the files again if one has changed; says whether. On an error the former ones stay in use, and it is not
    /// said again before a file changes again.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let mut seen = self.kept.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.kept.files);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.kept.used.0.store(Arc::new(by_name(&self.kept.files)?));
        Ok(true)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let resolver = Arc::clone(&self.kept.used);
        let versions = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for the versions it was built with");
        let mut config = versions.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

fn stamps(files: &[CertificateFiles]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    };
    files.iter().flat_map(|pair| [stamp(&pair.certificate), stamp(&pair.key)]).collect()
}

fn by_name(files: &[CertificateFiles]) -> Result<ByName, CertificateError> {
    let mut by_name = ByName::default();
    for pair in files {
        let (key, names) = load(pair)?;
        let key = Arc::new(key);
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => by_name.wildcards.entry(parent.to_owned()).or_insert_with(|| Arc::clone(&key)),
                None => by_name.exact.entry(name).or_insert_with(|| Arc::clone(&key)),
            };
        }
        by_name.first.get_or_insert(key);
    }
    Ok(by_name)
}

fn load(pair: &CertificateFiles) -> Result<(CertifiedKey, Vec<String>), CertificateError> {
    let text = read(&pair.certificate)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| CertificateError::NoCertificate(pair.certificate.clone()))?;
    let names = chain.first().map(|leaf| der::names(leaf)).unwrap_or_default();
    let mode = mode(&pair.key)?;
    if mode & OTHERS != 0 {
        return Err(CertificateError::Open { path: pair.key.clone(), mode });
    }
    // What the parser says of a key may show a part of it: it is not passed on.
    let no_key = || CertificateError::NoKey(pair.key.clone());
    let key = PrivateKeyDer::from_pem_slice(&read(&pair.key)?).map_err(|_| no_key())?;
    let key = ring::sign::any_supported_type(&key).map_err(|_| no_key())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok((certified, names)),
        Err(_) => Err(CertificateError::Mismatch { certificate: pair.certificate.clone(), key: pair.key.clone() }),
    }
}

fn mode(path: &Path) -> Result<u32, CertificateError> {
    let meta = fs::metadata(path).map_err(|error| CertificateError::Unreadable(path.to_owned(), error))?;
    Ok(meta.mode() & 0o7777)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |error| CertificateError::Unreadable(path.to_owned(), error);
    let meta = fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, "not a file of at most 1 MiB")));
    }
    fs::read(path).map_err(unreadable)
}

impl ByName {
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let parent = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(parent)
    }
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_name = self.0.load();
        let found = hello.server_name().and_then(|name| by_name.find(name));
        found.or(by_name.first.as_ref()).cloned()
    }
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chosen(****)")
    }
}
