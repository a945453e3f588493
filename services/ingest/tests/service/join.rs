//! A join service in memory: knows facts by id, answers by script.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use millrace_client::port::{
    Failed, Holds, JoinError, JoinPort, PendingVerdicts, ProcessRequest, SlotGrant, SlotVerdicts,
};
use millrace_types::fact::records;
use millrace_types::{Judged, KindId, Position, Verdict};
use tokio::sync::{oneshot, watch};

use crate::support::soon;

/// What happens to the next request with facts.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// It is not taken.
    Refuse(JoinError),
    /// It is not taken, and its slots change hands then.
    Move(JoinError),
    /// It is taken and lost.
    Lose(JoinError),
    /// So many of its slots take their part, and the others do not.
    Land(usize, JoinError),
}

type Outcome = Result<Vec<SlotVerdicts>, Failed>;

#[derive(Default)]
pub(crate) struct State {
    /// Every request taken, punctuation included.
    pub(crate) requests: Vec<ProcessRequest>,
    pub(crate) script: VecDeque<Step>,
    /// Verdicts by id and kind that differ from ACCEPTED.
    pub(crate) verdicts: BTreeMap<(String, u16), Judged>,
    /// Requests with a fact of this id are refused.
    pub(crate) refused_id: Option<&'static str>,
    /// Requests under this catalog version are lost.
    pub(crate) unknown_version: Option<u32>,
    pub(crate) paused: bool,
    pub(crate) credits: SlotGrant,
    /// Changes when slots change hands.
    pub(crate) ways: u64,
    known: HashSet<Vec<u8>>,
    waiting: Vec<(oneshot::Sender<Outcome>, Outcome)>,
}

pub(crate) struct FakeJoin {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl FakeJoin {
    pub(crate) fn new() -> Arc<Self> {
        let credits = SlotGrant { facts: 1 << 20, bytes: 1 << 30 };
        let state = Mutex::new(State { credits, ..State::default() });
        Arc::new(Self { state, changed: watch::Sender::new(()) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers nothing until [`FakeJoin::resume`].
    pub(crate) fn pause(&self) {
        self.state().paused = true;
    }

    pub(crate) fn resume(&self) {
        let waiting = {
            let mut state = self.state();
            state.paused = false;
            std::mem::take(&mut state.waiting)
        };
        for (sender, outcome) in waiting {
            let _ = sender.send(outcome);
        }
    }

    pub(crate) fn judge(&self, id: &str, kind: u16, judged: impl Into<Judged>) {
        self.state().verdicts.insert((id.to_owned(), kind), judged.into());
    }

    /// The requests with facts taken so far.
    pub(crate) fn batches(&self) -> usize {
        self.state().requests.iter().filter(|request| !request.slots.is_empty()).count()
    }

    /// Waits until this holds.
    pub(crate) async fn until(&self, holds: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        soon(async {
            while !holds(&self.state()) {
                changed.changed().await.unwrap();
            }
        })
        .await;
    }

    pub(crate) async fn until_batches(&self, n: usize) {
        self.until(|state| {
            state.requests.iter().filter(|request| !request.slots.is_empty()).count() >= n
        })
        .await;
    }
}

impl State {
    fn refusal(&self, request: &ProcessRequest) -> Option<Step> {
        let version = request.catalog_version;
        if self.unknown_version == Some(version) {
            return Some(Step::Lose(JoinError::UnknownCatalog(version)));
        }
        let id = self.refused_id?.as_bytes();
        let mut facts = request.slots.iter().flat_map(|slot| records(&slot.facts));
        let holds = facts.any(|record| record.unwrap().body.id == id);
        holds.then_some(Step::Refuse(JoinError::Overloaded { slot: request.slots[0].slot }))
    }

    fn judge(&mut self, request: &ProcessRequest) -> Vec<SlotVerdicts> {
        let mut all = Vec::new();
        for slot in &request.slots {
            let mut judged = Vec::new();
            for record in records(&slot.facts).map(Result::unwrap) {
                let id = String::from_utf8_lossy(record.body.id).into_owned();
                let KindId(kind) = record.kind;
                let identity = format!(
                    "{:?}",
                    (kind, record.key, record.stream, record.body.id, record.body.revision)
                );
                let scripted = self.verdicts.get(&(id, kind)).copied();
                judged.push(match (self.known.insert(identity.into_bytes()), scripted) {
                    (_, Some(judged)) => judged,
                    (true, None) => Verdict::Accepted.into(),
                    (false, None) => Verdict::Duplicate.into(),
                });
            }
            assert_eq!(
                (judged.len(), slot.fingerprints.len()),
                (slot.count as usize, slot.count as usize)
            );
            all.push(SlotVerdicts { slot: slot.slot, position: Position::START, judged });
        }
        all
    }
}

#[async_trait]
impl JoinPort for FakeJoin {
    fn credits(&self) -> SlotGrant {
        self.state().credits
    }

    fn begin(&self) -> u64 {
        self.state().ways
    }

    async fn moved(&self, since: u64) {
        let mut changed = self.changed.subscribe();
        while self.state().ways == since {
            changed.changed().await.unwrap();
        }
    }

    async fn process(
        &self,
        request: ProcessRequest,
        holds: &Holds,
    ) -> Result<PendingVerdicts, JoinError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            let step = match request.slots.is_empty() {
                true => None,
                false => state.script.pop_front().or_else(|| state.refusal(&request)),
            };
            let failed = |error, landed| Err(Failed { error, hold: holds.hold(), landed });
            let outcome = match step {
                Some(Step::Refuse(error)) => return Err(error),
                Some(Step::Move(error)) => {
                    state.ways += 1;
                    self.changed.send_replace(());
                    return Err(error);
                }
                Some(Step::Lose(error)) => failed(error, Vec::new()),
                Some(Step::Land(slots, error)) => {
                    let slots = request.slots[..slots].to_vec();
                    failed(error, state.judge(&ProcessRequest { slots, ..request.clone() }))
                }
                None => Ok(state.judge(&request)),
            };
            state.requests.push(request);
            match state.paused {
                true => state.waiting.push((sender, outcome)),
                false => drop(sender.send(outcome)),
            }
        }
        self.changed.send_replace(());
        Ok(receiver)
    }
}
