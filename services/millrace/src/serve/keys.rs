//! What a service is told: by flag, by environment, by file, in this order.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use millrace_client::ClientSecurity;
use millrace_config::{Config, Settings, Share};
use millrace_grpc::{Security, ServerLimits};
use millrace_placement::nodes::WEIGHT_MAX;
use millrace_store_redis::RedisConfig;
use millrace_store_scylla::CqlConfig;
use serde::{Deserialize, Deserializer};

use super::ServeError;
use crate::cli::{Global, ServeArgs, ServiceName};
use crate::cql::CqlArgs;
use crate::open_files::server_limits;
use crate::redis::RedisArgs;
use crate::security::{ClientArgs, SecurityArgs};

/// Every key, each as a flag, as `MILLRACE_…` in the environment, and in the TOML file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeKeys {
    /// Where to take gRPC calls
    #[arg(long, env = "MILLRACE_LISTEN", hide_env_values = true, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where to answer health checks and metrics over HTTP; nowhere unless stated
    #[arg(long, env = "MILLRACE_ADMIN", hide_env_values = true, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// store-writer: the folder that holds everything; made if it is not there
    #[arg(long, env = "MILLRACE_DATA", hide_env_values = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The number of slots, a power of two; the same for every service
    #[arg(long, env = "MILLRACE_SLOTS", hide_env_values = true, value_name = "N")]
    pub slots: Option<u32>,
    /// The name of the cluster where it shares a server with others, such as Redis: one for each
    /// store, and a new one for a store that was emptied or restored
    #[arg(long, env = "MILLRACE_CLUSTER", hide_env_values = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// join, feature-serving: its name among the nodes of its kind; the same after every start
    #[arg(long, env = "MILLRACE_NODE", hide_env_values = true, value_name = "NAME")]
    pub node: Option<String>,
    /// join: where other services reach it; its own address unless that is every one of the machine
    #[arg(long, env = "MILLRACE_ADVERTISE", hide_env_values = true, value_name = "URL")]
    pub advertise: Option<String>,
    /// join: its share of the slots beside those of other nodes, such as its cores
    #[arg(long, env = "MILLRACE_WEIGHT", hide_env_values = true, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub weight: Option<u32>,
    /// join: bytes of facts a slot keeps at hand
    #[arg(long, env = "MILLRACE_AT_HAND_BYTES", hide_env_values = true, value_name = "N")]
    pub at_hand_bytes: Option<u64>,
    /// join: bytes of memory for entities
    #[arg(long, env = "MILLRACE_RESIDENT_BYTES", hide_env_values = true, value_name = "N")]
    pub resident_bytes: Option<u64>,
    /// join: bytes of memory for the facts that subscriptions hold, of all together
    #[arg(long, env = "MILLRACE_SUBSCRIBE_BYTES", hide_env_values = true, value_name = "N")]
    pub subscribe_bytes: Option<u64>,
    /// join: bytes of the log a thread reads a second to fill in new features
    #[arg(long, env = "MILLRACE_BACKFILL_BYTES_PER_SECOND", hide_env_values = true, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub backfill_bytes_per_second: Option<u64>,
    /// feature-serving: bytes of pages of large entities kept for further reads
    #[arg(long, env = "MILLRACE_PAGE_CACHE_BYTES", hide_env_values = true, value_name = "N")]
    pub page_cache_bytes: Option<u64>,
    /// feature-serving: how long a stored head answers further reads of its entity while its slot's mark
    /// stands
    #[arg(long, env = "MILLRACE_HOT_HEADS_FOR", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(default, deserialize_with = "duration")]
    pub hot_heads_for: Option<Duration>,
    /// feature-serving: bytes that one training set takes, about
    #[arg(long, env = "MILLRACE_TRAINING_BYTES", hide_env_values = true, value_name = "N")]
    pub training_bytes: Option<u64>,
    /// feature-serving: the share of its answers that is compared with the log: 1 for all, 0 for none
    #[arg(long, env = "MILLRACE_PARITY_SAMPLE", hide_env_values = true, value_name = "SHARE")]
    #[serde(default, deserialize_with = "share")]
    pub parity_sample: Option<Share>,
    /// feature-serving: answers that wait in the store to be compared with the log
    #[arg(long, env = "MILLRACE_PARITY_RING", hide_env_values = true, value_name = "N")]
    pub parity_ring: Option<u32>,
    /// feature-serving: how long the store may take for a read before it is asked once more, of another
    /// store-writer where there are several; never unless stated
    #[arg(long, env = "MILLRACE_HEDGE_AFTER", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(default, deserialize_with = "duration")]
    pub hedge_after: Option<Duration>,
    /// ingest: how far ahead of the clock an event time may lie
    #[arg(long, env = "MILLRACE_MAX_FUTURE", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(default, deserialize_with = "duration")]
    pub max_future: Option<Duration>,
    /// ingest, join: how long a producer or ingest process that is gone holds watermarks back
    #[arg(long, env = "MILLRACE_IDLE_AFTER", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(default, deserialize_with = "duration")]
    pub idle_after: Option<Duration>,
    /// How old a stream of a call may be before its client has to begin another one
    #[arg(long, env = "MILLRACE_STREAM_AGE", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(default, deserialize_with = "duration")]
    pub stream_age: Option<Duration>,
    /// How long a client may take nothing of what it is sent before its connection is closed
    #[arg(long, env = "MILLRACE_RESPONSE_STALL", hide_env_values = true, value_name = "TIME",
          value_parser = crate::cli::duration)]
    #[serde(default, deserialize_with = "duration")]
    pub response_stall: Option<Duration>,
    /// Where store-writer listens; of several on one database, separated by commas
    #[arg(
        long,
        env = "MILLRACE_STORE_ENDPOINT",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    #[serde(default, deserialize_with = "list")]
    pub store_endpoint: Vec<String>,
    /// In the file: where ingest listens
    #[arg(skip)]
    pub ingest_endpoint: Option<String>,
    /// Where everything is kept, if not in a folder; in the file a table of this name.
    #[command(flatten)]
    #[serde(default)]
    pub cql: CqlArgs,
    /// Where windows of producers are kept; in the file a table of this name.
    #[command(flatten)]
    #[serde(default)]
    pub redis: RedisArgs,
    /// What protects it; in the file a table of this name.
    #[command(flatten)]
    #[serde(default)]
    pub security: SecurityArgs,
    /// In the file: how it knows the services that it calls, and shows who it is.
    #[arg(skip)]
    #[serde(default)]
    pub hops: Box<ClientArgs>,
}

/// What a service is started with.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) settings: Config,
    /// Where health and metrics are told; nowhere by default.
    pub(super) admin: Option<SocketAddr>,
    pub(super) node: String,
    /// Where other services reach it; its own address if not stated.
    pub(super) advertise: Option<String>,
    /// Its share of the slots.
    pub(super) weight: u32,
    /// What protects it.
    pub(super) protection: Security,
    /// How the hops to other services are secured.
    pub(super) security: ClientSecurity,
    pub(super) store: Vec<String>,
    /// Where everything is kept, if not in a folder.
    pub(super) cql: Option<CqlConfig>,
    /// Where windows of producers are kept, if not in the store.
    pub(super) redis: Option<RedisConfig>,
    /// Empty: `status` does not tell of ingest.
    pub(super) ingest: Vec<String>,
}

impl Told {
    /// The limits of its server.
    pub(super) fn limits(&self) -> ServerLimits {
        ServerLimits {
            stream_age_max: self.settings.stream_age,
            response_stall_max: self.settings.response_stall,
            ..server_limits()
        }
    }
}

impl ServiceName {
    /// Where it listens unless told otherwise, so that all four run on one machine as they are.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Ingest => 7401,
            Self::Join => 7402,
            Self::StoreWriter => 7403,
            Self::FeatureServing => 7404,
        }
    }

    /// Its name among the nodes of its kind unless told otherwise.
    fn node(self) -> &'static str {
        match self {
            Self::Ingest => "ingest-0",
            Self::Join => "join-0",
            Self::StoreWriter => "store-writer-0",
            Self::FeatureServing => "feature-serving-0",
        }
    }

    fn endpoint(self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    crate::cli::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// A number, as it is written.
fn share<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Share>, D::Error> {
    let number = f64::deserialize(from)?;
    number.to_string().parse().map(Some).map_err(serde::de::Error::custom)
}

/// One text with commas, as in the environment.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(text.split(',').map(|one| one.trim().to_owned()).collect())
}

/// Reads a configuration file.
///
/// # Errors
/// [`ServeError::ConfigFile`], [`ServeError::ConfigInvalid`].
pub(crate) fn read_keys(path: &Path) -> Result<ServeKeys, ServeError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ServeError::ConfigFile { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ServeError::ConfigInvalid {
        path: path.to_owned(),
        error: error.to_string(),
    })
}

/// Puts flags and environment over the file over the defaults.
pub(super) fn told(args: &ServeArgs, global: &Global) -> Result<Told, ServeError> {
    let file = args.config.as_deref().map(read_keys).transpose()?.unwrap_or_default();
    let flags = args.keys.clone();
    let default = Settings::default();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.service.port()));
    let bytes = |flag: Option<u64>, file: Option<u64>, usual| flag.or(file).unwrap_or(usual);
    let settings = Settings {
        listen: flags.listen.or(file.listen).unwrap_or(listen),
        data: flags.data.or(file.data).unwrap_or(default.data),
        slots: flags.slots.or(file.slots).unwrap_or(default.slots),
        at_hand_bytes: flags.at_hand_bytes.or(file.at_hand_bytes).unwrap_or(default.at_hand_bytes),
        resident_bytes: bytes(flags.resident_bytes, file.resident_bytes, default.resident_bytes),
        subscribe_bytes: bytes(
            flags.subscribe_bytes,
            file.subscribe_bytes,
            default.subscribe_bytes,
        ),
        backfill_bytes_per_second: bytes(
            flags.backfill_bytes_per_second,
            file.backfill_bytes_per_second,
            default.backfill_bytes_per_second,
        ),
        page_cache_bytes: bytes(
            flags.page_cache_bytes,
            file.page_cache_bytes,
            default.page_cache_bytes,
        ),
        hot_heads_for: flags.hot_heads_for.or(file.hot_heads_for).unwrap_or(default.hot_heads_for),
        training_bytes: bytes(flags.training_bytes, file.training_bytes, default.training_bytes),
        parity_sample: flags.parity_sample.or(file.parity_sample).unwrap_or(default.parity_sample),
        parity_ring: flags.parity_ring.or(file.parity_ring).unwrap_or(default.parity_ring),
        hedge_after: flags.hedge_after.or(file.hedge_after),
        max_future: flags.max_future.or(file.max_future).unwrap_or(default.max_future),
        idle_after: flags.idle_after.or(file.idle_after).unwrap_or(default.idle_after),
        stream_age: flags.stream_age.or(file.stream_age).unwrap_or(default.stream_age),
        response_stall: flags
            .response_stall
            .or(file.response_stall)
            .unwrap_or(default.response_stall),
        ..Settings::default()
    };
    let settings = Config::try_new(settings)?;
    let store = match (flags.store_endpoint, file.store_endpoint) {
        (flags, _) if !flags.is_empty() => flags,
        (_, file) if !file.is_empty() => file,
        _ => vec![ServiceName::StoreWriter.endpoint()],
    };
    let security = flags.security.or(file.security);
    let cluster = flags.cluster.or(file.cluster).unwrap_or_else(|| "millrace".to_owned());
    let cql = flags.cql.or(file.cql).load(&cluster, settings.slots)?;
    let redis = flags.redis.or(file.redis).load(&cluster)?;
    let admin = flags.admin.or(file.admin);
    if let Some(admin) = admin {
        security.check_admin(admin)?;
    }
    Ok(Told {
        protection: security.load(settings.listen)?,
        settings,
        admin,
        cql,
        redis,
        security: global.security.clone().or(*file.hops).load()?,
        advertise: flags.advertise.or(file.advertise),
        weight: flags.weight.or(file.weight).unwrap_or(1).clamp(1, WEIGHT_MAX),
        node: flags.node.or(file.node).unwrap_or_else(|| args.service.node().to_owned()),
        store,
        ingest: match global.ingest_endpoint.is_empty() {
            true => file.ingest_endpoint.into_iter().collect(),
            false => global.ingest_endpoint.clone(),
        },
    })
}
