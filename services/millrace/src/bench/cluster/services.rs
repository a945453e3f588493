//! The services of the benchmark, each a child process that ends with this value.

use std::process::Command;
use std::time::Duration;

use millrace_client::remote::{Persistence, RemoteStore};
use millrace_client::{Client, ClientOptions, ClientSecurity, Endpoints};

use super::super::BenchError;
use super::super::process::Process;
use crate::cli::{BenchClusterArgs, ServiceName};
use crate::clock;
use crate::cql::CqlArgs;
use crate::redis::RedisArgs;

/// How long one may take to start: the first makes the tables.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long the store may be out of reach of who watches the join nodes.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// The kinds, each after those it needs.
pub(super) const KINDS: [ServiceName; 4] =
    [ServiceName::StoreWriter, ServiceName::Join, ServiceName::Ingest, ServiceName::FeatureServing];
/// How many there are of each.
const OF_EACH: usize = 2;

/// The running services.
pub(super) struct Services {
    all: Vec<(ServiceName, Process)>,
    cql: CqlArgs,
    redis: RedisArgs,
}

impl Services {
    /// Starts two of each and waits until they serve.
    pub(super) async fn start(args: &BenchClusterArgs) -> Result<Self, BenchError> {
        if args.cql.cql.is_empty() {
            return Err(BenchError::NoDatabase("--cql HOST:PORT (MILLRACE_CQL)"));
        }
        if args.redis.redis.is_none() {
            return Err(BenchError::NoDatabase("--redis URL (MILLRACE_REDIS)"));
        }
        let unstated = CqlArgs {
            cql_keyspace: Some(new_keyspace()),
            cql_create: Some("datacenter1=1".to_owned()),
            ..CqlArgs::default()
        };
        let cql = args.cql.clone().or(unstated);
        let mut services = Self { all: Vec::new(), cql, redis: args.redis.clone() };
        for kind in KINDS {
            for _ in 0..OF_EACH {
                services.add(kind).await?;
            }
        }
        Ok(services)
    }

    /// Starts one more and waits until it serves.
    pub(super) async fn add(&mut self, kind: ServiceName) -> Result<(), BenchError> {
        let mut command = Process::command()?;
        let name = format!("{}-{}", kind.name(), self.number(kind));
        command.args(["serve", kind.name(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--node", &name]);
        match kind {
            ServiceName::StoreWriter => cql_flags(&mut command, &self.cql),
            ServiceName::Join => {}
            ServiceName::Ingest => redis_flags(&mut command, &self.redis),
            ServiceName::FeatureServing => {
                let ingest = self.endpoints(ServiceName::Ingest).join(",");
                command.args(["--ingest-endpoint", &ingest]);
            }
        }
        if kind != ServiceName::StoreWriter {
            let store = self.endpoints(ServiceName::StoreWriter).join(",");
            command.args(["--store-endpoint", &store]);
        }
        if std::env::var_os("RUST_LOG").is_none() {
            // What they do is told by their numbers.
            command.env("RUST_LOG", "error");
        }
        self.all.push((kind, Process::start(command, READY_WITHIN).await?));
        Ok(())
    }

    pub(super) fn of(&self, kind: ServiceName) -> impl Iterator<Item = &Process> {
        self.all.iter().filter(move |(of, _)| *of == kind).map(|(_, process)| process)
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// How many there are of a kind.
    pub(super) fn number(&self, kind: ServiceName) -> usize {
        self.of(kind).count()
    }

    fn endpoints(&self, kind: ServiceName) -> Vec<String> {
        self.of(kind).map(|process| process.endpoint().to_owned()).collect()
    }

    /// The keyspace.
    pub(super) fn keyspace(&self) -> &str {
        self.cql.cql_keyspace.as_deref().unwrap_or_default()
    }

    /// The most memory each has had, all together.
    pub(super) fn peak_rss_bytes(&self) -> Result<u64, BenchError> {
        self.all.iter().map(|(_, process)| process.peak_rss_bytes()).sum()
    }

    /// A client of all of them.
    pub(super) fn client(&self) -> Result<Client, BenchError> {
        let [ingest, join, serving] =
            [ServiceName::Ingest, ServiceName::Join, ServiceName::FeatureServing]
                .map(|kind| self.endpoints(kind));
        let endpoints = Endpoints::default().with_ingest(ingest).with_join(join);
        client(&endpoints.with_serving(serving))
    }

    /// So many clients, each of one process of a kind, in turn.
    pub(super) fn clients(
        &self,
        kind: ServiceName,
        count: usize,
    ) -> Result<Vec<Client>, BenchError> {
        let of_kind = self.endpoints(kind);
        let in_turn = of_kind.iter().cycle().take(count);
        in_turn.map(|endpoint| client(&Endpoints::single(endpoint))).collect()
    }

    /// The store as the services see it.
    pub(super) fn store(&self) -> Result<RemoteStore, BenchError> {
        let endpoints = self.endpoints(ServiceName::StoreWriter);
        let persistence = Persistence::Within(STORE_WITHIN);
        RemoteStore::new(&endpoints, &ClientSecurity::default(), persistence)
            .map_err(|e| BenchError::Server(e.to_string()))
    }
}

fn client(endpoints: &Endpoints) -> Result<Client, BenchError> {
    Client::new(endpoints, ClientOptions::default()).map_err(|e| BenchError::Server(e.to_string()))
}

/// A keyspace that nobody has yet.
fn new_keyspace() -> String {
    format!("millrace_bench_{}", clock::now().0 / 1_000_000)
}

fn cql_flags(command: &mut Command, cql: &CqlArgs) {
    let CqlArgs { cql: nodes, cql_keyspace, cql_user, cql_password_file, cql_create } = cql;
    command.args(["--cql", &nodes.join(",")]);
    let texts =
        [("--cql-keyspace", cql_keyspace), ("--cql-user", cql_user), ("--cql-create", cql_create)];
    for (flag, value) in texts {
        command.args(value.iter().flat_map(|value| [flag, value.as_str()]));
    }
    if let Some(file) = cql_password_file {
        command.arg("--cql-password-file").arg(file);
    }
}

fn redis_flags(command: &mut Command, redis: &RedisArgs) {
    let RedisArgs { redis: url, redis_user, redis_password_file, redis_ca, redis_expiry } = redis;
    for (flag, value) in [("--redis", url), ("--redis-user", redis_user)] {
        command.args(value.iter().flat_map(|value| [flag, value.as_str()]));
    }
    for (flag, file) in [("--redis-password-file", redis_password_file), ("--redis-ca", redis_ca)] {
        if let Some(file) = file {
            command.arg(flag).arg(file);
        }
    }
    if let Some(expiry) = redis_expiry {
        command.arg("--redis-expiry").arg(format!("{}ms", expiry.as_millis()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_is_told_of_databases_the_services_are_told() {
        let mut command = Command::new("millrace");
        let cql = CqlArgs {
            cql: vec!["a:1".to_owned(), "b:2".to_owned()],
            cql_keyspace: Some("k".to_owned()),
            cql_user: Some("u".to_owned()),
            cql_password_file: Some("/p".into()),
            cql_create: Some("dc=3".to_owned()),
        };
        cql_flags(&mut command, &cql);
        let redis = RedisArgs {
            redis: Some("redis://r".to_owned()),
            redis_user: None,
            redis_password_file: Some("/q".into()),
            redis_ca: None,
            redis_expiry: Some(Duration::from_secs(7)),
        };
        redis_flags(&mut command, &redis);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let expected = "--cql a:1,b:2 --cql-keyspace k --cql-user u --cql-create dc=3 \
                        --cql-password-file /p --redis redis://r --redis-password-file /q \
                        --redis-expiry 7000ms";
        assert_eq!(words.join(" "), expected);
    }
}
