//! From the verdicts of slots to the answer of a batch: one verdict a fact.

use millrace_client::port::SlotVerdicts;
use millrace_types::fact::records;
use millrace_types::{Judged, RejectReason, Verdict, VerdictCounts};
use thiserror::Error;

use crate::encode::{EncodedBatch, Fate};

/// Greatest size of the exceptions listed in one answer, in bytes, about; more are only counted.
const EXCEPTIONS_BYTES_MAX: usize = 1 << 20;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// How many facts had each verdict; they add up to the facts of the batch.
    pub counts: VerdictCounts,
    /// How many were REJECTED for each reason, in the order of [`RejectReason::ALL`].
    pub rejected: [u64; RejectReason::ALL.len()],
    /// REJECTED and LATE facts and conflicts, in the order of the batch.
    pub exceptions: Vec<Exception>,
    /// Exceptions that are counted but not listed, because the answer would be too large.
    pub exceptions_omitted: u64,
}

/// A fact that needs attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Its index in the batch.
    pub index: u32,
    /// Its id; empty where it could not be read.
    pub id: Box<[u8]>,
    /// Its verdict.
    pub verdict: Verdict,
    /// True when another payload of the same id and revision is known.
    pub conflict: bool,
    /// The field that is to blame; empty where none is.
    pub field: String,
    /// What is wrong, for a person.
    pub message: String,
}

/// Verdicts that do not fit the facts they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// A slot answered too little, too much, or not at all.
    #[error("slot {slot} answered {found} verdicts for {sent} facts")]
    Slot {
        /// The slot.
        slot: u32,
        /// Facts sent.
        sent: usize,
        /// Verdicts found.
        found: usize,
    },
    /// A fact has no verdict although every request was answered.
    #[error("fact {0} has no verdict")]
    Fact(u32),
}

/// The verdicts of a batch as they come in, request by request.
#[derive(Debug)]
pub struct Verdicts {
    judged: Vec<Option<Judged>>,
    /// Ids of the facts the join service made exceptions of, by index.
    ids: Vec<(u32, Box<[u8]>)>,
    /// The join service gave LATE or REJECTED.
    held_back: bool,
}

impl Verdicts {
    /// Starts from what ingest decided itself.
    #[must_use]
    pub fn new(batch: &EncodedBatch) -> Self {
        let settled = |fate: &Fate| match fate {
            Fate::Routed | Fate::Refused => None,
            Fate::Seen => Some(Verdict::Duplicate.into()),
        };
        let mut judged: Vec<_> = batch.fates.iter().map(settled).collect();
        for (index, refusal, _) in &batch.refusals {
            judged[*index as usize] = Some(Verdict::Rejected(refusal.rule.reason()).into());
        }
        Self { judged, ids: Vec::new(), held_back: false }
    }

    /// Merges what the slots of one request gave: of several verdicts of a fact the strongest.
    ///
    /// # Errors
    /// [`Mismatch`] when a slot answered too little, too much, or not at all.
    pub fn merge(
        &mut self,
        batch: &EncodedBatch,
        request: usize,
        verdicts: &[SlotVerdicts],
    ) -> Result<(), Mismatch> {
        let pieces = batch.pieces(request);
        for piece in pieces {
            let of_slot = verdicts.iter().find(|v| v.slot == piece.slot);
            let given = of_slot.map_or(&[][..], |v| v.judged.as_slice());
            let facts = batch.facts_of(piece);
            if given.len() != facts.len() {
                let (slot, sent, found) = (piece.slot.0, facts.len(), given.len());
                return Err(Mismatch::Slot { slot, sent, found });
            }
            let mut exceptions = false;
            for (&fact, judged) in facts.iter().zip(given) {
                let merged = &mut self.judged[fact as usize];
                *merged = Some(match *merged {
                    None => *judged,
                    Some(other) => Judged {
                        verdict: other.verdict.strongest(judged.verdict),
                        conflict: other.conflict | judged.conflict,
                    },
                });
                exceptions |= is_exception(*judged);
            }
            if exceptions {
                let read = records(batch.bytes_of(piece)).filter_map(Result::ok);
                for ((record, judged), &fact) in read.zip(given).zip(facts) {
                    if is_exception(*judged) {
                        self.ids.push((fact, record.body.id.into()));
                    }
                    self.held_back |=
                        matches!(judged.verdict, Verdict::Late | Verdict::Rejected(_));
                }
            }
        }
        Ok(())
    }

    /// True when the join service gave no LATE and no REJECTED, so that the batch may be marked as
    /// seen.
    #[must_use]
    pub fn may_mark(&self) -> bool {
        !self.held_back
    }

    /// The answer, once every request was merged.
    ///
    /// # Errors
    /// [`Mismatch::Fact`] when one was not.
    pub fn answer(mut self, batch: &EncodedBatch) -> Result<Answer, Mismatch> {
        let mut answer = Answer::default();
        self.ids.sort_by_key(|(fact, _)| *fact);
        let mut ids = self.ids.into_iter().peekable();
        let mut refusals = batch.refusals.iter().peekable();
        let mut listed = 0;
        for (index, judged) in (0u32..).zip(&self.judged) {
            let judged = judged.ok_or(Mismatch::Fact(index))?;
            answer.counts.add(judged.verdict);
            if let Verdict::Rejected(reason) = judged.verdict {
                // The numbers of the reasons count from 1 in the order of the set.
                answer.rejected[reason as usize - 1] += 1;
            }
            if !is_exception(judged) {
                continue;
            }
            let mut exception = Exception {
                index,
                id: Box::default(),
                verdict: judged.verdict,
                conflict: judged.conflict,
                field: String::new(),
                message: message(judged).to_owned(),
            };
            while let Some((_, id)) = ids.next_if(|(fact, _)| *fact <= index) {
                exception.id = id;
            }
            if let Some((_, refusal, id)) = refusals.next_if(|(fact, ..)| *fact == index) {
                exception.id = id.clone();
                refusal.field_name(batch.stream()).clone_into(&mut exception.field);
                exception.message = refusal.rule.to_string();
            }
            let bytes = 64 + exception.id.len() + exception.field.len() + exception.message.len();
            if listed + bytes > EXCEPTIONS_BYTES_MAX {
                answer.exceptions_omitted += 1;
                continue;
            }
            listed += bytes;
            answer.exceptions.push(exception);
        }
        Ok(answer)
    }
}

fn is_exception(judged: Judged) -> bool {
    judged.conflict || matches!(judged.verdict, Verdict::Late | Verdict::Rejected(_))
}

/// What the join service's verdict means. Its own REJECTED reason is only ever an erased entity.
fn message(judged: Judged) -> &'static str {
    match judged.verdict {
        Verdict::Rejected(RejectReason::ErasedEntity) => "the entity was erased",
        Verdict::Rejected(_) => "the join service refused it",
        Verdict::Late => {
            "its event time lies more than the stream's repair behind the watermark, and the \
             stream holds such facts: it is logged and changes no online value"
        }
        Verdict::Accepted | Verdict::Repaired { .. } | Verdict::Queued | Verdict::Duplicate => {
            "another payload of the same id and revision is known; the greater one counts: correct \
             with a greater revision"
        }
    }
}
