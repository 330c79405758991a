//! What the store promises, on a real folder.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::{BlobError, Blobs, Digest};

/// A folder of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("slipway-blobs-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn sweep(blobs: &Blobs, keep: &[Digest], older_than: Duration) -> Vec<Digest> {
    let keep: HashSet<Digest> = keep.iter().copied().collect();
    let collection = blobs.begin_collection();
    let now = SystemTime::now() + Duration::from_secs(1);
    collection.sweep(&keep, older_than, now).unwrap().removed
}

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_digest_is_read_strictly_and_written_back_the_same() {
    let digest: Digest = EMPTY.parse().unwrap();
    assert_eq!(digest, Digest::of(b""));
    assert_eq!(digest.to_string(), EMPTY);
    assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
    assert_eq!(serde_json::from_str::<Digest>(&format!("\"{EMPTY}\"")).unwrap(), digest);
    let upper = EMPTY.replace("e3b0", "E3B0");
    let sha512 = EMPTY.replace("sha256", "sha512");
    for bad in ["", "sha256:", &EMPTY[7..], &EMPTY[..70], &upper, &sha512, "sha256:../../etc/passwd"] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
}

#[test]
fn what_was_stored_comes_back_under_its_digest() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let mut writer = blobs.writer("a greeting").unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.append(b"world").unwrap();
    let stored = writer.commit().unwrap();
    assert_eq!(stored.digest, Digest::of(b"hello world"));
    assert_eq!((stored.size_bytes, stored.was_there), (11, false));
    assert_eq!(blobs.read(&stored.digest, 11).unwrap(), b"hello world");
    assert!(matches!(blobs.read(&stored.digest, 10), Err(BlobError::TooLarge { .. })));
    assert_eq!(files_in(&scratch.0.join("tmp")), 0);
}

#[test]
fn the_same_bytes_are_stored_once() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let file = scratch.0.join("input");
    fs::write(&file, b"bytes").unwrap();
    let first = blobs.put_file(&file).unwrap();
    let second = blobs.put_bytes("again", b"bytes").unwrap();
    let mut writer = blobs.writer("and again").unwrap();
    writer.append(b"bytes").unwrap();
    let third = writer.commit().unwrap();
    assert!(!first.was_there && second.was_there && third.was_there);
    assert_eq!(blobs.list().unwrap().len(), 1);
    assert_eq!(files_in(&scratch.0.join("tmp")), 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let mut writer = blobs.writer("half").unwrap();
    writer.append(b"half of it").unwrap();
    assert_eq!(files_in(&scratch.0.join("tmp")), 1);
    drop(writer);
    assert_eq!(files_in(&scratch.0.join("tmp")), 0);
    assert!(blobs.list().unwrap().is_empty());
}

#[test]
fn bytes_that_differ_from_what_was_announced_are_refused() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let mut writer = blobs.writer("a push").unwrap();
    writer.append(b"one").unwrap();
    let error = writer.commit_as(&Digest::of(b"two")).unwrap_err();
    assert!(matches!(error, BlobError::Mismatch { .. }));
    assert!(error.to_string().starts_with("`a push` was announced as `sha256:"));
    assert!(blobs.list().unwrap().is_empty());
}

#[test]
fn opening_sweeps_what_dead_writers_left_and_spares_the_living() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let mut living = blobs.writer("living").unwrap();
    fs::write(scratch.0.join("tmp/w-1-1"), b"of a process that was killed").unwrap();
    let withdrawn = Digest::of(b"withdrawn");
    let stored = blobs.put_bytes("withdrawn", b"withdrawn").unwrap();
    let aside = scratch.0.join(format!("tmp/gc-{}", withdrawn.hex()));
    fs::rename(blobs.path(&stored.digest), &aside).unwrap();

    let again = Blobs::open(&scratch.0).unwrap();
    assert_eq!(files_in(&scratch.0.join("tmp")), 1);
    assert!(again.has(&withdrawn));
    living.append(b"goes on").unwrap();
    living.commit().unwrap();
    assert!(again.has(&Digest::of(b"goes on")));
}

#[test]
fn a_damaged_blob_is_noticed_when_it_is_read() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let digest = blobs.put_bytes("good", b"good bytes").unwrap().digest;
    assert!(blobs.verify(&digest).is_ok());
    fs::write(blobs.path(&digest), b"goof bytes").unwrap();
    assert!(matches!(blobs.verify(&digest), Err(BlobError::Damaged { .. })));
    assert!(matches!(blobs.read(&digest, 100), Err(BlobError::Damaged { .. })));
    let mut bytes = Vec::new();
    let error = blobs.open_verified(&digest).unwrap().read_to_end(&mut bytes).unwrap_err();
    assert!(matches!(BlobError::from_io(error), Ok(BlobError::Damaged { .. })));
}

#[test]
fn an_absent_blob_is_named() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let digest = Digest::of(b"absent");
    assert!(!blobs.has(&digest));
    assert!(blobs.lease(&digest).unwrap().is_none());
    assert!(!blobs.remove(&digest).unwrap());
    let error = blobs.open_file(&digest).unwrap_err();
    assert_eq!(error.to_string(), format!("blob `{digest}` is not in the store"));
}

// R143
#[test]
fn a_clean_up_removes_what_nothing_refers_to_and_keeps_the_rest() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let kept = blobs.put_bytes("kept", b"kept").unwrap().digest;
    let loose = blobs.put_bytes("loose", b"loose").unwrap().digest;
    assert_eq!(sweep(&blobs, &[kept], Duration::ZERO), [loose]);
    assert!(blobs.has(&kept) && !blobs.has(&loose));
    assert_eq!(files_in(&scratch.0.join("tmp")), 0);
}

#[test]
fn a_clean_up_spares_what_is_leased_or_young() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let stored = blobs.put_bytes("a push", b"layer").unwrap();
    assert!(sweep(&blobs, &[], Duration::ZERO).is_empty());
    assert!(matches!(blobs.remove(&stored.digest), Err(BlobError::InUse { .. })));
    let digest = stored.digest;
    drop(stored);
    assert!(sweep(&blobs, &[], Duration::from_secs(60)).is_empty());
    assert_eq!(sweep(&blobs, &[], Duration::ZERO), [digest]);
}

#[test]
fn what_is_recorded_while_a_clean_up_reads_its_records_is_spared() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let pushed_before = blobs.put_bytes("before", b"before").unwrap();
    let collection = blobs.begin_collection();
    let keep = HashSet::new(); // read here; the push records itself just after
    let pushed_meanwhile = blobs.put_bytes("meanwhile", b"meanwhile").unwrap();
    let digests = [pushed_before.digest, pushed_meanwhile.digest];
    drop((pushed_before, pushed_meanwhile));
    let now = SystemTime::now() + Duration::from_secs(1);
    let collected = collection.sweep(&keep, Duration::ZERO, now).unwrap();
    assert!(collected.removed.is_empty());
    assert_eq!(collected.spared, 2);
    assert!(digests.iter().all(|digest| blobs.has(digest)));
    assert_eq!(sweep(&blobs, &[], Duration::ZERO).len(), 2);
}

#[test]
fn a_lease_of_another_process_renews_the_grace() {
    let scratch = Scratch::new();
    let blobs = Blobs::open(&scratch.0).unwrap();
    let digest = blobs.put_bytes("old", b"old").unwrap().digest;
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(blobs.path(&digest)).unwrap();
    file.set_modified(hour_ago).unwrap();
    // Another store object has leases of its own, as another process has.
    drop(Blobs::open(&scratch.0).unwrap().lease(&digest).unwrap().unwrap());
    assert!(sweep(&blobs, &[], Duration::from_secs(600)).is_empty());
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let small = SmallDisk::mount(&scratch.0.join("disk"));
    let blobs = Blobs::open(small.0.join("blobs")).unwrap();
    let mut writer = blobs.writer("layer of `COPY big /`").unwrap();
    let piece = vec![7; 64 * 1024];
    let error = (0..100).find_map(|_| writer.append(&piece).err()).unwrap();
    assert!(matches!(&error, BlobError::DiskFull { name, .. } if name == "layer of `COPY big /`"));
    assert!(error.to_string().starts_with("no room for `layer of `COPY big /``: the disk of `"));
    drop(writer);
    assert_eq!(files_in(&small.0.join("blobs/tmp")), 0);
    blobs.put_bytes("small", b"there is room again").unwrap();
}

/// One mebibyte in memory, mounted for one test (the tests run as root).
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        use rustix::mount::{MountFlags, mount};
        fs::create_dir_all(at).unwrap();
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(c"size=1m")).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
