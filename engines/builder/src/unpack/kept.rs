//! Unpacked layers that are kept from one RUN to the next.
//!
//! In: layers in the store. Out: their folders, held for as long as a command needs them.
//! Never: a folder removed that is held; more bytes kept than the limit says once nobody needs them; a second process
//! on the same folder.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use slipway_blobs::{Blobs, Digest};

use super::{UnpackError, at, unpack_layers};
use crate::oci::LayerBlob;

/// Beside each layer: its size; when it was written is when the layer was last used.
const NOTE: &str = "used";

/// A folder with unpacked layers.
#[derive(Debug)]
pub struct KeptLayers {
    folder: PathBuf,
    bytes_max: u64,
    held: Mutex<HashMap<Digest, usize>>,
}

impl KeptLayers {
    /// Uses `folder`, which is made when the first layer comes; what nobody needs is removed beyond `bytes_max`.
    pub fn new(folder: impl Into<PathBuf>, bytes_max: u64) -> Self {
        Self { folder: folder.into(), bytes_max, held: Mutex::default() }
    }

    /// Unpacks what is not there yet.
    pub(crate) fn hold(&self, blobs: &Blobs, layers: &[LayerBlob]) -> Result<HeldLayers<'_>, UnpackError> {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        {
            let mut held = self.held();
            for diff_id in &diff_ids {
                *held.entry(*diff_id).or_default() += 1;
            }
        }
        let mut hold = HeldLayers { kept: self, diff_ids, folders: Vec::new() };
        hold.folders = unpack_layers(blobs, layers, &self.folder)?;
        for folder in &hold.folders {
            self.note(folder)?;
        }
        Ok(hold)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, folder: &Path) -> Result<(), UnpackError> {
        let note = folder.with_extension(NOTE);
        let size = match read_note(&note) {
            Some((size, _)) => size,
            None => size_of(folder).map_err(at("measure", folder))?,
        };
        fs::write(&note, size.to_string()).map_err(at("write", &note))
    }

    /// Removes the layers that were not used for longest, down to the limit. What stays behind goes the next time.
    pub fn tidy(&self) {
        for folder in self.take_out() {
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Puts those that are too many out of the way, so that nobody takes them up while they are being removed.
    fn take_out(&self) -> Vec<PathBuf> {
        let held = self.held();
        let Ok(listing) = fs::read_dir(&self.folder) else { return Vec::new() };
        let notes =
            listing.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == NOTE));
        let mut noted: Vec<(SystemTime, u64, PathBuf)> =
            notes.filter_map(|note| read_note(&note).map(|(size, used)| (used, size, note))).collect();
        noted.sort_by(|one, other| other.cmp(one));
        let mut left = self.bytes_max;
        let mut out = Vec::new();
        for (_, size, note) in noted {
            let folder = note.with_extension("");
            let hex = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(rest) = left.checked_sub(size) {
                left = rest;
                continue;
            }
            if held.keys().any(|diff_id| diff_id.hex() == hex) {
                continue;
            }
            // A name that the next unpacking sweeps, should this process end here.
            let gone = self.folder.join(format!(".tmp-{hex}"));
            let _ = fs::remove_file(&note);
            if fs::rename(&folder, &gone).is_ok() {
                out.push(gone);
            }
        }
        out
    }
}

/// Layers that stay while this lives.
#[derive(Debug)]
pub(crate) struct HeldLayers<'a> {
    kept: &'a KeptLayers,
    diff_ids: Vec<Digest>,
    /// Their folders, the lowest first.
    pub(crate) folders: Vec<PathBuf>,
}

impl Drop for HeldLayers<'_> {
    fn drop(&mut self) {
        let mut held = self.kept.held();
        for diff_id in &self.diff_ids {
            if let Some(count) = held.get_mut(diff_id) {
                *count -= 1;
                if *count == 0 {
                    held.remove(diff_id);
                }
            }
        }
    }
}

fn read_note(note: &Path) -> Option<(u64, SystemTime)> {
    let size = fs::read_to_string(note).ok()?.trim().parse().ok()?;
    Some((size, fs::metadata(note).ok()?.modified().ok()?))
}

/// What a folder takes on disk. Layers are made by `extract`, which has no endless depth.
fn size_of(folder: &Path) -> io::Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let mut total = fs::metadata(folder)?.blocks() * BLOCK_BYTES;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            total += metadata.blocks() * BLOCK_BYTES;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(total)
}
