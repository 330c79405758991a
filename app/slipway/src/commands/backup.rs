//! `slipway backup` and `slipway restore`: everything but what the master key is, in one file.
//!
//! In: a data folder, in use or not. Out: a tar with the journal as it was at one moment, and all that it refers to. Back:
//! the same on an empty machine. Never: the key, which would open the secrets beside it; anything written over.

use crate::cli::Global;
use crate::commands::ask::print_json;
use crate::exit::{CHANGE, Done, Exit, SURROUNDINGS, USAGE, surroundings};
use crate::paths::Data;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// The file that is first in every backup.
const ABOUT: &str = "slipway-backup.json";
const JOURNAL: &str = "slipway.db";
/// Single files and folders of the data folder that are kept. In this order: what refers comes before what it refers to,
/// so that nothing is missing of what was stored when it was read.
const FILES: [&str; 2] = ["token", "addresses.json"];
const FOLDERS: [&str; 4] = ["registry", "git", "blobs", "logs"];
/// Files that mean something only to who writes them now.
const PASSING: [&str; 3] = [".lock", ".tmp", ".partial"];

/// Where to.
#[derive(Debug, Args)]
pub struct Backup {
    /// The file to write, on another disk
    file: PathBuf,
}

/// From where.
#[derive(Debug, Args)]
pub struct Restore {
    /// What `slipway backup` wrote
    file: PathBuf,
    /// The copy of the master key (`key` of the data folder that was backed up)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Without the key: secrets have to be set anew
    #[arg(long, conflicts_with = "key")]
    without_key: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct About {
    v: u16,
    /// When it was made.
    made: String,
    /// The newest fact of the journal.
    newest: u64,
    /// Which version made it.
    version: String,
}

/// `slipway backup`.
pub fn backup(global: &Global, backup: &Backup) -> Done {
    let data = Data::find(global.data.clone());
    if !data.journal().is_file() {
        return Err(Exit::new(SURROUNDINGS, format!("there is no Slipway in `{}`", data.0.display()))
            .hint("run it where the data folder is, and name that with `--data`"));
    }
    if backup.file.exists() {
        return Err(Exit::new(USAGE, format!("`{}` is there already", backup.file.display()))
            .hint("name a new file; remove the old one when the new one is whole"));
    }
    let partial = with_ending(&backup.file, "partial");
    let journal = with_ending(&backup.file, "db.partial");
    let made = write_all(&data, &partial, &journal).and_then(|about| {
        std::fs::rename(&partial, &backup.file).map_err(|error| failed(&backup.file, &error))?;
        Ok(about)
    });
    let _ = std::fs::remove_file(&journal);
    let about = made.inspect_err(|_| drop(std::fs::remove_file(&partial)))?;
    let bytes = backup.file.metadata().map_or(0, |meta| meta.len());
    if global.json {
        return print_json(&serde_json::json!({ "file": backup.file, "bytes": bytes, "newest": about.newest }));
    }
    println!("{}: {} MB, up to fact {}", backup.file.display(), bytes / 1_000_000, about.newest);
    eprintln!("the key that opens the secrets is not in it: keep a copy of `{}` elsewhere", data.key().display());
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

fn failed(path: &Path, error: &io::Error) -> Exit {
    Exit::new(SURROUNDINGS, format!("`{}`: {error}", path.display()))
}

fn write_all(data: &Data, partial: &Path, journal: &Path) -> Result<About, Exit> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
    let file = file.map_err(|error| failed(partial, &error))?;
    let newest = slipway_store::snapshot(&data.journal(), journal).map_err(surroundings)?;
    let made = crate::wire::clock::now().to_string();
    let about = About { v: 1, made, newest, version: env!("CARGO_PKG_VERSION").into() };
    let mut tar = Builder::new(BufWriter::new(file));
    let text = serde_json::to_vec_pretty(&about).map_err(surroundings)?;
    let wrong = |error: io::Error| failed(partial, &error);
    append(&mut tar, Path::new(ABOUT), text.len() as u64, 0o600, &text[..]).map_err(wrong)?;
    append_file(&mut tar, journal, Path::new(JOURNAL)).map_err(wrong)?;
    for name in FILES {
        append_file(&mut tar, &data.0.join(name), Path::new(name)).map_err(wrong)?;
    }
    for name in FOLDERS {
        append_folder(&mut tar, &data.0.join(name), Path::new(name)).map_err(wrong)?;
    }
    let file = tar.into_inner().and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error));
    file.and_then(|file| file.sync_all()).map_err(wrong)?;
    Ok(about)
}

fn append(tar: &mut Builder<impl Write>, name: &Path, bytes: u64, mode: u32, from: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(mode);
    tar.append_data(&mut header, name, from)
}

/// A file that is gone meanwhile was cleaned up: nothing refers to it.
fn append_file(tar: &mut Builder<impl Write>, path: &Path, name: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let meta = file.metadata()?;
    // A log may grow while it is read; it is kept as long as it was.
    let padded = file.take(meta.len()).chain(io::repeat(b'\n')).take(meta.len());
    append(tar, name, meta.len(), meta.permissions().mode() & 0o777, padded)
}

fn append_folder(tar: &mut Builder<impl Write>, path: &Path, name: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o700);
    tar.append_data(&mut header, name, io::empty())?;
    let mut names: Vec<(bool, std::ffi::OsString)> = Vec::new();
    for entry in entries {
        let entry = entry?;
        // Objects come last: what refers to them is older then.
        names.push((entry.file_name() == "objects", entry.file_name()));
    }
    names.sort();
    for (_, file) in names {
        let text = file.to_string_lossy();
        if PASSING.iter().any(|ending| text.ends_with(ending)) || text.starts_with("tmp_") {
            continue;
        }
        let (path, name) = (path.join(&file), name.join(&file));
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.is_dir() {
            append_folder(tar, &path, &name)?;
        } else if meta.is_file() {
            append_file(tar, &path, &name)?;
        }
    }
    Ok(())
}

/// `slipway restore`.
pub fn restore(global: &Global, restore: &Restore) -> Done {
    let data = Data::find(global.data.clone());
    if std::fs::read_dir(&data.0).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Exit::new(USAGE, format!("`{}` is not empty", data.0.display()))
            .hint("restore into a new folder: `--data DIR`"));
    }
    if restore.key.is_none() && !restore.without_key {
        return Err(Exit::new(USAGE, "the key that opens the secrets is not in a backup")
            .hint("name its copy with `--key FILE`, or say `--without-key` and set the secrets anew"));
    }
    let key = restore.key.as_ref().map(|path| std::fs::read(path).map_err(|error| failed(path, &error))).transpose()?;
    let partial = with_ending(&data.0, "restoring");
    let _ = std::fs::remove_dir_all(&partial);
    let done = read_all(&restore.file, &partial).and_then(|about| {
        if let Some(key) = key {
            let path = partial.join("key");
            slipway_vault::write_private(&path, &key).map_err(|error| failed(&path, &error))?;
        }
        // An empty folder may stand there; it is replaced.
        let _ = std::fs::remove_dir(&data.0);
        std::fs::rename(&partial, &data.0).map_err(|error| failed(&data.0, &error))?;
        Ok(about)
    });
    let about = done.inspect_err(|_| drop(std::fs::remove_dir_all(&partial)))?;
    if global.json {
        return print_json(&serde_json::json!({ "data": data.0, "made": about.made, "newest": about.newest }));
    }
    println!("{} is as it was at {}, up to fact {}", data.0.display(), about.made, about.newest);
    println!("next: slipway up --data {}", data.0.display());
    Ok(())
}

fn read_all(file: &Path, into: &Path) -> Result<About, Exit> {
    let wrong = |error: io::Error| failed(file, &error);
    let damaged = |what: String| Exit::new(CHANGE, format!("`{}`: {what}", file.display()));
    let source = File::open(file).map_err(wrong)?;
    make_private(into).map_err(|error| failed(into, &error))?;
    let mut tar = tar::Archive::new(BufReader::new(source));
    let mut about: Option<About> = None;
    let mut folders = BTreeSet::new();
    for entry in tar.entries().map_err(wrong)? {
        let mut entry = entry.map_err(|error| damaged(format!("it is damaged: {error}")))?;
        let name = entry.path().map_err(wrong)?.into_owned();
        if about.is_none() {
            about = Some(first(&name, &mut entry).map_err(damaged)?);
            continue;
        }
        if !is_ours(&name) {
            return Err(damaged(format!("`{}` does not belong into a backup", name.display())));
        }
        let path = into.join(&name);
        match entry.header().entry_type() {
            EntryType::Directory => {
                make_private(&path).map_err(|error| failed(&path, &error))?;
                folders.insert(path);
            }
            EntryType::Regular => {
                let mode = entry.header().mode().unwrap_or(0o600) & 0o777;
                let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
                let mut made = made.map_err(|error| failed(&path, &error))?;
                let copied =
                    io::copy(&mut entry, &mut made).map_err(|error| damaged(format!("it is damaged: {error}")))?;
                if copied != entry.header().size().unwrap_or(copied) {
                    return Err(damaged(format!("it ends within `{}`", name.display())));
                }
                made.sync_all().map_err(|error| failed(&path, &error))?;
            }
            _ => return Err(damaged(format!("`{}` is neither file nor folder", name.display()))),
        }
    }
    let about = about.ok_or_else(|| damaged("it is empty".into()))?;
    let newest = slipway_store::check(&into.join(JOURNAL)).map_err(surroundings)?;
    if newest != about.newest {
        return Err(damaged(format!("its journal ends at fact {newest} instead of {}", about.newest)));
    }
    for folder in folders {
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&folder, &error))?;
    }
    Ok(about)
}

/// The entry that says what the file is.
fn first(name: &Path, entry: &mut impl Read) -> Result<About, String> {
    let mut bytes = Vec::new();
    let read = entry.take(64 * 1024).read_to_end(&mut bytes);
    let about: Option<About> =
        read.ok().filter(|_| name == Path::new(ABOUT)).and_then(|_| serde_json::from_slice(&bytes).ok());
    match about {
        Some(about) if about.v == 1 => Ok(about),
        Some(about) => Err(format!("it was made by version {}, which this one does not read", about.version)),
        None => Err("it is no backup of Slipway".into()),
    }
}

/// Whether a path is one that a backup holds: below the folders that are kept, with plain names only.
fn is_ours(name: &Path) -> bool {
    let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    let top = name.components().next().and_then(|part| part.as_os_str().to_str()).unwrap_or_default();
    let is_file = name.components().count() == 1 && (FILES.contains(&top) || top == JOURNAL);
    plain && (is_file || FOLDERS.contains(&top))
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_backup_leads_out_of_the_folder() {
        for good in ["slipway.db", "token", "git/a.git/HEAD", "blobs/sha256/ab"] {
            assert!(is_ours(Path::new(good)), "{good}");
        }
        for bad in ["key", "../key", "git/../../etc/passwd", "/etc/passwd", "token/x", "node/state", "."] {
            assert!(!is_ours(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn another_file_is_told_from_a_backup() {
        assert!(first(Path::new("README"), &mut &b"hello"[..]).unwrap_err().contains("no backup"));
        let newer = br#"{"v":9,"made":"","newest":1,"version":"7.0.0"}"#;
        assert!(first(Path::new(ABOUT), &mut &newer[..]).unwrap_err().contains("version 7.0.0"));
    }
}
