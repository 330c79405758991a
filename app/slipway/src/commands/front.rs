//! Options of what stands before the services: TLS, and whose word on a request's origin counts.
//!
//! In: options of `up` and `node start`. Out: the node's, or words for its command line. Never reads a key's text: the
//! proxy does.

use crate::cli::address;
use crate::exit::{Exit, SURROUNDINGS, USAGE};
use clap::Args;
use slipway_node::{CertificateFiles, Certificates, Network, NodeOptions};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

/// See the module.
#[derive(Debug, Args)]
pub struct Front {
    /// The proxy's address for HTTPS; needs a certificate
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "certificate")]
    pub proxy_tls: Option<SocketAddr>,
    /// A certificate in PEM, with those it rests on; several are chosen by name
    #[arg(long, value_name = "FILE", requires = "key", requires = "proxy_tls")]
    pub certificate: Vec<PathBuf>,
    /// The private key of each certificate, in the same order; readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Vec<PathBuf>,
    /// A proxy or network of proxies before this one, whose `X-Forwarded-*` and `Forwarded` are believed
    #[arg(long, value_name = "NETWORK")]
    pub trusted_proxy: Vec<Network>,
}

impl Front {
    /// Says what is wrong before anything is started.
    pub fn check(&self) -> Result<(), Exit> {
        if self.certificate.len() != self.key.len() {
            let what = format!("{} certificates and {} keys", self.certificate.len(), self.key.len());
            return Err(Exit::new(USAGE, what).hint("give a `--key` for each `--certificate`, in the same order"));
        }
        if self.certificate.is_empty() {
            return Ok(());
        }
        Certificates::read(self.files()?).map(drop).map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Exit::new(SURROUNDINGS, format!("{error}{cause}")).hint("`--certificate` and `--key` name files in PEM")
        })
    }

    /// Tells the node.
    pub fn apply(&self, options: &mut NodeOptions) -> Result<(), Exit> {
        self.check()?;
        options.tls_addresses = self.proxy_tls.into_iter().collect();
        options.certificates = self.files()?;
        options.proxy_limits.trusted_proxies.clone_from(&self.trusted_proxy);
        Ok(())
    }

    /// The same as words of a command line.
    pub fn words(&self) -> Result<Vec<String>, Exit> {
        let mut words = Vec::new();
        if let Some(tls) = self.proxy_tls {
            words.extend(["--proxy-tls".to_owned(), tls.to_string()]);
        }
        for pair in self.files()? {
            for (option, path) in [("--certificate", pair.certificate), ("--key", pair.key)] {
                words.extend([option.to_owned(), path.display().to_string()]);
            }
        }
        for network in &self.trusted_proxy {
            words.extend(["--trusted-proxy".to_owned(), network.to_string()]);
        }
        Ok(words)
    }

    /// With whole paths: the node may have another working folder.
    fn files(&self) -> Result<Vec<CertificateFiles>, Exit> {
        let whole = |path: &PathBuf| std::path::absolute(path).map_err(crate::exit::surroundings);
        let pairs = self.certificate.iter().zip(&self.key);
        pairs
            .map(|(certificate, key)| Ok(CertificateFiles { certificate: whole(certificate)?, key: whole(key)? }))
            .collect()
    }
}
