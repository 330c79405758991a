//! The objects of repositories, read within this process by gix: no git is started.
//!
//! In: ids and paths. Out: commits, entries of trees, contents. A repository is opened once and kept open, the least
//! recently used one is closed.
//! Never: reads an object that is larger than its limit, lists more than its limit (a tree may name itself a
//! thousand times over), follows replacements.

use crate::error::GitError;
use crate::names::Oid;
use crate::parse::{CommitInfo, EntryKind, RefEntry, TreeEntry};
use crate::path::RepoPath;
use gix_object::tree::EntryRef;
use gix_object::{CommitRef, Find, Kind, TagRefIter, TreeRefIter};
use gix_odb::{HandleArc, Header, Store};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Repositories kept open; each costs descriptors and maps of its packs.
const OPEN_MAX: usize = 64;
/// Largest commit or tag that is read.
const COMMIT_BYTES_MAX: u64 = 8 << 20;
/// Largest single tree that is read: a million entries.
const TREE_BYTES_MAX: u64 = 64 << 20;
/// Paths of one listing together: a few million paths.
const LISTING_BYTES_MAX: u64 = 256 << 20;
/// Listings kept, and the paths of all of them.
const LISTINGS_MAX: usize = 8;
const LISTED_MAX: usize = 200_000;
/// What a file takes at least.
const BLOCK_BYTES: u64 = 4_096;
/// Folders of one walk.
const FOLDERS_MAX: u32 = 100_000;
/// Folders within folders. Each takes some kilobytes of a thread's stack of two megabytes.
const DEPTH_MAX: usize = 200;
/// Trees that share their delta bases are read one after the other.
const BASES_KEPT: usize = 64;

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

/// The repositories that are open.
#[derive(Default)]
pub(crate) struct Odbs(Mutex<Open>);

#[derive(Default)]
struct Open {
    stores: HashMap<PathBuf, (Arc<Store>, u64)>,
    /// What was listed last, by its tree: a tree never changes, and a push is listed more than once.
    listings: VecDeque<(Oid, Arc<Vec<TreeEntry>>)>,
    tick: u64,
}

impl Odbs {
    fn store(&self, objects: &Path) -> Result<Arc<Store>, GitError> {
        let mut open = self.lock();
        open.tick += 1;
        let tick = open.tick;
        if let Some((store, used)) = open.stores.get_mut(objects) {
            *used = tick;
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(opened(objects)?);
        if open.stores.len() >= OPEN_MAX
            && let Some(oldest) = open.stores.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone())
        {
            open.stores.remove(&oldest);
        }
        open.stores.insert(objects.to_owned(), (Arc::clone(&store), tick));
        Ok(store)
    }

    fn listed(&self, tree: Oid) -> Option<Arc<Vec<TreeEntry>>> {
        let open = self.lock();
        open.listings.iter().find(|(known, _)| *known == tree).map(|(_, entries)| Arc::clone(entries))
    }

    fn keep_listing(&self, tree: Oid, entries: &Arc<Vec<TreeEntry>>) {
        let mut open = self.lock();
        open.listings.push_back((tree, Arc::clone(entries)));
        let kept = |open: &Open| open.listings.iter().map(|(_, entries)| entries.len()).sum::<usize>();
        while open.listings.len() > LISTINGS_MAX || (open.listings.len() > 1 && kept(&open) > LISTED_MAX) {
            open.listings.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a repository that is removed.
    pub(crate) fn forget(&self, git_dir: &Path) {
        let mut open = self.lock();
        open.stores.remove(&git_dir.join("objects"));
    }

    /// A reader of one repository, and of what a push brings that is not accepted yet.
    pub(crate) fn reader(&self, git_dir: &Path, quarantine: Option<&Path>) -> Result<Reader<'_>, GitError> {
        let subject = git_dir.file_name().unwrap_or(git_dir.as_os_str()).to_string_lossy().into_owned();
        let mut handles = Vec::new();
        // A quarantine lives for one push: it is opened for the one question.
        if let Some(quarantine) = quarantine {
            handles.push(handle(&Arc::new(opened(quarantine)?)));
        }
        handles.push(handle(&self.store(&git_dir.join("objects"))?));
        Ok(Reader { odbs: self, handles, subject })
    }
}

fn opened(objects: &Path) -> Result<Store, GitError> {
    let options = gix_odb::store::init::Options::default();
    Store::at_opts(objects.to_owned(), SHA1, &mut None.into_iter(), options).map_err(GitError::file("read", objects))
}

fn handle(store: &Arc<Store>) -> HandleArc {
    let mut handle = store.to_cache_arc();
    handle.set_pack_cache(|| Box::new(gix_pack::cache::lru::StaticLinkedList::<BASES_KEPT>::default()));
    handle
}

/// Reads objects on the thread that asks; a question takes microseconds per object.
pub(crate) struct Reader<'a> {
    odbs: &'a Odbs,
    handles: Vec<HandleArc>,
    subject: String,
}

/// A path that two commits have different things at.
pub(crate) struct Difference {
    /// The path.
    pub path: RepoPath,
    /// What the first has there.
    pub old: Option<TreeEntry>,
    /// What the second has there.
    pub new: Option<TreeEntry>,
}

struct Found {
    kind: Kind,
    data: Vec<u8>,
}

impl Reader<'_> {
    /// What a commit says about itself; of an annotated tag, what its commit says.
    pub(crate) fn commit(&self, id: Oid) -> Result<CommitInfo, GitError> {
        let (id, data) = self.commit_data(id)?;
        let commit = CommitRef::from_bytes(&data, SHA1).map_err(|error| self.strange(id, &error))?;
        let (author, committer) = (commit.author(), commit.committer());
        let author = author.map_err(|error| self.strange(id, &error))?.trim();
        // Git accepts dates beyond what fits; they are no reason to refuse a commit.
        let seconds = committer.map_or(0, |committer| committer.seconds());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(CommitInfo {
            id,
            tree: own(&commit.tree()),
            parents: commit.parents().map(|parent| own(&parent)).collect(),
            author_name: text(author.name),
            author_email: text(author.email),
            at_ms: seconds.saturating_mul(1000),
            subject: text(&commit.message_summary()),
            message: text(commit.message),
        })
    }

    /// Every path of a commit, sorted by its bytes.
    pub(crate) fn tree(&self, commit: Oid) -> Result<Arc<Vec<TreeEntry>>, GitError> {
        let root = self.root(commit)?;
        if let Some(known) = self.odbs.listed(root) {
            return Ok(known);
        }
        let mut listing = self.listing();
        listing.below(root, &mut Vec::new(), 0)?;
        // Git sorts a folder as if its name ended in `/`, so the walk is in the order of whole paths.
        let entries = Arc::new(listing.entries);
        self.odbs.keep_listing(root, &entries);
        Ok(entries)
    }

    /// What a checkout of a commit takes on disk, in bytes: its files, and a block for each of them and of their folders.
    pub(crate) fn checkout_bytes(&self, commit: Oid) -> Result<u64, GitError> {
        let mut sizes: HashMap<Oid, u64> = HashMap::new();
        let mut sum: u64 = 0;
        for entry in self.tree(commit)?.iter().filter(|entry| entry.kind != EntryKind::Submodule) {
            let size = match sizes.get(&entry.id) {
                Some(size) => *size,
                None => {
                    let size = self.size(entry.id)?;
                    sizes.insert(entry.id, size);
                    size
                }
            };
            sum = sum.saturating_add(size.next_multiple_of(BLOCK_BYTES)).saturating_add(BLOCK_BYTES);
        }
        Ok(sum)
    }

    fn size(&self, id: Oid) -> Result<u64, GitError> {
        for handle in &self.handles {
            if let Some(size) = self.size_in(handle, id)? {
                return Ok(size);
            }
        }
        Err(self.missing(id))
    }

    fn size_in(&self, handle: &HandleArc, id: Oid) -> Result<Option<u64>, GitError> {
        let head = handle.try_header(&gix_hash::ObjectId::from(id.bytes()));
        Ok(head.map_err(|error| self.strange(id, &error))?.map(|head| head.size()))
    }

    /// What differs between two commits, sorted by path.
    pub(crate) fn differences(&self, from: Oid, to: Oid) -> Result<Vec<Difference>, GitError> {
        let (from, to) = (self.root(from)?, self.root(to)?);
        let mut walk = Differing { old: self.listing(), new: self.listing() };
        if from != to {
            walk.below(Some(from), Some(to), &mut Vec::new(), 0)?;
        }
        let mut all: BTreeMap<RepoPath, [Option<TreeEntry>; 2]> = BTreeMap::new();
        for (side, entries) in [(0, walk.old.entries), (1, walk.new.entries)] {
            for entry in entries {
                let path = entry.path.clone();
                all.entry(path).or_default()[side] = Some(entry);
            }
        }
        Ok(all.into_iter().map(|(path, [old, new])| Difference { path, old, new }).collect())
    }

    /// The content of a file by its object.
    pub(crate) fn blob(&self, id: Oid, bytes_max: u64) -> Result<Vec<u8>, GitError> {
        let found = self.find(id, bytes_max, || format!("file {id}"))?.ok_or_else(|| self.missing(id))?;
        Ok(found.data)
    }

    fn listing(&self) -> Listing<'_> {
        Listing { reader: self, folders: 0, entries: Vec::new(), bytes: 0 }
    }

    /// The content of a file; nothing when the commit has no file at this path.
    pub(crate) fn read(&self, commit: Oid, path: &RepoPath, bytes_max: u64) -> Result<Option<Vec<u8>>, GitError> {
        let mut tree = self.root(commit)?;
        let mut names = path.as_bytes().split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let data = self.tree_data(tree)?;
            let mut entry = None;
            for one in TreeRefIter::from_bytes(&data, SHA1) {
                let one = one.map_err(|error| self.strange(tree, &error))?;
                if one.filename == name {
                    entry = Some((one.mode, own(one.oid)));
                    break;
                }
            }
            let Some((mode, id)) = entry else { return Ok(None) };
            match (mode.is_tree(), mode.is_blob_or_symlink(), names.peek().is_some()) {
                (true, _, true) => tree = id,
                (_, true, false) => {
                    let what = || format!("`{commit}:{path}`");
                    let found = self.find(id, bytes_max, what)?.ok_or_else(|| self.missing(id))?;
                    return Ok((found.kind == Kind::Blob).then_some(found.data));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What an annotated tag points at in the end; any other object is itself.
    pub(crate) fn peeled(&self, id: Oid) -> Result<Oid, GitError> {
        Ok(self.through_tags(id)?.0)
    }

    /// The same with the object; a large one is not read, and is no tag.
    fn through_tags(&self, id: Oid) -> Result<(Oid, Option<Found>), GitError> {
        let mut id = id;
        for _ in 0..DEPTH_MAX {
            let found = match self.find(id, COMMIT_BYTES_MAX, || format!("object {id}")) {
                Ok(found) => found.ok_or_else(|| self.missing(id))?,
                Err(GitError::TooLarge { .. }) => return Ok((id, None)),
                Err(error) => return Err(error),
            };
            if found.kind != Kind::Tag {
                return Ok((id, Some(found)));
            }
            let target = TagRefIter::from_bytes(&found.data, SHA1).target_id();
            id = own(&target.map_err(|error| self.strange(id, &error))?);
        }
        Err(self.strange(id, &"tags of tags without end"))
    }

    fn commit_data(&self, id: Oid) -> Result<(Oid, Vec<u8>), GitError> {
        let (id, found) = self.through_tags(id)?;
        let too_large = || GitError::TooLarge { what: format!("commit {id}"), limit_bytes: COMMIT_BYTES_MAX };
        let found = found.ok_or_else(too_large)?;
        if found.kind != Kind::Commit {
            return Err(self.strange(id, &format!("it is a {} and no commit", found.kind)));
        }
        Ok((id, found.data))
    }

    fn root(&self, commit: Oid) -> Result<Oid, GitError> {
        let (id, data) = self.commit_data(commit)?;
        let commit = CommitRef::from_bytes(&data, SHA1).map_err(|error| self.strange(id, &error))?;
        Ok(own(&commit.tree()))
    }

    fn tree_data(&self, id: Oid) -> Result<Vec<u8>, GitError> {
        let found = self.find(id, TREE_BYTES_MAX, || format!("tree {id}"))?.ok_or_else(|| self.missing(id))?;
        if found.kind != Kind::Tree {
            return Err(self.strange(id, &format!("it is a {} and no tree", found.kind)));
        }
        Ok(found.data)
    }

    /// The size is looked at first: a small object on disk can be a large one.
    fn find(&self, id: Oid, bytes_max: u64, what: impl Fn() -> String) -> Result<Option<Found>, GitError> {
        let theirs = gix_hash::ObjectId::from(id.bytes());
        for handle in &self.handles {
            let Some(size) = self.size_in(handle, id)? else { continue };
            if size > bytes_max {
                return Err(GitError::TooLarge { what: what(), limit_bytes: bytes_max });
            }
            let mut data = Vec::new();
            let found = handle.try_find(&theirs, &mut data).map_err(|error| self.strange(id, &error))?;
            if let Some(kind) = found.map(|found| found.kind) {
                return Ok(Some(Found { kind, data }));
            }
        }
        Ok(None)
    }

    fn missing(&self, id: Oid) -> GitError {
        GitError::Missing { subject: self.subject.clone(), id }
    }

    fn strange(&self, id: Oid, why: &impl std::fmt::Display) -> GitError {
        GitError::Object { subject: self.subject.clone(), id, detail: why.to_string() }
    }
}

/// A walk over trees, within its limits.
struct Listing<'a> {
    reader: &'a Reader<'a>,
    folders: u32,
    entries: Vec<TreeEntry>,
    bytes: u64,
}

impl Listing<'_> {
    fn below(&mut self, tree: Oid, path: &mut Vec<u8>, depth: usize) -> Result<(), GitError> {
        self.deeper(depth)?;
        let data = self.reader.tree_data(tree)?;
        for entry in TreeRefIter::from_bytes(&data, SHA1) {
            let entry = entry.map_err(|error| self.reader.strange(tree, &error))?;
            self.take(&entry, path, depth)?;
        }
        Ok(())
    }

    /// Adds a file, or what a folder holds.
    fn take(&mut self, entry: &EntryRef<'_>, path: &mut Vec<u8>, depth: usize) -> Result<(), GitError> {
        let before = path.len();
        if before > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(entry.filename);
        // Folders count too: trees of empty trees have no file and may have no end.
        self.bytes += path.len() as u64 + 32;
        if self.bytes > LISTING_BYTES_MAX {
            let what = format!("the list of the files of `{}`", self.reader.subject);
            return Err(GitError::TooLarge { what, limit_bytes: LISTING_BYTES_MAX });
        }
        if entry.mode.is_tree() {
            self.below(own(entry.oid), path, depth + 1)?;
        } else if let Some(kind) = kind(entry.mode) {
            let mode = u32::from(entry.mode.value());
            self.entries.push(TreeEntry { mode, kind, id: own(entry.oid), path: RepoPath::from_git(path) });
        }
        path.truncate(before);
        Ok(())
    }

    /// One more folder. A tree of a few kilobytes can name itself ten times on each of ten levels.
    fn deeper(&mut self, depth: usize) -> Result<(), GitError> {
        self.folders += 1;
        if self.folders > FOLDERS_MAX {
            return Err(GitError::TooManyFolders { subject: self.reader.subject.clone(), limit: FOLDERS_MAX });
        }
        if depth <= DEPTH_MAX {
            return Ok(());
        }
        Err(GitError::TooDeep { subject: self.reader.subject.clone(), limit: DEPTH_MAX })
    }
}

/// A walk over two trees at the same time that stays out of what is equal.
struct Differing<'a> {
    old: Listing<'a>,
    new: Listing<'a>,
}

impl Differing<'_> {
    fn below(&mut self, from: Option<Oid>, to: Option<Oid>, path: &mut Vec<u8>, depth: usize) -> Result<(), GitError> {
        self.old.deeper(depth)?;
        let reader = self.old.reader;
        let (old, new) = (tree_or_nothing(reader, from)?, tree_or_nothing(reader, to)?);
        let mut both: BTreeMap<&[u8], [Option<EntryRef<'_>>; 2]> = BTreeMap::new();
        for (side, id, data) in [(0, from, &old), (1, to, &new)] {
            for entry in TreeRefIter::from_bytes(data, SHA1) {
                let entry = entry.map_err(|error| reader.strange(id.unwrap_or(Oid::from_bytes([0; 20])), &error))?;
                both.entry(entry.filename).or_default()[side] = Some(entry);
            }
        }
        for (name, [old, new]) in both {
            if matches!((&old, &new), (Some(old), Some(new)) if old.oid == new.oid && old.mode == new.mode) {
                continue;
            }
            for (side, entry) in [(&mut self.old, &old), (&mut self.new, &new)] {
                if let Some(entry) = entry.filter(|entry| !entry.mode.is_tree()) {
                    side.take(&entry, path, depth)?;
                }
            }
            let folder = |entry: Option<EntryRef<'_>>| entry.filter(|e| e.mode.is_tree()).map(|e| own(e.oid));
            let (old, new) = (folder(old), folder(new));
            if old.is_some() || new.is_some() {
                let before = path.len();
                if before > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                self.below(old, new, path, depth + 1)?;
                path.truncate(before);
            }
        }
        Ok(())
    }
}

fn tree_or_nothing(reader: &Reader<'_>, id: Option<Oid>) -> Result<Vec<u8>, GitError> {
    id.map_or_else(|| Ok(Vec::new()), |id| reader.tree_data(id))
}

/// All refs, or those of which the name is `name`, or lies below it; sorted by name.
pub(crate) fn refs(git_dir: &Path, reader: &Reader<'_>, name: &str) -> Result<Vec<RefEntry>, GitError> {
    let trouble = |detail: String| GitError::Refs { subject: reader.subject.clone(), detail };
    let store = gix_ref::file::Store::at(git_dir.to_owned(), SHA1);
    let all = store.iter().map_err(|error| trouble(error.to_string()))?;
    let mut found = Vec::new();
    for one in all.all().map_err(|error| trouble(error.to_string()))? {
        let one = one.map_err(|error| trouble(error.to_string()))?;
        let Ok(full) = std::str::from_utf8(one.name.as_bstr()) else { continue };
        let below = full
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || name.is_empty() || name.ends_with('/') || rest.starts_with('/'));
        let Some(id) = one.target.try_id().filter(|_| below) else { continue };
        let id = own(id);
        let target = match one.peeled {
            Some(peeled) => own(&peeled),
            // Branches name commits: only a tag can be an object about another one.
            None if full.starts_with("refs/heads/") => id,
            None => reader.peeled(id)?,
        };
        found.push(RefEntry { name: full.to_owned(), id, target });
    }
    Ok(found)
}

fn own(id: &gix_hash::oid) -> Oid {
    let mut bytes = [0; 20];
    // Repositories of this package are SHA-1: an id has twenty bytes.
    let taken = id.as_bytes().len().min(bytes.len());
    bytes[..taken].copy_from_slice(&id.as_bytes()[..taken]);
    Oid::from_bytes(bytes)
}

fn kind(mode: gix_object::tree::EntryMode) -> Option<EntryKind> {
    if mode.is_link() {
        Some(EntryKind::Symlink)
    } else if mode.is_commit() {
        Some(EntryKind::Submodule)
    } else if mode.is_executable() {
        Some(EntryKind::Executable)
    } else if mode.is_blob() {
        Some(EntryKind::File)
    } else {
        None
    }
}
