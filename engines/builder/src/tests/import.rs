//! Images from elsewhere, honest and damaged.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use slipway_blobs::{Blobs, Digest};

use super::Scratch;
use super::unpack::{FILE, FOLDER, HARD, LINK, archive};
use crate::{ImportError, Imported, Platform, Source, import};

/// An OCI layout of an image that was built here; and the manifest.
fn layout(scratch: &Scratch) -> (PathBuf, Digest) {
    scratch.file("a", "content");
    let built = scratch.build("FROM scratch\nCOPY a /a\nENV A=1\nCMD [\"/a\"]\n");
    let top = scratch.0.join("layout");
    fs::create_dir_all(top.join("blobs/sha256")).unwrap();
    fs::write(top.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    for digest in [built.manifest, built.config, built.layers[0].digest] {
        fs::copy(scratch.blobs().path(&digest), top.join("blobs/sha256").join(digest.hex())).unwrap();
    }
    let size = scratch.blobs().size(&built.manifest).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": crate::oci::MANIFEST, "digest": built.manifest, "size": size}]});
    fs::write(top.join("index.json"), index.to_string()).unwrap();
    (top, built.manifest)
}

fn tar_of(folder: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", folder).unwrap();
    tar.into_inner().unwrap()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn imported(scratch: &Scratch, from: &Path, source: Source) -> Result<Imported, ImportError> {
    let place = scratch.0.join("scratch/imports");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    import(from, source, &Platform::host(), &place)
}

fn refusal(scratch: &Scratch, from: &Path, source: Source) -> String {
    let error = imported(scratch, from, source).unwrap_err();
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[test]
fn a_layout_is_the_same_image_as_folder_as_tar_and_compressed() {
    let scratch = Scratch::new();
    let (top, manifest) = layout(&scratch);
    let tar = scratch.0.join("image.tar");
    fs::write(&tar, tar_of(&top)).unwrap();
    let gzip = scratch.0.join("image.tar.gz");
    fs::write(&gzip, packed(&tar_of(&top))).unwrap();
    for from in [&top, &tar, &gzip] {
        let image = imported(&scratch, from, Source::Image).unwrap();
        assert_eq!((image.manifest.digest, image.parts.len()), (manifest, 2), "{}", from.display());
        for part in image.parts.iter().chain([&image.manifest]) {
            let bytes = fs::read(&part.file).unwrap();
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (part.digest, part.size_bytes));
        }
    }
}

#[test]
fn a_part_that_is_damaged_or_missing_is_refused() {
    let scratch = Scratch::new();
    let (top, manifest) = layout(&scratch);
    let blobs = top.join("blobs/sha256");
    let config = |name: &fs::DirEntry| fs::read(name.path()).unwrap().starts_with(b"{\"created\"");
    let file = fs::read_dir(&blobs).unwrap().map(Result::unwrap).find(config).unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, b"{}").unwrap();
    assert!(refusal(&scratch, &top, Source::Image).starts_with("the image is damaged: "));
    fs::remove_file(&file).unwrap();
    let digest = Digest::of(&bytes);
    assert_eq!(refusal(&scratch, &top, Source::Image), format!("its part `{digest}` is missing"));
    fs::remove_file(blobs.join(manifest.hex())).unwrap();
    assert_eq!(refusal(&scratch, &top, Source::Image), format!("its part `{manifest}` is missing"));
    fs::remove_file(top.join("index.json")).unwrap();
    let said = refusal(&scratch, &top, Source::Image);
    assert!(said.ends_with("has neither an `index.json` nor a `manifest.json`"), "{said}");
    fs::write(top.join("index.json"), r#"{"manifests":[]}"#).unwrap();
    let said = refusal(&scratch, &top, Source::Image);
    assert!(said.starts_with("it holds 0 images, of which 0 are for linux/"), "{said}");
}

/// What `docker save` writes: the configuration, one layer twice, the second time as a link.
fn docker_archive(scratch: &Scratch, architecture: &str, diff_id: &Digest, layer: &[u8]) -> PathBuf {
    let config = serde_json::json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/a"], "Env": null},
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}, "history": null, "docker_version": "20.10"});
    let manifest = serde_json::json!([{"Config": "c0ffee.json", "RepoTags": ["x:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    let files = [
        ("c0ffee.json", config.to_string().into_bytes()),
        ("one/layer.tar", layer.to_vec()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "two/layer.tar", "../one/layer.tar").unwrap();
    let path = scratch.0.join("docker.tar");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    path
}

#[test]
fn what_docker_saves_becomes_an_image_the_same_each_time() {
    let scratch = Scratch::new();
    let architecture = Platform::host().architecture;
    let layer = archive(&[(FILE, "a", "content")]);
    let diff_id = Digest::of(&layer);
    let plain = docker_archive(&scratch, &architecture, &diff_id, &layer);
    let first = imported(&scratch, &plain, Source::Image).unwrap();
    assert_eq!(first.media_type, crate::oci::MANIFEST);
    // Some write the layers compressed; by whatever program, the image is the same.
    let compressed = docker_archive(&scratch, &architecture, &diff_id, &packed(&layer));
    let second = imported(&scratch, &compressed, Source::Image).unwrap();
    assert_eq!(first.manifest.digest, second.manifest.digest);

    let wrong = docker_archive(&scratch, &architecture, &Digest::of(b"other"), &layer);
    let said = refusal(&scratch, &wrong, Source::Image);
    assert!(said.starts_with(&format!("layer `one/layer.tar` unpacks to `{diff_id}`, the image promises ")), "{said}");
    let foreign = docker_archive(&scratch, "s390x", &diff_id, &layer);
    assert!(refusal(&scratch, &foreign, Source::Image).starts_with("it is for linux/s390x, this machine is linux/"));
}

#[test]
fn a_root_file_system_becomes_one_layer_without_devices() {
    let scratch = Scratch::new();
    let root = archive(&[
        (FOLDER, "./", ""),
        (FOLDER, "./bin", ""),
        (FILE, "./bin/busybox", "program"),
        (HARD, "./bin/sh", "./bin/busybox"),
        (LINK, "./sbin", "bin"),
        (FOLDER, "./dev", ""),
        (tar::EntryType::Char, "./dev/null", ""),
    ]);
    let path = scratch.0.join("root.tar");
    fs::write(&path, &root).unwrap();
    let image = imported(&scratch, &path, Source::RootFileSystem).unwrap();
    assert_eq!(image.notes, ["left out: 1 devices, pipes and sockets, which no image has"]);
    let store = Blobs::open(scratch.0.join("scratch/imports/import")).unwrap();
    let lines: Vec<String> = super::listing(&store, &image.parts[1].digest);
    assert_eq!(
        lines,
        [
            "d 640 11:12 bin/",
            "f 640 11:12 bin/busybox = program",
            "h 640 11:12 bin/sh -> bin/busybox",
            "l 640 11:12 sbin -> bin",
            "d 640 11:12 dev/",
        ]
    );
    let again = imported(&scratch, &path, Source::RootFileSystem).unwrap();
    assert_eq!(again.manifest.digest, image.manifest.digest);

    let text =
        scratch.file("text", "this is no tar at all, but it is longer than the header of one is; ".repeat(20).as_str());
    assert!(refusal(&scratch, &text, Source::RootFileSystem).contains("is no tar that can be read"));
    let empty = scratch.file("empty", "");
    assert!(refusal(&scratch, &empty, Source::RootFileSystem).contains("is an empty tar"));
    assert!(refusal(&scratch, Path::new("/not/there"), Source::Image).starts_with("cannot read `/not/there`: "));
}
