//! Puts the example of the README's tour into the binary, so that `slipway demo` needs no checkout.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    let root =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../examples/guestbook");
    println!("cargo::rerun-if-changed={}", root.display());
    // A fixed address: a shim or hook starts without relocating what it never uses.
    println!("cargo::rustc-link-arg-bins=-no-pie");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort();
    let mut text = String::from("/// The files of the example, by path.\nconst GUESTBOOK: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        writeln!(text, "    ({name:?}, include_bytes!({path:?})),").expect("a string takes it");
    }
    text.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("guestbook.rs"), text).expect("the build folder takes it");
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("the example is there") {
        let path = entry.expect("the example can be read").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != "dist" {
                collect(root, &path, files);
            }
        } else {
            let relative = path.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
            files.push((relative, path.canonicalize().expect("it exists").to_string_lossy().into_owned()));
        }
    }
}
