//! What is running, in two files: `cluster.json` for scripts, and `processes` for this program.

use std::fs;
use std::path::Path;

use crate::command::Failure;

const PROCESSES: &str = "processes";

/// Where the servers are that a cluster stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stores {
    /// Nodes, separated by commas.
    pub(super) cassandra: String,
    pub(super) redis: String,
    /// Where Jaeger is asked for traces.
    pub(super) jaeger: String,
    /// Where Jaeger takes spans.
    pub(super) otlp: String,
}

/// The processes of a cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    /// `None`: the embedded store.
    pub(super) stores: Option<Stores>,
    pub(super) processes: Vec<Process>,
}

/// A service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Such as `join-0`.
    pub(super) name: String,
    pub(super) port: u16,
    /// Where health and metrics are told.
    pub(super) admin_port: u16,
    /// `None` while it is down on purpose.
    pub(super) running: Option<Running>,
}

/// A process of the system. Its start is noted too, since numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) pid: u32,
    started: u64,
}

impl Running {
    /// The process with this number; `None` when there is none, or when it has ended.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold any character; the state comes after it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, started })
    }
}

impl Process {
    /// The process, if it is still the one that was started.
    pub(super) fn alive(&self) -> Option<Running> {
        let running = self.running?;
        Running::of(running.pid).filter(|now| *now == running)
    }

    /// What it is: `join` of `join-0`.
    pub(super) fn kind(&self) -> &str {
        self.name.rsplit_once('-').map_or(self.name.as_str(), |(kind, _)| kind)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    fn line(&self) -> String {
        let (pid, started) = self.running.map_or((0, 0), |r| (r.pid, r.started));
        format!("{} {} {} {pid} {started}\n", self.name, self.port, self.admin_port)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let name = fields.next()?.to_owned();
        let port = fields.next()?.parse().ok()?;
        let admin_port = fields.next()?.parse().ok()?;
        let pid = fields.next()?.parse().ok()?;
        let started = fields.next()?.parse().ok()?;
        let running = (pid != 0).then_some(Running { pid, started });
        Some(Self { name, port, admin_port, running })
    }
}

impl Stores {
    fn line(&self) -> String {
        let Self { cassandra, redis, jaeger, otlp } = self;
        format!("stores {cassandra} {redis} {jaeger} {otlp}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix("stores ")?.split(' ').map(str::to_owned);
        let mut next = || fields.next();
        Some(Self { cassandra: next()?, redis: next()?, jaeger: next()?, otlp: next()? })
    }
}

impl State {
    /// What is noted in a folder; `None` when no cluster is up.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let Ok(text) = fs::read_to_string(folder.join(PROCESSES)) else { return Ok(None) };
        let stores = text.lines().find_map(Stores::parse);
        let lines = text.lines().filter(|line| Stores::parse(line).is_none());
        let processes: Option<Vec<Process>> = lines.map(Process::parse).collect();
        let broken = || {
            let text = format!("{} is not understood: end its processes and remove it", PROCESSES);
            Failure::Other(text)
        };
        processes.map(|processes| Some(Self { stores, processes })).ok_or_else(broken)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let stores = self.stores.as_ref().map(Stores::line).unwrap_or_default();
        let lines: String = self.processes.iter().map(Process::line).collect();
        let failed = |e: std::io::Error| Failure::Other(format!("write the cluster's files: {e}"));
        fs::write(folder.join(PROCESSES), stores + &lines).map_err(failed)?;
        fs::write(folder.join("cluster.json"), self.json()).map_err(failed)
    }

    pub(super) fn forget(folder: &Path) -> Result<(), Failure> {
        for file in [PROCESSES, "cluster.json"] {
            fs::remove_file(folder.join(file))
                .map_err(|e| Failure::Other(format!("remove the cluster's files: {e}")))?;
        }
        Ok(())
    }

    /// Names and addresses hold nothing that JSON would have to escape.
    fn json(&self) -> String {
        let of_kind = [
            ("ingest", "MILLRACE_INGEST_ENDPOINT"),
            ("join", "MILLRACE_JOIN_ENDPOINT"),
            ("feature-serving", "MILLRACE_SERVING_ENDPOINT"),
        ];
        let env = of_kind.into_iter().filter_map(|(kind, variable)| {
            let endpoints = self.endpoints(kind);
            (!endpoints.is_empty()).then(|| format!("\"{variable}\": \"{endpoints}\""))
        });
        let pids = self.processes.iter().filter_map(|process| {
            let running = process.running?;
            Some(format!("\"{}\": {}", process.name, running.pid))
        });
        let services = self.processes.iter().filter(|p| p.admin_port != 0);
        let admin = services.map(|p| format!("\"{}\": \"{}\"", p.name, p.admin()));
        let [env, pids, admin]: [Vec<String>; 3] = [env.collect(), pids.collect(), admin.collect()];
        let stores = self.stores.as_ref().map_or_else(String::new, |stores| {
            let Stores { cassandra, redis, jaeger, otlp } = stores;
            let cassandra = cassandra.replace(',', "\", \"");
            format!(
                ", \"cassandra\": [\"{cassandra}\"], \"redis\": \"{redis}\", \
                 \"jaeger\": \"{jaeger}\", \"otlp\": \"{otlp}\""
            )
        });
        format!(
            "{{\"env\": {{{}}}, \"processes\": {{{}}}, \"admin\": {{{}}}{stores}}}\n",
            env.join(", "),
            pids.join(", "),
            admin.join(", ")
        )
    }

    /// All of a kind, separated by commas.
    pub(super) fn endpoints(&self, kind: &str) -> String {
        let of_kind = self.processes.iter().filter(|process| process.kind() == kind);
        of_kind.map(Process::endpoint).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again_only_as_itself() {
        let here = Running::of(std::process::id()).expect("this process runs");
        let process =
            |running| Process { name: "join-0".to_owned(), port: 7, admin_port: 8, running };
        assert_eq!(process(Some(here)).alive(), Some(here));
        let other = Running { started: here.started + 1, ..here };
        assert_eq!(process(Some(other)).alive(), None);
        for one in [process(Some(here)), process(None)] {
            assert_eq!(Process::parse(one.line().trim_end()), Some(one));
        }
    }

    #[test]
    fn scripts_find_addresses_and_processes() {
        let name = |name: &str| name.to_owned();
        let stores = Stores {
            cassandra: name("127.0.0.1:1,127.0.0.2:1"),
            redis: name("127.0.0.1:2"),
            jaeger: name("http://127.0.0.1:3"),
            otlp: name("http://127.0.0.1:4"),
        };
        assert_eq!(Stores::parse(stores.line().trim_end()), Some(stores.clone()));
        let mut state = State {
            stores: None,
            processes: vec![
                Process { name: name("join-1"), port: 7, admin_port: 17, running: None },
                Process { name: name("join-0"), port: 8, admin_port: 18, running: None },
                Process {
                    name: name("store-writer-0"),
                    port: 9,
                    admin_port: 19,
                    running: Some(Running { pid: 5, started: 6 }),
                },
            ],
        };
        let expected = "{\"env\": {\"MILLRACE_JOIN_ENDPOINT\": \"http://127.0.0.1:7,http://127.0.0.1:8\"}, \
                        \"processes\": {\"store-writer-0\": 5}, \
                        \"admin\": {\"join-1\": \"http://127.0.0.1:17\", \
                        \"join-0\": \"http://127.0.0.1:18\", \
                        \"store-writer-0\": \"http://127.0.0.1:19\"}}\n";
        assert_eq!(state.json(), expected);
        state.stores = Some(stores);
        let told = state.json();
        let servers = "\"cassandra\": [\"127.0.0.1:1\", \"127.0.0.2:1\"], \"redis\": \"127.0.0.1:2\", \
                       \"jaeger\": \"http://127.0.0.1:3\", \"otlp\": \"http://127.0.0.1:4\"}";
        assert!(told.contains(servers), "{told}");
    }
}
