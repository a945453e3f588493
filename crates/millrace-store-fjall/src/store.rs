//! [`FjallStore`]: opening a folder, and what both databases share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use millrace_store::StoreError;

use crate::failure::{Failure, system_error};
use crate::folder::{self, Folder, OpenError};
use crate::repair;
use crate::settings::{self, Options};
use crate::writer::Writer;

/// The embedded store, open. Clones share it; the folder is unlocked when the last one, and the
/// last read under way, is gone.
#[derive(Debug, Clone)]
pub struct FjallStore {
    pub(crate) inner: Arc<Inner>,
}

// Dropped in this order: writers commit what is queued, databases close, the lock goes last.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) log: Table,
    pub(crate) snapshots: Table,
    folder: Folder,
}

/// One database: its writer, its rows.
pub(crate) struct Table {
    pub(crate) writer: Writer,
    pub(crate) rows: Keyspace,
    database: Database,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("path", &self.rows.path()).finish_non_exhaustive()
    }
}

/// Bytes on disk. A journal counts with the length it was given beforehand, 64 MiB at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    /// The slot log with its journals.
    pub log_bytes: u64,
    /// Snapshots and marks with their journals.
    pub snapshot_bytes: u64,
}

impl FjallStore {
    /// Opens a data folder, making it when it is absent or empty. Blocks: after a crash it replays
    /// journals, up to a few hundred milliseconds.
    ///
    /// # Errors
    /// [`OpenError`], which names the folder and the way out.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let folder = Folder::open(path.as_ref(), options)?;
        let failure = Arc::new(Failure::new(&folder.path));
        let log = Table::open(
            &folder,
            folder::LOG,
            options.log_cache_bytes,
            settings::log_rows,
            &failure,
        )?;
        let snapshots = Table::open(
            &folder,
            folder::SNAPSHOTS,
            options.snapshot_cache_bytes,
            settings::snapshot_rows,
            &failure,
        )?;
        folder.finish()?;
        Ok(Self { inner: Arc::new(Inner { log, snapshots, folder }) })
    }

    /// The number of slots of the folder.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.inner.folder.slots
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.folder.path
    }

    /// Bytes on disk, journals included.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the operating system does not tell.
    pub fn disk_use(&self) -> Result<DiskUse, StoreError> {
        let of = |table: &Table| {
            table
                .database
                .disk_space()
                .map_err(|error| crate::failure::of_read(|| "disk use".into(), &error))
        };
        Ok(DiskUse { log_bytes: of(&self.inner.log)?, snapshot_bytes: of(&self.inner.snapshots)? })
    }

    /// Runs a read that may touch the disk many times where blocking is allowed.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || read(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Unavailable {
                operation: "read",
                reason: format!("the read was not finished: {error}"),
            }),
        }
    }
}

impl Table {
    fn open(
        folder: &Folder,
        name: &str,
        cache_bytes: u64,
        rows: fn() -> KeyspaceCreateOptions,
        failure: &Arc<Failure>,
    ) -> Result<Self, OpenError> {
        let path = folder.path.join(name);
        let explain = |error: fjall::Error| explain(&folder.path, name, &error);
        let database = match settings::database(&path, cache_bytes) {
            Err(error @ fjall::Error::JournalRecovery(_)) => {
                match repair::cut_torn_batches(&path) {
                    Ok(true) => {}
                    Ok(false) => return Err(explain(error)),
                    Err(error) => return Err(explain(error.into())),
                }
                tracing::warn!(
                    database = %path.display(),
                    "the last commit was cut short and is left out; nobody was promised it"
                );
                settings::database(&path, cache_bytes)
            }
            opened => opened,
        };
        let database = database.map_err(explain)?;
        let rows = database.keyspace("rows", rows).map_err(explain)?;
        let thread = format!("store-{name}");
        let writer = Writer::start(&thread, database.clone(), rows.clone(), Arc::clone(failure))
            .map_err(|error| explain(error.into()))?;
        Ok(Self { writer, rows, database })
    }
}

fn explain(folder: &Path, name: &str, error: &fjall::Error) -> OpenError {
    let folder: PathBuf = folder.to_owned();
    match system_error(error) {
        Some(system) => OpenError::Access { folder, reason: format!("{name}: {system}") },
        None if matches!(error, fjall::Error::Locked) => OpenError::Locked { folder, holder: None },
        None => OpenError::Damaged { folder, reason: format!("{name}: {error}") },
    }
}
