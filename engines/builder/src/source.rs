//! What a COPY picks, from a folder or from another stage.
//!
//! In: one source of the instruction, a path or a pattern. Out: the files, folders and links it names,
//! hashed, with ownership and mode as they go into the image.
//! Never: anything outside the folder, anything that `.dockerignore` leaves out, or `.git`.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use slipway_blobs::{Digest, Hasher};

use crate::error::{BuildError, Position, Problem};
use crate::folder::{self, Folder};
use crate::glob::{Dialect, Pattern, is_pattern};
use crate::ignore::Ignore;
use crate::paths::{join, name, source_parts};
use crate::tree::{Content, ENTRIES_MAX, Kind, Node, Tree};

/// Deeper folders are a mistake, and each level holds a descriptor.
const DEPTH_MAX: u32 = 200;

/// One thing that a source names.
pub(crate) struct Picked {
    /// Its last name; empty for the whole context.
    pub(crate) name: String,
    pub(crate) node: Node,
    /// What is in it, with paths relative to it.
    pub(crate) below: Vec<(String, Node)>,
}

/// A folder to copy from.
pub(crate) struct FolderSource<'a> {
    pub(crate) folder: &'a Arc<Folder>,
    /// How people call it: "the build context", "job `package`".
    pub(crate) label: &'a str,
    pub(crate) ignore: &'a Ignore,
    /// A checkout's `.git` is not part of what a commit says, and differs from clone to clone.
    pub(crate) leaves_git_out: bool,
    pub(crate) stop: &'a AtomicBool,
}

impl FolderSource<'_> {
    pub(crate) fn pick(&self, source: &str, at: Position) -> Result<Vec<Picked>, BuildError> {
        let parts = parts_of(source, at, self.label)?;
        let mut paths = vec![String::new()];
        for part in &parts {
            paths = match pattern_of(part, at)? {
                None => paths.iter().map(|path| join(path, part)).collect(),
                Some(pattern) => self.matching(&paths, &pattern, at)?,
            };
        }
        let is_exact = !parts.iter().any(|part| is_pattern(part));
        let mut picked = Vec::new();
        for path in paths {
            match (self.pick_one(&path, at)?, is_exact) {
                (Ok(one), _) => picked.push(one),
                (Err(problem), true) => return Err(problem.into()),
                (Err(_), false) => {} // a pattern names what is there
            }
        }
        if picked.is_empty() {
            let message = format!("nothing in {} matches `{source}`", self.label);
            return Err(Problem::new(at, message).into());
        }
        Ok(picked)
    }

    fn matching(&self, folders: &[String], pattern: &Pattern, at: Position) -> Result<Vec<String>, BuildError> {
        let mut found = Vec::new();
        for path in folders {
            let opened = self.folder.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY);
            let opened = match opened {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(Errno::XDEV) => return Err(self.leads_out(path, at).into()),
                Err(error) => return Err(self.folder.failed("open", path, error)),
            };
            let names = folder::names(&opened).map_err(|error| self.folder.failed("list", path, error))?;
            let names = names.into_iter().flatten();
            found.extend(names.filter(|name| pattern.matches(name)).map(|name| join(path, &name)));
        }
        Ok(found)
    }

    /// The inner error is the person's: there is no such thing to copy.
    fn pick_one(&self, path: &str, at: Position) -> Result<Result<Picked, Problem>, BuildError> {
        let opened = match self.folder.open_at(path, OFlags::PATH) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Err(self.is_missing(path, at))),
            // Also for a pattern: someone wanted it, and it would be silently absent.
            Err(Errno::XDEV) => return Err(self.leads_out(path, at).into()),
            Err(Errno::LOOP) => {
                return Err(Problem::new(at, format!("`{path}` is a link that leads in a circle")).into());
            }
            Err(error) => return Err(self.folder.failed("open", path, error)),
        };
        let stat = fstat(&opened).map_err(|error| self.folder.failed("look at", path, error))?;
        let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
        let is_out = self.leaves_out(path);
        if is_out && !(is_folder && self.ignore.takes_anything_back()) {
            return Ok(Err(self.is_missing(path, at)));
        }
        let mut picked = Picked { name: name(path).to_owned(), node: Node::folder(), below: Vec::new() };
        if !is_folder {
            picked.node = self.file(path, &stat, at)?;
            return Ok(Ok(picked));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.folder.open_at(path, flags).map_err(|error| self.folder.failed("open", path, error))?;
        self.walk(opened, path, "", at, 0, &mut picked.below)?;
        if is_out && picked.below.is_empty() {
            return Ok(Err(self.is_missing(path, at)));
        }
        Ok(Ok(picked))
    }

    fn walk(
        &self,
        opened: OwnedFd,
        path: &str,
        relative: &str,
        at: Position,
        depth: u32,
        below: &mut Vec<(String, Node)>,
    ) -> Result<(), BuildError> {
        if depth > DEPTH_MAX {
            return Err(limit("the depth of folders", DEPTH_MAX));
        }
        let names = folder::names(&opened).map_err(|error| self.folder.failed("list", path, error))?;
        for name in names {
            if self.stop.load(Ordering::Relaxed) {
                return Err(BuildError::Stopped);
            }
            let name = name.map_err(|name| not_utf8(&join(path, &name), at))?;
            let (path, relative) = (join(path, &name), join(relative, &name));
            let is_out = self.leaves_out(&path);
            if is_out && !self.ignore.takes_anything_back() {
                continue;
            }
            let stat = statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| self.folder.failed("look at", &path, error))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let inner = openat(&opened, &name, flags, Mode::empty())
                        .map_err(|error| self.folder.failed("open", &path, error))?;
                    let before = below.len();
                    self.walk(inner, &path, &relative, at, depth + 1, below)?;
                    // A folder that is left out is there only for what is taken back in.
                    if !is_out || below.len() > before {
                        below.push((relative, Node::folder()));
                    }
                }
                _ if is_out => {}
                FileType::Symlink => below.push((relative, self.link(&opened, &name, &path, at)?)),
                _ => below.push((relative, self.file(&path, &stat, at)?)),
            }
            if below.len() > ENTRIES_MAX {
                return Err(limit("the number of files", ENTRIES_MAX));
            }
        }
        Ok(())
    }

    fn file(&self, path: &str, stat: &Stat, at: Position) -> Result<Node, BuildError> {
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            let message = format!("`{path}` of {} is neither a file nor a folder nor a link", self.label);
            return Err(Problem::new(at, message).hint("leave it out with a line in `.dockerignore`").into());
        }
        let (size_bytes, digest) = self.hash(path)?;
        // Like Git, only whether it can be executed is kept: the rest is the user's mode mask.
        let is_executable = stat.st_mode & 0o100 != 0;
        Ok(Node {
            kind: Kind::File {
                size_bytes,
                content: Content::Disk { folder: Arc::clone(self.folder), path: path.to_owned(), digest },
            },
            mode: if is_executable { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
        })
    }

    fn link(&self, folder: impl AsFd, name: &str, path: &str, at: Position) -> Result<Node, BuildError> {
        let target = readlinkat(folder, name, Vec::new()).map_err(|error| self.folder.failed("read", path, error))?;
        let target = target.into_string().map_err(|_| not_utf8(path, at))?;
        Ok(Node { kind: Kind::Link { target }, mode: 0o777, uid: 0, gid: 0 })
    }

    fn hash(&self, path: &str) -> Result<(u64, Digest), BuildError> {
        let mut file = self.folder.open_file(path)?;
        let (mut hasher, mut size_bytes) = (Hasher::new(), 0);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(BuildError::Stopped);
            }
            match file.read(&mut buffer) {
                Ok(0) => return Ok((size_bytes, hasher.finish())),
                Ok(length) => {
                    hasher.update(&buffer[..length]);
                    size_bytes += length as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.folder.failed("read", path, error)),
            }
        }
    }

    fn leaves_out(&self, path: &str) -> bool {
        let is_git = self.leaves_git_out && (path == ".git" || path.starts_with(".git/"));
        is_git || self.ignore.leaves_out(path)
    }

    fn is_missing(&self, path: &str, at: Position) -> Problem {
        let problem = Problem::new(at, format!("there is no `{path}` in {}", self.label));
        match self.ignore.deciding_line(path) {
            Some(line) => problem.hint(format!("line {line} of `.dockerignore` leaves it out")),
            None if self.leaves_out(path) => problem.hint("`.git` is never part of an image"),
            None => problem,
        }
    }

    fn leads_out(&self, path: &str, at: Position) -> Problem {
        Problem::new(at, format!("`{path}` is a link that leads out of {}", self.label))
            .hint("copy the file itself into the folder")
    }
}

/// Picks from the file system of another stage or image.
pub(crate) fn pick_from_tree(tree: &Tree, source: &str, at: Position, label: &str) -> Result<Vec<Picked>, BuildError> {
    let parts = parts_of(source, at, label)?;
    let circle = || Problem::new(at, format!("`{source}` leads in a circle of links"));
    let mut paths = vec![String::new()];
    for part in parts {
        let Some(pattern) = pattern_of(part, at)? else {
            paths = paths.iter().map(|path| join(path, part)).collect();
            continue;
        };
        let mut found = Vec::new();
        for path in &paths {
            let folder = tree.resolve(path).ok_or_else(circle)?;
            let names = tree.below(&folder).map(|(path, _)| &path[folder.len()..]);
            let names = names.map(|rest| rest.trim_start_matches('/')).filter(|rest| !rest.contains('/'));
            found.extend(names.filter(|name| pattern.matches(name)).map(|name| join(path, name)));
        }
        paths = found;
    }
    let mut picked = Vec::new();
    for path in &paths {
        let resolved = tree.resolve(path).ok_or_else(circle)?;
        let node = match tree.get(&resolved) {
            Some(node) => node.clone(),
            None if resolved.is_empty() => Node::folder(),
            None => continue,
        };
        let cut = if resolved.is_empty() { 0 } else { resolved.len() + 1 };
        let below = match node.is_folder() {
            true => tree.below(&resolved).map(|(path, node)| (path[cut..].to_owned(), node.clone())).collect(),
            false => Vec::new(),
        };
        picked.push(Picked { name: name(path).to_owned(), node, below });
    }
    if picked.is_empty() {
        return Err(Problem::new(at, format!("there is no `{source}` in {label}")).into());
    }
    Ok(picked)
}

fn parts_of<'a>(source: &'a str, at: Position, label: &str) -> Result<Vec<&'a str>, Problem> {
    source_parts(source).ok_or_else(|| {
        Problem::new(at, format!("`{source}` leads out of {label}"))
            .hint("copy from a folder that contains what is needed; a source has no `..`")
    })
}

fn pattern_of(part: &str, at: Position) -> Result<Option<Pattern>, Problem> {
    if !is_pattern(part) {
        return Ok(None);
    }
    let pattern = Pattern::parse(part, Dialect::Name);
    pattern.map(Some).ok_or_else(|| Problem::new(at, format!("`{part}` is not a pattern")))
}

fn not_utf8(path: &str, at: Position) -> Problem {
    Problem::new(at, format!("the name or target of `{path}` is not UTF-8"))
}

fn limit(what: &str, limit: impl ToString) -> BuildError {
    BuildError::Limit { what: what.to_owned(), limit: limit.to_string() }
}
