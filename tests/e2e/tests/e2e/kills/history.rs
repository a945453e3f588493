//! The facts that are published under fire, and what they come to.

use std::collections::BTreeMap;

use millrace_e2e_tests::JoinedRows;
use millrace_test_support::generate::Rng;
use serde_json::{Value, json};

pub(crate) const USERS: usize = 20;

/// 2024-03-01T08:00:00Z in microseconds; clicks follow each other by a second.
const START: u64 = 1_709_280_000_000_000;
const SECOND: u64 = 1_000_000;

/// What was published so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By number: the live price in quarters, whose sums are exact in doubles; `None` retracted.
    clicks: Vec<Option<u64>>,
    /// By user: the versions by (valid from, number), each a country or an END.
    profiles: BTreeMap<(usize, u64, usize), Option<String>>,
    versions: usize,
}

impl History {
    /// The next facts: `count` clicks with corrections and retractions of earlier ones in between,
    /// and a few profile versions that hold from before clicks that are there.
    pub(crate) fn next(&mut self, count: usize, rng: &mut Rng) -> (Vec<String>, Vec<String>) {
        let mut clicks = Vec::new();
        for _ in 0..count {
            let number = self.clicks.len();
            self.clicks.push(Some(0));
            clicks.push(self.click(number, 0, rng.below(400) as u64));
            if rng.percent(3) {
                let earlier = rng.below(self.clicks.len());
                // One revision in a thousand numbers is enough: the later the greater.
                let revision = number + 1;
                if rng.percent(30) {
                    self.clicks[earlier] = None;
                    clicks.push(line(earlier, revision, "retract", 0));
                } else {
                    clicks.push(self.click(earlier, revision, rng.below(400) as u64));
                }
            }
        }
        let profiles = (0..3).map(|_| self.version(rng)).collect();
        (clicks, profiles)
    }

    fn click(&mut self, number: usize, revision: usize, quarters: u64) -> String {
        self.clicks[number] = Some(quarters);
        line(number, revision, "", quarters)
    }

    /// A version from a random click on.
    fn version(&mut self, rng: &mut Rng) -> String {
        let number = self.versions;
        self.versions += 1;
        let user = rng.below(USERS);
        // Late, but not by so much that every click of the user is emitted anew.
        let back = rng.below(self.clicks.len().min(2_000));
        let from = START + (self.clicks.len() - back) as u64 * SECOND;
        let country = (!rng.percent(20)).then(|| format!("c{}", rng.below(9)));
        let op = if country.is_some() { "" } else { "delete" };
        let text = country.clone().unwrap_or_default();
        self.profiles.insert((user, from, number), country);
        format!("p{number:09},{user},{from},0,{op},{text},{}", number % 5)
    }

    /// By user: count, sum and country after everything.
    pub(crate) fn expected(&self) -> Vec<[Value; 3]> {
        (0..USERS).map(|user| self.expected_of(user)).collect()
    }

    fn expected_of(&self, user: usize) -> [Value; 3] {
        let live = self.clicks.iter().enumerate().filter(|(number, _)| number % USERS == user);
        let live: Vec<u64> = live.filter_map(|(_, quarters)| *quarters).collect();
        let sum = (!live.is_empty()).then(|| live.iter().sum::<u64>() as f64 / 4.0);
        let versions = self.profiles.range((user, 0, 0)..(user + 1, 0, 0));
        let country = versions.last().and_then(|(_, country)| country.clone());
        [json!(live.len()), json!(sum), json!(country)]
    }

    /// Holds the sum of a changelog against the join of what was published.
    pub(crate) fn compare_rows(&self, sum: &JoinedRows) -> Result<(), String> {
        let live = self.clicks.iter().filter(|quarters| quarters.is_some()).count();
        if sum.rows.len() != live {
            return Err(format!("{} joined rows instead of {live}", sum.rows.len()));
        }
        for (number, quarters) in self.clicks.iter().enumerate() {
            let Some(quarters) = quarters else { continue };
            let (user, at) = (number % USERS, START + number as u64 * SECOND);
            let key = (user.to_string(), json!(id(number)).to_string());
            let row = sum.rows.get(&key).ok_or_else(|| format!("no row of {}", id(number)))?;
            let versions = self.profiles.range((user, 0, 0)..=(user, at, usize::MAX));
            let country = versions.last().and_then(|(_, country)| country.clone());
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

fn line(number: usize, revision: usize, op: &str, quarters: u64) -> String {
    let (user, at) = (number % USERS, START + number as u64 * SECOND);
    let price = quarters as f64 / 4.0;
    format!("{},{user},{at},{revision},{op},,{price},book", id(number))
}
