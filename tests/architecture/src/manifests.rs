//! What every crate's Cargo.toml must say.

use crate::{SourceFile, Violation};

/// A member takes its lints from the workspace. A manifest that declares a workspace and no package
/// is not a member.
#[must_use]
pub fn check_manifest(manifest: &SourceFile) -> Option<Violation> {
    let mut section = "";
    let mut is_package = false;
    let mut has_lints = false;
    for line in manifest.text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
            is_package |= section == "[package]";
        }
        let setting: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        has_lints |= section == "[lints]" && setting == "workspace=true";
    }
    (is_package && !has_lints).then(|| {
        Violation::new(&manifest.path, "does not take its lints from the workspace ([lints])")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> bool {
        check_manifest(&SourceFile::for_test("a/Cargo.toml", text)).is_some()
    }

    #[test]
    fn lints_must_come_from_the_workspace() {
        assert!(!problem("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!problem("[workspace]\nmembers = []\n[workspace.lints.rust]\n"));
        assert!(problem("[package]\nname = \"a\"\n"));
        assert!(problem("[package]\nname = \"a\"\n[lints.rust]\nunsafe_code = \"allow\"\n"));
        assert!(problem("[package]\n[dependencies]\nworkspace = true\n[lints]\n"));
    }
}
