//! Looking at a data folder without changing it.
//!
//! fjall writes when it opens a database: it cuts journals, replaces manifests, flushes, compacts and
//! deletes what it takes for orphans. So a shadow of the folder is opened instead: what fjall changes
//! in place is copied (journals, manifests, markers), what it only reads or unlinks is linked (tables
//! and blob files). The shadow lies in the system's folder for temporary files and is gone afterwards;
//! it takes as much room as the journals hold, a few hundred MiB at the most.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace_store::window::ProducerWindow;
use millrace_store::{Part, StoreError};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tempfile::TempDir;

use crate::folder::{self, OpenError};
use crate::keys::{self, describe};
use crate::settings::Options;
use crate::store::{FjallStore, look_through};
use crate::writer::get;
use crate::{failure, journal, rows};

/// A data folder, locked and opened for looking.
#[derive(Debug)]
pub struct Inspection {
    // Dropped in this order.
    store: FjallStore,
    _shadow: TempDir,
    _lock: Option<File>,
}

/// A head: its name, its version and its bytes, or why it cannot be read.
pub type FoundHead = (Entity, Part, Result<(KnownAt, Bytes), StoreError>);

impl Inspection {
    /// Opens a folder that no process has open. Blocks.
    ///
    /// # Errors
    /// Everything that keeps it from being opened: both databases are looked through.
    pub fn open(path: &Path) -> Result<Self, Vec<OpenError>> {
        let lock = lock(path).map_err(|error| vec![error])?;
        let has = |entry: &str| path.join(entry).exists();
        let ours = [folder::LOCK, folder::LOG, folder::SNAPSHOTS];
        if !has(folder::FORMAT) && !ours.into_iter().all(has) {
            return Err(vec![OpenError::NotADataFolder(path.to_owned())]);
        }
        let shadow = tempfile::tempdir()
            .and_then(|shadow| mirror(path, shadow.path()).map(|()| shadow))
            .map_err(|error| vec![OpenError::access(path, "looking at its files", &error)])?;
        let mut problems = Vec::new();
        // The format file is looked at when the store is opened.
        if shadow.path().join(folder::FORMAT).exists() {
            for database in [folder::LOG, folder::SNAPSHOTS] {
                problems.extend(look_through(shadow.path(), database).err());
            }
        }
        if problems.is_empty() {
            match FjallStore::open(shadow.path(), &Options::default()) {
                Ok(store) => return Ok(Self { store, _shadow: shadow, _lock: lock }),
                Err(error) => problems.push(error),
            }
        }
        Err(problems.into_iter().map(|problem| problem.about(path)).collect())
    }

    /// The store, as it would be opened. What is written to it is lost.
    #[must_use]
    pub fn store(&self) -> &FjallStore {
        &self.store
    }

    /// A row of the log by its place, whether or not it is in the log.
    ///
    /// # Errors
    /// [`StoreError`], which names the chunk.
    pub fn chunk(&self, slot: SlotId, position: Position) -> Result<Option<Bytes>, StoreError> {
        get(&self.store.inner.log.rows, &keys::chunk(slot, position))
    }

    /// All heads, those that rebuilds made too, in the order of their entities. The error of an
    /// unreadable block ends them.
    pub fn heads(&self) -> impl Iterator<Item = Result<FoundHead, StoreError>> + '_ {
        let table = &self.store.inner.snapshots.rows;
        let read = move |key: fjall::Result<fjall::UserKey>| {
            let key = match key {
                Ok(key) => key,
                Err(error) => {
                    return Some(Err(failure::of_read(|| "snapshot parts".into(), &error)));
                }
            };
            let Some((entity, part)) = keys::read_part(&key) else {
                let reason = "its key does not decode";
                return Some(Err(failure::damaged(describe(&key), reason)));
            };
            if !matches!(part, Part::Head | Part::RebuiltHead(_)) {
                return None;
            }
            let value = get(table, &key).and_then(|value| {
                let value = value.unwrap_or_default();
                rows::decode_versioned(&value).map_err(rows::damaged(describe(&key)))
            });
            Some(Ok((entity, part, value)))
        };
        let mut ended = false;
        table
            .prefix([keys::PART])
            .map(fjall::Guard::key)
            .take_while(move |key| !std::mem::replace(&mut ended, key.is_err()))
            .filter_map(read)
    }

    /// Reads every lease, run and producer window: how many there are, and what is wrong with them.
    #[must_use]
    pub fn small_rows(&self) -> (u64, Vec<StoreError>) {
        let table = &self.store.inner.log.rows;
        let (mut count, mut problems) = (0, Vec::new());
        for letter in [keys::NODE, keys::RUN, keys::WINDOW] {
            for row in table.prefix([letter]) {
                count += 1;
                let (key, value) = match row.into_inner() {
                    Ok(row) => row,
                    Err(error) => {
                        let what = || format!("rows {}", char::from(letter));
                        problems.push(failure::of_read(what, &error));
                        break;
                    }
                };
                let decoded = match letter {
                    keys::NODE => rows::decode_node(&value).map(drop),
                    keys::RUN => rows::decode_run(&value).map(drop),
                    _ => rows::unseal(&value).and_then(ProducerWindow::decode).map(drop),
                };
                problems.extend(decoded.map_err(rows::damaged(describe(&key))).err());
            }
        }
        (count, problems)
    }
}

/// Bytes that are free on the disk of a folder.
///
/// # Errors
/// Those of the operating system.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    fs4::available_space(folder)
}

/// Takes the lock without writing to it: a running process is not looked at.
fn lock(path: &Path) -> Result<Option<File>, OpenError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(OpenError::NotAFolder(path.to_owned())),
        Ok(_) => {}
        Err(error) => return Err(OpenError::access(path, "looking at it", &error)),
    }
    let mut file = match File::open(path.join(folder::LOCK)) {
        Ok(file) => file,
        // A folder that was copied without it; or no data folder, as its format will tell.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::access(path, folder::LOCK, &error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(OpenError::Locked { folder: path.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => Err(OpenError::access(path, folder::LOCK, &error)),
    }
}

/// Makes the shadow.
fn mirror(path: &Path, shadow: &Path) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    if path.join(folder::FORMAT).exists() {
        fs::copy(path.join(folder::FORMAT), shadow.join(folder::FORMAT))?;
    }
    let mut below: Vec<PathBuf> = [folder::LOG, folder::SNAPSHOTS].map(PathBuf::from).into();
    while let Some(part) = below.pop() {
        if !path.join(&part).is_dir() {
            continue;
        }
        fs::create_dir(shadow.join(&part))?;
        for entry in fs::read_dir(path.join(&part))? {
            let entry = entry?;
            let name = part.join(entry.file_name());
            let only_read = part.ends_with("tables") || part.ends_with("blobs");
            if entry.file_type()?.is_dir() {
                below.push(name);
            } else if only_read {
                symlink(entry.path(), shadow.join(name))?;
            } else {
                copy_used(&entry.path(), &shadow.join(name))?;
            }
        }
    }
    if path.join(folder::LOCK).exists() {
        File::create(shadow.join(folder::LOCK))?;
    }
    Ok(())
}

/// Copies a file without the zeros at its end when it is a journal: it is given its length
/// beforehand.
fn copy_used(from: &Path, to: &Path) -> io::Result<()> {
    if from.extension().is_none_or(|extension| extension != "jnl") {
        return fs::copy(from, to).map(drop);
    }
    let used = journal::used(&mut File::open(from)?, 0)?;
    io::copy(&mut File::open(from)?.take(used), &mut File::create(to)?).map(drop)
}
