//! `millrace parity`: online answers of sampled entities against training rows made from the log, bit
//! for bit, as known when each was answered.

mod compare;
mod report;
mod sample;

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_catalog::{Catalog, View};
use millrace_client::Client;
use millrace_proto::convert::{from_timestamp, known_at_timestamp, to_timestamp};
use millrace_proto::v1;
use millrace_types::{EntityKey, FeatureValue, KnownAt, Micros};

pub use report::{Mismatch, ParityReport, ViewParity};

use super::{Failure, session};
use crate::cli::{Global, ParityArgs, ReadInstant};
use crate::clock;
use crate::exit::Exit;
use crate::output::Printer;
use crate::output::arrow::feature_value;
use crate::output::json::{JsonFeature, JsonInstant, JsonKey};

/// What is known further ahead than this is not waited for.
const AHEAD_MAX: Duration = Duration::from_secs(10);
/// Entities read at once.
const ENTITIES_AT_ONCE: usize = 500;

/// Compares and prints what was found; a difference is a failure.
///
/// # Errors
/// [`Failure::UnknownView`], [`Failure::Client`], [`Failure::Answer`].
pub async fn run(args: &ParityArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let catalog = session::catalog(&client).await?;
    let views: Vec<&View> = match args.views.as_slice() {
        [] => catalog.views.iter().filter(|view| !view.features.is_empty()).collect(),
        named => {
            let find = |name: &String| {
                catalog.view(name).ok_or_else(|| Failure::UnknownView {
                    view: name.clone(),
                    known: catalog.views.iter().map(|v| v.name.clone()).collect(),
                })
            };
            named.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    let mut report = ParityReport::default();
    for view in views {
        let keys = sample::keys(&client, &catalog, view, args.sample, args.seed).await?;
        for some in keys.chunks(ENTITIES_AT_ONCE) {
            check(&client, &catalog, view, some, args.at, &mut report).await?;
        }
    }
    let report = report.summed();
    printer.print(&report)?;
    Ok(if report.mismatches == 0 { Exit::Done } else { Exit::Failed })
}

/// An online answer, and what it was answered from.
struct Online {
    key: EntityKey,
    values: Vec<FeatureValue>,
    statuses: Vec<v1::ValueStatus>,
    known_at: KnownAt,
}

/// Reads entities online, and compares each with a training row as known at its answer's known_at.
async fn check(
    client: &Client,
    catalog: &Catalog,
    view: &View,
    keys: &[EntityKey],
    at: ReadInstant,
    report: &mut ParityReport,
) -> Result<(), Failure> {
    let answer = client.get_features(request(view, keys, at)).await?;
    let at = from_timestamp(&answer.at.unwrap_or_default())?;
    let mut by_known_at: BTreeMap<KnownAt, Vec<Online>> = BTreeMap::new();
    for (key, entity) in keys.iter().zip(&answer.entities) {
        if entity.rebuilding {
            // It answers as of before the facts that wait.
            report.of(&view.name).rebuilding += 1;
            continue;
        }
        let known_at = entity.known_at.as_ref().map(from_timestamp).transpose()?;
        let known_at = KnownAt(known_at.unwrap_or(Micros(0)).0);
        let values = entity.values.iter().map(FeatureValue::try_from).collect::<Result<_, _>>()?;
        by_known_at.entry(known_at).or_default().push(Online {
            key: key.clone(),
            values,
            statuses: entity.statuses().collect(),
            known_at,
        });
    }
    for same in by_known_at.into_values() {
        compare(client, catalog, view, &same, at, report).await?;
    }
    Ok(())
}

fn request(view: &View, keys: &[EntityKey], at: ReadInstant) -> v1::GetFeaturesRequest {
    use v1::get_features_request::Instant;

    v1::GetFeaturesRequest {
        view: view.name.clone(),
        entities: keys.iter().map(Into::into).collect(),
        features: Vec::new(),
        known_at: None,
        instant: Some(match at {
            ReadInstant::Now => Instant::Moment(v1::Moment::Now.into()),
            ReadInstant::Latest => Instant::Moment(v1::Moment::Latest.into()),
            ReadInstant::At(at) => Instant::At(to_timestamp(at)),
        }),
    }
}

/// How long until an instant has passed. After a take-over chunks may be stamped a few seconds ahead of the
/// clock, and what is known at such an instant is told once it has passed; one that is further ahead is by
/// another clock.
fn until_passed(known_at: KnownAt, now: Micros) -> Duration {
    let ahead = u64::try_from(known_at.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_micros(ahead).min(AHEAD_MAX)
}

/// Compares answers that were known at one instant.
async fn compare(
    client: &Client,
    catalog: &Catalog,
    view: &View,
    online: &[Online],
    at: Micros,
    report: &mut ParityReport,
) -> Result<(), Failure> {
    let Some(first) = online.first() else { return Ok(()) };
    // A read as known at an instant ahead of the clock is refused: what is stamped ahead is waited for.
    tokio::time::sleep(until_passed(first.known_at, clock::now())).await;
    let keys: Vec<&EntityKey> = online.iter().map(|o| &o.key).collect();
    let spine = sample::spine(catalog, view, &keys, at)?;
    let start = v1::TrainingSetStart {
        views: vec![v1::TrainingView { view: view.name.clone(), features: Vec::new() }],
        rows: Some(v1::training_set_start::Rows::Spine(v1::SpineRows::default())),
        known_at: Some(v1::training_set_start::KnownAt::Instant(known_at_timestamp(
            first.known_at,
        ))),
        ..Default::default()
    };
    let mut set = client.training_set(start, Some(spine));
    let mut answers = online.iter();
    while let Some(rows) = set.next().await? {
        for (row, online) in (0..rows.features.num_rows()).zip(answers.by_ref()) {
            let of = report.of(&view.name);
            of.entities += 1;
            for (place, feature) in view.features.iter().enumerate() {
                if online.statuses.get(place) == Some(&v1::ValueStatus::Backfilling) {
                    // It has no value yet: the log is right at once.
                    of.backfilling += 1;
                    continue;
                }
                let offline = feature_value(rows.features.column(place).as_ref(), row);
                let told = online.values.get(place).cloned().unwrap_or(FeatureValue::NULL);
                of.values += 1;
                if !compare::same_bits(&told, &offline) {
                    report.differs(Mismatch {
                        view: view.name.clone(),
                        key: JsonKey(online.key.clone()),
                        feature: feature.name.clone(),
                        at: JsonInstant(at),
                        known_at: JsonInstant(Micros(online.known_at.0)),
                        online: JsonFeature(told),
                        offline: JsonFeature(offline),
                    });
                    break;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stamped_ahead_of_the_clock_is_waited_for() {
        let until = |known_at, now| until_passed(KnownAt(known_at), Micros(now));
        assert_eq!(until(2_500_000, 1_000_000), Duration::from_millis(1_500));
        for passed in [(5, 5), (5, 6), (i64::MIN, i64::MAX)] {
            assert_eq!(until(passed.0, passed.1), Duration::ZERO);
        }
        assert_eq!(until(i64::MAX, i64::MIN), AHEAD_MAX, "by another clock");
    }
}
