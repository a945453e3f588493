//! Answers as messages.

use millrace_catalog::{Aggregate, Feature, Window};
use millrace_client::port::EntityOutcome;
use millrace_proto::convert::{id_text, known_at_timestamp, to_timestamp};
use millrace_proto::v1;
use millrace_types::{Micros, SlotId, Status};

use crate::read::Answer;

/// The message of an answer.
pub(crate) fn response(answer: Answer) -> v1::GetFeaturesResponse {
    let view = &answer.catalog.views[answer.view];
    let features: Vec<&Feature> = answer.features.iter().map(|i| &view.features[*i]).collect();
    let rests_on_at = features.iter().any(|f| f.aggregate == Aggregate::Latest);
    let known_at = answer.entities.iter().map(|(_, e)| e.known_at).min();
    let changelogs = view
        .joins
        .iter()
        .filter_map(|j| answer.catalog.stream_by_id(*j))
        .map(|s| s.name.clone())
        .collect();
    let version = answer.catalog.version;
    v1::GetFeaturesResponse {
        at: Some(to_timestamp(answer.at)),
        known_at: known_at.map(known_at_timestamp),
        features: features.iter().map(|f| column(f, answer.at)).collect(),
        changelogs,
        catalog_version: version,
        entities: answer
            .entities
            .into_iter()
            .map(|(slot, outcome)| {
                let past = answer.known_at.is_some_and(|k| k <= outcome.known_at);
                entity(slot, outcome, version, answer.at, rests_on_at, past)
            })
            .collect(),
    }
}

pub(crate) fn column(feature: &Feature, at: Micros) -> v1::FeatureColumn {
    let window = (feature.aggregate != Aggregate::Latest).then(|| {
        let start = feature.window.start(at);
        v1::FeatureWindow {
            start: (feature.window != Window::Unbounded).then(|| to_timestamp(start)),
            end: Some(to_timestamp(at)),
        }
    });
    v1::FeatureColumn { name: feature.name.clone(), window }
}

fn entity(
    slot: SlotId,
    outcome: EntityOutcome,
    catalog_version: u32,
    at: Micros,
    rests_on_at: bool,
    past: bool,
) -> v1::EntityFeatures {
    // Windows end before `at`; the version in force may begin at it.
    let complete = outcome.watermark.is_some_and(|w| if rests_on_at { at < w } else { at <= w });
    let (mut values, mut statuses) = (Vec::new(), Vec::new());
    let filled = outcome.features.iter().all(|f| f.status != Status::Backfilling);
    for feature in outcome.features {
        values.push(feature.value.into());
        statuses.push(v1::ValueStatus::from(feature.status) as i32);
    }
    v1::EntityFeatures {
        values,
        statuses,
        watermark: outcome.watermark.map(to_timestamp),
        known_at: Some(known_at_timestamp(outcome.known_at)),
        // As known at an instant of the past, facts that came since may differ: nothing is final.
        r#final: complete && filled && !outcome.rebuilding && !past,
        rebuilding: outcome.rebuilding,
        version: format!("{catalog_version}:{}:{}", slot.0, outcome.position),
        versions: outcome
            .versions
            .into_iter()
            .map(|version| match version {
                Some((from, id)) => v1::VersionUsed {
                    valid_from: Some(to_timestamp(from)),
                    id: id_text(&id).into_owned(),
                },
                None => v1::VersionUsed::default(),
            })
            .collect(),
    }
}
