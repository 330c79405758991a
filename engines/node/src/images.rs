//! Images that lie ready for instances.
//!
//! In: digests. Out: their layers, unpacked once per image under `images/HEX`, however many instances ask at the
//! same time. Never removes what a wish or an instance names.

use crate::options::{Unpack, Unpacked};
use slipway_model::Digest;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::OnceCell;

/// Unpacked images that nothing names are kept up to so many, the newest: a rollback target starts at once.
const SPARE_IMAGES: usize = 5;

/// The unpacked images.
pub(crate) struct ImageFolder {
    folder: PathBuf,
    unpack: Arc<dyn Unpack>,
    ready: Mutex<HashMap<Digest, Arc<OnceCell<Arc<Unpacked>>>>>,
    /// What wishes and instances name now.
    named: Mutex<HashSet<Digest>>,
}

impl ImageFolder {
    pub(crate) fn new(data: &Path, unpack: Arc<dyn Unpack>) -> ImageFolder {
        ImageFolder { folder: data.join("images"), unpack, ready: Mutex::default(), named: Mutex::default() }
    }

    /// The image, unpacked now if it is not yet.
    pub(crate) async fn get(&self, image: &Digest) -> Result<Arc<Unpacked>, String> {
        let cell = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ready.entry(image.clone()).or_default())
        };
        let unpacked = cell.get_or_try_init(|| async {
            let (unpack, image, into) = (Arc::clone(&self.unpack), image.clone(), self.folder.join(image.hex()));
            let done = tokio::task::spawn_blocking(move || {
                std::fs::create_dir_all(&into)
                    .map_err(|e| format!("folder `{}` cannot be made: {e}", into.display()))?;
                unpack.unpack(&image, &into).map(Arc::new)
            });
            done.await.map_err(|_| "the unpacking broke off".to_owned())?
        });
        unpacked.await.cloned().map_err(|why| format!("image `{image}` cannot be unpacked: {why}"))
    }

    /// Says which images must stay from now on.
    pub(crate) fn name(&self, named: HashSet<Digest>) {
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = named;
    }

    /// Removes images that nothing names, but for the newest few. Blocks.
    pub(crate) fn clean(&self) {
        // Held to the end, so that nothing is named while it is being removed.
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let named: HashSet<&str> = named.iter().map(Digest::hex).collect();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut spare: Vec<(SystemTime, String)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_str()?.to_owned();
                let changed = entry.metadata().and_then(|data| data.modified()).ok()?;
                (!named.contains(name.as_str())).then_some((changed, name))
            })
            .collect();
        spare.sort_by(|a, b| b.cmp(a));
        for (_, name) in spare.into_iter().skip(SPARE_IMAGES) {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            // One that is being unpacked, or that somebody just got, is left alone.
            let busy = ready.iter().any(|(image, cell)| {
                image.hex() == name
                    && (Arc::strong_count(cell) > 1 || cell.get().is_some_and(|u| Arc::strong_count(u) > 1))
            });
            if !busy {
                ready.retain(|image, _| image.hex() != name);
                // Under the lock, so that nobody unpacks into what is being removed.
                let _ = slipway_sandbox::remove_folder(&self.folder.join(&name));
            }
        }
    }
}
