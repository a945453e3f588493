//! Where a history runs: everything in one process, or in four, on the embedded store or on a database.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, Dev, DevOptions, wait_until};
use millrace_test_servers::{Cassandra, Redis, RedisOptions};
use millrace_test_support::generate::Rng;

/// Rebuilds of a history as small as these, on a machine that builds beside the tests.
const REBUILT_WITHIN: Duration = Duration::from_secs(60);

/// A service that was started again is found by the others within a second.
const SERVING_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    OneProcess,
    Apart,
    /// Apart, on Cassandra and Redis.
    Distributed,
    /// The same with two of each service.
    Several,
}

/// What there is besides one of each.
const MORE: [&str; 4] = ["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];

pub(crate) enum Server {
    OneProcess {
        options: DevOptions,
        /// Taken out between two starts.
        process: Option<Dev>,
    },
    Apart {
        options: ApartOptions,
        services: Box<Apart>,
        killed: Vec<&'static str>,
        _redis: Option<Redis>,
    },
}

/// What it takes to run the case again by hand.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneProcess { options, .. } => write!(f, "{options:?}"),
            Self::Apart { options, killed, .. } => write!(f, "{options:?}, killed {killed:?}"),
        }
    }
}

/// What services are told of a database and of Redis; a keyspace for each case.
fn distributed(database: &Cassandra, redis: &Redis) -> Vec<(&'static str, String)> {
    static KEYSPACES: AtomicU32 = AtomicU32::new(0);
    let keyspace = format!("history_{}", KEYSPACES.fetch_add(1, Ordering::Relaxed));
    vec![
        ("MILLRACE_CQL", database.address()),
        ("MILLRACE_CQL_KEYSPACE", keyspace),
        ("MILLRACE_CQL_CREATE", "datacenter1=1".to_owned()),
        ("MILLRACE_REDIS", redis.url()),
    ]
}

impl Server {
    pub(crate) fn start(
        place: Place,
        data: &Path,
        slots: u32,
        at_hand_bytes: Option<u64>,
        catalog: &Path,
    ) -> Self {
        match place {
            Place::OneProcess => {
                let mut options = DevOptions::on(data);
                options.slots = Some(slots);
                options.at_hand_bytes = at_hand_bytes;
                options.catalog = Some(catalog.to_owned());
                (options.admin, options.parity_sample) = (true, Some("1"));
                let process = Some(Dev::start(&options).expect("the server starts"));
                Self::OneProcess { options, process }
            }
            Place::Apart | Place::Distributed | Place::Several => {
                let mut options = ApartOptions::on(data);
                let is_distributed = matches!(place, Place::Distributed | Place::Several);
                let redis =
                    is_distributed.then(|| Redis::start(RedisOptions::default()).expect("a Redis"));
                if let Some(redis) = &redis {
                    options.env = distributed(Cassandra::shared(), redis);
                }
                options.env.push(("MILLRACE_PARITY_SAMPLE", "1".to_owned()));
                if matches!(place, Place::Several) {
                    options.more = MORE.to_vec();
                }
                options.admin = true;
                options.slots = Some(slots);
                options.at_hand_bytes = at_hand_bytes;
                let services = Box::new(Apart::start(&options).expect("the services start"));
                let applied = services.cli().run(["apply".as_ref(), catalog.as_os_str()]);
                applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
                Self::Apart { options, services, killed: Vec::new(), _redis: redis }
            }
        }
    }

    /// The processes that are a service of this kind, by name.
    fn of_kind(&self, kind: &str) -> Vec<&'static str> {
        match self {
            Self::OneProcess { .. } => vec!["dev"],
            Self::Apart { services, .. } => services.of_kind(kind),
        }
    }

    /// Whether there are several of a kind.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::OneProcess { .. } => false,
            Self::Apart { options, .. } => !options.more.is_empty(),
        }
    }

    /// Where services of this kind are.
    pub(crate) fn endpoints(&self, kind: &str) -> Vec<String> {
        let endpoint = |name: &str| match self {
            Self::OneProcess { process, .. } => process.as_ref().expect("it runs").endpoint(),
            Self::Apart { services, .. } => services.endpoint(name),
        };
        self.of_kind(kind).into_iter().map(endpoint).collect()
    }

    /// Where metrics of each feature-serving are.
    pub(crate) fn admins(&self) -> Vec<SocketAddr> {
        let admin = |name: &str| match self {
            Self::OneProcess { process, .. } => process.as_ref().and_then(Dev::admin),
            Self::Apart { services, .. } => services.admin(name),
        };
        let names = self.of_kind("feature-serving").into_iter();
        names.map(|name| admin(name).expect("it has an admin port")).collect()
    }

    pub(crate) fn cli(&self) -> Cli {
        match self {
            Self::OneProcess { process, .. } => process.as_ref().expect("it runs").cli(),
            Self::Apart { services, .. } => services.cli(),
        }
    }

    /// Ends everything, or one of the services, with SIGKILL, and waits until all serve again.
    pub(crate) fn crash_and_restart(&mut self, rng: &mut Rng) {
        match self {
            Self::OneProcess { options, process } => {
                process.take().expect("it runs").kill().expect("it can be killed");
                *process = Some(Dev::start(options).expect("the server starts again"));
            }
            Self::Apart { services, killed, .. } => {
                let name = *rng.pick(&services.names());
                killed.push(name);
                services.kill(name).expect("it can be killed");
                services.start_again(name).expect("it starts again");
                // The others take calls again once they have found it.
                let cli = services.cli();
                wait_until("all services", SERVING_WITHIN, || {
                    let status = cli.run(["status"]).expect("a status");
                    (status.code == 0).then_some(())
                });
            }
        }
    }

    /// Waits until everything acknowledged is in effect, in the heads that are read.
    pub(crate) fn settle(&self) {
        match self {
            Self::OneProcess { .. } => self.cli().wait_for_rebuilds(REBUILT_WITHIN),
            Self::Apart { services, .. } => services.settle(),
        }
    }
}
