//! A generated day of clicks and profiles with everything that goes wrong.

use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_types::Micros;

/// The catalog of the demo.
pub(super) const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    revision: rev
    op: {field: op, retract: [retract]}
    fields: {event_id: string, user_id: int64, ts: timestamp, cents: int64, rev: int64, op: string}
  profiles:
    kind: changelog
    keys: {user: user_id}
    at: valid_from
    op: {field: op, end: [delete]}
    fields: {user_id: int64, valid_from: timestamp, tier: int64, country: string, op: string}
views:
  user_activity:
    entity: user
    events: clicks
    join: [profiles]
    features:
      clicks_1h:    {count: {}, window: 1h}
      cents_24h:    {sum: cents, window: 24h}
      mean_24h:     {mean: cents, window: 24h}
      gold_clicks:  {count: {}, window: 24h, where: \"profiles.tier >= 3\"}
      country:      {latest: profiles.country}
";

/// How many users there are.
pub(super) const USERS: i64 = 1_000;
const CLICKS: u64 = 20_000;
const BATCH: usize = 2_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 2026-03-01T00:00:00Z.
const START: i64 = 1_772_323_200 * SECOND;

/// A click as it is sent; the greatest revision of a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Click {
    pub(super) number: u64,
    pub(super) user: i64,
    pub(super) at: i64,
    pub(super) cents: i64,
    pub(super) revision: i64,
    pub(super) retracted: bool,
}

/// A version of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) user: i64,
    pub(super) from: i64,
    pub(super) tier: i64,
    pub(super) country: &'static str,
    pub(super) deleted: bool,
}

/// What is sent, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Clicks,
    LateProfiles,
    Repeats,
    LateClicks,
    Corrections,
    Retractions,
}

impl Act {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Clicks => "clicks, slightly out of order",
            Self::LateProfiles => "profiles that arrive after the clicks they meet",
            Self::Repeats => "a tenth of the clicks, repeated",
            Self::LateClicks => "clicks that are hours late",
            Self::Corrections => "clicks corrected, some to another instant",
            Self::Retractions => "clicks retracted: they never were",
        }
    }
}

/// The whole history.
pub(super) struct History {
    pub(super) clicks: Vec<(Act, Click)>,
    pub(super) profiles: Vec<Profile>,
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> i64 {
        // Knuth's MMIX generator, high bits: enough for a demo.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n) as i64
    }
}

impl History {
    pub(super) fn generate() -> Self {
        let mut rng = Rng(2026);
        let mut clicks = Vec::new();
        for number in 0..CLICKS {
            let due = START + number as i64 * DAY / CLICKS as i64;
            let late = number % 50 == 0;
            let click = Click {
                number,
                // Few users click much, most click little.
                user: rng.below(USERS as u64).min(rng.below(USERS as u64)),
                at: if late {
                    due - rng.below(6 * 3_600) * SECOND
                } else {
                    due - rng.below(60) * SECOND
                },
                cents: 1 + rng.below(5_000),
                revision: 0,
                retracted: false,
            };
            clicks.push((if late { Act::LateClicks } else { Act::Clicks }, click));
        }
        let first: Vec<Click> = clicks.iter().map(|(_, c)| *c).collect();
        for click in &first {
            match click.number % 40 {
                3 | 13 | 23 | 33 => clicks.push((Act::Repeats, *click)),
                7 => {
                    let moved = click.at - rng.below(7_200) * SECOND;
                    let corrected =
                        Click { revision: 1, cents: click.cents * 2, at: moved, ..*click };
                    clicks.push((Act::Corrections, corrected));
                }
                9 => {
                    let gone = Click { revision: 1, retracted: true, ..*click };
                    clicks.push((Act::Retractions, gone));
                }
                _ => {}
            }
        }
        const COUNTRIES: [&str; 5] = ["DE", "FR", "US", "JP", "BR"];
        let mut profiles = Vec::new();
        for user in 0..USERS {
            for version in 0..3 {
                profiles.push(Profile {
                    user,
                    from: START + version * DAY / 3 + rng.below(3_600) * SECOND,
                    tier: rng.below(5),
                    country: COUNTRIES[rng.below(5) as usize],
                    deleted: version == 2 && user % 20 == 0,
                });
            }
        }
        Self { clicks, profiles }
    }

    /// The end of the day.
    pub(super) fn end(&self) -> Micros {
        Micros(START + DAY)
    }

    /// Instants at which everything is checked.
    pub(super) fn instants(&self) -> [Micros; 4] {
        [START + DAY / 3, START + DAY / 2 + 1, START + DAY, START + DAY + 3_600 * SECOND]
            .map(Micros)
    }

    /// A user with clicks that are corrected, retracted and late.
    pub(super) fn hero(&self) -> i64 {
        let score = |user: i64| {
            let of = |act: Act| {
                self.clicks.iter().filter(|(a, c)| *a == act && c.user == user).count().min(1)
            };
            of(Act::Corrections) + of(Act::Retractions) + of(Act::LateClicks)
        };
        (0..USERS).max_by_key(|user| (score(*user), -user)).unwrap_or(0)
    }

    /// The requests of one act; each act is a producer of its own.
    pub(super) fn requests(&self, act: Act) -> Vec<v1::PublishBatchRequest> {
        let rows: Vec<v1::TypedRow> = match act {
            Act::LateProfiles => self.profiles.iter().map(profile_row).collect(),
            Act::Clicks | Act::Repeats | Act::LateClicks | Act::Corrections | Act::Retractions => {
                self.clicks.iter().filter(|(a, _)| *a == act).map(|(_, c)| click_row(c)).collect()
            }
        };
        let stream = if act == Act::LateProfiles { "profiles" } else { "clicks" };
        rows.chunks(BATCH)
            .enumerate()
            .map(|(index, rows)| {
                let first = (index * BATCH) as u64;
                v1::PublishBatchRequest {
                    producer_id: format!("demo-{act:?}"),
                    stream: stream.to_owned(),
                    first_sequence: first,
                    next_sequence: first + rows.len() as u64,
                    rows: rows.to_vec(),
                    ..Default::default()
                }
            })
            .collect()
    }
}

fn row(values: Vec<(&str, v1::value::Kind)>) -> v1::TypedRow {
    v1::TypedRow {
        values: values
            .into_iter()
            .map(|(name, kind)| (name.to_owned(), v1::Value { kind: Some(kind) }))
            .collect(),
    }
}

fn click_row(click: &Click) -> v1::TypedRow {
    use v1::value::Kind;

    row(vec![
        ("event_id", Kind::String(format!("click-{}", click.number))),
        ("user_id", Kind::Int64(click.user)),
        ("ts", Kind::Timestamp(to_timestamp(Micros(click.at)))),
        ("cents", Kind::Int64(click.cents)),
        ("rev", Kind::Int64(click.revision)),
        ("op", Kind::String(if click.retracted { "retract" } else { "click" }.to_owned())),
    ])
}

fn profile_row(profile: &Profile) -> v1::TypedRow {
    use v1::value::Kind;

    row(vec![
        ("user_id", Kind::Int64(profile.user)),
        ("valid_from", Kind::Timestamp(to_timestamp(Micros(profile.from)))),
        ("tier", Kind::Int64(profile.tier)),
        ("country", Kind::String(profile.country.to_owned())),
        ("op", Kind::String(if profile.deleted { "delete" } else { "upsert" }.to_owned())),
    ])
}
