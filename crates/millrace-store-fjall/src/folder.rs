//! The data folder: who has it open, which version and how many slots it has.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::settings::Options;

/// The version of the layout that this build reads and writes.
pub const FORMAT_VERSION: u32 = 2;

pub(crate) const LOCK: &str = "millrace.lock";
pub(crate) const FORMAT: &str = "millrace.format";
/// Stands while a folder is being made: a crash then leaves nothing but empty databases.
const CREATING: &str = "millrace.creating";
pub(crate) const LOG: &str = "log";
pub(crate) const SNAPSHOTS: &str = "snapshots";
const TITLE: &str = "millrace data folder";
const SLOTS_MAX: u32 = 65_536;

/// Why a data folder was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A process has it open.
    #[error(
        "data folder {} is in use by {}: stop that process, or choose another folder",
        folder.display(), holder.map_or("another process".into(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The number of that process, if it could be read.
        holder: Option<u32>,
    },
    /// It was made by a version of Millrace with another layout.
    #[error(
        "data folder {} has layout version {found}, this build reads version {supported}: open it \
         with the build that made it, or choose another folder", folder.display()
    )]
    OtherVersion {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: u32,
        /// The version this build reads.
        supported: u32,
    },
    /// It was made with another number of slots, which never changes.
    #[error(
        "data folder {} has {stored} slots, not {wanted}: leave the number of slots out, or choose \
         another folder", folder.display()
    )]
    OtherSlots {
        /// The folder.
        folder: PathBuf,
        /// Its number of slots.
        stored: u32,
        /// The number asked for.
        wanted: u32,
    },
    /// The number of slots asked for is not possible.
    #[error("{0} slots are not possible: it must be a power of two from 1 to {SLOTS_MAX}")]
    BadSlots(u32),
    /// The path is a file.
    #[error("{} is not a folder: choose another one", .0.display())]
    NotAFolder(PathBuf),
    /// The folder holds other things.
    #[error(
        "folder {} is not empty and is no data folder of Millrace: choose an empty or a new one",
        .0.display()
    )]
    NotADataFolder(PathBuf),
    /// The operating system refused something.
    #[error("data folder {} cannot be used: {reason}", folder.display())]
    Access {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said, about which entry, and the way out.
        reason: String,
    },
    /// What it holds does not read back.
    #[error(
        "data folder {} is damaged: {reason}; nothing was changed: `millrace doctor` looks at the \
         rest of it, restore it from a copy, or choose another folder",
        folder.display()
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// Which entry, and what is wrong with it.
        reason: String,
    },
}

impl OpenError {
    /// The same about another folder: that of which the one looked at is a shadow.
    pub(crate) fn about(mut self, path: &Path) -> Self {
        match &mut self {
            Self::Locked { folder, .. }
            | Self::OtherVersion { folder, .. }
            | Self::OtherSlots { folder, .. }
            | Self::Access { folder, .. }
            | Self::Damaged { folder, .. }
            | Self::NotAFolder(folder)
            | Self::NotADataFolder(folder) => path.clone_into(folder),
            Self::BadSlots(_) => {}
        }
        self
    }

    /// The operating system refused something about an entry of the folder.
    pub(crate) fn access(folder: &Path, entry: &str, error: &io::Error) -> Self {
        let kind = error.kind();
        let way_out = if kind == ErrorKind::ReadOnlyFilesystem {
            "mount it for writing, or choose another folder"
        } else if kind == ErrorKind::PermissionDenied {
            "let this user write there, or choose another folder"
        } else if matches!(
            kind,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        ) {
            "make room there, then start again: everything acknowledged is kept"
        } else {
            "choose another folder"
        };
        Self::Access { folder: folder.to_owned(), reason: format!("{entry}: {error}; {way_out}") }
    }
}

/// A data folder, locked by this process until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) slots: u32,
    /// It was made before: its databases are whole, or damaged.
    pub(crate) is_made: bool,
    /// The operating system gives the lock up when the process ends, however it ends.
    _lock: File,
}

impl Folder {
    /// Locks a folder and reads what it is, or begins to make it. After the databases are made,
    /// [`Folder::finish`] makes it a data folder.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        if let Some(slots) = options.slots
            && (!slots.is_power_of_two() || slots > SLOTS_MAX)
        {
            return Err(OpenError::BadSlots(slots));
        }
        let access = |what: &str, error: io::Error| OpenError::access(path, what, &error);
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(OpenError::NotAFolder(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(|error| access("making it", error))?;
            }
            Err(error) => return Err(access("looking at it", error)),
        }
        let format = format_text(path)?;
        if format.is_none() && is_strange(path).map_err(|error| access("listing it", error))? {
            // Without a lock file, folders of these names may be anybody's.
            let ours = [LOCK, LOG, SNAPSHOTS].iter().all(|entry| path.join(entry).exists());
            return Err(if ours {
                let reason = format!("{FORMAT} is missing");
                OpenError::Damaged { folder: path.to_owned(), reason }
            } else {
                OpenError::NotADataFolder(path.to_owned())
            });
        }
        let lock = lock(path)?;
        // Whoever made the folder held the lock: what stands there now is complete or abandoned.
        let (slots, is_made) = match format_text(path)? {
            Some(text) => {
                let stored = read_format(path, &text)?;
                match options.slots {
                    Some(wanted) if wanted != stored => {
                        return Err(OpenError::OtherSlots {
                            folder: path.to_owned(),
                            stored,
                            wanted,
                        });
                    }
                    Some(_) | None => (stored, true),
                }
            }
            None => {
                begin(path).map_err(|error| access("making it", error))?;
                (options.slots.unwrap_or(Options::DEFAULT_SLOTS), false)
            }
        };
        Ok(Self { path: path.to_owned(), slots, is_made, _lock: lock })
    }

    /// Writes the format file, if there is none yet: from now on this is a data folder.
    pub(crate) fn finish(&self) -> Result<(), OpenError> {
        let write = || -> io::Result<()> {
            if fs::exists(self.path.join(FORMAT))? {
                return Ok(());
            }
            let creating = self.path.join(CREATING);
            let mut file = File::create(&creating)?;
            let slots = self.slots;
            let text = format!("{TITLE}\nversion {FORMAT_VERSION}\nslots {slots}\n");
            writeln!(file, "{text}sum {:08x}", crc32fast::hash(text.as_bytes()))?;
            file.sync_all()?;
            fs::rename(&creating, self.path.join(FORMAT))?;
            sync_folder(&self.path)
        };
        write().map_err(|error| OpenError::access(&self.path, FORMAT, &error))
    }
}

/// True when a folder without a format file holds anything that is not ours.
fn is_strange(path: &Path) -> io::Result<bool> {
    let abandoned = fs::exists(path.join(CREATING))?;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let ours = name == LOCK
            || name == CREATING
            || name == FORMAT
            || (abandoned && (name == LOG || name == SNAPSHOTS));
        if !ours {
            // The folder may be in the making by another process: the lock will tell.
            return Ok(!fs::exists(path.join(FORMAT))? && !fs::exists(path.join(CREATING))?);
        }
    }
    Ok(false)
}

/// Marks the folder as being made and removes what an earlier attempt left.
fn begin(path: &Path) -> io::Result<()> {
    File::create(path.join(CREATING))?.sync_all()?;
    sync_folder(path)?;
    for database in [LOG, SNAPSHOTS] {
        match fs::remove_dir_all(path.join(database)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let access = |error: io::Error| OpenError::access(path, LOCK, &error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK))
        .map_err(access)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked { folder: path.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(access(error)),
    }
    // Who holds it is told to whoever does not get it. On a full disk the number may not fit; the
    // lock is the system's and holds all the same.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// The text of the format file, if there is one.
fn format_text(path: &Path) -> Result<Option<String>, OpenError> {
    match fs::read(path.join(FORMAT)) {
        // What is no text does not begin like a format file either.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::access(path, FORMAT, &error)),
    }
}

fn read_format(path: &Path, text: &str) -> Result<u32, OpenError> {
    let damaged = |reason: &str| OpenError::Damaged {
        folder: path.to_owned(),
        reason: format!("{FORMAT}: {reason}"),
    };
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(damaged("its first line is not that of a data folder"));
    }
    let mut number =
        |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ')?.parse::<u32>().ok();
    let found = number("version").ok_or_else(|| damaged("it names no version"))?;
    let slots = number("slots").ok_or_else(|| damaged("it names no number of slots"))?;
    // A flipped bit in the number of slots would look for every entity elsewhere. The first version
    // had no sum.
    let is_whole = text.rsplit_once("sum ").map(|(summed, sum)| {
        sum.trim_end() == format!("{:08x}", crc32fast::hash(summed.as_bytes()))
    });
    if is_whole == Some(false) {
        return Err(damaged("it does not match its checksum"));
    }
    if found != FORMAT_VERSION {
        return Err(OpenError::OtherVersion {
            folder: path.to_owned(),
            found,
            supported: FORMAT_VERSION,
        });
    }
    is_whole.map(|_| slots).ok_or_else(|| damaged("it has no checksum"))
}
