//! `cargo xtask compose`: docker-compose.yml run for real, on images that are made here, since no
//! registry may be within reach: Cassandra stands in for ScyllaDB, and Debian's packages for the rest.

mod daemon;
mod images;

use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{Failure, output, run};
use crate::probe::{self, Endpoints};
use crate::servers::{debian, is_root, is_there};
use crate::tools::Tools;
use crate::workspace::Workspace;
use daemon::Daemon;

/// The compose project, and the tag of what is built for it.
const PROJECT: &str = "millrace-test";
const TAG: &str = "test";
const NO_COMPOSE: &str = "install docker-compose";
/// A Java machine and four services start one after another on two cores that may be busy.
const HEALTHY_WITHIN: Duration = Duration::from_secs(240);
/// How often the daemon, a container or a page is asked again, within a bound: none of them tells by itself.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The published ports: how docker-compose.yml calls each.
const PORTS: [&str; 5] = [
    "MILLRACE_INGEST_PORT",
    "MILLRACE_JOIN_PORT",
    "MILLRACE_SERVING_PORT",
    "MILLRACE_JAEGER_PORT",
    "MILLRACE_PROMETHEUS_PORT",
];

/// One for each name.
type Ports = [u16; PORTS.len()];

/// Builds the programs and the images, starts everything, puts facts in and reads features back
/// through the published ports, and takes all of it down again.
///
/// # Errors
///
/// [`Failure`] that says what to do.
pub(crate) fn run_all() -> Result<(), Failure> {
    if !is_root() {
        let text = "`compose` makes images with debootstrap, which only root can run";
        return Err(Failure::Other(text.to_owned()));
    }
    let workspace = Workspace::find()?;
    let tools = Tools::of(&workspace);
    tools.servers.install()?;
    tools.servers.install_jaeger()?;
    for (program, package) in [("dockerd", "docker.io"), ("debootstrap", "debootstrap")] {
        debian(program, package, "it runs docker-compose.yml")?;
    }
    check_files(&workspace)?;
    let build = ["build", "--workspace", "--bin", "millrace"];
    run(&mut workspace.cargo(&build), "install Rust with rustup")?;
    let daemon = Daemon::reach(&workspace)?;
    images::make(&workspace, &tools, &daemon)?;
    let stack = Stack { workspace: &workspace, daemon, ports: free_ports()? };
    let up = stack.up().and_then(|()| stack.probe());
    if up.is_err() {
        // What they said is all there is to find the reason by.
        let _ = run(&mut stack.compose(&["logs", "--no-color", "--tail", "40"]), NO_COMPOSE);
    }
    let down = stack.down();
    up.and(down)
}

/// Lets docker-compose read the files: as people use them, and with the stand-ins over them.
///
/// # Errors
///
/// [`Failure`] that says what to do.
pub(crate) fn check_files(workspace: &Workspace) -> Result<(), Failure> {
    if !is_there("docker-compose") && !is_root() {
        println!("left out: docker-compose is not there, and only root can install it");
        return Ok(());
    }
    debian("docker-compose", "docker-compose", "it reads docker-compose.yml")?;
    let mut files = vec!["-f", "docker-compose.yml"];
    for more in [None, Some("deploy/stand-ins/docker-compose.yml")] {
        files.extend(more.map(|file| ["-f", file]).into_iter().flatten());
        let mut config = Command::new("docker-compose");
        config.current_dir(&workspace.root).args(&files).args(["config", "--quiet"]);
        run(&mut config, NO_COMPOSE)?;
    }
    Ok(())
}

/// The project of this test.
struct Stack<'a> {
    workspace: &'a Workspace,
    daemon: Daemon,
    ports: Ports,
}

impl Stack<'_> {
    fn compose(&self, args: &[&str]) -> Command {
        let mut command = self.daemon.client("docker-compose");
        command.current_dir(&self.workspace.root).env("MILLRACE_TAG", TAG);
        for (name, port) in PORTS.iter().zip(&self.ports) {
            command.env(name, port.to_string());
        }
        command.args(["--project-name", PROJECT, "-f", "docker-compose.yml"]);
        command.args(["-f", "deploy/stand-ins/docker-compose.yml"]).args(args);
        command
    }

    /// Starts everything, each service once what it depends on is healthy, and waits for the last.
    fn up(&self) -> Result<(), Failure> {
        run(&mut self.compose(&["up", "--detach", "--no-build"]), NO_COMPOSE)?;
        let started = Instant::now();
        loop {
            let ids = output(&mut self.compose(&["ps", "--quiet"])).unwrap_or_default();
            let mut inspect = self.daemon.client("docker");
            inspect.args(["inspect", "--format", "{{.Name}} {{.State.Health.Status}}"]);
            let told = output(inspect.args(ids.split_whitespace())).unwrap_or_default();
            if told.lines().count() == SERVICES
                && told.lines().all(|line| line.ends_with(" healthy"))
            {
                println!("all {SERVICES} containers are healthy");
                return Ok(());
            }
            if started.elapsed() > HEALTHY_WITHIN {
                return Err(Failure::Other(format!("not all containers are healthy:\n{told}")));
            }
            thread::sleep(ASK_EVERY);
        }
    }

    /// Asks through the published ports.
    fn probe(&self) -> Result<(), Failure> {
        let address = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let [ingest, join, serving, ..] =
            address.clone().map(|address| format!("http://{address}"));
        let folder = self.workspace.target.join("compose").join("probe");
        Endpoints::at(ingest, join, serving).probe(&self.workspace.binary(), &folder)?;
        let [.., jaeger, prometheus] = address;
        probe::jaeger(&jaeger)?;
        probe::prometheus(&prometheus)
    }

    /// Nothing is left, volumes neither; nor the image with the program, which differs each time. What
    /// it was made from stays.
    fn down(&self) -> Result<(), Failure> {
        run(&mut self.compose(&["down", "--volumes", "--timeout", "15"]), NO_COMPOSE)?;
        let image = format!("millrace:{TAG}");
        run(self.daemon.client("docker").args(["image", "rm", "--no-prune", &image]), NO_COMPOSE)
    }
}

/// The services of the compose file.
const SERVICES: usize = 8;

/// Ports of the loopback that nobody listens on now; held all at once, so that they differ.
fn free_ports() -> Result<Ports, Failure> {
    let mut ports = Ports::default();
    let mut held = Vec::new();
    let mut take = |port: &mut u16| -> std::io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
        Ok(())
    };
    let taken = ports.iter_mut().try_for_each(&mut take);
    taken.map_err(|cause| Failure::Other(format!("find free ports: {cause}")))?;
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn file(name: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
        fs::read_to_string(root.join(name)).expect(name)
    }

    #[test]
    fn what_is_published_is_published_to_this_machine_alone() {
        let compose = file("docker-compose.yml");
        let published: Vec<&str> =
            compose.lines().filter(|line| line.trim_start().starts_with("ports:")).collect();
        assert_eq!(published.len(), PORTS.len());
        for (line, name) in
            published.iter().zip(["JOIN", "INGEST", "SERVING", "JAEGER", "PROMETHEUS"])
        {
            assert!(line.contains(&format!("[\"127.0.0.1:${{MILLRACE_{name}_PORT:-")), "{line}");
        }
    }

    #[test]
    fn the_alert_rules_are_those_of_the_operators_page() {
        let page = file("docs/operations.md");
        let table = page.split("### What to alert on").nth(1).expect("the table");
        let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
        let alerts = file("deploy/prometheus/alerts.yml");
        let rules: Vec<&str> =
            alerts.lines().filter_map(|line| line.trim_start().strip_prefix("expr: ")).collect();
        assert_eq!(rules.len(), rows.len());
        for (row, rule) in rows.iter().zip(rules) {
            let stated = row.split('`').nth(1).expect("an expression").replace("\\|", "|");
            assert!(rule.contains(&stated), "{rule} does not hold {stated}");
        }
    }
}
