//! What commands say where nothing is, word for word: exit code, standard output, standard error.
//!
//! `SLIPWAY_GOLDEN=write` accepts changes.

use crate::machine::binary;
use crate::world::scratch;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Each in an empty folder, as somebody who has no server.
const LINES: [&str; 34] = [
    "frob",
    "stauts",
    "deploy api@r1",
    "deploy api@r1 --env production -y",
    "status",
    "status --json",
    "status --server foo",
    "status --server http://127.0.0.1:9",
    "watch",
    "logs api",
    "why api",
    "history",
    "plan",
    "plan main",
    "lint",
    "explain",
    "run",
    "init",
    "push",
    "promote",
    "rollback api -y",
    "restart api -y",
    "freeze production -y",
    "approve -y",
    "secret ls",
    "secret add KEY",
    "token ls",
    "token add kim --rights cook",
    "image ls",
    "release ls",
    "up --http nonsense",
    "down --data nowhere",
    "backup kept.tar --data nowhere",
    "restore kept.tar --data nowhere",
];

#[test]
fn what_is_said_where_nothing_is_is_as_it_was() {
    let dir = scratch();
    std::fs::create_dir_all(dir.join("empty")).unwrap();
    let mut text = String::new();
    for line in LINES {
        let output = Command::new(binary())
            .args(line.split(' '))
            .current_dir(dir.join("empty"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir.join("home"))
            .env("XDG_DATA_HOME", dir.join("home/data"))
            .env("SLIPWAY_DATA", dir.join("home/data/slipway"))
            .env("GIT_CEILING_DIRECTORIES", &dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        writeln!(text, "$ slipway {line}\n[{}]", output.status.code().unwrap()).unwrap();
        for (mark, bytes) in [(" ", &output.stdout), ("!", &output.stderr)] {
            let said = String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "HERE");
            said.lines().for_each(|line| writeln!(text, "{mark} {line}").unwrap());
        }
        text.push('\n');
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(!text.contains('\u{1b}'), "colour where nobody looks");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/said.txt");
    if std::env::var_os("SLIPWAY_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let differing = known.lines().zip(text.lines()).find(|(known, now)| known != now);
    assert!(known == text, "{}: {differing:?}", file.display());
}
