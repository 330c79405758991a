//! Packs a layer, and opens layers for reading.
//!
//! In: the entries of a layer, in order. Out: a compressed tar in the store, its digest and that of
//! the uncompressed bytes; the same bytes for the same entries.
//! Never: a whole file in memory; a time, a user name or an extended attribute of this machine.

use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use slipway_blobs::{BlobError, Blobs, Digest, Hasher, Lease};

use crate::copy::Entries;
use crate::error::BuildError;
use crate::oci::LayerBlob;
use crate::tree::{Content, Kind, Node};

/// One layer may be this large when it is unpacked.
const LAYER_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// What decides every byte of the layer, hashed. Files have to be on disk, not in other layers.
pub(crate) fn key(entries: &Entries, epoch_seconds: u64) -> Digest {
    let mut hasher = Hasher::new();
    let mut add = |text: String| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(format!("slipway layer 1, times {epoch_seconds}"));
    for (path, node) in entries {
        let what = match &node.kind {
            Kind::Folder => "folder".to_owned(),
            Kind::Link { target } => format!("link {target}"),
            Kind::File { size_bytes, content } => match content {
                Content::Disk { digest, .. } => format!("file {size_bytes} {digest}"),
                Content::Layer { layer, path } => format!("file {size_bytes} of {} {path}", layer.digest),
            },
        };
        add(path.clone());
        add(format!("{:o} {} {} {what}", node.mode, node.uid, node.gid));
    }
    hasher.finish()
}

/// Packs the entries; `name` is what errors call the layer.
pub(crate) fn pack(
    blobs: &Blobs,
    name: &str,
    entries: &Entries,
    epoch_seconds: u64,
    stop: &AtomicBool,
) -> Result<(LayerBlob, Lease), BuildError> {
    let total: u64 = entries.values().map(size_of).sum();
    if total > LAYER_BYTES_MAX {
        return Err(BuildError::Limit {
            what: format!("the size of `{name}`"),
            limit: format!("{LAYER_BYTES_MAX} bytes"),
        });
    }
    // No name, no time, and "unknown" for the operating system (RFC 1952, section 2.3.1). Level 1:
    // compression is what a build waits for.
    let gzip = GzBuilder::new().mtime(0).operating_system(255);
    let compressed = gzip.write(blobs.writer(name)?, Compression::new(1));
    let mut archive = tar::Builder::new(Hashing { hasher: Hasher::new(), inner: compressed });
    for (path, node) in entries {
        append(&mut archive, path, node, epoch_seconds, stop)?;
    }
    let hashing = archive.into_inner().map_err(|error| writing_failed(name, error))?;
    let diff_id = hashing.hasher.finish();
    let writer = hashing.inner.finish().map_err(|error| writing_failed(name, error))?;
    let stored = writer.commit()?;
    let layer = LayerBlob { digest: stored.digest, diff_id, size_bytes: stored.size_bytes, is_gzip: true };
    Ok((layer, stored.lease))
}

fn size_of(node: &Node) -> u64 {
    match &node.kind {
        Kind::File { size_bytes, .. } => *size_bytes,
        Kind::Folder | Kind::Link { .. } => 0,
    }
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    node: &Node,
    epoch_seconds: u64,
    stop: &AtomicBool,
) -> Result<(), BuildError> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    header.set_mtime(epoch_seconds);
    header.set_size(0);
    let written = match &node.kind {
        Kind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Kind::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        Kind::File { size_bytes, content } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(*size_bytes);
            return append_file(archive, &mut header, path, *size_bytes, content, stop);
        }
    };
    written.map_err(|error| writing_failed(path, error))
}

fn append_file<W: Write>(
    archive: &mut tar::Builder<W>,
    header: &mut tar::Header,
    path: &str,
    size_bytes: u64,
    content: &Content,
    stop: &AtomicBool,
) -> Result<(), BuildError> {
    let Content::Disk { folder, path: on_disk, digest } = content else {
        return Err(BuildError::Changed { path: path.to_owned() }); // `spool` put it on disk before
    };
    let mut reader =
        Checked { inner: folder.open_file(on_disk)?.take(size_bytes), hasher: Hasher::new(), size_bytes: 0, stop };
    let written = archive.append_data(header, path, &mut reader);
    if stop.load(Ordering::Relaxed) {
        return Err(BuildError::Stopped);
    }
    written.map_err(|error| writing_failed(path, error))?;
    if reader.size_bytes != size_bytes || reader.hasher.finish() != *digest {
        return Err(BuildError::Changed { path: on_disk.clone() });
    }
    Ok(())
}

fn writing_failed(name: &str, error: io::Error) -> BuildError {
    match BlobError::from_io(error) {
        Ok(error) => BuildError::Store(error),
        Err(source) => BuildError::Io { action: "pack", path: PathBuf::from(name), source },
    }
}

/// Sees the uncompressed bytes on their way.
struct Hashing<W> {
    hasher: Hasher,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file that has to be what it was when it was hashed.
struct Checked<'a, R> {
    inner: R,
    hasher: Hasher,
    size_bytes: u64,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.size_bytes += length as u64;
        Ok(length)
    }
}

/// The uncompressed bytes of a layer; reading to the end verifies the compressed ones.
pub(crate) fn open(blobs: &Blobs, layer: &LayerBlob) -> Result<Box<dyn Read>, BlobError> {
    let raw = BufReader::with_capacity(128 * 1024, blobs.open_verified(&layer.digest)?);
    Ok(match layer.is_gzip {
        true => Box::new(MultiGzDecoder::new(raw)),
        false => Box::new(raw),
    })
}
