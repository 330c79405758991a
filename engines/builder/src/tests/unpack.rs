//! Layers, honest and hostile, and the folders that come of them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use slipway_blobs::{BlobError, Blobs, Digest};

use super::{Scratch, entries_in};
use crate::{UnpackError, unpack};

/// Stores an image of uncompressed layers.
pub(super) fn image(blobs: &Blobs, layers: &[Vec<u8>]) -> Digest {
    let layers: Vec<_> = layers.iter().map(|bytes| blobs.put_bytes("layer", bytes).unwrap()).collect();
    let ids: Vec<_> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let config = serde_json::json!({
        "architecture": "any", "os": "linux", "config": {"Env": ["A=1"]}, "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = blobs.put_bytes("config", config.to_string().as_bytes()).unwrap();
    let part = |kind: &str, stored: &slipway_blobs::Stored| serde_json::json!({"mediaType": kind, "digest": stored.digest, "size": stored.size_bytes});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": part("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| part(crate::oci::LAYER, layer)).collect::<Vec<_>>(),
    });
    blobs.put_bytes("manifest", manifest.to_string().as_bytes()).unwrap().digest
}

/// A tar of `(type, path, link target or content)`, with paths exactly as given.
pub(super) fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, path, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(11);
        header.set_gid(12);
        header.set_mtime(1000);
        let is_file = kind.is_file();
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        if !is_file {
            header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        let content = if is_file { text.as_bytes() } else { b"" };
        archive.append(&header, content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Type, path, and link target or content.
type Entry = (tar::EntryType, &'static str, &'static str);

pub(super) const FILE: tar::EntryType = tar::EntryType::Regular;
pub(super) const FOLDER: tar::EntryType = tar::EntryType::Directory;
pub(super) const LINK: tar::EntryType = tar::EntryType::Symlink;
pub(super) const HARD: tar::EntryType = tar::EntryType::Link;

fn unpacked(scratch: &Scratch, entries: &[(tar::EntryType, &str, &str)]) -> Result<PathBuf, UnpackError> {
    let blobs = scratch.blobs();
    let manifest = image(&blobs, &[archive(entries)]);
    unpack(&blobs, &manifest, &scratch.0.join("into")).map(|mut unpacked| unpacked.layers.remove(0))
}

#[test]
fn a_built_image_comes_apart_as_it_was_put_together() {
    let scratch = Scratch::new();
    let file = scratch.file("dist/api", "program");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    scratch.link("dist/link", "api");
    let built = scratch.build("FROM scratch\nWORKDIR /srv\nCOPY --chown=5:6 dist /srv/\nENV A=1\nCMD [\"/srv/api\"]\n");
    let into = scratch.0.join("into");
    let first = unpack(&scratch.blobs(), &built.manifest, &into).unwrap();
    assert_eq!(first.layers, built.layers.iter().map(|layer| into.join(layer.diff_id.hex())).collect::<Vec<_>>());
    assert_eq!(
        (first.config.working_dir.as_str(), first.config.env.as_slice()),
        ("/srv", ["A=1".to_owned()].as_slice())
    );
    let api = first.layers[1].join("srv/api");
    let metadata = fs::metadata(&api).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.mtime()), (5, 6, 0o755, 0));
    assert_eq!(fs::read_to_string(&api).unwrap(), "program");
    assert_eq!(fs::read_link(first.layers[1].join("srv/link")).unwrap(), PathBuf::from("api"));
    let before = metadata.ino();
    let second = unpack(&scratch.blobs(), &built.manifest, &into).unwrap();
    assert_eq!(second, first);
    assert_eq!(fs::metadata(&api).unwrap().ino(), before, "what is there is not unpacked again");
    assert_eq!(entries_in(&into).len(), 2);
}

#[test]
fn many_may_unpack_the_same_image_at_once() {
    let scratch = Scratch::new();
    scratch.file("f", "f");
    let built = scratch.build("FROM scratch\nCOPY f /f\nCMD [\"/f\"]\n");
    let (blobs, into) = (scratch.blobs(), scratch.0.join("into"));
    std::thread::scope(|scope| {
        let run = || unpack(&blobs, &built.manifest, &into).unwrap();
        let all: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        for one in all {
            assert_eq!(fs::read_to_string(one.join().unwrap().layers[0].join("f")).unwrap(), "f");
        }
    });
    assert_eq!(entries_in(&into).len(), 1);
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let scratch = Scratch::new();
    let layer = unpacked(
        &scratch,
        &[
            (FOLDER, "etc/", ""),
            (FILE, "etc/.wh.gone", ""),
            (FILE, "var/.wh..wh..opq", ""),
            (FILE, "var/new", "n"),
            (FILE, ".wh.replaced", ""),
            (FILE, "replaced/by", "b"),
            (FILE, ".wh..wh.plnk", ""),
        ],
    )
    .unwrap();
    let gone = fs::symlink_metadata(layer.join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for folder in ["var", "replaced"] {
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(layer.join(folder), "trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..length], b"y", "{folder}");
    }
    assert_eq!(entries_in(&layer), ["etc", "replaced", "var"]);
}

#[test]
fn layers_with_whiteouts_lie_over_each_other_as_the_kernel_mounts_them() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let scratch = Scratch::new();
    let lower =
        archive(&[(FILE, "etc/gone", "1"), (FILE, "etc/stays", "2"), (FILE, "var/old", "3"), (FILE, "all/old", "4")]);
    let upper = archive(&[
        (FILE, "etc/.wh.gone", ""),
        (FILE, "var/.wh..wh..opq", ""),
        (FILE, "var/new", "5"),
        (FILE, ".wh.all", ""),
        (FILE, "all/new", "6"),
    ]);
    let blobs = scratch.blobs();
    let unpacked = unpack(&blobs, &image(&blobs, &[lower, upper]), &scratch.0.join("into")).unwrap();
    let merged = scratch.0.join("merged");
    fs::create_dir(&merged).unwrap();
    let folders: Vec<_> = unpacked.layers.iter().rev().map(|folder| folder.to_str().unwrap()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", folders.join(":"))).unwrap();
    mount("overlay", &merged, "overlay", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
    let seen = ["etc", "var", "all"].map(|folder| entries_in(&merged.join(folder)));
    unmount(&merged, UnmountFlags::DETACH).unwrap();
    assert_eq!(seen, [["stays"], ["new"], ["new"]]);
}

#[test]
fn hard_links_and_later_entries_of_a_path_are_kept() {
    let scratch = Scratch::new();
    let layer = unpacked(&scratch, &[(FILE, "a", "old"), (FILE, "a", "new"), (HARD, "b", "a"), (LINK, "c", "../../x")])
        .unwrap();
    assert_eq!(fs::read_to_string(layer.join("b")).unwrap(), "new");
    assert_eq!(fs::metadata(layer.join("a")).unwrap().ino(), fs::metadata(layer.join("b")).unwrap().ino());
    assert_eq!(fs::read_link(layer.join("c")).unwrap(), PathBuf::from("../../x"));
}

#[test]
fn a_layer_that_wants_to_get_out_is_refused_and_leaves_nothing() {
    let cases: &[(&[Entry], &str)] = &[
        (&[(FILE, "../evil", "x")], "`../evil` climbs out with `..`"),
        (&[(FILE, "a/../../evil", "x")], "`a/../../evil` climbs out with `..`"),
        (&[(FILE, "/evil", "x")], "`/evil` is an absolute path"),
        (&[(LINK, "way", "/"), (FILE, "way/evil", "x")], "`way` leads over a link"),
        (&[(LINK, "way", ".."), (FILE, "way/deeper/evil", "x")], "`way` leads over a link"),
        (&[(LINK, "way", "/etc"), (HARD, "mine", "way/passwd")], "`way` leads over a link"),
        (&[(HARD, "mine", "../../../etc/passwd")], "`../../../etc/passwd` climbs out with `..`"),
        (&[(HARD, "mine", "/etc/passwd")], "`/etc/passwd` is an absolute path"),
        (&[(HARD, "mine", "absent")], "`mine` is a hard link to `absent`, which is no file of its layer"),
        (&[(LINK, "way", "/"), (FILE, "way/.wh.etc", "")], "`way` leads over a link"),
        (&[(FILE, ".wh...", "")], "`/.wh...` hides nothing that has a name"),
        (&[(FILE, "a", "x"), (FILE, "a/b", "x")], "`a` is used as a folder and is none"),
        (&[(FILE, "a/b", "x"), (FILE, "a", "x")], "`a` is a folder first and something else later"),
        (&[(tar::EntryType::Char, "null", "")], "`null` is a device, which no layer may have"),
        (&[(tar::EntryType::Fifo, "pipe", "")], "`pipe` is a pipe, which no layer may have"),
    ];
    for (entries, expected) in cases {
        let scratch = Scratch::new();
        match unpacked(&scratch, entries) {
            Err(UnpackError::BadLayer { message, .. }) => assert_eq!(message, *expected),
            other => panic!("{expected}: {other:?}"),
        }
        assert!(entries_in(&scratch.0.join("into")).is_empty(), "{expected}");
        assert!(!scratch.0.join("evil").exists());
    }
}

#[test]
fn a_damaged_layer_is_named_and_leaves_nothing() {
    let scratch = Scratch::new();
    scratch.file("f", "f");
    let built = scratch.build("FROM scratch\nCOPY f /f\n");
    let blobs = scratch.blobs();
    let path = blobs.path(&built.layers[0].digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let into = scratch.0.join("into");
    let error = unpack(&blobs, &built.manifest, &into).unwrap_err();
    assert!(matches!(error, UnpackError::Store(BlobError::Damaged { .. })), "{error:?}");
    assert!(entries_in(&into).is_empty());
}

#[test]
fn what_a_killed_unpacking_left_is_swept_and_done_again() {
    let scratch = Scratch::new();
    scratch.file("f", "f");
    let built = scratch.build("FROM scratch\nCOPY f /f\n");
    let into = scratch.0.join("into");
    fs::create_dir_all(into.join(".tmp-1-1/half")).unwrap();
    unpack(&scratch.blobs(), &built.manifest, &into).unwrap();
    assert_eq!(entries_in(&into), [built.layers[0].diff_id.hex()]);
}
