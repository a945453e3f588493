//! The standard workload `clickprofile` (docs/performance.md): clicks over 24 hours in order with up
//! to 60 s of jitter, 2 % late by up to 30 minutes, users Zipf(1.0) or uniform; a tenth as many
//! profile changes, 1 % of them deletions. Made from a fixed seed.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

use super::BenchError;
use crate::cli::KeySpread;

/// The catalog of the workload.
pub(super) const CATALOG: &str = include_str!("../../../../examples/clickprofile.yaml");

const USERS: usize = 100_000;
const DAY_MS: i64 = 86_400_000;
/// 2026-03-01T00:00:00Z.
const START_MS: i64 = 1_772_323_200_000;
const BATCH_ROWS: usize = 4_096;
const PROFILE_SHARE: u64 = 10;

/// The batches of the workload, in the order in which they are sent.
pub(super) struct Workload {
    /// Stream and rows.
    pub(super) batches: Vec<(&'static str, RecordBatch)>,
    pub(super) facts: u64,
    users: Users,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> i64 {
        (self.next() % n) as i64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws users.
#[derive(Debug, Clone)]
pub(super) struct Users {
    /// Cumulative weights; empty for uniform keys.
    cumulative: Arc<[f64]>,
}

impl Users {
    fn new(spread: KeySpread) -> Self {
        let cumulative = match spread {
            KeySpread::Uniform => Vec::new(),
            KeySpread::Zipf => {
                let mut sum = 0.0;
                (1..=USERS)
                    .map(|rank| {
                        sum += 1.0 / rank as f64;
                        sum
                    })
                    .collect()
            }
        };
        Self { cumulative: cumulative.into() }
    }

    /// So many of them, each alike.
    pub(super) fn few(count: usize) -> Self {
        Self { cumulative: (1..=count).map(|rank| rank as f64).collect() }
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> i64 {
        match self.cumulative.last() {
            None => rng.below(USERS as u64),
            Some(total) => {
                let x = rng.unit() * total;
                self.cumulative.partition_point(|c| *c < x) as i64
            }
        }
    }
}

impl Workload {
    /// Makes `events` clicks and a tenth as many profile changes, interleaved by time.
    pub(super) fn generate(events: u64, spread: KeySpread) -> Result<Self, BenchError> {
        let users = Users::new(spread);
        let mut rng = Rng::new(42);
        let mut batches = Vec::new();
        let mut sent = 0u64;
        let mut profiles_due = 0u64;
        let mut profiles_sent = 0u64;
        let profiles = events / PROFILE_SHARE;
        while sent < events {
            let n = BATCH_ROWS.min((events - sent) as usize);
            batches.push(("clicks", clicks(&mut rng, &users, sent, n, events)?));
            sent += n as u64;
            profiles_due += n as u64 / PROFILE_SHARE;
            let last = sent == events;
            let due = if last { profiles - profiles_sent } else { profiles_due };
            if due as usize >= BATCH_ROWS || (last && due > 0) {
                let at = START_MS + (sent as i64 * DAY_MS) / events as i64;
                batches.push(("profiles", profile_changes(&mut rng, due as usize, at)?));
                profiles_sent += due;
                profiles_due = 0;
            }
        }
        Ok(Self { batches, facts: sent + profiles_sent, users })
    }

    /// Users for reads, drawn as those of the clicks.
    pub(super) fn users(&self) -> Users {
        self.users.clone()
    }

    /// The instant at which reads look: the end of the day.
    pub(super) fn read_at_us(&self) -> i64 {
        (START_MS + DAY_MS) * 1_000
    }

    /// Clicks for the load beside freshness: after the day, at an instant each.
    pub(super) fn more_clicks(
        &self,
        rng: &mut Rng,
        first: u64,
        n: usize,
    ) -> Result<RecordBatch, BenchError> {
        let base = START_MS + DAY_MS;
        let rows = (0..n as u64).map(|i| Click {
            user: self.users.draw(rng),
            number: first + i,
            at_ms: base + (first + i) as i64 % 60_000,
            item: rng.below(10_000),
            dwell: rng.below(60_000),
        });
        click_batch(rows.collect())
    }
}

struct Click {
    user: i64,
    number: u64,
    at_ms: i64,
    item: i64,
    dwell: i64,
}

fn clicks(
    rng: &mut Rng,
    users: &Users,
    first: u64,
    n: usize,
    events: u64,
) -> Result<RecordBatch, BenchError> {
    let rows = (0..n as u64).map(|i| {
        let number = first + i;
        let mut at_ms = START_MS + (number as i64 * DAY_MS) / events as i64 + rng.below(60_000);
        if rng.below(50) == 0 {
            at_ms -= rng.below(1_800_000);
        }
        let user = users.draw(rng);
        Click { user, number, at_ms, item: rng.below(10_000), dwell: rng.below(60_000) }
    });
    click_batch(rows.collect())
}

fn click_batch(rows: Vec<Click>) -> Result<RecordBatch, BenchError> {
    let int = |of: fn(&Click) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let ids = StringArray::from_iter_values(rows.iter().map(|r| format!("{:016x}", r.number)));
    let schema = Schema::new(vec![
        Field::new("user_id", DataType::Int64, false),
        Field::new("event_id", DataType::Utf8, false),
        Field::new("event_time", DataType::Int64, false),
        Field::new("item_id", DataType::Int64, false),
        Field::new("dwell_ms", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> =
        vec![int(|r| r.user), Arc::new(ids), int(|r| r.at_ms), int(|r| r.item), int(|r| r.dwell)];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

fn profile_changes(rng: &mut Rng, n: usize, at_ms: i64) -> Result<RecordBatch, BenchError> {
    const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "JP", "BR", "IN", "GB", "PL"];
    let users: Vec<i64> = (0..n).map(|_| rng.below(USERS as u64)).collect();
    let from: Vec<i64> = (0..n).map(|_| at_ms - rng.below(600_000)).collect();
    let ops: Vec<&str> =
        (0..n).map(|_| if rng.below(100) == 0 { "delete" } else { "upsert" }).collect();
    let countries: Vec<&str> =
        (0..n).map(|_| COUNTRIES[rng.below(COUNTRIES.len() as u64) as usize]).collect();
    let tiers: Vec<i64> = (0..n).map(|_| rng.below(5)).collect();
    let ages: Vec<i64> = (0..n).map(|_| 18 + rng.below(60)).collect();
    let schema = Schema::new(vec![
        Field::new("user_id", DataType::Int64, false),
        Field::new("valid_from", DataType::Int64, false),
        Field::new("op", DataType::Utf8, false),
        Field::new("country", DataType::Utf8, false),
        Field::new("tier", DataType::Int64, false),
        Field::new("age", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(users)),
        Arc::new(Int64Array::from(from)),
        Arc::new(StringArray::from(ops)),
        Arc::new(StringArray::from(countries)),
        Arc::new(Int64Array::from(tiers)),
        Arc::new(Int64Array::from(ages)),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}
