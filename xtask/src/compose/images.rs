//! The images of the test, made without a registry: on a Debian from debootstrap.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::TAG;
use super::daemon::Daemon;
use crate::command::{Failure, output, run, with_retries};
use crate::tools::Tools;
use crate::workspace::Workspace;

const BASE: &str = "millrace-base:bookworm";
const NO_DOCKER: &str = "install docker.io";
const NO_TAR: &str = "install the Debian packages debootstrap, tar and coreutils";

/// Makes what is missing, and the image of Millrace from the program that was built.
///
/// # Errors
///
/// [`Failure`] of the program that failed.
pub(super) fn make(workspace: &Workspace, tools: &Tools, daemon: &Daemon) -> Result<(), Failure> {
    base(workspace, daemon)?;
    let root = &workspace.root;
    let context = workspace.target.join("compose").join("stand-ins");
    fill(
        &context,
        &[
            &root.join("deploy/stand-ins/Dockerfile"),
            &root.join("deploy/stand-ins/answers"),
            &root.join("deploy/stand-ins/cassandra"),
            &tools.servers.cassandra.join("lib"),
            &tools.servers.jaeger,
        ],
    )?;
    // The packages come over the network.
    with_retries("make the image of the stand-ins", || {
        build(daemon, &context, "stand-ins", "millrace-stand-ins")
    })?;
    let context = workspace.target.join("compose").join("millrace");
    fill(&context, &[&root.join("Dockerfile"), &workspace.binary()])?;
    fill(&context.join("deploy/image"), &[&root.join("deploy/image/ready")])?;
    build(daemon, &context, "prebuilt", "millrace")
}

fn build(daemon: &Daemon, context: &Path, target: &str, image: &str) -> Result<(), Failure> {
    let mut docker = daemon.client("docker");
    docker.args(["build", "--quiet", "--target", target, "--tag", &format!("{image}:{TAG}")]);
    docker.args(["--build-arg", &format!("BASE={BASE}")]);
    run(docker.arg(context), NO_DOCKER)
}

/// Debian's smallest system, once; as a file it outlives the daemon's own folder.
fn base(workspace: &Workspace, daemon: &Daemon) -> Result<(), Failure> {
    if output(daemon.client("docker").args(["image", "inspect", BASE])).is_some() {
        println!("{BASE}: there");
        return Ok(());
    }
    let file = workspace.tools().join("bookworm.tar");
    if !file.is_file() {
        let system = workspace.target.join("compose").join("bookworm");
        with_retries("fetch Debian", || {
            empty(&system)?;
            let mut debootstrap = Command::new("debootstrap");
            debootstrap.args(["--variant=minbase", "bookworm"]).arg(&system);
            run(&mut debootstrap, NO_TAR)
        })?;
        let part = workspace.tools().join("bookworm.part");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--exclude=./var/cache/apt/*", "--file"]).arg(&part);
        run(tar.arg("--directory").arg(&system).arg("."), NO_TAR)?;
        empty(&system)?;
        fs::rename(&part, &file)
            .map_err(|cause| Failure::Other(format!("move {}: {cause}", part.display())))?;
    }
    run(daemon.client("docker").arg("import").arg(&file).arg(BASE), NO_DOCKER)
}

/// A folder with these in it and nothing else; linked, since the folder is beside them.
fn fill(folder: &Path, with: &[&Path]) -> Result<(), Failure> {
    empty(folder)?;
    fs::create_dir_all(folder)
        .map_err(|cause| Failure::Other(format!("make {}: {cause}", folder.display())))?;
    // Copies where a link cannot be, across file systems.
    let copy = |how: &str| {
        let mut cp = Command::new("cp");
        run(cp.args(["--recursive", "--preserve=mode", how]).args(with).arg(folder), NO_TAR)
    };
    copy("--link").or_else(|_| copy("--force"))
}

fn empty(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::Other(format!("empty {}: {cause}", folder.display())))
        }
        _ => Ok(()),
    }
}
