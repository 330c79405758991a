//! Unpacking of images for node and worker.

use crate::exit::chain;
use slipway_blobs::Blobs;
use slipway_model::Digest;
use slipway_ports::Fut;
use std::path::{Path, PathBuf};

/// Unpacks from this machine's content store.
#[derive(Clone)]
pub struct StoreUnpack {
    /// The store.
    pub blobs: Blobs,
    /// Where layers of the worker's images go.
    pub folder: PathBuf,
}

fn unpack(blobs: &Blobs, image: &Digest, into: &Path) -> Result<slipway_builder::Unpacked, String> {
    let digest = image.as_str().parse::<slipway_blobs::Digest>().map_err(|error| chain(&error))?;
    slipway_builder::unpack(blobs, &digest, into).map_err(|error| chain(&error))
}

impl slipway_node::Unpack for StoreUnpack {
    fn unpack(&self, image: &Digest, into: &Path) -> Result<slipway_node::Unpacked, String> {
        let unpacked = unpack(&self.blobs, image, into)?;
        let config = unpacked.config;
        Ok(slipway_node::Unpacked {
            layers: unpacked.layers,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            env: config.env,
            user: config.user,
            workdir: config.working_dir,
            stop_signal: config.stop_signal,
            exposed_ports: config.exposed_ports.into_keys().collect(),
        })
    }
}

impl slipway_worker::Unpack for StoreUnpack {
    fn unpack(&self, image: &Digest) -> Fut<'_, Result<slipway_worker::Unpacked, String>> {
        let (blobs, image, folder) = (self.blobs.clone(), image.clone(), self.folder.clone());
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || unpack(&blobs, &image, &folder));
            let unpacked = task.await.map_err(|error| chain(&error))??;
            let pair = |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            let env = unpacked.config.env.iter().filter_map(pair).collect();
            Ok(slipway_worker::Unpacked { layers: unpacked.layers, env, guard: Box::new(()) })
        })
    }
}
