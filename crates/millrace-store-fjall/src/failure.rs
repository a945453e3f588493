//! What went wrong in fjall, in the words of the ports.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fjall::LsmError;
use millrace_store::StoreError;

/// Remembers the first write error of a database: fjall only says that there was one.
#[derive(Debug)]
pub(crate) struct Failure {
    folder: PathBuf,
    first: OnceLock<String>,
}

impl Failure {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), first: OnceLock::new() }
    }

    /// What was told of the first write that failed: from then on nothing is written. After a
    /// failed sync nobody knows what is on the disk, and one that succeeds later proves nothing.
    pub(crate) fn told(&self) -> Option<StoreError> {
        self.first.get().map(|reason| StoreError::Failed { reason: reason.clone() })
    }

    /// A write failed. No later one will be tried.
    pub(crate) fn of_write(&self, error: &fjall::Error) -> StoreError {
        let reason = self.first.get_or_init(|| {
            let folder = self.folder.display();
            let free = match fs4::available_space(&self.folder) {
                Ok(bytes) => format!("{bytes} bytes are free there"),
                Err(error) => error.to_string(),
            };
            let what = match system_error(error) {
                Some(error) => error.to_string(),
                None if matches!(error, fjall::Error::Poisoned) => {
                    "an earlier write in the background failed".into()
                }
                None => error.to_string(),
            };
            format!(
                "{what} (folder {folder}, {free}). Make room or replace the disk, then start \
                 again: everything acknowledged is kept"
            )
        });
        StoreError::Failed { reason: reason.clone() }
    }
}

/// A read failed.
pub(crate) fn of_read(what: impl FnOnce() -> String, error: &fjall::Error) -> StoreError {
    match system_error(error) {
        Some(error) if !is_damage(error) => {
            StoreError::Failed { reason: format!("reading {}: {error}", what()) }
        }
        Some(_) | None => damaged(what(), &error.to_string()),
    }
}

/// The operating system's error inside fjall's.
pub(crate) fn system_error(error: &fjall::Error) -> Option<&std::io::Error> {
    if let fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) = error {
        Some(error)
    } else {
        None
    }
}

/// What is wrong with a stored item, and the way out.
pub(crate) fn damaged(what: String, reason: &str) -> StoreError {
    StoreError::Damaged {
        what,
        reason: format!(
            "{reason}; `millrace doctor` lists everything that is damaged in the folder: restore \
             it from a copy"
        ),
    }
}

/// True when the operating system's error comes of files that are shorter than they were, or gone,
/// or of places read from damaged bytes.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound
    )
}
