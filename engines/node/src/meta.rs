//! What is written beside an instance, so that the next node finds its way.
//!
//! In: an instance as it was started. Out: `instances/ID/meta.json` and the folder of each of its processes,
//! `instances/ID/run-N`; what ended moves to `ended/`, logs and records only. Never a secret.

use crate::files::{private_folder, read_if_there, replace_quickly};
use serde::{Deserialize, Serialize};
use slipway_model::instance::{Exit, InstanceSpec};
use slipway_model::release::Places;
use slipway_model::{At, Digest, InstanceId, Lane, ReleaseId};
use std::io;
use std::path::{Path, PathBuf};

/// Version of the stored shape.
const VERSION: u32 = 1;
/// Processes of one living instance whose logs are kept; with a crash loop, the newest tell enough.
const RUNS_KEPT: u32 = 3;

/// An instance, as written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    v: u32,
    pub(crate) id: InstanceId,
    pub(crate) lane: Lane,
    pub(crate) release: ReleaseId,
    pub(crate) number: u64,
    pub(crate) image: Digest,
    /// Digest of the specification that its process was started with.
    pub(crate) spec_digest: Digest,
    /// The specification without the secrets' values.
    pub(crate) spec: InstanceSpec,
    /// The memory limit of its process, whoever set it.
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
    /// Where that stands in the file.
    #[serde(default)]
    pub(crate) places: Places,
    /// The whole environment of its process, for commands beside it.
    pub(crate) env: Vec<(String, String)>,
    /// Where it was started inside.
    pub(crate) workdir: String,
    /// The signal that asks it to end.
    pub(crate) stop_signal: i32,
    pub(crate) created: At,
    pub(crate) restarts: u32,
    /// Number of its current process.
    pub(crate) run: u32,
    /// From start to ready, once it was.
    pub(crate) ready_ms: Option<u64>,
    /// Whether its process was ready when this was written.
    pub(crate) ready: bool,
    /// The exit of its process before the current one.
    pub(crate) exit: Option<Exit>,
}

impl Meta {
    /// A new instance.
    pub(crate) fn new(lane: &Lane, slot: &slipway_model::instance::Slot, now: At) -> Result<Meta, String> {
        Ok(Meta {
            v: VERSION,
            id: new_id(lane, &slot.release)?,
            lane: lane.clone(),
            release: slot.release.clone(),
            number: slot.number,
            image: slot.spec.image.clone(),
            spec_digest: slot.spec.digest(),
            spec: without_secrets(&slot.spec),
            memory_bytes: None,
            places: slot.places.clone(),
            env: Vec::new(),
            workdir: "/".into(),
            stop_signal: slot.spec.stop.signal,
            created: now,
            restarts: 0,
            run: 0,
            ready_ms: None,
            ready: false,
            exit: None,
        })
    }

    /// The folder of its current process.
    pub(crate) fn run_folder(&self, data: &Path) -> PathBuf {
        folder_of(data, &self.id).join(format!("run-{}", self.run))
    }

    /// Writes it down.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        let folder = folder_of(data, &self.id);
        private_folder(&folder)?;
        replace_quickly(&folder.join("meta.json"), &serde_json::to_vec(self)?)
    }

    /// Every instance that is written down; what cannot be read is left alone and named.
    pub(crate) fn read_all(data: &Path) -> io::Result<(Vec<Meta>, Vec<PathBuf>)> {
        read_folder(&data.join("instances"))
    }

    /// Every ended instance whose log is kept.
    pub(crate) fn read_ended(data: &Path) -> io::Result<Vec<Meta>> {
        Ok(read_folder(&data.join("ended"))?.0)
    }

    /// Forgets the oldest processes of a living instance.
    pub(crate) fn forget_old_runs(&self, data: &Path) {
        let oldest = self.run.saturating_sub(RUNS_KEPT);
        for run in oldest.saturating_sub(RUNS_KEPT)..oldest {
            let _ = slipway_sandbox::release(&folder_of(data, &self.id).join(format!("run-{run}")));
        }
    }

    /// Keeps logs and records of an instance that is gone, and removes everything else.
    pub(crate) fn archive(&self, data: &Path, kept_per_lane: usize) -> io::Result<()> {
        let (from, to) = (folder_of(data, &self.id), data.join("ended").join(self.id.as_str()));
        private_folder(&to)?;
        for run in run_folders(&from) {
            let target = to.join(run.file_name().unwrap_or_default());
            private_folder(&target)?;
            for file in std::fs::read_dir(&run)? {
                let file = file?;
                let name = file.file_name();
                if name.to_str().is_some_and(is_kept) {
                    std::fs::rename(file.path(), target.join(&name))?;
                }
            }
        }
        replace_quickly(&to.join("meta.json"), &serde_json::to_vec(self)?)?;
        slipway_sandbox::remove_folder(&from)?;
        let mut ended: Vec<Meta> = Meta::read_ended(data)?;
        ended.retain(|meta| meta.lane == self.lane);
        ended.sort_by_key(|meta| std::cmp::Reverse(meta.created));
        for old in ended.iter().skip(kept_per_lane) {
            slipway_sandbox::remove_folder(&data.join("ended").join(old.id.as_str()))?;
        }
        Ok(())
    }
}

/// Log segments and the exit record.
fn is_kept(name: &str) -> bool {
    name == "log" || name.starts_with("log.") || name == "exit.json" || name == "panic"
}

/// The folder of a living instance.
pub(crate) fn folder_of(data: &Path, id: &InstanceId) -> PathBuf {
    data.join("instances").join(id.as_str())
}

/// The folders of its processes, the oldest first.
pub(crate) fn run_folders(instance: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(instance).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.strip_prefix("run-")?.parse().ok()?;
        Some((number, entry.path()))
    });
    let mut runs: Vec<(u32, PathBuf)> = numbered.collect();
    runs.sort();
    runs.into_iter().map(|(_, path)| path).collect()
}

fn read_folder(folder: &Path) -> io::Result<(Vec<Meta>, Vec<PathBuf>)> {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((found, unreadable)),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        let meta = read_if_there(&path.join("meta.json"))?;
        let meta = meta.and_then(|bytes| serde_json::from_slice::<Meta>(&bytes).ok());
        match meta.filter(|meta| meta.v == VERSION) {
            Some(meta) => found.push(meta),
            None => unreadable.push(path),
        }
    }
    Ok((found, unreadable))
}

fn without_secrets(spec: &InstanceSpec) -> InstanceSpec {
    let mut spec = spec.clone();
    spec.secrets.clear();
    spec
}

/// `api-production-34e57f01-k3x9q2a`: 35 random bits beside the release make it unique over all time. Cut so that
/// the sandbox takes it as its name (64 bytes).
fn new_id(lane: &Lane, release: &ReleaseId) -> Result<InstanceId, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let random = getrandom::u64().map_err(|e| format!("no randomness: {e}"))?;
    let suffix: String =
        (0..7).map(|n| char::from(LETTERS[usize::try_from(random >> (5 * n) & 31).unwrap_or(0)])).collect();
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let (service, environment) = (cut(lane.service.as_str(), 26), cut(lane.environment.as_str(), 18));
    let id = format!("{service}-{environment}-{}-{suffix}", cut(release.as_str(), 8));
    InstanceId::parse(&id).map_err(|e| e.to_string())
}
