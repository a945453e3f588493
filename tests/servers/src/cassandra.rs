//! A Cassandra of a test, in place of ScyllaDB: the jars of `MILLRACE_CASSANDRA`, which `cargo xtask
//! test --only tools` fetches.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::kept::Kept;
use crate::process::{ServerError, free_port};

/// It takes 7 s on two idle cores.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Somebody else may take a port first.
const TRIES: usize = 3;
const JARS: &str = "cassandra-5.0.6";
const HINT: &str = "install Java 17 or newer; `cargo xtask test --only tools` does it as root";

/// What Cassandra opens of Java 17, as `PACKAGE`s to export or to open to everybody.
const EXPORTS: [&str; 9] = [
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "java.base/java.lang.reflect",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
];
const OPENS: [&str; 18] = [
    "java.base/java.lang.module",
    "java.base/java.net",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.nio",
    "jdk.management/com.sun.management.internal",
    "java.rmi/sun.rmi.transport.tcp",
];

/// How a Cassandra is started.
#[derive(Debug, Clone)]
pub struct CassandraOptions {
    /// An address of the loopback network, such as 127.0.0.1: one for each node.
    pub address: String,
    /// `ADDRESS:PORT` of the node to join, or of several, separated by commas; itself if not stated.
    pub seed: Option<String>,
    /// The port between nodes, the same for all of a cluster; any free one if not stated.
    pub storage_port: Option<u16>,
    /// The port of clients; any free one if not stated.
    pub client_port: Option<u16>,
    /// How its commit log is synced. `periodic` is what Millrace refuses.
    pub commit_log_sync: &'static str,
    /// Whether tables survive a restart. Without it a table is made in a fraction of the time.
    pub keeps_tables: bool,
    /// How long it tries a read or write before it says that it timed out, in seconds; as it does by
    /// itself if not stated. On a machine that is busy with other tests that is too short.
    pub tries_for_s: Option<u8>,
    /// Heap of the Java machine, in MiB.
    pub heap_mib: u32,
}

impl Default for CassandraOptions {
    fn default() -> Self {
        Self {
            address: "127.0.0.1".to_owned(),
            seed: None,
            storage_port: None,
            client_port: None,
            commit_log_sync: "commitlog_sync: group\ncommitlog_sync_group_window: 2ms",
            keeps_tables: true,
            tries_for_s: None,
            heap_mib: 400,
        }
    }
}

/// A running Cassandra on a folder of its own. It ends, and its folder goes, when this is dropped and
/// also when the process that started it ends in any way.
#[derive(Debug)]
pub struct Cassandra {
    options: CassandraOptions,
    folder: PathBuf,
    ports: Ports,
    process: Option<Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    storage: u16,
    client: u16,
    jmx: u16,
}

impl Cassandra {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(options: CassandraOptions) -> Result<Self, ServerError> {
        let folder = tempfile::tempdir().map_err(ServerError::io("make a folder"))?.keep();
        let mut tries = 1;
        loop {
            let port = |stated: Option<u16>| stated.map_or_else(free_port, Ok);
            let ports = Ports {
                storage: port(options.storage_port)?,
                client: port(options.client_port)?,
                jmx: free_port()?,
            };
            let mut server =
                Self { options: options.clone(), folder: folder.clone(), ports, process: None };
            match server.start_again() {
                Err(ServerError::Ended { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// The one that all tests of this process share, started by the first of them. They keep apart
    /// by keyspaces.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cassandra> = OnceLock::new();
        // Nobody can start it again.
        let options = CassandraOptions {
            keeps_tables: false,
            tries_for_s: Some(10),
            // Every test has a keyspace with all tables in it, and each table takes its share.
            heap_mib: 1_000,
            ..CassandraOptions::default()
        };
        SHARED.get_or_init(|| match Self::start(options) {
            Ok(server) => server,
            Err(error) => panic!("{error} ({:?})", std::error::Error::source(&error)),
        })
    }

    /// Where clients connect: `ADDRESS:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.options.address, self.ports.client)
    }

    /// Where other nodes connect: `ADDRESS:PORT`.
    #[must_use]
    pub fn seed(&self) -> String {
        format!("{}:{}", self.options.address, self.ports.storage)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn kill(&mut self) -> Result<(), ServerError> {
        self.process.take().map_or(Ok(()), Kept::kill)
    }

    /// Freezes it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn freeze(&self) -> Result<(), ServerError> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal("STOP"))
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn thaw(&self) -> Result<(), ServerError> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal("CONT"))
    }

    /// Starts it on the same folder and ports, after it was killed.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start_again(&mut self) -> Result<(), ServerError> {
        self.process = None;
        let write = |name: &str, text: &str| {
            fs::create_dir_all(&self.folder)
                .and_then(|()| fs::write(self.folder.join(name), text))
                .map_err(ServerError::io(format!("write {name}")))
        };
        write("cassandra.yaml", &self.yaml())?;
        write("logback.xml", LOGBACK)?;
        let mut process = Kept::start(&self.command(&jars()?), &self.folder, HINT)?;
        let address = format!("{}:{}", self.options.address, self.ports.client);
        process.wait_ready(READY_WITHIN, || TcpStream::connect(&address).is_ok())?;
        self.process = Some(process);
        Ok(())
    }

    fn yaml(&self) -> String {
        let Self { options, folder, ports, .. } = self;
        let seed = options.seed.clone().unwrap_or_else(|| self.seed());
        let data = folder.display();
        let timeout = |name: &str| match options.tries_for_s {
            Some(seconds) => format!("{name}: {seconds}s\n"),
            None => String::new(),
        };
        let timeouts = ["read_request_timeout", "write_request_timeout", "cas_contention_timeout"]
            .map(timeout);
        format!(
            "cluster_name: millrace-test
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
{sync}
seed_provider: [{{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{{seeds: \"{seed}\"}}]}}]
listen_address: {address}
storage_port: {storage}
rpc_address: {address}
native_transport_port: {client}
start_native_transport: true
endpoint_snitch: SimpleSnitch
data_file_directories: [{data}/data]
commitlog_directory: {data}/commitlog
saved_caches_directory: {data}/saved
hints_directory: {data}/hints
cdc_raw_directory: {data}/cdc
commitlog_segment_size: 8MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
auto_snapshot: false
maximum_timestamp_fail_threshold: 3d
{timeouts}",
            timeouts = timeouts.concat(),
            sync = options.commit_log_sync,
            address = options.address,
            storage = ports.storage,
            client = ports.client,
        )
    }

    fn command(&self, jars: &Path) -> Vec<String> {
        let heap = self.options.heap_mib;
        let folder = self.folder.display();
        let mut words = vec!["java".to_owned(), format!("-Xms{heap}m"), format!("-Xmx{heap}m")];
        words.extend(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(str::to_owned));
        words.push(format!("-javaagent:{}/jamm-0.4.0.jar", jars.display()));
        for (flag, packages) in [("exports", &EXPORTS[..]), ("opens", &OPENS[..])] {
            let open = |package: &&str| format!("--add-{flag}={package}=ALL-UNNAMED");
            words.extend(packages.iter().map(open));
        }
        let properties = [
            format!("config=file://{folder}/cassandra.yaml"),
            format!("storagedir={folder}"),
            "skip_default_role_setup=true".to_owned(),
            "superuser_setup_delay_ms=0".to_owned(),
            "ring_delay_ms=100".to_owned(),
            "skip_wait_for_gossip_to_settle=0".to_owned(),
            format!("jmx.local.port={}", self.ports.jmx),
            format!("test.flush_local_schema_changes={}", self.options.keeps_tables),
        ];
        words.extend(properties.map(|property| format!("-Dcassandra.{property}")));
        words.push("-Dcassandra-foreground=yes".to_owned());
        words.extend(["-cp".to_owned(), format!("{folder}:{}/*", jars.display())]);
        words.push("org.apache.cassandra.service.CassandraDaemon".to_owned());
        words
    }
}

const LOGBACK: &str = "<configuration>
  <appender name=\"OUT\" class=\"ch.qos.logback.core.ConsoleAppender\">
    <encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level=\"WARN\"><appender-ref ref=\"OUT\"/></root>
</configuration>
";

/// The folder of the jars.
fn jars() -> Result<PathBuf, ServerError> {
    let place = std::env::var_os("MILLRACE_CASSANDRA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(JARS),
        PathBuf::from,
    );
    let jars = place.join("lib");
    match jars.is_dir() {
        true => Ok(jars),
        false => Err(ServerError::Start {
            program: format!("Cassandra of {}", jars.display()),
            hint: "its jars are not there; `cargo xtask test --only tools` fetches them, and \
                   MILLRACE_CASSANDRA names another folder with a lib",
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What runs in ScyllaDB's place in the compose file cannot be told of these constants: it is held to
    /// them.
    #[test]
    fn the_stand_in_of_the_compose_file_has_these_settings() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/stand-ins/cassandra");
        let script = fs::read_to_string(path).expect("the stand-in is there");
        let says = |text: &str| script.contains(text);
        let ports = Ports { storage: 1, client: 2, jmx: 3 };
        let options = CassandraOptions::default();
        let node = Cassandra { options, folder: "/data".into(), ports, process: None };
        // Names, addresses, ports and folders are the stand-in's own.
        let own = ["cluster_name", "address", "port:", "seed", "/data"];
        let yaml = node.yaml();
        let shared = yaml.lines().filter(|line| !own.iter().any(|part| line.contains(part)));
        for line in shared {
            assert!(script.lines().any(|other| other == line), "{line}");
        }
        for package in EXPORTS.iter().chain(&OPENS) {
            assert!(says(package), "{package}");
        }
        let words = node.command(Path::new("/jars"));
        let flags = words.iter().filter(|word| word.starts_with("-X"));
        for flag in flags {
            assert!(says(flag), "{flag}");
        }
        let properties = words.iter().filter_map(|word| word.strip_prefix("-Dcassandra."));
        let own = ["config=", "storagedir=", "jmx.", "test.", "-foreground"];
        for property in properties.filter(|p| !own.iter().any(|part| p.starts_with(part))) {
            assert!(says(property), "{property}");
        }
    }
}
