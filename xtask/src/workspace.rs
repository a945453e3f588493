//! Where things are: the workspace's root, its target folder, and cargo.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failure, output};

/// The paths everything else starts from.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, wherever the environment or a configuration puts it.
    pub(crate) target: PathBuf,
    cargo: PathBuf,
}

impl Workspace {
    /// Finds the workspace this program belongs to.
    ///
    /// # Errors
    ///
    /// When cargo does not tell where its target folder is.
    pub(crate) fn find() -> Result<Self, Failure> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_owned();
        // `cargo run` names the cargo it is, which is the one whose toolchain is in use.
        let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let metadata = output(Command::new(&cargo).current_dir(&root).args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ]))
        .ok_or_else(|| Failure::Other("`cargo metadata` failed: is Cargo.toml in order?".into()))?;
        let target = text_field(&metadata, "target_directory").ok_or_else(|| {
            Failure::Other("`cargo metadata` does not name a target folder".into())
        })?;
        Ok(Self { root, target: PathBuf::from(target), cargo })
    }

    /// A cargo command that runs in the root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root).args(args);
        command
    }

    /// The built `millrace` binary of the profile that tests use.
    pub(crate) fn binary(&self) -> PathBuf {
        self.program("millrace")
    }

    /// A built program of the same profile.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Where installed tools live. Inside the target folder, so that `cargo clean` removes them.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }
}

/// The value of the only text field with this name in a JSON document.
pub(crate) fn text_field(json: &str, name: &str) -> Option<String> {
    let name = format!("\"{name}\":");
    let value = json[json.find(&name)? + name.len()..].trim_start().strip_prefix('"')?;
    let mut text = String::new();
    let mut chars = value.chars();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::text_field;

    #[test]
    fn a_text_field_is_found_and_unescaped() {
        let json = r#"{"version":1,"target_directory":"C:\\a \"b\"","metadata":null}"#;
        assert_eq!(text_field(json, "target_directory").as_deref(), Some(r#"C:\a "b""#));
        assert_eq!(text_field(json, "absent"), None);
        assert_eq!(text_field(json, "version"), None);
        assert_eq!(text_field("{\n\t\"Dir\": \"/a\"\n}", "Dir").as_deref(), Some("/a"));
    }
}
