//! Rules about the text of files: their size, and what code must not hold.

use crate::layers::PURE_CRATES;
use crate::rust_code::without_comments_and_text;
use crate::{SourceFile, Violation};

/// The most lines a file of code may have, tests included.
const LINES_MAX: usize = 600;

/// Calls that read a clock.
const CLOCKS: [&str; 4] = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];

/// A file of code fits in a head.
#[must_use]
pub fn check_size(file: &SourceFile) -> Option<Violation> {
    let is_code = ["rs", "proto", "py"].iter().any(|end| file.has_extension(end));
    let lines = file.text.lines().count();
    (is_code && lines > LINES_MAX).then(|| {
        let problem =
            format!("has {lines} lines: split it by responsibility ({LINES_MAX} at most)");
        Violation::new(&file.path, problem)
    })
}

/// No `mod.rs`, no unsafe code, no test that never runs, no clock in a pure crate.
#[must_use]
pub fn check_rust_file(file: &SourceFile) -> Vec<Violation> {
    if !file.has_extension("rs") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    if file.path.ends_with("/mod.rs") {
        violations.push(Violation::new(&file.path, "is a mod.rs: use foo.rs beside foo/"));
    }
    let pure = is_in_pure_crate(&file.path);
    for (index, line) in without_comments_and_text(&file.text).lines().enumerate() {
        let mut broken = |problem: &str| {
            violations.push(Violation::new(format!("{}:{}", file.path, index + 1), problem));
        };
        if has_word(line, "unsafe") {
            broken("has unsafe code");
        }
        let dense: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        if dense.contains("#[ignore") || (dense.contains("cfg_attr(") && has_word(line, "ignore")) {
            broken("has a test that does not run");
        }
        if pure && CLOCKS.iter().any(|clock| dense.contains(clock)) {
            broken("reads a clock in a pure crate: take the instant as a parameter");
        }
    }
    violations
}

/// No path of somebody's own machine, in any text file.
#[must_use]
pub fn check_machine_paths(file: &SourceFile) -> Vec<Violation> {
    // Put together here so that this file does not hold what it looks for.
    let folders = ["work", "root", "home", "Users"].map(|folder| format!("/{folder}/"));
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for folder in &folders {
            for (start, _) in line.match_indices(folder) {
                let before = line[..start].chars().next_back();
                // Behind a letter or a dot it is the middle of a relative path or of an address.
                let starts = before.is_none_or(|c| !c.is_alphanumeric() && !"._-}>)".contains(c));
                let goes_on =
                    line[start + folder.len()..].starts_with(|c: char| c.is_alphanumeric());
                if starts && goes_on {
                    let place = format!("{}:{}", file.path, index + 1);
                    violations.push(Violation::new(place, "holds a path of somebody's machine"));
                }
            }
        }
    }
    violations
}

fn is_in_pure_crate(path: &str) -> bool {
    PURE_CRATES.iter().any(|name| path.starts_with(&format!("crates/{name}/src/")))
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::places;

    fn rust(path: &str, text: &str) -> Vec<String> {
        let violations = check_rust_file(&SourceFile::for_test(path, text));
        places(&violations).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn long_files_of_code_are_found() {
        let of = |path: &str, lines: usize| {
            check_size(&SourceFile::for_test(path, &"x\n".repeat(lines))).is_some()
        };
        assert!(!of("a.rs", 600));
        assert!(of("a.rs", 601));
        assert!(of("a.proto", 601));
        assert!(!of("a.md", 601));
    }

    #[test]
    fn code_that_breaks_a_rule_is_found_where_it_stands() {
        assert_eq!(rust("a/mod.rs", ""), ["a/mod.rs"]);
        assert_eq!(rust("a.rs", "fn f() {\n    unsafe { g() }\n}"), ["a.rs:2"]);
        assert_eq!(rust("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["a.rs:2"]);
        assert_eq!(rust("a.rs", "#[cfg_attr(not(big), ignore)]"), ["a.rs:1"]);
        let clock = "use std::time::Instant;\nfn f() { let t = Instant :: now(); }";
        assert_eq!(
            rust("crates/millrace-kernel/src/a.rs", clock),
            ["crates/millrace-kernel/src/a.rs:2"]
        );
        assert_eq!(rust("crates/millrace-grpc/src/a.rs", clock), Vec::<String>::new());
    }

    #[test]
    fn prose_and_names_that_look_alike_are_fine() {
        let text =
            "// unsafe, #[ignore]\nconst A: &str = \"unsafe\";\nfn unsafe_looking(ignore: bool) {}";
        assert_eq!(rust("a.rs", text), Vec::<String>::new());
        assert_eq!(rust("a.md", "unsafe"), Vec::<String>::new());
    }

    #[test]
    fn paths_of_a_machine_are_found_and_others_are_not() {
        let found =
            |line: &str| !check_machine_paths(&SourceFile::for_test("a.md", line)).is_empty();
        for folder in ["work", "root", "home", "Users"] {
            assert!(found(&format!("see /{folder}/ann/a.txt")), "{folder}");
            assert!(found(&format!("\"/{folder}/ann\"")), "{folder}");
            assert!(!found(&format!("docs/{folder}/ann.md")), "{folder}");
            assert!(!found(&format!("${{X}}/{folder}/ann.md")), "{folder}");
        }
        assert!(!found("/usr/share/doc"));
    }
}
