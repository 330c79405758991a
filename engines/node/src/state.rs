//! The wishes, durable.
//!
//! In: wishes, ports. Out: `DATA/node/state/PROJECT.ENVIRONMENT.SERVICE.json`, one per lane, replaced as a whole and
//! on disk before a wish is answered; secrets inside are sealed. Readable without the control plane. Never a wish
//! with a lower epoch than the one it replaces (that is the supervisor's to refuse).

use crate::files::{private_folder, read_if_there, replace};
use crate::options::NodeError;
use crate::seal::Sealer;
use serde::{Deserialize, Serialize};
use slipway_model::Lane;
use slipway_model::instance::LaneWish;
use std::path::{Path, PathBuf};

/// Version of the stored shape.
const VERSION: u32 = 1;

/// What is stored of one lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LaneState {
    v: u32,
    /// The wish; secrets are sealed on disk and open in memory.
    pub(crate) wish: LaneWish,
    /// The port of its own, once it has one.
    #[serde(default)]
    pub(crate) port: u16,
}

impl LaneState {
    pub(crate) fn new(wish: LaneWish, port: u16) -> LaneState {
        LaneState { v: VERSION, wish, port }
    }
}

/// The folder of wishes.
pub(crate) struct StateFolder {
    folder: PathBuf,
    sealer: Sealer,
}

impl StateFolder {
    pub(crate) fn open(data: &Path) -> Result<StateFolder, NodeError> {
        let folder = data.join("state");
        private_folder(&folder).map_err(|e| NodeError::io(format!("making of folder `{}`", folder.display()), e))?;
        Ok(StateFolder { folder, sealer: Sealer::of_file(&data.join("key"))? })
    }

    fn path_of(&self, lane: &Lane) -> PathBuf {
        // Names hold no dot, so this is one to one.
        self.folder.join(format!("{}.{}.{}.json", lane.project, lane.environment, lane.service))
    }

    /// Puts a lane on disk. Blocks for an fsync.
    pub(crate) fn store(&self, state: &LaneState) -> Result<(), String> {
        let mut sealed = state.clone();
        self.each_secret(&mut sealed.wish, |sealer, name, bytes| sealer.seal(name, bytes))?;
        let bytes = serde_json::to_vec_pretty(&sealed).map_err(|e| e.to_string())?;
        let path = self.path_of(&state.wish.lane);
        replace(&path, &bytes).map_err(|e| format!("the wish for `{}` cannot be stored: {e}", state.wish.lane))
    }

    /// Every lane. One that cannot be read stops the start: running on without it would stop its instances.
    pub(crate) fn load(&self) -> Result<Vec<LaneState>, NodeError> {
        let failed = |e| NodeError::io(format!("reading of folder `{}`", self.folder.display()), e);
        let mut lanes = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let bytes = read_if_there(&path).map_err(failed)?.unwrap_or_default();
            let stored = |reason: String| NodeError::Stored { path: path.clone(), reason };
            let mut state: LaneState = serde_json::from_slice(&bytes).map_err(|e| stored(e.to_string()))?;
            if state.v != VERSION {
                return Err(stored(format!("it has version {}, this build reads {VERSION}", state.v)));
            }
            self.each_secret(&mut state.wish, |sealer, name, bytes| sealer.open(name, bytes)).map_err(stored)?;
            lanes.push(state);
        }
        Ok(lanes)
    }

    fn each_secret(
        &self,
        wish: &mut LaneWish,
        change: impl Fn(&Sealer, &str, &[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let lane = wish.lane.to_string();
        for slot in &mut wish.slots {
            for (name, secret) in &mut slot.spec.secrets {
                secret.0 = change(&self.sealer, &format!("{lane}/{name}"), &secret.0)?;
            }
        }
        Ok(())
    }
}
