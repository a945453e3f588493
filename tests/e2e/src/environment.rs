//! What the tests find through the environment, as `cargo xtask test` sets it.

use std::env;
use std::path::{Path, PathBuf};

use crate::HarnessError;

/// The root of the repository.
#[must_use]
pub fn repository_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The `millrace` binary under test: `MILLRACE_BIN`, else the one built beside this test.
///
/// # Errors
///
/// [`HarnessError::Missing`] when there is none: these tests fail then, they are not left out.
pub fn binary() -> Result<PathBuf, HarnessError> {
    let beside = || built_beside_this_test(&format!("millrace{}", env::consts::EXE_SUFFIX));
    existing("the millrace binary", env::var_os("MILLRACE_BIN").map_or_else(beside, PathBuf::from))
}

/// The grpcurl program: `MILLRACE_GRPCURL`, else the one on the search path.
///
/// # Errors
///
/// [`HarnessError::Missing`] when the variable names no file.
pub fn grpcurl() -> Result<PathBuf, HarnessError> {
    match env::var_os("MILLRACE_GRPCURL") {
        Some(path) => existing("grpcurl", path.into()),
        None => Ok("grpcurl".into()),
    }
}

/// A Python that has the packages of `tests/e2e/python/requirements.txt`: `MILLRACE_PYTHON`, else
/// the one on the search path.
///
/// # Errors
///
/// [`HarnessError::Missing`] when the variable names no file.
pub fn python() -> Result<PathBuf, HarnessError> {
    match env::var_os("MILLRACE_PYTHON") {
        Some(path) => existing("Python with grpcio", path.into()),
        None => Ok("python3".into()),
    }
}

fn existing(what: &'static str, path: PathBuf) -> Result<PathBuf, HarnessError> {
    if path.is_file() { Ok(path) } else { Err(HarnessError::Missing { what, path }) }
}

/// Test programs lie in `<profile>/deps`, binaries in `<profile>`.
fn built_beside_this_test(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    test.ancestors().nth(2).unwrap_or(Path::new(".")).join(name)
}
