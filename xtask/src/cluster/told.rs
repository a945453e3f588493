//! What `cluster.json` tells scripts, read as one would: nothing of what this program knows besides.

use std::fs;
use std::path::Path;

use crate::command::Failure;

/// The file's text. No name and no value in it has an escape.
pub(super) struct Told(String);

impl Told {
    /// What is told of the cluster of a folder.
    ///
    /// # Errors
    ///
    /// When the file is not there.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("cluster.json");
        let unreadable = |e| Failure::Other(format!("cannot read {}: {e}", path.display()));
        fs::read_to_string(&path).map(Self).map_err(unreadable)
    }

    /// What the command line needs to reach the services.
    ///
    /// # Errors
    ///
    /// When it does not say so.
    pub(super) fn env(&self) -> Result<Vec<(String, String)>, Failure> {
        let texts: Vec<&str> = self.object("env")?.split('"').skip(1).step_by(2).collect();
        let pair = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
        Ok(texts.chunks_exact(2).map(pair).collect())
    }

    /// The number of a process.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub(super) fn pid(&self, name: &str) -> Result<u32, Failure> {
        let processes = self.object("processes")?;
        let pid = processes.split(", ").find_map(|process| {
            process.strip_prefix('"')?.strip_prefix(name)?.strip_prefix("\": ")?.parse().ok()
        });
        pid.ok_or_else(|| Failure::Other(format!("{name} is not among {processes}")))
    }

    /// A member that holds no other object.
    fn object(&self, name: &str) -> Result<&str, Failure> {
        let rest = self.0.split_once(&format!("\"{name}\": {{")).map(|(_, rest)| rest);
        let found = rest.and_then(|rest| rest.split_once('}')).map(|(object, _)| object);
        found.ok_or_else(|| Failure::Other(format!("cluster.json has no {name}: {}", self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_processes_are_found() {
        let told = Told(
            "{\"env\": {\"A\": \"http://h:1,http://h:2\", \"B\": \"x\"}, \"processes\": \
             {\"join-0\": 7, \"join-1\": 8}, \"admin\": {}}\n"
                .to_owned(),
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = [pair("A", "http://h:1,http://h:2"), pair("B", "x")];
        assert_eq!(told.env().expect("it is there"), env);
        assert_eq!(told.pid("join-1").expect("it runs"), 8);
        assert!(told.pid("join").is_err());
    }
}
