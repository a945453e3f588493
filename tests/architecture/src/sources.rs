//! The files of the workspace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A text file of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path from the root, with `/` between folders.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    /// Whether its name ends with this extension.
    #[must_use]
    pub fn has_extension(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, end)| end == extension)
    }

    #[cfg(test)]
    pub(crate) fn for_test(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// A file or folder could not be read.
#[derive(Debug, Error)]
#[error("read {}", path.display())]
pub struct SourceError {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The root of this workspace.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// What is made, not written.
const MADE: [&str; 5] = ["target", ".git", ".millrace", "__pycache__", "node_modules"];

/// Reads every text file below `root` that somebody wrote, in the order of their paths.
///
/// # Errors
///
/// When a file or folder cannot be read. Files that are not UTF-8 are left out.
pub fn read_sources(root: &Path) -> Result<Vec<SourceFile>, SourceError> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let error = |source| SourceError { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(error)? {
            let entry = entry.map_err(error)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(error)?;
            if MADE.iter().any(|made| entry.file_name() == *made) {
                // In a further work tree of git `.git` is a file, which names the first.
            } else if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                match fs::read_to_string(&path) {
                    Ok(text) => files.push(SourceFile { path: relative(&path, root), text }),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                    // Another program may remove its temporary file while this walks.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(SourceError { path, source }),
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn relative(path: &Path, root: &Path) -> String {
    let inner = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
