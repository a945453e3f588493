//! Jaeger, built once from its Go module: no package of Debian has it.

use std::fs;
use std::path::Path;
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

/// Builds the program, which takes about four minutes on two cores.
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
    // `go install` refuses a module that replaces others, as Jaeger does. So a module of our own
    // takes over all that upstream's says.
    let source = folder.join("source");
    fs::create_dir_all(&source)
        .map_err(|cause| Failure::Other(format!("make {}: {cause}", source.display())))?;
    write(&source.join("go.mod"), "module millrace.dev/jaeger\n")?;
    write(&source.join("go.sum"), SUMS)?;
    let mut module = String::new();
    with_retries("fetch Jaeger", || {
        let mut go = Command::new("go");
        go.args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")]);
        module = output(go.current_dir(&source)).unwrap_or_default();
        let failed = || Failure::Other(format!("`go mod download {MODULE}` failed; {NO_GO}"));
        text_field(&module, "Dir").map(drop).ok_or_else(failed)
    })?;
    let file = |field: &str, below: &str| {
        let path = Path::new(&text_field(&module, field).unwrap_or_default()).join(below);
        fs::read_to_string(&path)
            .map_err(|cause| Failure::Other(format!("read {}: {cause}", path.display())))
    };
    write(&source.join("go.mod"), &requiring(&file("Dir", "go.mod")?))?;
    write(&source.join("go.sum"), &(file("Dir", "go.sum")? + SUMS))?;
    let built = folder.join("jaeger.part");
    with_retries("build Jaeger", || {
        // Niced: who tests or measures beside it is not to be held up.
        let mut go = Command::new("nice");
        go.args(["-n", "10", "go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath"]);
        go.args(["-ldflags=-s -w", "-o"]).arg(&built).arg(format!("{MODULE}/cmd/jaeger"));
        run(go.current_dir(&source), NO_GO)
    })?;
    fs::rename(&built, program)
        .map_err(|cause| Failure::Other(format!("move {}: {cause}", built.display())))
}

/// Upstream's go.mod as that of a module that needs upstream's, on whatever Go there is.
fn requiring(upstream: &str) -> String {
    let ours = |line: &&str| !line.starts_with("module ") && !line.starts_with("toolchain ");
    let mut text = "module millrace.dev/jaeger\n".to_owned();
    for line in upstream.lines().filter(ours) {
        text.extend([line, "\n"]);
    }
    text + &format!("require {MODULE} {VERSION}\n")
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|cause| Failure::Other(format!("write {}: {cause}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_takes_over_what_upstreams_says() {
        let upstream = format!(
            "module {MODULE}\n\ngo 1.24.6\n\ntoolchain go1.25.4\n\nrequire a.b/c v1.0.0\n\nreplace \
             a.b/c => a.b/d v0.9.0\n"
        );
        let ours = requiring(&upstream);
        assert!(ours.starts_with("module millrace.dev/jaeger\n\ngo 1.24.6\n"), "{ours}");
        assert!(ours.contains("replace a.b/c => a.b/d v0.9.0\n") && !ours.contains("toolchain"));
        assert!(ours.ends_with(&format!("require {MODULE} {VERSION}\n")), "{ours}");
        assert_eq!(SUMS.matches(VERSION).count(), 2);
    }
}
