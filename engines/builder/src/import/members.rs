//! Takes the file or folder of an image apart.
//!
//! In: an OCI layout or what `docker save` wrote, as folder or tar. Out: its files in a store, by name and digest.
//! Never: a blob under a digest that is not its own; more files or bytes than an honest image has.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use slipway_blobs::{BlobError, Blobs, Digest, Lease};

use super::{ImportError, WHAT_IS_READ, damaged, io_at, open};
use crate::oci::DOCUMENT_BYTES_MAX;
use crate::paths::{absolute, of_entry, parent};

/// Files in one image.
const FILES_MAX: usize = 10_000;
/// All files of one image together.
const BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// The files of an image.
pub(super) struct Members {
    /// `index.json` of an OCI layout.
    pub(super) index: Option<Vec<u8>>,
    /// `manifest.json` of `docker save`.
    pub(super) docker: Option<Vec<u8>>,
    files: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
    pub(super) leases: Vec<Lease>,
}

impl Members {
    /// A file by its name; `docker save` writes a layer that comes twice as a link.
    pub(super) fn find(&self, name: &str) -> Result<(Digest, u64), ImportError> {
        let name = absolute("", name);
        let found = self.files.get(&name).or_else(|| self.files.get(self.links.get(&name)?));
        found.copied().ok_or_else(|| {
            ImportError::bad(format!("its part `{name}` is missing"), "save the image once more, with all its layers")
        })
    }
}

pub(super) fn read(from: &Path, store: &Blobs) -> Result<Members, ImportError> {
    let mut taking = Taking {
        store,
        left_bytes: BYTES_MAX,
        members: Members {
            index: None,
            docker: None,
            files: HashMap::new(),
            links: HashMap::new(),
            leases: Vec::new(),
        },
    };
    match fs::metadata(from).map_err(io_at(from))?.is_dir() {
        true => taking.folder(from)?,
        false => taking.archive(from)?,
    }
    Ok(taking.members)
}

struct Taking<'a> {
    store: &'a Blobs,
    left_bytes: u64,
    members: Members,
}

impl Taking<'_> {
    fn folder(&mut self, top: &Path) -> Result<(), ImportError> {
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let path = top.join(&folder);
            for entry in fs::read_dir(&path).map_err(io_at(&path))? {
                let entry = entry.map_err(io_at(&path))?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = absolute(&folder, &name);
                let path = entry.path();
                // A link may lead anywhere; a layout has none.
                let kind = entry.file_type().map_err(io_at(&path))?;
                if kind.is_dir() && name.split('/').count() < 4 {
                    folders.push(name);
                } else if kind.is_file() {
                    let size_bytes = entry.metadata().map_err(io_at(&path))?.len();
                    let file = fs::File::open(&path).map_err(io_at(&path))?;
                    self.take(&name, size_bytes, file, &path)?;
                }
            }
        }
        Ok(())
    }

    fn archive(&mut self, from: &Path) -> Result<(), ImportError> {
        let mut archive = tar::Archive::new(open(from)?);
        let bad = |error: io::Error| {
            ImportError::bad(format!("`{}` is no tar that can be read: {error}", from.display()), WHAT_IS_READ)
        };
        for entry in archive.entries().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let refused = |message| ImportError::bad(message, WHAT_IS_READ);
            let name = of_entry(&entry.path_bytes()).map_err(refused)?;
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let size_bytes = entry.size();
                    self.take(&name, size_bytes, entry, from)?;
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let above = if entry.header().entry_type().is_symlink() { parent(&name) } else { "" };
                    self.members.links.insert(name.clone(), absolute(above, &target));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, size_bytes: u64, mut from: impl Read, path: &Path) -> Result<(), ImportError> {
        let too_much = |what: &str| ImportError::bad(format!("it has more than {what}"), WHAT_IS_READ);
        if self.members.files.len() >= FILES_MAX {
            return Err(too_much(&format!("{FILES_MAX} files")));
        }
        let left_bytes = self.left_bytes.checked_sub(size_bytes);
        self.left_bytes = left_bytes.ok_or_else(|| too_much(&format!("{BYTES_MAX} bytes")))?;
        if matches!(name, "index.json" | "manifest.json") {
            let mut bytes = Vec::new();
            from.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_at(path))?;
            if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(too_much(&format!("{DOCUMENT_BYTES_MAX} bytes in `{name}`")));
            }
            match name {
                "index.json" => self.members.index = Some(bytes),
                _ => self.members.docker = Some(bytes),
            }
            return Ok(());
        }
        let mut writer = self.store.writer(name)?;
        io::copy(&mut from, &mut writer).map_err(|error| match BlobError::from_io(error) {
            Ok(error) => ImportError::Store(error),
            Err(source) => ImportError::Io { path: path.to_owned(), source },
        })?;
        // The name of a blob says what it has to be.
        let stored = match name.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}").parse()) {
            Some(Ok(promised)) => writer.commit_as(&promised).map_err(damaged)?,
            Some(Err(_)) => {
                let message = format!("`{name}` has no digest for a name");
                return Err(ImportError::bad(message, WHAT_IS_READ));
            }
            None => writer.commit()?,
        };
        self.members.files.insert(name.to_owned(), (stored.digest, stored.size_bytes));
        self.members.leases.push(stored.lease);
        Ok(())
    }
}
