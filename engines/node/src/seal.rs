//! Seals secrets before they are written.
//!
//! In: bytes and what they belong to. Out: nonce and XChaCha20-Poly1305 text; the name is authenticated, so that a
//! sealed value cannot be moved to another. The key is the node's own (`DATA/node/key`, 0600): it needs nobody to
//! start what it ran. Never prints a value.

use crate::files::{read_if_there, replace};
use crate::options::NodeError;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::path::Path;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Seals and opens.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    /// The key of this file; made when there is none.
    pub(crate) fn of_file(path: &Path) -> Result<Sealer, NodeError> {
        let failed = |e| NodeError::io(format!("key file `{}`", path.display()), e);
        let key = match read_if_there(path).map_err(failed)? {
            Some(key) => key,
            None => {
                let mut key = vec![0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(|e| failed(std::io::Error::other(e.to_string())))?;
                replace(path, &key).map_err(failed)?;
                key
            }
        };
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| NodeError::Stored {
            path: path.to_owned(),
            reason: format!("a key has {KEY_BYTES} bytes, this has {}", key.len()),
        })?;
        Ok(Sealer { cipher })
    }

    /// Nonce and sealed text.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|e| format!("no randomness: {e}"))?;
        let payload = Payload { msg: plain, aad: name.as_bytes() };
        let text =
            self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| format!("`{name}` cannot be sealed"))?;
        Ok([&nonce[..], &text].concat())
    }

    /// The plain bytes.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let damaged = || format!("secret `{name}` was sealed with another key or is damaged");
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let payload = Payload { msg: text, aad: name.as_bytes() };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())
    }
}
