//! Where a benchmark works: a file system that has a journal, or memory.
//!
//! In: nothing. Out: an empty folder that goes away. Never: the machine's own ext4 when that has no journal, where
//! making a file after a big removal takes fifty times as long and says nothing about anything else.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sparse; a run writes a few hundred megabytes.
const SIZE_BYTES: u64 = 6 << 30;

/// A folder of its own file system; removed when dropped.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    scratch: PathBuf,
    mounted: bool,
}

impl Disk {
    /// A loop-mounted ext4 with a journal; memory where that cannot be mounted.
    ///
    /// # Errors
    /// When neither can be made.
    pub fn new() -> Result<Disk> {
        let scratch = std::env::temp_dir().join(format!("slipway-bench-{}", std::process::id()));
        let folder = scratch.join("disk");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        match mount(&scratch.join("image"), &folder) {
            Ok(()) => Ok(Disk { folder, scratch, mounted: true }),
            Err(error) => {
                crate::note(&format!("no loop-mounted disk ({error:#}); working in memory"));
                let _ = std::fs::remove_dir_all(&scratch);
                let memory = PathBuf::from(format!("/dev/shm/slipway-bench-{}", std::process::id()));
                std::fs::create_dir_all(&memory).with_context(|| format!("cannot make `{}`", memory.display()))?;
                Ok(Disk { folder: memory.clone(), scratch: memory, mounted: false })
            }
        }
    }

    /// The empty folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What it is, for the table.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.mounted { "ext4 with a journal on a loop device" } else { "tmpfs" }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && run("umount", &[&self.folder]).is_err() {
            // What still holds it goes away with its last process.
            let _ = run("umount", &[Path::new("-l"), &self.folder]);
        }
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

fn mount(image: &Path, folder: &Path) -> Result<()> {
    File::create(image)?.set_len(SIZE_BYTES)?;
    run("mkfs.ext4", &[Path::new("-qF"), image])?;
    run("mount", &[Path::new("-o"), Path::new("loop"), image, folder])
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let answer = Command::new(program).args(arguments).output().with_context(|| format!("`{program}`"))?;
    ensure!(answer.status.success(), "`{program}`: {}", String::from_utf8_lossy(&answer.stderr).trim());
    Ok(())
}
