//! The targets under libFuzzer: `cargo xtask test --only fuzz` builds and runs this.
//!
//! `MILLRACE_FUZZ_TARGET` names the target. With `MILLRACE_FUZZ_SEEDS` set, its seeds are written into
//! that folder first, which is then given as libFuzzer's corpus. The name `list` prints all names.
#![no_main]

use std::io::Write as _;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use millrace_fuzz_tests::{TARGETS, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// The target that the environment names, its seeds written.
///
/// # Panics
/// When there is none of this name, or the seeds cannot be written.
fn chosen() -> &'static Target {
    let names = TARGETS.map(|target| target.name).join(", ");
    let name = std::env::var("MILLRACE_FUZZ_TARGET").unwrap_or_default();
    if name == "list" {
        let lines = TARGETS.map(|target| format!("{}\n", target.name)).concat();
        std::io::stdout().write_all(lines.as_bytes()).expect("standard output takes the names");
        std::process::exit(0);
    }
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("MILLRACE_FUZZ_TARGET is one of {names}"));
    if let Some(folder) = std::env::var_os("MILLRACE_FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{number:04}"));
            std::fs::write(path, seed)
                .expect("the folder of the seeds is there and can be written");
        }
    }
    target
}

/// Readies the process for its target.
fn begin() {
    let target = TARGET.get_or_init(chosen);
    if target.may_panic_inside {
        // In place of libFuzzer's, which ends the process at any panic.
        std::panic::set_hook(Box::new(|_| {}));
    }
}

fuzz_target!(init: { begin(); }, |data: &[u8]| {
    let target = TARGET.get_or_init(chosen);
    if let Err(panic) = std::panic::catch_unwind(|| (target.run)(data)) {
        let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
        let _ = writeln!(std::io::stderr(), "{}: {text}", target.name);
        std::process::abort();
    }
});
