//! What the tests need beside the crates: rustfmt, clippy, grpcurl, a Python with grpcio, servers.
//!
//! Everything is installed under the target folder, at pinned versions, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failure, output, run, with_retries};
use crate::servers::Servers;
use crate::workspace::Workspace;

/// The pinned version of grpcurl.
const GRPCURL: &str = "v1.9.3";

/// The packages of the Python client, relative to the root.
const REQUIREMENTS: &str = "tests/e2e/python/requirements.txt";

/// Where the installed tools are.
#[derive(Debug)]
pub(crate) struct Tools {
    /// The grpcurl program.
    pub(crate) grpcurl: PathBuf,
    /// A Python interpreter that has the packages of the Python client.
    pub(crate) python: PathBuf,
    /// The servers.
    pub(crate) servers: Servers,
}

impl Tools {
    /// Where they are, or will be once [`Tools::install`] ran.
    pub(crate) fn of(workspace: &Workspace) -> Self {
        let tools = workspace.tools();
        Self {
            grpcurl: tools.join(format!("grpcurl-{GRPCURL}")).join("grpcurl"),
            python: tools.join("python").join("bin").join("python"),
            servers: Servers::of(workspace),
        }
    }

    /// Installs what is missing and says so; does nothing when all is there.
    ///
    /// # Errors
    ///
    /// When a program that only the developer can install is missing, or a registry could not be
    /// reached after several tries.
    pub(crate) fn install(&self, workspace: &Workspace) -> Result<(), Failure> {
        components(workspace)?;
        crates(workspace)?;
        self.install_grpcurl()?;
        self.install_python(workspace)?;
        self.servers.install()
    }

    fn install_grpcurl(&self) -> Result<(), Failure> {
        if self.grpcurl.is_file() {
            println!("grpcurl {GRPCURL}: there");
            return Ok(());
        }
        let folder = self.grpcurl.parent().unwrap_or(Path::new("."));
        println!("grpcurl {GRPCURL}: installing into {}", folder.display());
        let package = format!("github.com/fullstorydev/grpcurl/cmd/grpcurl@{GRPCURL}");
        with_retries("install grpcurl", || {
            run(
                Command::new("go").args(["install", &package]).env("GOBIN", folder),
                "install Go 1.24 or newer, which builds grpcurl",
            )
        })
    }

    /// Makes the virtual environment anew whenever the requirements changed.
    fn install_python(&self, workspace: &Workspace) -> Result<(), Failure> {
        let requirements = workspace.root.join(REQUIREMENTS);
        let wanted = fs::read_to_string(&requirements)
            .map_err(|cause| Failure::Other(format!("read {REQUIREMENTS}: {cause}")))?;
        let folder = workspace.tools().join("python");
        let stamp = folder.join("installed-requirements.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            println!("Python packages: there");
            return Ok(());
        }
        println!("Python packages: installing into {}", folder.display());
        run(
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder),
            "install Python 3.11 or newer with its venv module",
        )?;
        with_retries("install the Python packages", || {
            run(
                Command::new(&self.python)
                    .args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-r"])
                    .arg(&requirements),
                "install Python 3.11 or newer with its venv module",
            )
        })?;
        fs::write(&stamp, wanted)
            .map_err(|cause| Failure::Other(format!("write {}: {cause}", stamp.display())))
    }
}

/// rustfmt and clippy come with the toolchain; which toolchain to change is the developer's choice.
fn components(workspace: &Workspace) -> Result<(), Failure> {
    for component in ["fmt", "clippy"] {
        match output(&mut workspace.cargo(&[component, "--version"])) {
            Some(version) => println!("{}: there", version.trim()),
            None => {
                return Err(Failure::Other(format!(
                    "`cargo {component}` is missing: run `rustup component add rustfmt clippy`"
                )));
            }
        }
    }
    Ok(())
}

/// Fetches the locked crates for this machine, so that later stages need no network.
fn crates(workspace: &Workspace) -> Result<(), Failure> {
    let host = output(Command::new("rustc").arg("-vV"))
        .and_then(|text| Some(text.lines().find_map(|l| l.strip_prefix("host: "))?.to_owned()));
    let mut args = vec!["fetch"];
    if let Some(host) = &host {
        args.extend(["--target", host]);
    }
    // CI tests what was committed; a developer may be about to commit a new lock file.
    if std::env::var_os("CI").is_some() {
        args.push("--locked");
    }
    with_retries("fetch crates", || run(&mut workspace.cargo(&args), "install Rust with rustup"))
}
