//! Loads of marks and parts. What several ask for at the same moment goes out in one call: a read of many
//! entities asks for as many marks as these have slots, each for itself.
//!
//! A call goes out after all of them have asked, so that each sees everything from before it asked. While some
//! calls are under way others wait a moment for more to ask, of whom many want the same marks: the more reads
//! there are, the less each one costs. Names of different traces are loaded apart: each trace shows its own.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_grpc::{Deadline, carry_trace};
use millrace_proto::v1;
use millrace_proto::v1::store_service_client::StoreServiceClient;
use millrace_store::{Part, StoreError};
use millrace_telemetry::TraceContext;
use millrace_types::{Entity, KnownAt, SlotId};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Request, Status};

use super::store::failed;
use crate::endpoints::Role;
use crate::hedge::Hedge;
use crate::security::Wire;
use crate::wire;

/// Who may wait until its call is made.
const ASKS_MAX: usize = 1024;
/// Names that go out in one call beside others'; who asks for more has a call to itself, which nobody waits for.
const NAMES_MAX: usize = 64;
/// Calls under way before others wait for more to ask.
const CALLS_AT_ONCE: usize = 2;
/// How long they wait for that at most: a call that hangs keeps nobody waiting.
const LINGER: Duration = Duration::from_millis(5);

/// What was found of one name.
pub(super) type Loaded = Option<(KnownAt, Bytes)>;
type Result<T> = std::result::Result<T, StoreError>;
type Finder = oneshot::Sender<Result<Vec<Loaded>>>;

/// What is asked for at once.
#[derive(Debug, Clone)]
pub(super) enum Names {
    Marks(Vec<SlotId>),
    Parts(Vec<(Entity, Part)>),
}

impl Names {
    fn len(&self) -> usize {
        match self {
            Self::Marks(slots) => slots.len(),
            Self::Parts(parts) => parts.len(),
        }
    }

    /// Takes others of the same kind in and tells where each is; gives back what is of another kind, or too many.
    fn gather(&mut self, other: Self) -> std::result::Result<Vec<usize>, Self> {
        let count = self.len();
        if count + other.len() > NAMES_MAX {
            return Err(other);
        }
        match (self, other) {
            (Self::Marks(slots), Self::Marks(more)) => {
                let place = |slot| match slots.iter().position(|known| *known == slot) {
                    Some(place) => place,
                    None => {
                        slots.push(slot);
                        slots.len() - 1
                    }
                };
                Ok(more.into_iter().map(place).collect())
            }
            (Self::Parts(parts), Self::Parts(more)) => {
                parts.extend(more);
                Ok((count..parts.len()).collect())
            }
            (_, other) => Err(other),
        }
    }

    fn request(&self) -> v1::LoadRequest {
        let mut request = v1::LoadRequest::default();
        match self {
            Self::Marks(slots) => request.mark_slots = slots.iter().map(|slot| slot.0).collect(),
            Self::Parts(parts) => {
                let name = |(entity, part): &(Entity, Part)| wire::store::part_name(entity, *part);
                request.parts = parts.iter().map(name).collect();
            }
        }
        request
    }
}

/// Calls that load.
#[derive(Debug, Clone)]
struct Calls {
    client: StoreServiceClient<Wire>,
    role: Role,
    hedge: Option<Arc<Hedge>>,
}

impl Calls {
    /// One attempt, or two of which the first answer counts.
    async fn load(&self, names: &Names, within: Duration) -> Result<Vec<Loaded>> {
        match &self.hedge {
            None => self.once(names, within).await,
            Some(hedge) => hedge.race(|| self.once(names, within)).await,
        }
    }

    async fn once(&self, names: &Names, within: Duration) -> Result<Vec<Loaded>> {
        self.role.trusted().map_err(|reason| StoreError::NotTrusted { reason })?;
        let mut request = Request::new(names.request());
        request.set_timeout(within);
        carry_trace(&mut request);
        let broken = |status: Status| failed(&self.role, "load", &status);
        let mut answers = self.client.clone().load(request).await.map_err(broken)?.into_inner();
        let mut found = Vec::with_capacity(names.len());
        while let Some(answer) = answers.message().await.map_err(broken)? {
            wire::store::result(answer.fault)?;
            let values = match names {
                Names::Marks(_) => answer.marks,
                Names::Parts(_) => answer.parts,
            };
            found.extend(values.into_iter().map(wire::store::read_loaded));
        }
        if found.len() != names.len() {
            let reason = "the answer ended early".to_owned();
            return Err(StoreError::Unknown { operation: "load", reason });
        }
        Ok(found)
    }
}

/// Somebody who waits for names.
struct Ask {
    names: Names,
    trace: TraceContext,
    within: Duration,
    /// Dropped unused where the asker has to ask alone.
    found: Finder,
}

/// Loads what is asked for, together with what others ask for at the same moment.
#[derive(Debug)]
pub(super) struct Loads {
    calls: Calls,
    asks: mpsc::Sender<Ask>,
}

impl Loads {
    /// Must be called within a tokio runtime.
    pub(super) fn spawn(
        client: StoreServiceClient<Wire>,
        role: Role,
        hedge: Option<Arc<Hedge>>,
    ) -> Self {
        let calls = Calls { client, role, hedge };
        let (asks, receiver) = mpsc::channel(ASKS_MAX);
        tokio::spawn(gather(calls.clone(), receiver));
        Self { calls, asks }
    }

    /// One attempt to load these, in their order; no longer than `limit` and the call on whose behalf it is.
    ///
    /// # Errors
    /// [`StoreError`]; `Unknown` may pass by itself.
    pub(super) async fn load(&self, names: Names, limit: Duration) -> Result<Vec<Loaded>> {
        let within = Deadline::within(limit);
        if names.len() < NAMES_MAX {
            let (found, finds) = oneshot::channel();
            let trace = TraceContext::current();
            let ask = Ask { names: names.clone(), trace, within, found };
            if self.asks.send(ask).await.is_ok()
                && let Ok(loaded) = finds.await
            {
                return loaded;
            }
        }
        // Rarely: its state is many times that of who waits above.
        Box::pin(self.calls.load(&names, within)).await
    }
}

/// What goes out in one call, and for whom.
struct Batch {
    names: Names,
    /// Who waits, and which names each asked for.
    askers: Vec<(Vec<usize>, Finder)>,
    traceparent: String,
    trace: TraceContext,
    within: Duration,
}

impl Batch {
    fn of(ask: Ask, traceparent: String) -> Self {
        let Ask { names, trace, within, found } = ask;
        let askers = vec![((0..names.len()).collect(), found)];
        Self { names, askers, traceparent, trace, within }
    }

    /// Takes one more in; gives it back where it is of another kind or trace, or too much.
    fn add(&mut self, ask: Ask, traceparent: &str) -> Option<Ask> {
        if self.traceparent != traceparent {
            return Some(ask);
        }
        match self.names.gather(ask.names) {
            Ok(places) => {
                self.askers.push((places, ask.found));
                self.within = self.within.max(ask.within);
                None
            }
            Err(names) => Some(Ask { names, ..ask }),
        }
    }

    async fn load(mut self, calls: Calls) {
        let askers = take(&mut self.askers);
        let scope = self.trace.scope();
        match scope.around(calls.load(&self.names, self.within)).await {
            Ok(found) => {
                for (places, asker) in askers {
                    let found = places.into_iter().filter_map(|place| found.get(place).cloned());
                    // Who left needs none.
                    let _ = asker.send(Ok(found.collect()));
                }
            }
            // What passes by itself is the same for all. Of what does not nobody knows whose it is.
            Err(error) => {
                let is_all = matches!(error, StoreError::Unknown { .. }) || askers.len() == 1;
                for (_, asker) in askers.into_iter().filter(|_| is_all) {
                    let _ = asker.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Makes calls of what is asked for, until nobody can ask any more.
async fn gather(calls: Calls, mut asks: mpsc::Receiver<Ask>) {
    let turns = Arc::new(Semaphore::new(CALLS_AT_ONCE));
    let mut asked = Vec::with_capacity(NAMES_MAX);
    while asks.recv_many(&mut asked, ASKS_MAX).await > 0 {
        let turn = match Arc::clone(&turns).try_acquire_owned() {
            Ok(turn) => Some(turn),
            Err(_) => {
                timeout(LINGER, Arc::clone(&turns).acquire_owned()).await.ok().and_then(|t| t.ok())
            }
        };
        while asked.len() < 2 * ASKS_MAX
            && let Ok(ask) = asks.try_recv()
        {
            asked.push(ask);
        }
        let turn = Arc::new(turn);
        for batch in batches(asked.drain(..)) {
            let (calls, turn) = (calls.clone(), Arc::clone(&turn));
            tokio::spawn(async move {
                batch.load(calls).await;
                drop(turn);
            });
        }
    }
}

fn batches(asks: impl Iterator<Item = Ask>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for ask in asks {
        // Who left needs none.
        if ask.found.is_closed() {
            continue;
        }
        let traceparent = ask.trace.write().0;
        let mut left = Some(ask);
        for batch in batches.iter_mut().rev() {
            left = left.and_then(|ask| batch.add(ask, &traceparent));
        }
        if let Some(ask) = left {
            batches.push(Batch::of(ask, traceparent));
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use millrace_types::{EntityKey, KeyPart, KindId};

    use super::*;

    type Found = oneshot::Receiver<Result<Vec<Loaded>>>;

    fn ask(names: Names, traceparent: &str) -> (Ask, Found) {
        let (found, finds) = oneshot::channel();
        let trace = TraceContext::parse(traceparent, "");
        (Ask { names, trace, within: Duration::from_secs(1), found }, finds)
    }

    fn marks(slots: impl IntoIterator<Item = u32>) -> Names {
        Names::Marks(slots.into_iter().map(SlotId).collect())
    }

    fn head(user: i64) -> (Entity, Part) {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        (Entity { kind: KindId(0), key }, Part::Head)
    }

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_asked_for_at_once_is_one_call_of_each_kind_and_trace() {
        let heads = Names::Parts(vec![head(1), head(2)]);
        let asked = [
            (marks([3]), ""),
            (heads.clone(), ""),
            (marks([5, 3]), ""),
            (marks([3]), TRACE),
            (heads, ""),
        ];
        let (asks, _finds): (Vec<_>, Vec<_>) =
            asked.into_iter().map(|(names, trace)| ask(names, trace)).unzip();
        let batches = batches(asks.into_iter());
        let places = |batch: &Batch| {
            batch.askers.iter().map(|(places, _)| places.clone()).collect::<Vec<_>>()
        };
        let [untraced, parts, traced] = &batches[..] else { panic!("{} calls", batches.len()) };
        // One mark that two want is loaded once.
        assert_eq!(untraced.names.request().mark_slots, [3, 5]);
        assert_eq!(places(untraced), [vec![0], vec![1, 0]]);
        assert_eq!(parts.names.request().parts.len(), 4);
        assert_eq!(places(parts), [vec![0, 1], vec![2, 3]]);
        assert_eq!(traced.names.request().mark_slots, [3]);
        assert!(traced.trace.is_some() && !untraced.trace.is_some());
    }

    #[test]
    fn a_call_has_a_bound_and_nothing_of_those_who_left() {
        let (first, _waits) = ask(marks(0..40), "");
        let (second, _waits_too) = ask(marks(40..80), "");
        let (third, left) = ask(marks([99]), "");
        drop(left);
        let batches = batches([first, second, third].into_iter());
        let calls = batches.iter().map(|batch| batch.names.len()).collect::<Vec<_>>();
        assert_eq!(calls, [40, 40]);
    }
}
