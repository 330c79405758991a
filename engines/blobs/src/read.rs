//! Reading with verification.
//!
//! In: an open blob. Out: its bytes, or [`BlobError::Damaged`] (inside an `io::Error`) in place of the end.
//! Never: a clean end of a damaged blob.

use std::fs::File;
use std::io::{self, Read};

use crate::{BlobError, Digest, Hasher};

/// A stream of one blob, checked when its end is reached.
#[derive(Debug)]
pub struct Reader {
    digest: Digest,
    file: File,
    hasher: Option<Hasher>,
}

impl Reader {
    pub(crate) fn new(digest: Digest, file: File) -> Self {
        Self { digest, file, hasher: Some(Hasher::new()) }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if length > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..length]);
            }
            return Ok(length);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.digest => Err(BlobError::Damaged { digest: self.digest, found }.into_io()),
            Some(_) | None => Ok(0),
        }
    }
}
