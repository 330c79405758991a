//! Packs a layer, and opens layers for reading.
//!
//! In: the entries of a layer, in order. Out: a compressed tar in the store, its digest and that of
//! the uncompressed bytes; the same bytes for the same entries. `changes` uses the packer for what a RUN changed.
//! Never: a whole file in memory; a time, a user name or an extended attribute of this machine.

use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use slipway_blobs::{BlobError, Blobs, Digest, Hasher, Lease, Writer};

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
    let mut packer = Packer::new(blobs, name, epoch_seconds, stop)?;
    for (path, node) in entries {
        packer.entry(path, node)?;
    }
    packer.finish()
}

/// Who owns an entry, and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Attributes {
    fn of(node: &Node) -> Self {
        Self { mode: node.mode, uid: node.uid, gid: node.gid }
    }
}

/// A layer that is being packed, entry by entry.
pub(crate) struct Packer<'a> {
    archive: tar::Builder<Hashing<GzEncoder<Writer>>>,
    name: String,
    epoch_seconds: u64,
    stop: &'a AtomicBool,
    left_bytes: u64,
}

impl<'a> Packer<'a> {
    /// `name` is what errors call the layer.
    pub(crate) fn new(blobs: &Blobs, name: &str, epoch_seconds: u64, stop: &'a AtomicBool) -> Result<Self, BuildError> {
        // No name, no time, and "unknown" for the operating system (RFC 1952, section 2.3.1). Level 1:
        // compression is what a build waits for.
        let gzip = GzBuilder::new().mtime(0).operating_system(255);
        let compressed = gzip.write(blobs.writer(name)?, Compression::new(1));
        let archive = tar::Builder::new(Hashing { hasher: Hasher::new(), inner: compressed });
        Ok(Self { archive, name: name.to_owned(), epoch_seconds, stop, left_bytes: LAYER_BYTES_MAX })
    }

    fn entry(&mut self, path: &str, node: &Node) -> Result<(), BuildError> {
        let attributes = Attributes::of(node);
        match &node.kind {
            Kind::Folder => self.folder(path, attributes),
            Kind::Link { target } => self.link(path, attributes, target),
            Kind::File { size_bytes, content } => {
                let Content::Disk { folder, path: on_disk, digest } = content else {
                    return Err(BuildError::Changed { path: path.to_owned() }); // `spool` put it on disk before
                };
                let found = self.file(path, attributes, *size_bytes, folder.open_file(on_disk)?)?;
                match found == *digest {
                    true => Ok(()),
                    false => Err(BuildError::Changed { path: on_disk.clone() }),
                }
            }
        }
    }

    pub(crate) fn folder(&mut self, path: &str, attributes: Attributes) -> Result<(), BuildError> {
        let mut header = self.header(tar::EntryType::Directory, attributes)?;
        let written = self.archive.append_data(&mut header, format!("{path}/"), io::empty());
        written.map_err(|error| writing_failed(path, error))
    }

    pub(crate) fn link(&mut self, path: &str, attributes: Attributes, target: &str) -> Result<(), BuildError> {
        let mut header = self.header(tar::EntryType::Symlink, attributes)?;
        self.archive.append_link(&mut header, path, target).map_err(|error| writing_failed(path, error))
    }

    /// Another name of a file that is in the layer already.
    pub(crate) fn hard_link(&mut self, path: &str, attributes: Attributes, target: &str) -> Result<(), BuildError> {
        let mut header = self.header(tar::EntryType::Link, attributes)?;
        self.archive.append_link(&mut header, path, target).map_err(|error| writing_failed(path, error))
    }

    /// An empty file whose name says what is hidden (OCI image specification, "Whiteouts").
    pub(crate) fn whiteout(&mut self, path: &str) -> Result<(), BuildError> {
        let mut header = self.header(tar::EntryType::Regular, Attributes { mode: 0, uid: 0, gid: 0 })?;
        self.archive.append_data(&mut header, path, io::empty()).map_err(|error| writing_failed(path, error))
    }

    /// The digest of what was read. A file that has not `size_bytes` any more is refused.
    pub(crate) fn file(
        &mut self,
        path: &str,
        attributes: Attributes,
        size_bytes: u64,
        content: impl Read,
    ) -> Result<Digest, BuildError> {
        let left_bytes = self.left_bytes.checked_sub(size_bytes);
        self.left_bytes = left_bytes.ok_or_else(|| BuildError::Limit {
            what: format!("the size of `{}`", self.name),
            limit: format!("{LAYER_BYTES_MAX} bytes"),
        })?;
        let mut header = self.header(tar::EntryType::Regular, attributes)?;
        header.set_size(size_bytes);
        let mut reader =
            Counted { inner: content.take(size_bytes), hasher: Hasher::new(), size_bytes: 0, stop: self.stop };
        let written = self.archive.append_data(&mut header, path, &mut reader);
        if self.stop.load(Ordering::Relaxed) {
            return Err(BuildError::Stopped);
        }
        written.map_err(|error| writing_failed(path, error))?;
        match reader.size_bytes == size_bytes {
            true => Ok(reader.hasher.finish()),
            false => Err(BuildError::Changed { path: path.to_owned() }),
        }
    }

    fn header(&self, kind: tar::EntryType, attributes: Attributes) -> Result<tar::Header, BuildError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(BuildError::Stopped);
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(u64::from(attributes.uid));
        header.set_gid(u64::from(attributes.gid));
        header.set_mtime(self.epoch_seconds);
        header.set_size(0);
        Ok(header)
    }

    pub(crate) fn finish(self) -> Result<(LayerBlob, Lease), BuildError> {
        let failed = |error| writing_failed(&self.name, error);
        let hashing = self.archive.into_inner().map_err(failed)?;
        let diff_id = hashing.hasher.finish();
        let writer = hashing.inner.finish().map_err(failed)?;
        let stored = writer.commit()?;
        let layer = LayerBlob { digest: stored.digest, diff_id, size_bytes: stored.size_bytes, is_gzip: true };
        Ok((layer, stored.lease))
    }
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

/// A file on its way into a layer.
struct Counted<'a, R> {
    inner: R,
    hasher: Hasher,
    size_bytes: u64,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
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
