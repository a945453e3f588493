//! The batch computation the demo checks against: the whole history at once, in plain loops. It
//! shares no code with the services.

use std::collections::HashMap;

use millrace_types::{FeatureValue, Micros, Value};

use super::history::{Click, History, Profile};

const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;

/// The features of a user at an instant.
pub(super) fn features(
    history: &History,
    user: i64,
    at: Micros,
) -> Vec<(&'static str, FeatureValue)> {
    let mut newest: HashMap<u64, Click> = HashMap::new();
    for (_, click) in history.clicks.iter().filter(|(_, c)| c.user == user) {
        let kept = newest.entry(click.number).or_insert(*click);
        if click.revision > kept.revision {
            *kept = *click;
        }
    }
    let clicks: Vec<Click> = newest.into_values().filter(|c| !c.retracted).collect();
    // Windows of an hour slide by the minute, windows of a day by five.
    let within = |width: i64, hop: i64| {
        let start = (at.0 - width).div_euclid(hop) * hop;
        clicks.iter().filter(move |c| start <= c.at && c.at < at.0)
    };
    let day: Vec<&Click> = within(24 * HOUR, 5 * MINUTE).collect();
    let cents: i64 = day.iter().map(|c| c.cents).sum();
    let int = |v: i64| FeatureValue::Scalar(Value::Int64(v));
    let empty = day.is_empty();
    let gold = day.iter().filter(|c| version(history, user, c.at).is_some_and(|p| p.tier >= 3));
    let country = version(history, user, at.0).map(|p| Value::String(p.country.into()));
    vec![
        ("clicks_1h", int(within(HOUR, MINUTE).count() as i64)),
        ("cents_24h", if empty { FeatureValue::NULL } else { int(cents) }),
        (
            "mean_24h",
            match empty {
                true => FeatureValue::NULL,
                false => FeatureValue::Scalar(Value::Double(cents as f64 / day.len() as f64)),
            },
        ),
        ("gold_clicks", int(gold.count() as i64)),
        ("country", FeatureValue::Scalar(country.unwrap_or(Value::Null))),
    ]
}

/// The version in force; `None` before the first one and after a deletion.
fn version(history: &History, user: i64, at: i64) -> Option<&Profile> {
    // Each user has three versions at distinct instants, in a row.
    let of_user = history.profiles.iter().skip(user as usize * 3).take(3);
    let last = of_user.filter(|p| p.from <= at).max_by_key(|p| p.from)?;
    (!last.deleted).then_some(last)
}
