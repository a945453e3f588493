//! The dependency graph as `cargo metadata` tells it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use thiserror::Error;

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyKind {
    /// Part of the crate.
    Normal,
    /// For its tests, benches and examples.
    Dev,
    /// For its build script.
    Build,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package depended on; a key of [`Graph::packages`].
    pub on: String,
    /// What for.
    pub kind: DependencyKind,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name in the registry or the workspace.
    pub name: String,
    /// True for a crate of this workspace.
    pub member: bool,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
}

/// Packages by cargo's id, which tells two versions of a crate apart.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Every package that this machine's build needs.
    pub packages: BTreeMap<String, Package>,
}

/// Why the graph could not be read.
#[derive(Debug, Error)]
pub enum GraphError {
    /// Cargo did not run, or not to its end.
    #[error("`cargo metadata` failed: {0}")]
    Cargo(String),
    /// Cargo answered something else than expected.
    #[error("`cargo metadata` answered without {0}")]
    Shape(&'static str),
}

impl Graph {
    /// Asks cargo for the graph of the workspace at `root`, without a network.
    ///
    /// # Errors
    ///
    /// [`GraphError::Cargo`] when cargo fails, for example because crates were not fetched yet;
    /// [`GraphError::Shape`] when its answer has another form than this knows.
    pub fn of_workspace(root: &Path) -> Result<Self, GraphError> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let run = |command: &mut Command| {
            let output = command.current_dir(root).output();
            let output = output.map_err(|cause| GraphError::Cargo(cause.to_string()))?;
            if output.status.success() {
                Ok(output.stdout)
            } else {
                Err(GraphError::Cargo(String::from_utf8_lossy(&output.stderr).into_owned()))
            }
        };
        let version = run(Command::new("rustc").arg("-vV"))?;
        let version = String::from_utf8_lossy(&version).into_owned();
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        // Only this machine's platform: the crates of others need not have been fetched.
        let metadata = run(Command::new(cargo)
            .args(["metadata", "--offline", "--format-version", "1", "--filter-platform"])
            .arg(host.ok_or(GraphError::Shape("a host platform"))?))?;
        let json = serde_json::from_slice(&metadata).map_err(|_| GraphError::Shape("JSON"))?;
        Self::from_metadata(&json)
    }

    /// Reads the answer of `cargo metadata --format-version 1`.
    ///
    /// # Errors
    ///
    /// [`GraphError::Shape`] when a part of it is missing.
    pub fn from_metadata(json: &Value) -> Result<Self, GraphError> {
        let list = |value: &Value, what| value.as_array().cloned().ok_or(GraphError::Shape(what));
        let text =
            |value: &Value, what| value.as_str().map(str::to_owned).ok_or(GraphError::Shape(what));
        let mut members = BTreeSet::new();
        for id in list(&json["workspace_members"], "workspace members")? {
            members.insert(text(&id, "workspace members")?);
        }
        let mut names = BTreeMap::new();
        for package in list(&json["packages"], "packages")? {
            names.insert(text(&package["id"], "package ids")?, text(&package["name"], "names")?);
        }
        let mut packages = BTreeMap::new();
        for node in list(&json["resolve"]["nodes"], "a resolved graph")? {
            let id = text(&node["id"], "node ids")?;
            let mut dependencies = Vec::new();
            for edge in list(&node["deps"], "dependencies")? {
                let on = text(&edge["pkg"], "the packages of dependencies")?;
                for kind in list(&edge["dep_kinds"], "kinds of dependencies")? {
                    let kind = match kind["kind"].as_str() {
                        None => DependencyKind::Normal,
                        Some("dev") => DependencyKind::Dev,
                        Some("build") => DependencyKind::Build,
                        Some(_) => return Err(GraphError::Shape("a known kind of dependency")),
                    };
                    dependencies.push(Dependency { on: on.clone(), kind });
                }
            }
            let name = names.get(&id).cloned().ok_or(GraphError::Shape("a node's package"))?;
            let member = members.contains(&id);
            packages.insert(id, Package { name, member, dependencies });
        }
        Ok(Self { packages })
    }

    /// The crates of the workspace.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| package.member)
    }

    /// The name of the package an edge leads to.
    #[must_use]
    pub fn name_of<'a>(&'a self, dependency: &'a Dependency) -> &'a str {
        self.packages.get(&dependency.on).map_or(dependency.on.as_str(), |p| p.name.as_str())
    }

    /// A shortest way from a crate over normal dependencies to a package whose name satisfies
    /// `is_target`, as names from the crate to the target.
    #[must_use]
    pub fn path_to(&self, from: &Package, is_target: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let mut queue = VecDeque::from([(from, vec![from.name.clone()])]);
        let mut seen = BTreeSet::new();
        while let Some((package, path)) = queue.pop_front() {
            for dependency in &package.dependencies {
                if dependency.kind != DependencyKind::Normal || !seen.insert(&dependency.on) {
                    continue;
                }
                let mut longer = path.clone();
                longer.push(self.name_of(dependency).to_owned());
                if is_target(self.name_of(dependency)) {
                    return Some(longer);
                }
                if let Some(next) = self.packages.get(&dependency.on) {
                    queue.push_back((next, longer));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_with_kinds() {
        let json = serde_json::json!({
            "workspace_members": ["path+a#0.1.0"],
            "packages": [
                {"id": "path+a#0.1.0", "name": "a"},
                {"id": "registry+b#1.0.0", "name": "b"}],
            "resolve": {"nodes": [
                {"id": "path+a#0.1.0", "deps": [{"pkg": "registry+b#1.0.0",
                    "dep_kinds": [{"kind": null}, {"kind": "dev"}]}]},
                {"id": "registry+b#1.0.0", "deps": []}]}
        });
        let graph = Graph::from_metadata(&json).expect("well formed");
        let members: Vec<_> = graph.members().map(|p| p.name.as_str()).collect();
        assert_eq!(members, ["a"]);
        let kinds: Vec<_> = graph.packages["path+a#0.1.0"]
            .dependencies
            .iter()
            .map(|d| (graph.name_of(d).to_owned(), d.kind))
            .collect();
        assert_eq!(
            kinds,
            [("b".into(), DependencyKind::Normal), ("b".into(), DependencyKind::Dev)]
        );
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        let without_graph =
            serde_json::json!({"workspace_members": [], "packages": [], "resolve": null});
        assert!(matches!(Graph::from_metadata(&without_graph), Err(GraphError::Shape(_))));
    }
}
