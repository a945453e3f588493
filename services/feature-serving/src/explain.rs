//! Explanations: one feature of one entity, from the log by the kernel's own functions.

use std::ops::ControlFlow;
use std::sync::Arc;

use millrace_catalog::{Aggregate, Catalog};
use millrace_grpc::PeerNetwork;
use millrace_kernel::explain::{ExplainedFact, Explainer, Explanation, LeftOut};
use millrace_proto::convert::{id_text, known_at_timestamp, to_timestamp};
use millrace_proto::v1;
use millrace_types::entity::entity_hash;
use millrace_types::{
    Chunk, DecodeError, Entity, EntityKey, KnownAt, Micros, Op, Position, SlotId, StreamId, Value,
};

use crate::answer::column;
use crate::confirmed::confirmed;
use crate::error::ReadError;
use crate::log_read::Scan;
use crate::read::{Moment, Reader, check_keys, find_features, find_view};

/// Facts listed where the request does not say.
pub(crate) const FACTS_DEFAULT: u32 = 100;
/// Facts listed at most, used and left out each.
pub(crate) const FACTS_MAX: u32 = 1_000;

/// What to explain.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) view: String,
    pub(crate) key: EntityKey,
    pub(crate) feature: String,
    pub(crate) moment: Moment,
    pub(crate) known_at: Option<Micros>,
    /// Facts to list, used and left out each.
    pub(crate) max: usize,
    /// Who asks.
    pub(crate) peer: PeerNetwork,
}

/// An explanation and what it was made under.
#[derive(Debug)]
pub(crate) struct Explained {
    catalog: Arc<Catalog>,
    view: usize,
    feature: usize,
    at: Micros,
    known_at: KnownAt,
    slot: SlotId,
    position: Position,
    explanation: Explanation,
}

impl Reader {
    /// Explains a value as of what is confirmed now, or as known at an instant.
    pub(crate) async fn explain(&self, question: Question) -> Result<Explained, ReadError> {
        let (plan, (view_index, feature)) = self
            .plan_with(|plan| {
                let (index, view) = find_view(&plan.catalog, &question.view)?;
                Ok((index, find_features(view, std::slice::from_ref(&question.feature))?[0]))
            })
            .await?;
        let catalog = plan.catalog.clone();
        let view = &catalog.views[view_index];
        check_keys(&catalog, view, std::slice::from_ref(&question.key))?;
        let at = self.instant(question.moment, view).await?;
        let known_at = self.known_at(question.known_at)?;
        let kind = catalog.kind(view.entity).map_or("", |k| k.name.as_str());
        let slot = self.slots.slot_of(entity_hash(kind, question.key.as_bytes()));
        let (position, confirmed_at) = match known_at {
            // No later chunk may have a smaller one, or asking again would not repeat this.
            Some(known_at) => {
                let end = self.owner.close_up_to(slot, known_at).await.map_err(ReadError::Join)?;
                (end, known_at)
            }
            None => {
                let slots = confirmed(&*self.owner, self.slots, |s| s == slot).await;
                let slots = slots.map_err(ReadError::Join)?;
                let of_slot = slots.first().map(|s| (s.position, s.known_at));
                of_slot.unwrap_or((Position::START, KnownAt::default()))
            }
        };
        let entity = Entity { kind: view.entity, key: question.key };
        let known = known_at.unwrap_or(KnownAt::MAX);
        let explainer = Explainer::new(&plan, entity, &view.name, feature, known);
        let mut scan = explainer.ok_or_else(|| ReadError::FeatureNotFound {
            view: view.name.clone(),
            feature: question.feature.clone(),
            known: "no plan for it".to_owned(),
        })?;
        self.log
            .within_budget(question.peer, self.log.scan(slot, Position::START, position, &mut scan))
            .await?;
        if let Some(early) = scan.too_early(at) {
            return Err(ReadError::TooEarly { early, row: None });
        }
        let explanation = scan
            .finish(at, question.max)
            .ok_or_else(|| ReadError::BudgetSpent { limit: "the log".to_owned() })?;
        let known_at = known.min(confirmed_at);
        Ok(Explained {
            view: view_index,
            catalog,
            feature,
            at,
            known_at,
            slot,
            position,
            explanation,
        })
    }
}

impl Scan for Explainer {
    fn chunk(
        &mut self,
        position: Position,
        chunk: &Chunk<&[u8]>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        Explainer::chunk(self, position, chunk)?;
        Ok(ControlFlow::Continue(()))
    }

    fn facts(&self) -> u64 {
        Explainer::facts(self)
    }
}

/// The message of an explanation.
pub(crate) fn response(explained: Explained) -> v1::ExplainResponse {
    let catalog = &explained.catalog;
    let feature = &catalog.views[explained.view].features[explained.feature];
    let lists_values = feature.argument.is_some();
    debug_assert!(lists_values || feature.aggregate == Aggregate::Count, "only counts have none");
    let facts = |facts: Vec<ExplainedFact>| {
        facts.into_iter().map(|fact| explained_fact(catalog, fact, lists_values)).collect()
    };
    let Explanation { outcome, used, used_total, left_out, left_out_totals } =
        explained.explanation;
    let version = catalog.version;
    v1::ExplainResponse {
        at: Some(to_timestamp(explained.at)),
        known_at: Some(known_at_timestamp(explained.known_at)),
        feature: Some(column(feature, explained.at)),
        value: Some(outcome.value.into()),
        status: v1::ValueStatus::from(outcome.status).into(),
        version: format!("{version}:{}:{}", explained.slot.0, explained.position),
        used: facts(used),
        used_total,
        left_out: facts(left_out),
        left_out_totals: left_out_totals
            .into_iter()
            .map(|(why, facts)| v1::LeftOutCount { reason: reason(why).into(), facts })
            .collect(),
    }
}

fn explained_fact(catalog: &Catalog, fact: ExplainedFact, lists_values: bool) -> v1::ExplainedFact {
    let name = |id: StreamId| catalog.stream_by_id(id).map(|s| s.name.clone()).unwrap_or_default();
    let used = fact.left_out.is_none();
    let versions = fact.versions.into_iter().map(|met| {
        let changelog = name(met.stream);
        match met.version {
            None => v1::MetVersion { changelog, ..Default::default() },
            Some(version) => v1::MetVersion {
                changelog,
                valid_from: Some(to_timestamp(version.at)),
                id: id_text(&version.id).into_owned(),
                revision: version.revision,
                is_end: version.op == Op::End,
            },
        }
    });
    v1::ExplainedFact {
        stream: name(fact.stream),
        id: id_text(&fact.body.id).into_owned(),
        at: Some(to_timestamp(fact.body.at)),
        known_at: Some(known_at_timestamp(fact.known_at)),
        revision: fact.body.revision,
        op: v1::FactOp::from(fact.body.op).into(),
        position: Some(fact.position.into()),
        reason: fact.left_out.map_or(v1::LeftOutReason::Unspecified, reason).into(),
        tile: fact.tile.map(to_timestamp),
        value: (used && lists_values && fact.value != Value::Null).then(|| fact.value.into()),
        versions: versions.collect(),
        late_for_good: fact.late_for_good,
    }
}

fn reason(why: LeftOut) -> v1::LeftOutReason {
    match why {
        LeftOut::OutsideWindow => v1::LeftOutReason::OutsideWindow,
        LeftOut::Retracted => v1::LeftOutReason::Retracted,
        LeftOut::Superseded => v1::LeftOutReason::Superseded,
        LeftOut::Retraction => v1::LeftOutReason::Retraction,
        LeftOut::NoVersion => v1::LeftOutReason::NoVersion,
        LeftOut::Filtered => v1::LeftOutReason::Filtered,
        LeftOut::Null => v1::LeftOutReason::Null,
        LeftOut::NotInForce => v1::LeftOutReason::NotInForce,
        LeftOut::Late => v1::LeftOutReason::Late,
        LeftOut::AfterKnownAt => v1::LeftOutReason::AfterKnownAt,
    }
}
