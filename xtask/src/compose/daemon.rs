//! The Docker daemon: the one that runs, or one of our own for as long as it is needed.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::ASK_EVERY;
use crate::command::{Failure, output, run};
use crate::workspace::Workspace;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A daemon that answers. One of our own ends when this is dropped.
pub(super) struct Daemon {
    /// `None`: wherever the client finds it.
    host: Option<String>,
    own: Option<Child>,
}

impl Daemon {
    /// Finds or starts one.
    ///
    /// # Errors
    ///
    /// With what it said, when it does not start.
    pub(super) fn reach(workspace: &Workspace) -> Result<Self, Failure> {
        let found = Self { host: None, own: None };
        if found.answers() {
            println!("dockerd: runs already");
            return Ok(found);
        }
        let folder = workspace.target.join("compose");
        let failed =
            |cause| Failure::Other(format!("start dockerd in {}: {cause}", folder.display()));
        fs::create_dir_all(&folder).map_err(failed)?;
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let log_path = folder.join("dockerd.log");
        let log = File::create(&log_path).map_err(failed)?;
        let mut command = Command::new("dockerd");
        // What it keeps are images, which are dear to make: they stay with the tools.
        command.arg("--data-root").arg(workspace.tools().join("docker"));
        command.arg("--exec-root").arg(folder.join("exec"));
        command.arg("--pidfile").arg(folder.join("docker.pid")).args(["--host", &socket]);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        let own = Some(command.spawn().map_err(failed)?);
        let mut daemon = Self { host: Some(socket), own };
        let started = Instant::now();
        while !daemon.answers() {
            let ended = daemon.own.as_mut().is_some_and(|own| !matches!(own.try_wait(), Ok(None)));
            if ended || started.elapsed() > READY_WITHIN {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                let lines: Vec<&str> = said.lines().rev().take(8).collect();
                let last = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(Failure::Other(format!("dockerd does not answer; it said:\n{last}")));
            }
            thread::sleep(ASK_EVERY);
        }
        println!(
            "dockerd: started, with its images in {}",
            workspace.tools().join("docker").display()
        );
        Ok(daemon)
    }

    /// A program that speaks to it.
    pub(super) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        // What the package of Debian has; it goes through a Dockerfile from the top.
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    fn answers(&self) -> bool {
        output(self.client("docker").args(["version", "--format", "{{.Server.Version}}"])).is_some()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else { return };
        // SIGTERM, so that it unmounts what it mounted and ends its own children.
        let mut kill = Command::new("kill");
        if run(kill.args(["-s", "TERM", &own.id().to_string()]), "install procps").is_err() {
            let _ = own.kill();
        }
        let _ = own.wait();
    }
}
