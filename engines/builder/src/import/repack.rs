//! Makes layers of what was in the file.
//!
//! In: a layer as `docker save` wrote it, or the tar of a root file system. Out: a compressed layer, the same bytes for
//! the same content. Never: a device, a pipe or a socket; a time or a user name of where the file was made.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use slipway_blobs::{BlobError, Blobs, Digest, Hasher, Lease};

use super::{ImportError, WHAT_IS_READ, damaged, of_build, open};
use crate::layer::{Attributes, Packer};
use crate::oci::LayerBlob;
use crate::paths::of_entry;

/// A layer of `docker save`, which some write compressed: its tar stays byte for byte what it is.
pub(super) fn compressed(store: &Blobs, member: &Digest) -> Result<(LayerBlob, Lease), ImportError> {
    let mut file = store.open_file(member).map_err(damaged)?;
    let mut magic = [0; 2];
    let length = read_some(&mut file, &mut magic)?;
    let whole = BufReader::with_capacity(128 * 1024, io::Cursor::new(magic[..length].to_vec()).chain(file));
    let mut tar: Box<dyn Read> = match magic {
        [0x1f, 0x8b] => Box::new(MultiGzDecoder::new(whole)),
        _ => Box::new(whole),
    };
    let gzip = GzBuilder::new().mtime(0).operating_system(255);
    let mut writer = gzip.write(store.writer("a layer")?, Compression::new(1));
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let length = read_some(&mut tar, &mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        writer.write_all(&buffer[..length]).map_err(writing)?;
    }
    let stored = writer.finish().map_err(writing)?.commit()?;
    let diff_id = hasher.finish();
    let layer = LayerBlob { digest: stored.digest, diff_id, size_bytes: stored.size_bytes, is_gzip: true };
    Ok((layer, stored.lease))
}

/// A root file system as one layer, and how many things of it no layer can have.
pub(super) fn root(store: &Blobs, from: &Path, stop: &AtomicBool) -> Result<(LayerBlob, Lease, u64), ImportError> {
    let bad = |error: io::Error| {
        ImportError::bad(format!("`{}` is no tar that can be read: {error}", from.display()), WHAT_IS_READ)
    };
    let mut archive = tar::Archive::new(open(from)?);
    let failed = |error| of_build(from, error);
    let mut packer = Packer::new(store, "the root file system", 0, stop).map_err(failed)?;
    let (mut left_out, mut entries) = (0, 0_u64);
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let refused = |message| ImportError::bad(message, WHAT_IS_READ);
        let path = of_entry(&entry.path_bytes()).map_err(refused)?;
        let kind = entry.header().entry_type();
        if path.is_empty() || kind.is_pax_global_extensions() {
            continue;
        }
        let attributes = attributes(&entry).map_err(bad)?;
        let target = String::from_utf8(entry.link_name_bytes().unwrap_or_default().into_owned());
        let target = target.map_err(|_| refused(format!("the target of `{path}` is not UTF-8")))?;
        match kind {
            tar::EntryType::Directory => packer.folder(&path, attributes).map_err(failed)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let size_bytes = entry.size();
                packer.file(&path, attributes, size_bytes, &mut entry).map_err(failed)?;
            }
            tar::EntryType::Symlink => packer.link(&path, attributes, &target).map_err(failed)?,
            tar::EntryType::Link => {
                let target = of_entry(target.as_bytes()).map_err(refused)?;
                packer.hard_link(&path, attributes, &target).map_err(failed)?;
            }
            _ => left_out += 1,
        }
        entries += 1;
    }
    if entries == 0 {
        return Err(ImportError::bad(format!("`{}` is an empty tar", from.display()), WHAT_IS_READ));
    }
    let (layer, lease) = packer.finish().map_err(failed)?;
    Ok((layer, lease, left_out))
}

fn attributes(entry: &tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner has too large a number"));
    Ok(Attributes { mode: header.mode()? & 0o7777, uid: id(header.uid()?)?, gid: id(header.gid()?)? })
}

fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ImportError> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(ImportError::bad(
                    format!("a layer cannot be read: {error}"),
                    "the file is damaged: save it once more",
                ));
            }
            Ok(length) => return Ok(length),
        }
    }
}

fn writing(error: io::Error) -> ImportError {
    match BlobError::from_io(error) {
        Ok(error) => ImportError::Store(error),
        Err(error) => ImportError::bad(format!("a layer cannot be written: {error}"), "is the disk full?"),
    }
}
