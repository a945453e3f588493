//! The verdict a fact deserves when facts are taken one by one and everything is at hand.

use millrace_types::{Fact, FactBody, Judged, KnownAt, Op, Verdict};

use super::Oracle;
use crate::joined_row::JoinedRow;

impl Oracle {
    /// Inserts a fact and tells its verdict (design §3): DUPLICATE when the same fact is known;
    /// REPAIRED with the number of joined rows, over all views, that were there before and are no
    /// longer so; otherwise ACCEPTED. Conflict: a new ASSERT or END whose id and revision another
    /// ASSERT or END has. What goes LATE or waits for a rebuild depends on what is at hand and is
    /// not judged here.
    pub fn insert_judged(&mut self, known_at: KnownAt, fact: Fact) -> Judged {
        let known = self.facts.get(&fact.entity).into_iter().flatten();
        let of_id: Vec<&FactBody> = known
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
fn same(a: &FactBody, b: &FactBody) -> bool {
    if a.op == Op::Retract && b.op == Op::Retract {
        return a.revision == b.revision;
    }
    (a.revision, a.at, a.seq, a.op, &a.row) == (b.revision, b.at, b.seq, b.op, &b.row)
}
