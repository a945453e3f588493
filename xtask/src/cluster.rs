//! `cargo xtask cluster`: the four services as processes of their own on loopback.

mod state;
mod told;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{self, Failure};
use crate::probe::{self, Endpoints};
use crate::servers::Servers;
use crate::workspace::Workspace;
use state::{Process, State, Stores};
use told::Told;

/// How long a service may take to be ready; a restart replays what its marks do not cover.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a service may take to drain: its own limit is 10 s.
const DRAINED_WITHIN: Duration = Duration::from_secs(20);
/// How often a log or a process is looked at, within a bound: the standard library can wait neither
/// for a line of a file nor for a process that is no child.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The process that keeps Cassandra, Redis and Jaeger.
const SERVERS: &str = "servers";
/// The most of each service.
pub(crate) const EACH_MAX: u64 = 16;

/// What to do with the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start all, on an empty store, and wait until they are ready.
    Up(Plan),
    /// End one with SIGKILL.
    Kill(String),
    /// Start one again and wait until it is ready.
    Start(String),
    /// End what is running.
    Down,
}

/// How many of each, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// On Cassandra and Redis and with Jaeger, not on the embedded store.
    pub(crate) is_cql: bool,
    /// Nodes of Cassandra.
    pub(crate) cassandra: u8,
    pub(crate) ingest: u64,
    pub(crate) join: u64,
    pub(crate) store_writer: u64,
    pub(crate) serving: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { is_cql: false, cassandra: 1, ingest: 1, join: 1, store_writer: 1, serving: 1 }
    }
}

impl Plan {
    /// What services of one's own stand on: no service.
    pub(crate) fn of_servers() -> Self {
        Self { is_cql: true, cassandra: 1, ingest: 0, join: 0, store_writer: 0, serving: 0 }
    }

    /// Two of each service on Cassandra and Redis.
    fn of_two_each() -> Self {
        let (is_cql, cassandra) = (true, 1);
        Self { is_cql, cassandra, ingest: 2, join: 2, store_writer: 2, serving: 2 }
    }

    /// The services in the order in which they end: what others need ends last.
    fn names(&self) -> Vec<String> {
        let counts = [
            ("ingest", self.ingest),
            ("feature-serving", self.serving),
            ("join", self.join),
            ("store-writer", self.store_writer),
        ];
        let each = |(kind, count)| (0..count).map(move |number| format!("{kind}-{number}"));
        counts.into_iter().flat_map(each).collect()
    }
}

struct Cluster {
    workspace: Workspace,
    folder: PathBuf,
}

/// Does it.
///
/// # Errors
///
/// [`Failure`] that says what to do.
pub(crate) fn run(action: &Action) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let folder = workspace.target.join("cluster");
    let cluster = Cluster { workspace, folder };
    match action {
        Action::Up(plan) => cluster.up(plan),
        Action::Kill(name) => cluster.kill(name),
        Action::Start(name) => cluster.start_again(name),
        Action::Down => cluster.down(),
    }
}

/// Starts all four services, puts facts in and reads features back as `cluster.json` says, and ends what it
/// started: on the embedded store, where join dies and comes back in between, and two of each on Cassandra and
/// Redis, whose traces it finds in Jaeger.
///
/// # Errors
///
/// [`Failure`] that says what to do; also when a cluster is up already.
pub(crate) fn check() -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let folder = workspace.target.join("cluster");
    let cluster = Cluster { workspace, folder };
    if State::read(&cluster.folder)?.is_some() {
        return Err(up_already());
    }
    cluster.check_on(&Plan::default(), |endpoints| cluster.restart_join(endpoints))?;
    cluster.check_on(&Plan::of_two_each(), |_| cluster.find_traces())
}

impl Cluster {
    fn check_on(
        &self,
        plan: &Plan,
        more: impl FnOnce(&Endpoints) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let up = self.up(plan);
        let checked = up.and_then(|()| {
            let endpoints = Endpoints(Told::read(&self.folder)?.env()?);
            let (program, folder) = (self.workspace.binary(), self.probed());
            match plan.join {
                1 => endpoints.probe(&program, &folder)?,
                _ => endpoints.probe_several(&program, &folder)?,
            }
            more(&endpoints)
        });
        checked.and(self.down())
    }

    fn restart_join(&self, endpoints: &Endpoints) -> Result<(), Failure> {
        let before = Told::read(&self.folder)?.pid("join-0")?;
        self.kill("join-0")?;
        if Told::read(&self.folder)?.pid("join-0").is_ok() {
            return Err(Failure::Other(
                "cluster.json tells of a join-0 that was killed".to_owned(),
            ));
        }
        self.start_again("join-0")?;
        if Told::read(&self.folder)?.pid("join-0")? == before {
            return Err(Failure::Other("cluster.json tells of join-0 as it was".to_owned()));
        }
        endpoints.probe_again(&self.workspace.binary(), &self.probed())
    }

    fn find_traces(&self) -> Result<(), Failure> {
        let none = || Failure::Other("the cluster does not say where Jaeger is".to_owned());
        let state = State::read(&self.folder)?.ok_or_else(none)?;
        let jaeger = state.stores.as_ref().and_then(|told| told.jaeger.strip_prefix("http://"));
        probe::jaeger(jaeger.ok_or_else(none)?)
    }

    /// Where a probe has its files.
    fn probed(&self) -> PathBuf {
        self.folder.join("probe")
    }

    fn up(&self, plan: &Plan) -> Result<(), Failure> {
        if State::read(&self.folder)?.is_some() {
            return Err(up_already());
        }
        let names = plan.names();
        // With a test, as the tests are built: without one cargo settles on fewer features and compiles
        // half of everything a second time.
        let mut build = vec!["build", "--workspace", "--test", "workspace"];
        if !names.is_empty() {
            build.extend(["--bin", "millrace"]);
        }
        if plan.is_cql {
            build.extend(["--bin", SERVERS]);
        }
        command::run(&mut self.workspace.cargo(&build), "install Rust with rustup")?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(|e| self.io("empty", &e))?;
        }
        fs::create_dir_all(self.folder.join("logs")).map_err(|e| self.io("make", &e))?;
        let ports = free_ports(2 * names.len()).map_err(|e| self.io("find free ports for", &e))?;
        let service = |(name, ports): (String, &[u16])| Process {
            name,
            port: ports[0],
            admin_port: ports[1],
            running: None,
        };
        let processes = names.iter().cloned().zip(ports.chunks_exact(2)).map(service).collect();
        let mut state = State { stores: None, processes };
        if plan.is_cql {
            self.start_servers(&mut state, plan.cassandra)?;
        }
        // What was started is known before anything can fail, so that `down` ends it.
        for index in 0..state.processes.len() {
            if state.processes[index].name != SERVERS {
                self.spawn(&mut state, index)?;
            }
        }
        for process in &state.processes {
            self.wait_ready(process)?;
        }
        println!("ready: {}", self.folder.join("cluster.json").display());
        if let Some(stores) = state.stores.filter(|_| names.is_empty()) {
            // To be put in front of a command.
            let Stores { cassandra, redis, .. } = stores;
            println!("MILLRACE_CQL={cassandra} MILLRACE_REDIS=redis://{redis}");
        }
        Ok(())
    }

    /// Starts Cassandra, Redis and Jaeger, and learns where they are.
    fn start_servers(&self, state: &mut State, cassandra: u8) -> Result<(), Failure> {
        let servers = Servers::of(&self.workspace);
        servers.install()?;
        servers.install_jaeger()?;
        let name = SERVERS.to_owned();
        // Last: it ends once nobody needs it any more.
        state.processes.push(Process { name, port: 0, admin_port: 0, running: None });
        let index = state.processes.len() - 1;
        let mut command = Command::new(self.workspace.program(SERVERS));
        servers.set_environment(&mut command);
        command.arg(cassandra.to_string());
        self.launch(state, index, command)?;
        self.wait_ready(&state.processes[index])?;
        let log = fs::read_to_string(self.log(&state.processes[index])).unwrap_or_default();
        let address = |of: &str| {
            let found = log.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(' '));
            found.map(str::to_owned).ok_or_else(|| {
                Failure::Other(format!("the servers do not say where {of} is:\n{log}"))
            })
        };
        state.stores = Some(Stores {
            cassandra: address("cassandra")?,
            redis: address("redis")?,
            jaeger: address("jaeger")?,
            otlp: address("otlp")?,
        });
        state.write(&self.folder)
    }

    fn kill(&self, name: &str) -> Result<(), Failure> {
        let (mut state, index) = self.find(name)?;
        let Some(running) = state.processes[index].alive() else {
            return Err(Failure::Other(format!("{name} is not running")));
        };
        signal("KILL", running.pid)?;
        wait_until_gone(&state.processes[index], DRAINED_WITHIN);
        state.processes[index].running = None;
        state.write(&self.folder)
    }

    fn start_again(&self, name: &str) -> Result<(), Failure> {
        let (mut state, index) = self.find(name)?;
        if state.processes[index].alive().is_some() {
            return Err(Failure::Other(format!("{name} is running already")));
        }
        self.spawn(&mut state, index)?;
        self.wait_ready(&state.processes[index])
    }

    fn down(&self) -> Result<(), Failure> {
        let Some(state) = State::read(&self.folder)? else {
            println!("no cluster is up");
            return Ok(());
        };
        for process in &state.processes {
            let Some(running) = process.alive() else { continue };
            signal("TERM", running.pid)?;
            if !wait_until_gone(process, DRAINED_WITHIN) {
                println!("{} did not drain in time and is killed", process.name);
                signal("KILL", running.pid)?;
                wait_until_gone(process, DRAINED_WITHIN);
            }
        }
        State::forget(&self.folder)
    }

    fn find(&self, name: &str) -> Result<(State, usize), Failure> {
        let Some(state) = State::read(&self.folder)? else {
            let text = "no cluster is up: start one with `cargo xtask cluster up`";
            return Err(Failure::Other(text.to_owned()));
        };
        match state.processes.iter().position(|p| p.name == name && name != SERVERS) {
            Some(index) => Ok((state, index)),
            None => {
                let services = state.processes.iter().filter(|p| p.name != SERVERS);
                let names: Vec<&str> = services.map(|p| p.name.as_str()).collect();
                Err(Failure::Other(format!("there is no {name}; there is {}", names.join(", "))))
            }
        }
    }

    /// Starts a service and notes it.
    fn spawn(&self, state: &mut State, index: usize) -> Result<(), Failure> {
        let process = &state.processes[index];
        let mut command = Command::new(self.workspace.binary());
        command
            .args(["serve", process.kind(), "--listen", &format!("127.0.0.1:{}", process.port)])
            .args(["--admin", &format!("127.0.0.1:{}", process.admin_port)])
            .args(["--store-endpoint", &state.endpoints("store-writer")]);
        match process.kind() {
            "join" => drop(command.args(["--node", &process.name])),
            "feature-serving" => {
                command.args(["--ingest-endpoint", &state.endpoints("ingest")]);
            }
            _ => {}
        }
        if let Some(stores) = &state.stores {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &stores.otlp);
        }
        match (&state.stores, process.kind()) {
            (None, _) => drop(command.arg("--data").arg(self.folder.join("data"))),
            (Some(stores), "store-writer") => {
                // Every node has all of it.
                let replicas = format!("datacenter1={}", stores.cassandra.split(',').count());
                command.args(["--cql", &stores.cassandra, "--cql-create", &replicas]);
            }
            (Some(stores), "ingest") => {
                command.args(["--redis", &format!("redis://{}", stores.redis)]);
            }
            (Some(_), _) => {}
        }
        self.launch(state, index, command)
    }

    /// Starts a process and notes it.
    fn launch(&self, state: &mut State, index: usize, mut command: Command) -> Result<(), Failure> {
        let process = &state.processes[index];
        let log = File::create(self.log(process)).map_err(|e| self.io("write a log in", &e))?;
        let errors = log.try_clone().map_err(|e| self.io("write a log in", &e))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(|cause| Failure::NotStarted {
            program: process.name.clone(),
            cause,
            remedy: "build it with `cargo build`",
        })?;
        state.processes[index].running = state::Running::of(child.id());
        state.write(&self.folder)
    }

    fn log(&self, process: &Process) -> PathBuf {
        self.folder.join("logs").join(format!("{}.log", process.name))
    }

    /// Waits for the line that a service prints once it serves.
    fn wait_ready(&self, process: &Process) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(self.log(process)).unwrap_or_default();
            if log.lines().any(|line| line.contains(" is ready on ")) {
                return Ok(());
            }
            let ended = process.alive().is_none();
            if ended || started.elapsed() > READY_WITHIN {
                let how = if ended { "ended" } else { "is not ready in time" };
                let path = self.log(process);
                let text = format!("{} {how}; its log is {}:\n{log}", process.name, path.display());
                return Err(Failure::Other(text));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn io(&self, what: &str, error: &std::io::Error) -> Failure {
        Failure::Other(format!("cannot {what} {}: {error}", self.folder.display()))
    }
}

fn up_already() -> Failure {
    let text = "a cluster is up already: end it with `cargo xtask cluster down`";
    Failure::Other(text.to_owned())
}

/// Ports that nobody listens on, below those that the system gives to connections: they are still
/// free when a service that was killed comes back.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let first = 10_240 + (std::process::id() * 37 % 20_000) as u16;
    let mut ports = Vec::new();
    for port in first..32_768 {
        if ports.len() == count {
            break;
        }
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => ports.push(port),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    if ports.len() < count {
        return Err(std::io::ErrorKind::AddrInUse.into());
    }
    Ok(ports)
}

/// The standard library sends no other signal than SIGKILL, and that only to children.
fn signal(signal: &str, pid: u32) -> Result<(), Failure> {
    let mut kill = Command::new("kill");
    command::run(kill.args(["-s", signal, &pid.to_string()]), "install the Debian package procps")
}

fn wait_until_gone(process: &Process, limit: Duration) -> bool {
    let started = Instant::now();
    while process.alive().is_some() {
        if started.elapsed() > limit {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}
