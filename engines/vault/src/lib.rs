//! Seals values at rest.
//!
//! In: values and the names they belong to. Out: sealed texts. Never: writes a value in clear, logs one, accepts a
//! sealed value under another name than it was sealed for.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with a random 24-byte nonce; the name is associated data. A data key
//! per project is sealed by the master key in `DATA/key`, so that exporting one project never exports the others.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use slipway_model::Secret;
use std::io::Write;
use std::path::{Path, PathBuf};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or made.
    #[error("key file `{path}`")]
    KeyFile {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The key file does not hold a key.
    #[error("key file `{0}` does not hold 64 hexadecimal digits; restore the one this data was sealed with")]
    KeyForm(PathBuf),
    /// Another key, another name, or damage.
    #[error("`{0}` cannot be opened with this key: it was sealed with another one or is damaged")]
    Sealed(String),
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// A key that seals.
#[derive(Clone)]
pub struct Vault {
    key: [u8; KEY_BYTES],
}

impl Vault {
    /// The master key at `path`; made, readable by its owner alone, when it is not there.
    ///
    /// # Errors
    /// When the file cannot be read or made, or does not hold a key.
    pub fn open(path: &Path) -> Result<Vault, VaultError> {
        let failed = |source| VaultError::KeyFile { path: path.to_owned(), source };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let key = unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
                key.map(|key| Vault { key }).ok_or_else(|| VaultError::KeyForm(path.to_owned()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let vault = Vault { key: random()? };
                write_private(path, slipway_model::hex(&vault.key).as_bytes()).map_err(failed)?;
                Ok(vault)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A fresh data key, sealed by this one; keep the text, open it with [`Vault::data_key`].
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new_data_key(&self, name: &str) -> Result<String, VaultError> {
        self.seal(name, &random::<KEY_BYTES>()?)
    }

    /// Opens a sealed data key.
    ///
    /// # Errors
    /// When it was sealed otherwise.
    pub fn data_key(&self, name: &str, sealed: &str) -> Result<Vault, VaultError> {
        let opened = self.unseal(name, sealed)?;
        let key = opened.0.try_into().map_err(|_| VaultError::Sealed(name.to_owned()))?;
        Ok(Vault { key })
    }

    /// Seals a value under a name; hexadecimal.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<String, VaultError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload { msg: value, aad: name.as_bytes() };
        let sealed =
            self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Sealed(name.to_owned()))?;
        Ok(slipway_model::hex(&[&nonce[..], &sealed[..]].concat()))
    }

    /// Opens a value that was sealed under this name.
    ///
    /// # Errors
    /// When it was sealed with another key or under another name, or is damaged.
    pub fn unseal(&self, name: &str, sealed: &str) -> Result<Secret, VaultError> {
        let damaged = || VaultError::Sealed(name.to_owned());
        let bytes = unhex(sealed).ok_or_else(damaged)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| damaged())?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        let value = self.cipher().decrypt(&XNonce::from(nonce), payload).map_err(|_| damaged())?;
        Ok(Secret(value))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.key.into())
    }
}

/// Random bytes from the system.
///
/// # Errors
/// When it gives none.
pub fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| VaultError::Random)?;
    Ok(bytes)
}

/// Writes a file that only its owner reads, whole or not at all.
///
/// # Errors
/// When the file system does not take it.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(name: &str) -> (PathBuf, Vault) {
        let path = std::env::temp_dir().join(format!("slipway-vault-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let vault = Vault::open(&path).unwrap();
        (path, vault)
    }

    #[test]
    fn a_value_opens_only_under_its_name_and_key() {
        let (path, vault) = vault("name");
        let sealed = vault.seal("production/DB", b"hunter2").unwrap();
        assert!(!sealed.contains("hunter2") && !sealed.contains(&slipway_model::hex(b"hunter2"))); // R517
        assert_eq!(vault.unseal("production/DB", &sealed).unwrap().0, b"hunter2");
        assert!(vault.unseal("staging/DB", &sealed).is_err());
        assert_eq!(Vault::open(&path).unwrap().unseal("production/DB", &sealed).unwrap().0, b"hunter2");
    }

    #[test]
    fn a_projects_key_is_of_no_use_for_another() {
        let (_, master) = vault("projects");
        let key = |name: &str| master.data_key(name, &master.new_data_key(name).unwrap()).unwrap();
        let sealed = key("shop").seal("X", b"1").unwrap();
        assert!(key("blog").unseal("X", &sealed).is_err());
    }

    #[test]
    fn the_key_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (path, _) = vault("mode");
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
