//! The data folder and what is found where in it.

use std::path::{Path, PathBuf};

/// The data folder.
#[derive(Debug, Clone)]
pub struct Data(pub PathBuf);

impl Data {
    /// The folder given, or the usual one: `/var/lib/slipway` for root, below the home for others.
    pub fn find(given: Option<PathBuf>) -> Data {
        if let Some(given) = given {
            return Data(std::path::absolute(&given).unwrap_or(given));
        }
        if rustix::process::geteuid().is_root() {
            return Data(PathBuf::from("/var/lib/slipway"));
        }
        let home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
        Data(home.unwrap_or_else(|| PathBuf::from(".")).join("slipway"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.at("slipway.db")
    }
    /// The content store.
    pub fn blobs(&self) -> PathBuf {
        self.at("blobs")
    }
    /// The registry's index.
    pub fn registry(&self) -> PathBuf {
        self.at("registry")
    }
    /// Repositories.
    pub fn git(&self) -> PathBuf {
        self.at("git")
    }
    /// Logs of processes and jobs.
    pub fn logs(&self) -> PathBuf {
        self.at("logs")
    }
    /// The node's own state.
    pub fn node(&self) -> PathBuf {
        self.at("node")
    }
    /// Scratch.
    pub fn work(&self) -> PathBuf {
        self.at("work")
    }
    /// The first token.
    pub fn token(&self) -> PathBuf {
        self.at("token")
    }
    /// The master key.
    pub fn key(&self) -> PathBuf {
        self.at("key")
    }
    /// Sockets and process ids of what runs.
    pub fn run(&self) -> PathBuf {
        self.at("run")
    }
    /// Where node and worker dial.
    pub fn link_socket(&self) -> PathBuf {
        self.run().join("serve.sock")
    }
    /// Where hooks report.
    pub fn hook_socket(&self) -> PathBuf {
        self.run().join("hooks.sock")
    }
    /// Where `up` keeps the node's listening sockets.
    pub fn fd_socket(&self) -> PathBuf {
        self.run().join("up.sock")
    }
    /// Addresses that stay.
    pub fn addresses(&self) -> PathBuf {
        self.at("addresses.json")
    }
}
