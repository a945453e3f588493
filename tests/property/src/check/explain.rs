//! Explanations: from exactly the facts that one lists, the oracle computes the value.

use millrace_kernel::explain::{Explainer, Explanation, LeftOut};
use millrace_test_support::generate::Read;
use millrace_test_support::order::identical_features;
use millrace_types::{Chunk, Fact, FactBody, KnownAt, Status};

use super::{Check, Failure};

impl Check<'_> {
    /// Explains one feature of a read and compares it with the oracle.
    pub(super) fn compare_explanation(&mut self, read: &Read) -> Result<(), Failure> {
        let Some(view) = self.oracle.catalog().view(&read.view) else { return Ok(()) };
        if view.features.is_empty() {
            return Ok(());
        }
        let feature = self.rng.below(view.features.len());
        let early = self.oracle.is_too_early(&read.view, &[feature], read.at);
        let Some(explanation) = self.explain(read, feature, early)? else { return Ok(()) };
        let say = |what: &str| {
            Failure(format!("{what}: {read:?} feature {feature} explained as {explanation:?}"))
        };
        let all = self.oracle.read(&read.view, &read.entity, read.at, read.known_at);
        let value = &explanation.outcome.value;
        if !identical_features(value, &all[feature].0)
            || explanation.outcome.status != all[feature].1
        {
            return Err(say("another value than the oracle's"));
        }
        let mut alone = self.empty_oracle(self.oracle.catalog());
        for used in &explanation.used {
            let (stream, body) = (used.stream, used.body.clone());
            alone.insert(KnownAt(0), Fact { stream, entity: read.entity.clone(), body });
        }
        let again = alone.read(&read.view, &read.entity, read.at, KnownAt::MAX);
        // Without the facts outside the window the entity may look as if it did not exist.
        let same_status = again[feature].1 == explanation.outcome.status
            || again[feature].1 == Status::MissingEntity;
        if !identical_features(value, &again[feature].0) || !same_status {
            return Err(say("the facts used give another value"));
        }
        for fact in explanation.used.iter().chain(&explanation.left_out) {
            let is_late = fact.left_out == Some(LeftOut::Late);
            let for_good = is_late && fact.body.at < self.oracle.boundary(fact.stream);
            if for_good != fact.late_for_good {
                return Err(say(&format!("{fact:?} is LATE for good: {for_good}")));
            }
            if for_good {
                self.sim.reach("left out: late for good");
            }
        }
        if self.bases.is_empty() {
            self.compare_left_out(read, &explanation).map_err(|what| say(&what))?;
        }
        for why in explanation.left_out_totals.keys() {
            self.sim.reach(match why {
                LeftOut::OutsideWindow => "left out: outside the window",
                LeftOut::Retracted => "left out: retracted",
                LeftOut::Superseded => "left out: superseded",
                LeftOut::Retraction => "left out: retraction",
                LeftOut::NoVersion => "left out: no version",
                LeftOut::Filtered => "left out: filtered",
                LeftOut::Null => "left out: null",
                LeftOut::NotInForce => "left out: not in force",
                LeftOut::Late => "left out: late",
                LeftOut::AfterKnownAt => "left out: after known_at",
            });
        }
        Ok(())
    }

    /// The explanation, unless the read is too early.
    fn explain(
        &self,
        read: &Read,
        feature: usize,
        early: bool,
    ) -> Result<Option<Explanation>, Failure> {
        let (plan, entity) = (&self.sim.plan, read.entity.clone());
        let explainer = Explainer::new(plan, entity, &read.view, feature, read.known_at);
        let mut explainer = explainer.ok_or_else(|| Failure("no such feature".to_owned()))?;
        for (position, bytes) in &self.sim.log {
            let chunk = Chunk::decode(bytes.as_slice()).map_err(|e| Failure(e.to_string()))?;
            explainer.chunk(*position, &chunk).map_err(|e| Failure(e.to_string()))?;
        }
        if explainer.too_early(read.at).is_some() != early {
            return Err(Failure(format!("{read:?} is explained though too early, or the reverse")));
        }
        if early {
            return Ok(None);
        }
        let explanation = explainer.finish(read.at, usize::MAX);
        explanation.map(Some).ok_or_else(|| Failure("the log covers every read".to_owned()))
    }

    /// Every fact is listed once, and known and late facts are told apart as the oracle does.
    fn compare_left_out(&self, read: &Read, explanation: &Explanation) -> Result<(), String> {
        let listed = explanation.used.iter().chain(&explanation.left_out);
        let mut seen: Vec<(millrace_types::StreamId, FactBody)> = Vec::new();
        for fact in listed {
            let key = (fact.stream, published(&fact.body));
            if seen.contains(&key) {
                return Err(format!("{key:?} is listed twice"));
            }
            let late = self
                .late
                .iter()
                .any(|l| (l.stream, published(&l.body)) == key && l.entity == read.entity);
            if late != (fact.left_out == Some(LeftOut::Late)) {
                return Err(format!("{key:?} late: {late}"));
            }
            let after = fact.known_at > read.known_at;
            if !late && after != (fact.left_out == Some(LeftOut::AfterKnownAt)) {
                return Err(format!("{key:?} after known_at: {after}"));
            }
            let (stream, entity) = (fact.stream, read.entity.clone());
            let least = self.least_known_at(&Fact { stream, entity, body: fact.body.clone() });
            if !late && least != Some(fact.known_at) {
                return Err(format!("{key:?} known at {:?}, not {least:?}", fact.known_at));
            }
            seen.push(key);
        }
        let mut streams: Vec<_> = seen.iter().map(|(stream, _)| *stream).collect();
        streams.sort_unstable();
        streams.dedup();
        for stream in streams {
            let known = self.oracle.distinct_facts(&read.entity, stream);
            let late = self.late.iter().filter(|l| l.stream == stream && l.entity == read.entity);
            let mut late: Vec<FactBody> = late.map(|l| published(&l.body)).collect();
            late.sort_unstable_by_key(|body| format!("{body:?}"));
            late.dedup();
            let found = seen.iter().filter(|(s, _)| *s == stream).count();
            if found != known + late.len() {
                return Err(format!("{found} facts of {stream:?}, not {known} and {}", late.len()));
            }
        }
        Ok(())
    }
}

/// The fact without what an import stated: what its copies have in common.
fn published(body: &FactBody) -> FactBody {
    FactBody { known_at: None, ..body.clone() }
}
