//! An index in files: one JSON document per repository.
//!
//! In: a folder. Out: an [`Index`] that survives crashes: a document is synced and renamed as a whole.
//! Never: two processes on one folder; the second is refused.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use slipway_blobs::Digest;

use crate::index::{Forgotten, Index, IndexError, ManifestRecord, Published};
use crate::{Repository, Tag};

/// A registry's memory in a folder.
#[derive(Debug)]
pub struct FileIndex {
    root: PathBuf,
    repositories: Mutex<BTreeMap<Repository, Contents>>,
    _lock: File,
}

/// What is known of one repository; the form of its document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Contents {
    v: u32,
    /// Also those whose manifest is forgotten: no tag is ever given twice.
    tags: BTreeMap<Tag, Digest>,
    manifests: BTreeMap<Digest, ManifestRecord>,
}

/// The version of the document's form.
const VERSION: u32 = 1;

impl FileIndex {
    /// Opens the index in `root`, and makes it if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, IndexError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(failed("make", &root))?;
        let lock_path = root.join("lock");
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(failed("open", &lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(format!("the index `{}` is in use by another process", root.display()).into());
        }
        let mut repositories = BTreeMap::new();
        for project in entries(&root)? {
            if !project.is_dir() {
                continue;
            }
            for path in entries(&project)? {
                let Some(repository) = name_of(&project, &path) else {
                    let _ = fs::remove_file(&path); // left by a crash before its renaming
                    continue;
                };
                repositories.insert(repository, read(&path)?);
            }
        }
        Ok(Self { root, repositories: Mutex::new(repositories), _lock: lock })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Repository, Contents>> {
        // What is in memory changes only after what is on disk, in one step.
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, repository: &Repository, contents: &Contents) -> Result<(), IndexError> {
        let folder = self.root.join(repository.project());
        let place = folder.join(format!("{}.json", repository.service()));
        let temporary = folder.join(format!("{}.new", repository.service()));
        let bytes = serde_json::to_vec(contents)?;
        let written = fs::create_dir_all(&folder).and_then(|()| {
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &place)?;
            File::open(&folder)?.sync_all()?;
            File::open(&self.root)?.sync_all()
        });
        written.map_err(failed("write", &place))
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, IndexError> {
    let listing = fs::read_dir(folder).map_err(failed("list", folder))?;
    let paths = listing.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(failed("list", folder))
}

fn name_of(project: &Path, path: &Path) -> Option<Repository> {
    let project = project.file_name()?.to_str()?;
    let service = path.file_name()?.to_str()?.strip_suffix(".json")?;
    format!("{project}/{service}").parse().ok()
}

fn read(path: &Path) -> Result<Contents, IndexError> {
    let bytes = fs::read(path).map_err(failed("read", path))?;
    let contents: Contents = serde_json::from_slice(&bytes)
        .map_err(|error| failed("read", path)(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match contents.v {
        VERSION => Ok(contents),
        other => Err(format!("`{}` has version {other}, known is {VERSION}", path.display()).into()),
    }
}

/// A failure with the file it happened to.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", .path.display())]
struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IndexError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }.into()
}

impl Index for FileIndex {
    fn get_tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, IndexError> {
        let repositories = self.lock();
        let Some(contents) = repositories.get(repository) else {
            return Ok(None);
        };
        let digest = contents.tags.get(tag).copied();
        Ok(digest.filter(|digest| contents.manifests.contains_key(digest)))
    }

    fn get_manifest(&self, repository: &Repository, digest: &Digest) -> Result<Option<ManifestRecord>, IndexError> {
        let repositories = self.lock();
        let contents = repositories.get(repository);
        Ok(contents.and_then(|contents| contents.manifests.get(digest)).cloned())
    }

    fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, IndexError> {
        let repositories = self.lock();
        let contents = repositories.get(repository);
        let mut manifests = contents.iter().flat_map(|contents| contents.manifests.values());
        Ok(manifests.any(|manifest| manifest.references.contains(digest)))
    }

    fn publish(
        &self,
        repository: &Repository,
        manifest: &ManifestRecord,
        tags: &[Tag],
    ) -> Result<Published, IndexError> {
        let mut repositories = self.lock();
        let mut contents = repositories.get(repository).cloned().unwrap_or_default();
        let before = (contents.tags.len(), contents.manifests.contains_key(&manifest.digest));
        for tag in tags {
            let holds = *contents.tags.entry(tag.clone()).or_insert(manifest.digest);
            if holds != manifest.digest {
                return Ok(Published::TagTaken { tag: tag.clone(), holds });
            }
        }
        if before == (contents.tags.len(), true) {
            return Ok(Published::Same);
        }
        contents.v = VERSION;
        contents.manifests.insert(manifest.digest, manifest.clone());
        self.write(repository, &contents)?;
        repositories.insert(repository.clone(), contents);
        Ok(Published::New)
    }

    fn forget(&self, repository: &Repository, digest: &Digest) -> Result<Forgotten, IndexError> {
        let mut repositories = self.lock();
        let Some(mut contents) = repositories.get(repository).cloned() else {
            return Ok(Forgotten::NotThere);
        };
        if contents.manifests.remove(digest).is_none() {
            return Ok(Forgotten::NotThere);
        }
        let whole = contents.manifests.values().find(|other| other.references.contains(digest));
        if let Some(whole) = whole {
            return Ok(Forgotten::PartOf(whole.digest));
        }
        self.write(repository, &contents)?;
        repositories.insert(repository.clone(), contents);
        Ok(Forgotten::Gone)
    }

    fn list_tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, IndexError> {
        let repositories = self.lock();
        let Some(contents) = repositories.get(repository) else {
            return Ok(None);
        };
        let live = contents.tags.iter().filter(|(_, digest)| contents.manifests.contains_key(digest));
        let later = live.filter(|(tag, _)| after.is_none_or(|after| tag.as_str() > after));
        Ok(Some(later.take(limit).map(|(tag, _)| tag.clone()).collect()))
    }

    fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Vec<Repository>, IndexError> {
        let repositories = self.lock();
        let later = repositories.keys().filter(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(later.take(limit).cloned().collect())
    }

    fn pins(&self) -> Result<HashSet<Digest>, IndexError> {
        let repositories = self.lock();
        let manifests = repositories.values().flat_map(|contents| contents.manifests.values());
        Ok(manifests.flat_map(|manifest| manifest.references.iter().copied().chain([manifest.digest])).collect())
    }
}
