//! Jaeger, built once from its Go module: no package of Debian has it. What of it the tests do not use,
//! most of all the drivers of its other storages, is left out of the build, which takes a third of the
//! time then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failure, output, run, with_retries};
use crate::workspace::text_field;

/// The pinned version: Jaeger 2.
pub(super) const VERSION: &str = "v1.76.0";
const MODULE: &str = "github.com/jaegertracing/jaeger";
/// What its files must be; those of the modules it needs are in its own go.sum.
const SUMS: &str = "\
github.com/jaegertracing/jaeger v1.76.0 h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g=
github.com/jaegertracing/jaeger v1.76.0/go.mod h1:hqcuJlLDTv7G2x5eFd/BhwcPdLxj3N+90aKhIzdOcKo=
";
const NO_GO: &str = "install Go 1.24 or newer, which builds Jaeger";

/// What stands in for files of upstream, by where they are.
const OURS: [(&str, &str); 4] = [
    ("cmd/jaeger/main.go", include_str!("jaeger/main.go")),
    ("cmd/jaeger/internal/components.go", include_str!("jaeger/components.go")),
    ("cmd/jaeger/internal/extension/jaegerstorage/storage.go", include_str!("jaeger/storage.go")),
    ("internal/storage/v1/factory/archive.go", include_str!("jaeger/archive.go")),
];
/// Files and folders of upstream that go.
const GONE: [&str; 3] = [
    "cmd/jaeger/internal/extension/jaegerstorage/config.go",
    "cmd/jaeger/internal/extension/jaegerstorage/extension.go",
    "internal/storage/v1/factory",
];

/// Builds the program, which takes about two minutes on two cores.
///
/// # Errors
///
/// Without Go, or when the module proxy could not be reached after several tries.
pub(super) fn install(program: &Path) -> Result<(), Failure> {
    if program.is_file() {
        println!("Jaeger {VERSION}: there");
        return Ok(());
    }
    let folder = program.parent().unwrap_or(Path::new("."));
    println!("Jaeger {VERSION}: building into {}, once", folder.display());
    let source = folder.join("source");
    take(&fetch(folder)?, &source)?;
    let built = folder.join("jaeger.part");
    with_retries("build Jaeger", || {
        // Niced: who tests or measures beside it is not to be held up.
        let mut go = Command::new("nice");
        go.args(["-n", "10", "go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath"]);
        go.args(["-ldflags=-s -w", "-o"]).arg(&built).arg("./cmd/jaeger");
        // Any Go that is new enough will do, not only the one that upstream would fetch.
        run(go.current_dir(&source).env("GOTOOLCHAIN", "local"), NO_GO)
    })?;
    fs::rename(&built, program).map_err(failed("move", &built))?;
    fs::remove_dir_all(&source).map_err(failed("remove", &source))
}

/// Where the module cache has the module, once it is what [`SUMS`] say.
fn fetch(folder: &Path) -> Result<PathBuf, Failure> {
    let sums = folder.join("sums");
    fs::create_dir_all(&sums).map_err(failed("make", &sums))?;
    write(&sums.join("go.mod"), "module millrace.dev/jaeger\n")?;
    write(&sums.join("go.sum"), SUMS)?;
    let mut module = None;
    with_retries("fetch Jaeger", || {
        let mut go = Command::new("go");
        go.args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")]);
        module = output(go.current_dir(&sums)).and_then(|told| text_field(&told, "Dir"));
        let line = || format!("`go mod download {MODULE}@{VERSION}` failed; {NO_GO}");
        module.as_ref().map(drop).ok_or_else(|| Failure::Other(line()))
    })?;
    Ok(PathBuf::from(module.unwrap_or_default()))
}

/// Copies upstream's files, which the cache keeps read-only, and puts ours among them.
fn take(upstream: &Path, source: &Path) -> Result<(), Failure> {
    if source.exists() {
        fs::remove_dir_all(source).map_err(failed("empty", source))?;
    }
    let no_cp = "install coreutils";
    run(Command::new("cp").arg("--recursive").arg(upstream).arg(source), no_cp)?;
    run(Command::new("chmod").args(["--recursive", "u+w"]).arg(source), no_cp)?;
    for path in GONE.map(|gone| source.join(gone)) {
        let remove = if path.is_dir() { fs::remove_dir_all } else { fs::remove_file };
        remove(&path).map_err(failed("remove", &path))?;
    }
    for (path, text) in OURS {
        let path = source.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("make", folder))?;
        }
        write(&path, text)?;
    }
    Ok(())
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |cause| Failure::Other(format!("{what} {}: {cause}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_take_the_place_of_what_goes() {
        assert_eq!(SUMS.matches(VERSION).count(), 2);
        for gone in GONE {
            let folder =
                gone.strip_suffix(".go").map_or(gone, |_| gone.rsplit_once('/').expect(gone).0);
            assert!(OURS.iter().any(|(ours, _)| ours.starts_with(folder)), "nothing for {gone}");
        }
    }
}
