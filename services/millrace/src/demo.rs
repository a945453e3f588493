//! `millrace demo`: the first hour in a minute. Starts everything in a temporary folder, streams a
//! generated history with late, repeated, corrected and retracted facts, shows values before and
//! after, writes a training set, and checks all of it against a plain batch computation.

mod batch;
mod history;
mod train;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use millrace_client::{Client, ClientError, ClientOptions, EndpointError, Endpoints};
use millrace_config::Settings;
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_types::{FeatureValue, Micros, Value, VerdictCounts};
use thiserror::Error;

use crate::dev::{Dev, DevError, DevOptions};
use crate::exit::Exit;
use history::{Act, History, USERS};

/// How long rebuilds may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How it ends.
const NEXT: &str = "\
What to try next
   millrace dev &                        a server of your own, in .millrace
   millrace apply CATALOG                your streams and features
   millrace publish STREAM=FILE          CSV, NDJSON or Parquet, also .gz
   millrace get VIEW KEY --at latest     features, as of any instant
   millrace training VIEW --events --known-at latest --out train.parquet
   millrace tail VIEW --from start       joined rows as they change
";

/// Why the demo did not end well.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The services did not start, or did not stop in order.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A temporary folder cannot be made, or standard output failed.
    #[error("the demo needs a temporary folder and standard output")]
    Io(#[from] io::Error),
    /// The training set was not made, or cannot be read back.
    #[error("the training set: {0}")]
    Training(String),
    /// A value is not the batch computation's.
    #[error("user {user}: {feature} is {online} here and {batch} in the batch computation")]
    Differs {
        /// The user.
        user: i64,
        /// The feature.
        feature: &'static str,
        /// What was served.
        online: String,
        /// What it should be.
        batch: String,
    },
    /// Entities stayed dirty.
    #[error("entities still wait for their rebuild after {PATIENCE:?}")]
    StillRebuilding,
}

/// Runs the demo.
///
/// # Errors
/// [`DemoError`].
pub async fn run() -> Result<Exit, DemoError> {
    let folder = tempfile::tempdir()?;
    let options = DevOptions {
        data: folder.path().join("data"),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        slots: 64,
        at_hand_bytes: 64 << 20,
        parity_sample: Settings::default().parity_sample,
        backfill_bytes_per_second: 32 << 20,
        catalog: None,
        security: Default::default(),
        admin: None,
    };
    let dev = Dev::start(&options).await?;
    let outcome = show(&dev, folder.path()).await;
    let stopped = dev.stop().await;
    outcome?;
    stopped?;
    Ok(Exit::Done)
}

async fn show(dev: &Dev, folder: &Path) -> Result<(), DemoError> {
    let started = Instant::now();
    let mut out = io::stdout().lock();
    let endpoints = Endpoints::single(&format!("http://{}", dev.address()));
    let client = Client::new(&endpoints, ClientOptions::default())?;
    writeln!(out, "Millrace runs in a temporary folder, on {}.\n", dev.address())?;
    writeln!(out, "1. The catalog: clicks joined with profiles, windows over them\n")?;
    for line in history::CATALOG.lines().filter(|l| !l.trim_start().starts_with('#')) {
        writeln!(out, "   {line}")?;
    }
    let source = history::CATALOG.to_owned();
    client.apply_catalog(v1::ApplyCatalogRequest { source, ..Default::default() }).await?;

    let history = History::generate();
    writeln!(out, "\n2. A day of {USERS} users, as a pipeline would deliver it on a bad day\n")?;
    for act in [Act::Clicks, Act::LateProfiles] {
        let counts = publish(&client, &history, act).await?;
        writeln!(out, "   {:<46} {}", act.title(), told(&counts))?;
    }
    let hero = history.hero();
    let before = read(&client, &[hero], history.end()).await?;
    for act in [Act::Repeats, Act::LateClicks, Act::Corrections, Act::Retractions] {
        let counts = publish(&client, &history, act).await?;
        writeln!(out, "   {:<46} {}", act.title(), told(&counts))?;
    }
    settle(&client).await?;
    let after = read(&client, &[hero], history.end()).await?;
    writeln!(out, "\n3. User {hero} at the end of the day, before and after the last four\n")?;
    writeln!(out, "   {:<18} {:>14} {:>14}", "feature", "before", "after")?;
    for (feature, value) in &after[0] {
        let was = before[0].get(feature).map(shown).unwrap_or_default();
        writeln!(out, "   {feature:<18} {was:>14} {:>14}", shown(value))?;
    }

    let checked = check(&client, &history).await?;
    let (rows, offline) = train::check(&client, &history, folder).await?;
    writeln!(out, "\n4. A training set of {rows} rows, one a click, as Parquet")?;
    writeln!(
        out,
        "\n5. Checked: {checked} online values and {offline} of the training set equal a batch \
         computation\n   over the same facts, bit for bit."
    )?;
    writeln!(out, "   All of it took {:.1} s.\n", started.elapsed().as_secs_f64())?;
    Ok(out.write_all(NEXT.as_bytes())?)
}

async fn publish(client: &Client, history: &History, act: Act) -> Result<VerdictCounts, DemoError> {
    let mut counts = VerdictCounts::default();
    for request in history.requests(act) {
        let response = client.publish_batch(request).await?;
        if let Some(batch) = response.result.and_then(|r| r.counts) {
            counts += batch.into();
        }
    }
    Ok(counts)
}

fn told(counts: &VerdictCounts) -> String {
    let parts = [
        (counts.accepted, "accepted"),
        (counts.repaired, "repaired"),
        (counts.duplicate, "duplicate"),
        (counts.late, "late"),
        (counts.rejected, "rejected"),
    ];
    let mut told: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if counts.rows_repaired > 0 {
        told.push(format!("{} rows taken back", counts.rows_repaired));
    }
    told.join(", ")
}

/// Waits until no entity waits for a rebuild.
async fn settle(client: &Client) -> Result<(), DemoError> {
    let until = Instant::now() + PATIENCE;
    while client.status(false).await?.rebuild_queue > 0 {
        if Instant::now() > until {
            return Err(DemoError::StillRebuilding);
        }
        // Rebuilds are not announced: the state is asked for again, up to a limit.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

type Row = BTreeMap<String, FeatureValue>;

async fn read(client: &Client, users: &[i64], at: Micros) -> Result<Vec<Row>, DemoError> {
    let key = |user: &i64| v1::EntityKey {
        parts: vec![v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(*user)) }],
    };
    let request = v1::GetFeaturesRequest {
        view: "user_activity".to_owned(),
        entities: users.iter().map(key).collect(),
        features: Vec::new(),
        instant: Some(v1::get_features_request::Instant::At(to_timestamp(at))),
        known_at: None,
    };
    let response = client.get_features(request).await?;
    let names: Vec<String> = response.features.into_iter().map(|f| f.name).collect();
    Ok(response
        .entities
        .iter()
        .map(|entity| {
            let value = |v| FeatureValue::try_from(v).unwrap_or(FeatureValue::NULL);
            names.iter().cloned().zip(entity.values.iter().map(value)).collect()
        })
        .collect())
}

fn shown(value: &FeatureValue) -> String {
    match value {
        FeatureValue::Scalar(Value::Null) => "NULL".to_owned(),
        FeatureValue::Scalar(Value::Int64(v)) => v.to_string(),
        FeatureValue::Scalar(Value::Double(v)) => v.to_string(),
        FeatureValue::Scalar(Value::String(v)) => v.to_string(),
        FeatureValue::Scalar(other) => format!("{other:?}"),
        FeatureValue::List(_) | FeatureValue::Counted(_) => format!("{value:?}"),
    }
}

/// Compares every user at a few instants with the batch computation.
async fn check(client: &Client, history: &History) -> Result<u64, DemoError> {
    let mut checked = 0;
    let users: Vec<i64> = (0..USERS).collect();
    for at in history.instants() {
        for some in users.chunks(500) {
            let rows = read(client, some, at).await?;
            for (user, row) in some.iter().zip(&rows) {
                for (feature, batch) in batch::features(history, *user, at) {
                    let online = row.get(feature).cloned().unwrap_or(FeatureValue::NULL);
                    if !same(&online, &batch) {
                        return Err(DemoError::Differs {
                            user: *user,
                            feature,
                            online: shown(&online),
                            batch: shown(&batch),
                        });
                    }
                    checked += 1;
                }
            }
        }
    }
    Ok(checked)
}

fn same(a: &FeatureValue, b: &FeatureValue) -> bool {
    match (a, b) {
        (FeatureValue::Scalar(Value::Double(a)), FeatureValue::Scalar(Value::Double(b))) => {
            a.to_bits() == b.to_bits()
        }
        (a, b) => a == b,
    }
}
