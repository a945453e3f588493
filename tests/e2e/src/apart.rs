//! The four services as processes of their own, which tests kill and start again one by one.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::server::Starting;
use crate::{Cli, Dev, Forwarder, HarnessError, millrace, wait_until};

/// The services, each after those it needs.
pub const SERVICES: [&str; 4] = ["store-writer", "join", "ingest", "feature-serving"];

/// Stored heads and marks follow what is acknowledged within a second; a machine that builds beside
/// the tests is slow.
const MARKED_WITHIN: Duration = Duration::from_secs(120);

/// Join nodes share the slots within two seconds; a machine that builds beside the tests is slow.
const SHARED_WITHIN: Duration = Duration::from_secs(60);

/// How to start the services.
#[derive(Debug, Clone)]
pub struct ApartOptions {
    /// The folder of the embedded store.
    pub data: PathBuf,
    /// `--slots`, if given.
    pub slots: Option<u32>,
    /// `--at-hand-bytes` of join, if given.
    pub at_hand_bytes: Option<u64>,
    /// `--backfill-bytes-per-second` of join, if given.
    pub backfill_bytes_per_second: Option<u64>,
    /// Whether each has an admin port, on any free port.
    pub admin: bool,
    /// Whether they take calls over TLS: `env` says with what.
    pub is_secure: bool,
    /// Whether the ways between services can be cut: see [`Apart::way`].
    pub can_be_cut: bool,
    /// Services besides one of each, such as `join-1`: named after their kind.
    pub more: Vec<&'static str>,
    /// Other settings of all of them, as variables of the environment.
    pub env: Vec<(&'static str, String)>,
}

/// Running services. Dropped, they are killed.
#[derive(Debug)]
pub struct Apart {
    options: ApartOptions,
    services: Vec<Service>,
    ways: Vec<Way>,
}

/// Whose way to an ingest the command line of services that can be cut takes.
const PRODUCER: &str = "producer";

/// The way to a service.
#[derive(Debug)]
struct Way {
    /// From one service, or from every one that learns of it from the store.
    from: Option<&'static str>,
    to: &'static str,
    forwarder: Forwarder,
}

#[derive(Debug)]
struct Service {
    name: &'static str,
    /// The same after a restart.
    port: u16,
    process: Option<Dev>,
}

impl ApartOptions {
    /// Services on this folder, all else by default.
    #[must_use]
    pub fn on(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            slots: None,
            at_hand_bytes: None,
            backfill_bytes_per_second: None,
            admin: false,
            is_secure: false,
            can_be_cut: false,
            more: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// What a service is, of a name such as `join-1`.
fn kind_of(name: &str) -> &str {
    let number = |end: &str| end.bytes().all(|b| b.is_ascii_digit());
    name.rsplit_once('-').filter(|(_, end)| number(end)).map_or(name, |(kind, _)| kind)
}

/// A port below those that the system gives to connections: it is still free when a service that
/// was killed comes back to it.
fn free_port() -> Result<u16, HarnessError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let error = |cause| HarnessError::Process { program: "bind".to_owned(), cause };
    loop {
        let offset = std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_240 + (offset % 20_000) as u16;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(cause) if cause.kind() == ErrorKind::AddrInUse => {}
            Err(cause) => return Err(error(cause)),
        }
    }
}

impl Apart {
    /// Starts all four and waits until they serve.
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub fn start(options: &ApartOptions) -> Result<Self, HarnessError> {
        let (services, ways) = (Vec::new(), Vec::new());
        let mut apart = Self { options: options.clone(), services, ways };
        // Each is told where all others are.
        for kind in SERVICES {
            let more = options.more.iter().copied().filter(|name| kind_of(name) == kind);
            for name in std::iter::once(kind).chain(more) {
                apart.services.push(Service { name, port: free_port()?, process: None });
            }
        }
        for name in apart.names() {
            apart.open_ways(name)?;
            apart.start_again(name)?;
        }
        Ok(apart)
    }

    /// Which kinds are told where which others are. Of join nodes all learn from the store.
    const TOLD: [(&str, &str); 4] = [
        ("join", "store-writer"),
        ("ingest", "store-writer"),
        ("feature-serving", "store-writer"),
        ("feature-serving", "ingest"),
    ];

    fn open_ways(&mut self, from: &'static str) -> Result<(), HarnessError> {
        if !self.options.can_be_cut {
            return Ok(());
        }
        let open = |from, to: &Service| {
            let forwarder = Forwarder::to(to.port);
            let error = |cause| HarnessError::Process { program: "bind".to_owned(), cause };
            Ok(Way { from, to: to.name, forwarder: forwarder.map_err(error)? })
        };
        for service in &self.services {
            if Self::TOLD.contains(&(kind_of(from), kind_of(service.name))) {
                self.ways.push(open(Some(from), service)?);
            } else if service.name == from && kind_of(from) == "join" {
                self.ways.push(open(None, service)?);
            } else if service.name == from && kind_of(from) == "ingest" {
                self.ways.push(open(Some(PRODUCER), service)?);
            }
        }
        Ok(())
    }

    /// The way from one service to another, of services that can be cut: from join, ingest and
    /// feature-serving to a store-writer, and from feature-serving and the command line to an ingest. A join
    /// node is reached by all others on the same way.
    #[must_use]
    pub fn way(&self, from: &str, to: &str) -> Option<&Forwarder> {
        let is_it = |way: &&Way| way.to == to && way.from.is_none_or(|own| own == from);
        self.ways.iter().find(is_it).map(|way| &way.forwarder)
    }

    /// Both ends of each of these ways; from anybody where no service is named.
    #[must_use]
    pub fn ways(&self) -> Vec<(Option<&'static str>, &'static str)> {
        self.ways.iter().map(|way| (way.from, way.to)).collect()
    }

    /// Where a service listens.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> String {
        let port = self.services.iter().find(|s| s.name == name).map_or(0, |s| s.port);
        let scheme = if self.options.is_secure { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// Where a service's admin port listens.
    #[must_use]
    pub fn admin(&self, name: &str) -> Option<SocketAddr> {
        let service = self.services.iter().find(|s| s.name == name)?;
        service.process.as_ref()?.admin()
    }

    /// All of a kind, separated by commas.
    fn endpoints(&self, kind: &str) -> String {
        let of_kind = self.of_kind(kind).into_iter();
        of_kind.map(|name| self.endpoint(name)).collect::<Vec<_>>().join(",")
    }

    /// The same for a service among them.
    fn endpoints_for(&self, name: &str, kind: &str) -> String {
        if !self.options.can_be_cut {
            return self.endpoints(kind);
        }
        let of_kind = self.services.iter().filter(|service| kind_of(service.name) == kind);
        let way = |to: &Service| self.way(name, to.name).map_or(to.port, Forwarder::port);
        let endpoints = of_kind.map(|to| format!("http://127.0.0.1:{}", way(to)));
        endpoints.collect::<Vec<_>>().join(",")
    }

    /// The names of all of them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.services.iter().map(|service| service.name).collect()
    }

    /// The names of those of a kind, such as `join`.
    #[must_use]
    pub fn of_kind(&self, kind: &str) -> Vec<&'static str> {
        self.names().into_iter().filter(|name| kind_of(name) == kind).collect()
    }

    /// The command line pointed at them.
    #[must_use]
    pub fn cli(&self) -> Cli {
        self.cli_of(&self.endpoints("feature-serving"))
    }

    /// One for each feature-serving, that reads from it alone.
    #[must_use]
    pub fn readers(&self) -> Vec<Cli> {
        let of_kind = self.of_kind("feature-serving").into_iter();
        of_kind.map(|name| self.cli_of(&self.endpoint(name))).collect()
    }

    fn cli_of(&self, serving: &str) -> Cli {
        Cli::apart(&self.endpoints_for(PRODUCER, "ingest"), &self.endpoints("join"), serving)
    }

    /// Starts one more, such as `join-1`.
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub fn add(&mut self, name: &'static str) -> Result<(), HarnessError> {
        self.services.push(Service { name, port: free_port()?, process: None });
        self.open_ways(name)?;
        self.start_again(name)
    }

    /// Sends a service a signal by its name, such as STOP.
    ///
    /// # Errors
    ///
    /// As [`Dev::signal`].
    pub fn signal(&self, name: &str, signal: &str) -> Result<(), HarnessError> {
        let service = self.services.iter().find(|s| s.name == name);
        service.and_then(|s| s.process.as_ref()).map_or(Ok(()), |process| process.signal(signal))
    }

    /// Waits until a service ends by itself and gives its exit code.
    ///
    /// # Errors
    ///
    /// As [`Dev::wait`].
    pub fn wait(&mut self, name: &str, limit: Duration) -> Result<i32, HarnessError> {
        let service = self.services.iter_mut().find(|s| s.name == name);
        service.and_then(|s| s.process.take()).map_or(Ok(0), |process| process.wait(limit))
    }

    /// What a service that runs printed on stderr so far.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let service = self.services.iter().find(|s| s.name == name);
        service.and_then(|s| s.process.as_ref()).map(Dev::log).unwrap_or_default()
    }

    /// Ends a service with SIGKILL, as a crash would.
    ///
    /// # Errors
    ///
    /// As [`Dev::kill`].
    pub fn kill(&mut self, name: &str) -> Result<(), HarnessError> {
        match self.services.iter_mut().find(|s| s.name == name).and_then(|s| s.process.take()) {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Starts a service again where it was, and waits until it serves.
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub fn start_again(&mut self, name: &str) -> Result<(), HarnessError> {
        let port = self.services.iter().find(|s| s.name == name).map_or(0, |s| s.port);
        let process = self.begin(name, port)?.ready()?;
        if let Some(service) = self.services.iter_mut().find(|s| s.name == name) {
            service.process = Some(process);
        }
        Ok(())
    }

    /// Starts services again in this order, none of them waiting for those before it, and waits until all serve.
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub fn start_in_order(&mut self, names: &[&str]) -> Result<(), HarnessError> {
        let mut starting = Vec::new();
        for name in names {
            let Some(index) = self.services.iter().position(|s| s.name == *name) else { continue };
            starting.push((index, self.begin(name, self.services[index].port)?));
        }
        for (index, starting) in starting {
            self.services[index].process = Some(starting.ready()?);
        }
        Ok(())
    }

    /// Starts a service again with other settings than the rest.
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub fn start_again_with(
        &mut self,
        name: &str,
        env: Vec<(&'static str, String)>,
    ) -> Result<(), HarnessError> {
        let usual = std::mem::replace(&mut self.options.env, env);
        let started = self.start_again(name);
        self.options.env = usual;
        started
    }

    /// The most memory a service has taken so far, in bytes.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Process`] when it does not run.
    pub fn peak_bytes(&self, name: &str) -> Result<u64, HarnessError> {
        let process = self.services.iter().find(|s| s.name == name);
        match process.and_then(|s| s.process.as_ref()) {
            Some(process) => process.peak_bytes(),
            None => Err(HarnessError::Process {
                program: name.to_owned(),
                cause: ErrorKind::NotFound.into(),
            }),
        }
    }

    /// The processes that run.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.services.iter().filter_map(|s| Some(s.process.as_ref()?.pid())).collect()
    }

    /// CPU time that each service has taken so far, in clock ticks of the system (100 a second).
    ///
    /// # Errors
    ///
    /// As [`Dev::cpu_ticks`].
    pub fn cpu_ticks(&self) -> Result<Vec<(&'static str, u64)>, HarnessError> {
        let running = self.services.iter().filter_map(|s| Some((s.name, s.process.as_ref()?)));
        running.map(|(name, process)| Ok((name, process.cpu_ticks()?))).collect()
    }

    /// Asks a service to end with SIGTERM and gives its exit code.
    ///
    /// # Errors
    ///
    /// As [`Dev::terminate`].
    pub fn terminate(&mut self, name: &str) -> Result<i32, HarnessError> {
        match self.services.iter_mut().find(|s| s.name == name).and_then(|s| s.process.take()) {
            Some(process) => process.terminate(),
            None => Ok(0),
        }
    }

    /// Waits until every join node has its share of the slots, which they take all at once.
    pub fn share_slots(&self) {
        let cli = self.cli();
        wait_until("owners of the slots", SHARED_WITHIN, || {
            let status = cli.json(["status"]).ok()?;
            let joins = self.of_kind("join");
            let least = status["slot_count"].as_u64()? / (2 * joins.len() as u64);
            let has_share = |name: &str| {
                let mut nodes = status["join_nodes"].as_array().into_iter().flatten();
                let node = nodes.find(|node| node["node"] == name);
                node.and_then(|node| node["slots"].as_u64()).is_some_and(|slots| slots >= least)
            };
            let is_shared = joins.into_iter().all(has_share);
            (status["unowned_slots"] == 0 && is_shared).then_some(())
        });
    }

    /// Waits until stored heads have everything that was acknowledged, rebuilds included.
    pub fn settle(&self) {
        self.settle_as(&self.cli());
    }

    /// The same as somebody who may ask.
    pub fn settle_as(&self, cli: &Cli) {
        wait_until("the stored heads", MARKED_WITHIN, || {
            let status = cli.json(["status"]).ok()?;
            let settled = ["rebuild_queue", "unmarked_chunks", "unowned_slots"];
            settled.iter().all(|waits| status[*waits] == 0).then_some(())
        });
    }

    /// Starts a service again that finds the store here instead.
    ///
    /// # Errors
    ///
    /// As [`Dev::start`].
    pub fn start_again_on(&mut self, name: &str, store: &str) -> Result<(), HarnessError> {
        self.kill(name)?;
        let Some(index) = self.services.iter().position(|s| s.name == name) else { return Ok(()) };
        let starting = self.begin_on(name, self.services[index].port, store)?;
        self.services[index].process = Some(starting.ready()?);
        Ok(())
    }

    fn begin(&self, name: &str, port: u16) -> Result<Starting, HarnessError> {
        self.begin_on(name, port, &self.endpoints_for(name, "store-writer"))
    }

    fn begin_on(&self, name: &str, port: u16, store: &str) -> Result<Starting, HarnessError> {
        let mut command = millrace()?;
        let kind = kind_of(name);
        command.args(["serve", kind, "--listen", &format!("127.0.0.1:{port}")]);
        if kind == "join" || kind == "feature-serving" {
            command.args(["--node", name]);
        }
        if kind != "store-writer" {
            command.args(["--store-endpoint", store]);
        }
        if kind == "feature-serving" {
            command.args(["--ingest-endpoint", &self.endpoints_for(name, "ingest")]);
        }
        if let Some(way) = self.ways.iter().find(|way| way.from.is_none() && way.to == name) {
            let port = way.forwarder.port();
            command.args(["--advertise", &format!("http://127.0.0.1:{port}")]);
        }
        command.arg("--data").arg(&self.options.data);
        if let Some(slots) = self.options.slots {
            command.args(["--slots", &slots.to_string()]);
        }
        if let Some(bytes) = self.options.at_hand_bytes {
            command.args(["--at-hand-bytes", &bytes.to_string()]);
        }
        if let Some(bytes) = self.options.backfill_bytes_per_second {
            command.args(["--backfill-bytes-per-second", &bytes.to_string()]);
        }
        if self.options.admin {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        command.envs(self.options.env.iter().map(|(name, value)| (name, value)));
        Starting::begin(command)
    }
}
