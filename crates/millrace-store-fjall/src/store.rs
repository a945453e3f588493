//! [`FjallStore`]: opening a folder, and what both databases share.

use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use millrace_store::StoreError;

use crate::failure::{Failure, is_damage, system_error};
use crate::folder::{self, Folder, OpenError};
use crate::journal::{self, JournalError};
use crate::manifest::{self, ManifestError};
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
    pub(crate) failure: Arc<Failure>,
    folder: Folder,
}

/// One database: its writer, its rows.
pub(crate) struct Table {
    pub(crate) writer: Writer,
    pub(crate) rows: Keyspace,
    pub(crate) database: Database,
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
        Ok(Self { inner: Arc::new(Inner { log, snapshots, failure, folder }) })
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
        if folder.is_made {
            look_through(&folder.path, name)?;
        }
        let (database, rows) = guarded(&folder.path, name, || {
            let database = settings::database(&path, cache_bytes)?;
            let rows = database.keyspace("rows", rows)?;
            Ok((database, rows))
        })?;
        let thread = format!("store-{name}");
        let writer = Writer::start(&thread, database.clone(), rows.clone(), Arc::clone(failure))
            .map_err(|error| explain(error.into()))?;
        Ok(Self { writer, rows, database })
    }
}

/// The keyspaces of a database: fjall's own, and the rows. Where the `current` file of one is not
/// there, fjall deletes it and begins anew.
const KEYSPACES: [&str; 2] = ["keyspaces/0", "keyspaces/1"];

/// Looks for damage that fjall would pass over in silence, and cuts off a commit cut short.
pub(crate) fn look_through(folder: &Path, name: &str) -> Result<(), OpenError> {
    let path = folder.join(name);
    let damaged = |reason: String| OpenError::Damaged {
        folder: folder.to_owned(),
        reason: format!("{name}: {reason}"),
    };
    let refused = |what: &str, error: &io::Error| {
        if is_damage(error) {
            damaged(format!("{what}: {error}"))
        } else {
            OpenError::access(folder, &format!("{name}: {what}"), error)
        }
    };
    if !fs::exists(path.join("version")).map_err(|error| refused("version", &error))? {
        return Err(damaged("version is missing".to_owned()));
    }
    for keyspace in KEYSPACES {
        manifest::check(&path.join(keyspace)).map_err(|error| match error {
            ManifestError::Damaged(file, how) => damaged(format!("{keyspace}/{file} {how}")),
            ManifestError::Io(file, error) => refused(&format!("{keyspace}/{file}"), &error),
        })?;
    }
    let torn = match journal::check(&path) {
        Ok(torn) => torn,
        Err(JournalError::Io { file, source }) => return Err(refused(&file, &source)),
        Err(error @ (JournalError::Damaged { .. } | JournalError::Missing(_))) => {
            return Err(damaged(error.to_string()));
        }
    };
    if let Some(torn) = torn {
        torn.cut().map_err(|error| refused("its newest journal", &error))?;
        tracing::warn!(
            database = %path.display(),
            "the last commit was cut short and is left out; nobody was promised it"
        );
    }
    Ok(())
}

/// Runs what fjall does with files whose bytes may be anything: it meets some of them with a panic.
fn guarded<T>(
    folder: &Path,
    name: &str,
    open: impl FnOnce() -> fjall::Result<T>,
) -> Result<T, OpenError> {
    match panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| explain(folder, name, &error)),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            let reason = format!("{name}: its files do not decode ({said})");
            Err(OpenError::Damaged { folder: folder.to_owned(), reason })
        }
    }
}

fn explain(folder: &Path, name: &str, error: &fjall::Error) -> OpenError {
    let folder: PathBuf = folder.to_owned();
    match system_error(error) {
        Some(system) if !is_damage(system) => OpenError::access(&folder, name, system),
        Some(system) => OpenError::Damaged { folder, reason: format!("{name}: {system}") },
        None if matches!(error, fjall::Error::Locked) => OpenError::Locked { folder, holder: None },
        None => OpenError::Damaged { folder, reason: format!("{name}: {error}") },
    }
}
