//! The verdict a fact deserves when facts are taken one by one and everything is at hand.

use millrace_catalog::BeyondRepair;
use millrace_types::{Fact, FactBody, Judged, KnownAt, Op, Verdict};

use super::{Oracle, StatedWatermarks};
use crate::joined_row::JoinedRow;

impl Oracle {
    /// True when the fact is LATE (design §3): its stream says `beyond_repair: hold`, and it lies more
    /// than the stream's `repair` behind the slot's watermark as of the chunk before. Not a RETRACT,
    /// whose `at` never matters, and not a repeat of a fact in effect, which is DUPLICATE.
    #[must_use]
    pub fn is_late(&self, fact: &Fact, watermarks: &StatedWatermarks) -> bool {
        let stream = super::stream(&self.catalog, fact.stream);
        let held = stream.beyond_repair == BeyondRepair::Hold && fact.body.op != Op::Retract;
        let behind = watermarks
            .of(fact.stream)
            .map(|watermark| i128::from(watermark.0) - i128::from(fact.body.at.0));
        held && behind.is_some_and(|us| us > i128::from(stream.repair_us)) && !self.has(fact)
    }

    /// True when this very fact is known.
    fn has(&self, fact: &Fact) -> bool {
        let known = self.counted(&fact.entity, KnownAt::MAX);
        known.iter().any(|k| {
            k.stream == fact.stream && k.body.id == fact.body.id && same(&k.body, &fact.body)
        })
    }

    /// Inserts a fact and tells its verdict (design §3): DUPLICATE when the same fact is known;
    /// REPAIRED with the number of joined rows, over all views, that were there before and are no
    /// longer so; otherwise ACCEPTED. Conflict: a new ASSERT or END whose id and revision another
    /// ASSERT or END has. What waits for a rebuild depends on what is at hand and is not judged here,
    /// and what goes LATE is judged by [`Oracle::is_late`].
    pub fn insert_judged(&mut self, known_at: KnownAt, fact: Fact) -> Judged {
        let known = self.counted(&fact.entity, KnownAt::MAX);
        let of_id: Vec<&FactBody> = known
            .iter()
            .filter(|k| k.stream == fact.stream && k.body.id == fact.body.id)
            .map(|k| &k.body)
            .collect();
        if of_id.iter().any(|body| same(body, &fact.body)) {
            self.insert(known_at, fact);
            return Verdict::Duplicate.into();
        }
        let conflict = fact.body.op != Op::Retract
            && of_id.iter().any(|b| b.op != Op::Retract && b.revision == fact.body.revision);
        let views: Vec<String> = self
            .catalog
            .views_of(fact.entity.kind)
            .filter(|view| view.streams().any(|stream| stream == fact.stream))
            .map(|view| view.name.clone())
            .collect();
        let entity = fact.entity.clone();
        let rows = |oracle: &Self| -> Vec<Vec<JoinedRow>> {
            views.iter().map(|v| oracle.joined_rows(v, &entity, KnownAt::MAX)).collect()
        };
        let before = rows(self);
        self.insert(known_at, fact);
        let after = rows(self);
        let gone = |(before, after): (&Vec<JoinedRow>, &Vec<JoinedRow>)| {
            before.iter().filter(|row| !after.contains(row)).count() as u64
        };
        let verdict = match before.iter().zip(&after).map(gone).sum() {
            0 => Verdict::Accepted,
            rows => Verdict::Repaired { rows },
        };
        Judged { verdict, conflict }
    }
}

/// True when two facts of one id say the same. Of RETRACTs only the revision matters.
pub(super) fn same(a: &FactBody, b: &FactBody) -> bool {
    if a.op == Op::Retract && b.op == Op::Retract {
        return a.revision == b.revision;
    }
    (a.revision, a.at, a.seq, a.op, &a.row) == (b.revision, b.at, b.seq, b.op, &b.row)
}
