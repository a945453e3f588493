//! The facts that are published under fire, and what they come to.

use std::collections::BTreeMap;

use millrace_e2e_tests::JoinedRows;
use millrace_test_support::generate::Rng;
use serde_json::{Value, json};

use crate::fixture::{CLICKS, PROFILES};

pub(crate) const USERS: usize = 20;

/// What [`History::activity`] tells of a user, by name.
pub(crate) const ACTIVITY: [&str; 5] =
    ["clicks", "spend", "country", "clicks_10m", "gold_spend_10m"];

/// 2030-01-01T00:00:00Z in microseconds.
pub(crate) const AFTER_ALL: u64 = 1_893_456_000_000_000;

/// 2024-03-01T08:00:00Z in microseconds; clicks follow each other by a second.
const START: u64 = 1_709_280_000_000_000;
const SECOND: u64 = 1_000_000;
/// What ends in `_10m`, and how far its beginning is rounded down.
const WINDOW: u64 = 600 * SECOND;
const HOP: u64 = 10 * SECOND;
/// Twice as far behind the first login as `repair` of the logins, which reaches further than any test.
const LONG_AGO: u64 = START - 60 * 86_400 * SECOND;
/// 2100-01-01T00:00:00Z in microseconds, ahead of every clock.
const AHEAD: u64 = 4_102_444_800_000_000;

const LOGINS: &str = "login_id,user_id,ts";

/// Lines for a stream, and how many of them are to have no effect.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) stream: &'static str,
    pub(crate) header: &'static str,
    pub(crate) rows: Vec<String>,
    pub(crate) rejected: u64,
    pub(crate) late: u64,
}

impl Lines {
    fn of(stream: &'static str, header: &'static str) -> Self {
        Self { stream, header, rows: Vec::new(), rejected: 0, late: 0 }
    }
}

/// What was published so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By number: the live price in quarters, whose sums are exact in doubles; `None` retracted.
    clicks: Vec<Option<u64>>,
    /// By user: the versions by (valid from, number), each a country or an END.
    profiles: BTreeMap<(usize, u64, usize), Option<String>>,
    versions: usize,
    /// By user: how many logins are in effect.
    logins: [u64; USERS],
    /// How many lines of logins there are.
    login_lines: usize,
    /// An instant among the last clicks.
    middle: u64,
}

impl History {
    /// A login of each user before the first click. What comes [`LONG_AGO`] is LATE once slots were told of it.
    pub(crate) fn first_logins(&mut self) -> Lines {
        let mut lines = Lines::of("logins", LOGINS);
        lines.rows.extend((0..USERS).map(|user| self.login(user, START - SECOND)));
        lines
    }

    /// The next facts: `count` clicks with corrections and retractions of earlier ones and lines that
    /// break a rule in between, a few profile versions that hold from before clicks that are there, and
    /// logins.
    pub(crate) fn next(&mut self, count: usize, rng: &mut Rng) -> [Lines; 3] {
        let mut clicks = Lines::of("clicks", CLICKS);
        for _ in 0..count {
            let number = self.clicks.len();
            self.clicks.push(Some(0));
            clicks.rows.push(self.click(number, 0, rng.below(400) as u64));
            if rng.percent(3) {
                let earlier = rng.below(self.clicks.len());
                // One revision in a thousand numbers is enough: the later the greater.
                let revision = number + 1;
                if rng.percent(30) {
                    self.clicks[earlier] = None;
                    clicks.rows.push(line(earlier, revision, "retract", 0));
                } else {
                    clicks.rows.push(self.click(earlier, revision, rng.below(400) as u64));
                }
            }
            if rng.percent(1) {
                clicks.rows.push(self.refused(rng));
                clicks.rejected += 1;
            }
        }
        let mut profiles = Lines::of("profiles", PROFILES);
        profiles.rows.extend((0..3).map(|_| self.version(rng)));
        let logins = self.next_logins(count / 10, rng);
        self.middle = instant(self.clicks.len() - 1 - rng.below(count / 2));
        [clicks, profiles, logins]
    }

    fn click(&mut self, number: usize, revision: usize, quarters: u64) -> String {
        self.clicks[number] = Some(quarters);
        line(number, revision, "", quarters)
    }

    /// A correction of a click that is REJECTED for its key, price or time.
    fn refused(&self, rng: &mut Rng) -> String {
        let number = rng.below(self.clicks.len());
        let (id, user, at) = (id(number), number % USERS, instant(number));
        // Greater than any so far: it would have an effect.
        let revision = self.clicks.len() + 1;
        match rng.below(3) {
            0 => format!("{id},,{at},{revision},,,1,book"),
            1 => format!("{id},{user},{at},{revision},,,NaN,book"),
            _ => format!("{id},{user},{AHEAD},{revision},,,1,book"),
        }
    }

    /// A version from a random click on.
    fn version(&mut self, rng: &mut Rng) -> String {
        let number = self.versions;
        self.versions += 1;
        let user = rng.below(USERS);
        // Late, but not by so much that every click of the user is emitted anew.
        let back = rng.below(self.clicks.len().min(2_000));
        let from = instant(self.clicks.len() - back);
        let country = (!rng.percent(20)).then(|| format!("c{}", rng.below(9)));
        let op = if country.is_some() { "" } else { "delete" };
        let text = country.clone().unwrap_or_default();
        self.profiles.insert((user, from, number), country);
        format!("p{number:09},{user},{from},0,{op},{text},{}", tier(number))
    }

    /// Logins after the last click, as many that are LATE in between, and one that is REJECTED: were its time
    /// taken for a watermark, all others would be LATE, too.
    fn next_logins(&mut self, count: usize, rng: &mut Rng) -> Lines {
        let mut lines = Lines::of("logins", LOGINS);
        lines.rows.push(self.login_line(rng.below(USERS), AHEAD));
        lines.rejected += 1;
        let now = instant(self.clicks.len());
        for _ in 0..count {
            lines.rows.push(self.login(rng.below(USERS), now));
            lines.rows.push(self.login_line(rng.below(USERS), LONG_AGO));
            lines.late += 1;
        }
        lines
    }

    /// A login that takes effect.
    fn login(&mut self, user: usize, at: u64) -> String {
        self.logins[user] += 1;
        self.login_line(user, at)
    }

    fn login_line(&mut self, user: usize, at: u64) -> String {
        let number = self.login_lines;
        self.login_lines += 1;
        format!("l{number},{user},{at}")
    }

    /// When values are looked at: among the last clicks, of which windows hold some then, and after all.
    pub(crate) fn instants(&self) -> [u64; 2] {
        [self.middle, AFTER_ALL]
    }

    /// By user: [`ACTIVITY`] at an instant.
    pub(crate) fn activity(&self, at: u64) -> Vec<Vec<Value>> {
        (0..USERS).map(|user| self.activity_of(user, at)).collect()
    }

    fn activity_of(&self, user: usize, at: u64) -> Vec<Value> {
        let live = |(number, quarters): (usize, &Option<u64>)| {
            let (when, quarters) = (instant(number), (*quarters)?);
            (number % USERS == user && when < at).then_some((when, quarters))
        };
        let all: Vec<(u64, u64)> = self.clicks.iter().enumerate().filter_map(live).collect();
        let since = (at - WINDOW) / HOP * HOP;
        let recent: Vec<(u64, u64)> =
            all.iter().copied().filter(|(when, _)| *when >= since).collect();
        let is_gold = |when: u64| self.profile(user, when).is_some_and(|(tier, _)| tier >= 3);
        let gold: Vec<(u64, u64)> =
            recent.iter().copied().filter(|(when, _)| is_gold(*when)).collect();
        let country = self.profile(user, at).map(|(_, country)| country);
        vec![
            json!(all.len()),
            json!(sum(&all)),
            json!(country),
            json!(recent.len()),
            json!(sum(&gold)),
        ]
    }

    /// By user: the number of logins after everything.
    pub(crate) fn logins(&self) -> Vec<Vec<Value>> {
        self.logins.iter().map(|logins| vec![json!(logins)]).collect()
    }

    /// Tier and country of a user at an instant; nothing where no version holds.
    fn profile(&self, user: usize, at: u64) -> Option<(usize, &str)> {
        let mut versions = self.profiles.range((user, 0, 0)..=(user, at, usize::MAX));
        let ((_, _, number), country) = versions.next_back()?;
        Some((tier(*number), country.as_deref()?))
    }

    /// Holds the sum of a changelog against the join of what was published.
    pub(crate) fn compare_rows(&self, sum: &JoinedRows) -> Result<(), String> {
        let live = self.clicks.iter().filter(|quarters| quarters.is_some()).count();
        if sum.rows.len() != live {
            return Err(format!("{} joined rows instead of {live}", sum.rows.len()));
        }
        for (number, quarters) in self.clicks.iter().enumerate() {
            let Some(quarters) = quarters else { continue };
            let (user, at) = (number % USERS, instant(number));
            let key = (user.to_string(), json!(id(number)).to_string());
            let row = sum.rows.get(&key).ok_or_else(|| format!("no row of {}", id(number)))?;
            let country = self.profile(user, at).map(|(_, country)| country);
            let told = (&row["row"]["price"], &row["joined"]["profiles"]["country"]);
            let expected = (json!(*quarters as f64 / 4.0), json!(country));
            if told != (&expected.0, &expected.1) {
                return Err(format!("{row} instead of {expected:?}"));
            }
        }
        Ok(())
    }
}

/// The id of a click. The user follows from the number.
fn id(number: usize) -> String {
    format!("e{number}")
}

/// When a click happens.
fn instant(number: usize) -> u64 {
    START + number as u64 * SECOND
}

/// The tier of a profile version.
fn tier(number: usize) -> usize {
    number % 5
}

/// The sum of prices of clicks by (instant, quarters), if there are any.
fn sum(clicks: &[(u64, u64)]) -> Option<f64> {
    let quarters = clicks.iter().map(|(_, quarters)| quarters).sum::<u64>();
    (!clicks.is_empty()).then_some(quarters as f64 / 4.0)
}

fn line(number: usize, revision: usize, op: &str, quarters: u64) -> String {
    let (user, at) = (number % USERS, instant(number));
    let price = quarters as f64 / 4.0;
    format!("{},{user},{at},{revision},{op},,{price},book", id(number))
}
