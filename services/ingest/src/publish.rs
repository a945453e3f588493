//! One `Publish` call: requests are read, encoded and handed over in order by one task, and
//! answered in order by another, so that several are in flight. Neither ends with the RPC: what
//! was handed over is settled even when the client is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use millrace_grpc::{Drain, ErrorCode, Fault, PeerNetwork, status};
use millrace_proto::v1;
use millrace_types::StreamId;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::arrow::ArrowStreams;
use crate::budget::{CallShare, Cost, Permit, Place};
use crate::error::IngestError;
use crate::flight::Flight;
use crate::ingest::{Batch, Ingest};
use crate::request::result;

/// Greatest number of pairs of producer and stream on one call.
pub(crate) const PRODUCERS_MAX: usize = 1024;
/// Greatest number of requests in flight on one call, whatever its credits.
const FLIGHTS_MAX: usize = 256;
/// Answers that may wait for the client to read them.
const ANSWERS_MAX: usize = 16;
/// How long a client may leave its answers unread, while what it sent holds memory.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// An answer and what its batch holds until the answer is on its way to the client, so that answers
/// nobody reads are bounded like the facts they are about.
pub(crate) struct Answered {
    pub(crate) response: Result<v1::PublishResponse, Status>,
    _held: Option<(InFlight, Permit)>,
}

pub(crate) type Answers = mpsc::Receiver<Answered>;

/// What the reading task passes to the answering one, in order.
enum Item {
    Flight(Box<Flight>, InFlight, Permit),
    Last(Status),
}

/// What the call has in flight.
#[derive(Default)]
pub(crate) struct Window {
    facts: AtomicU64,
    bytes: AtomicU64,
    shrunk: Notify,
}

/// How a batch is taken in.
enum Admission {
    /// There is room.
    Now(InFlight, Permit),
    /// It waits for room, and has a place meanwhile.
    Waits(Place),
}

/// A batch's part of the window; dropping it makes room.
pub(crate) struct InFlight(Arc<Window>, Cost);

impl Window {
    /// Waits until a batch fits the call's share, or nothing else is in flight.
    async fn enter(self: &Arc<Self>, cost: Cost, share: &CallShare) -> InFlight {
        loop {
            // Registered before looking, so that no wake-up in between is lost.
            let shrunk = self.shrunk.notified();
            if let Some(entered) = self.try_enter(cost, share) {
                return entered;
            }
            shrunk.await;
        }
    }

    /// Lets a batch in if it fits now. One task of a call does so, so nothing comes in between.
    fn try_enter(self: &Arc<Self>, cost: Cost, share: &CallShare) -> Option<InFlight> {
        let facts = self.facts.load(Ordering::Acquire);
        let bytes = self.bytes.load(Ordering::Acquire);
        let now = share.now();
        let fits = facts + u64::from(cost.facts) <= u64::from(now.facts)
            && bytes + u64::from(cost.bytes) <= u64::from(now.bytes);
        (fits || bytes == 0).then(|| {
            self.facts.fetch_add(u64::from(cost.facts), Ordering::AcqRel);
            self.bytes.fetch_add(u64::from(cost.bytes), Ordering::AcqRel);
            InFlight(Arc::clone(self), cost)
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self(window, cost) = self;
        window.facts.fetch_sub(u64::from(cost.facts), Ordering::AcqRel);
        window.bytes.fetch_sub(u64::from(cost.bytes), Ordering::AcqRel);
        window.shrunk.notify_one();
    }
}

/// The producers of the call and their streams, attached to the watermarks.
#[derive(Default)]
struct Producers(HashMap<(Arc<str>, Arc<str>), Option<StreamId>>);

/// Starts a call. Its answers end when the client's requests do and all are answered, or with a
/// status.
pub(crate) fn start<S>(
    ingest: Arc<Ingest>,
    drain: &Drain,
    peer: PeerNetwork,
    requests: S,
) -> Answers
where
    S: Stream<Item = Result<v1::PublishRequest, Status>> + Send + Unpin + 'static,
{
    let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
    let share = Arc::new(ingest.budget.open_call(peer));
    let (items, flights) = mpsc::channel(FLIGHTS_MAX);
    let answerer = answer(Arc::clone(&ingest), flights, answers.clone(), Arc::clone(&share));
    let answerer = drain.tasks().spawn(answerer);
    let call = Call { ingest, drain: drain.clone(), items, answers, share, window: Arc::default() };
    drain.tasks().spawn(async move {
        let ingest = Arc::clone(&call.ingest);
        let (producers, in_order) = call.read(requests).await;
        // Its facts hold the watermark until they are settled. A task that panicked settles none.
        let _ = answerer.await;
        for ((stream, producer), id) in producers.0 {
            tracing::trace!(%stream, %producer, "producer leaves");
            if let Some(id) = id {
                ingest.detach(id, &producer, in_order).await;
            }
        }
    });
    receiver
}

struct Call {
    ingest: Arc<Ingest>,
    drain: Drain,
    items: mpsc::Sender<Item>,
    answers: mpsc::Sender<Answered>,
    share: Arc<CallShare>,
    window: Arc<Window>,
}

impl Call {
    /// Reads to the end. True when the client ended its requests in order.
    async fn read<S>(self, mut requests: S) -> (Producers, bool)
    where
        S: Stream<Item = Result<v1::PublishRequest, Status>> + Send + Unpin,
    {
        let mut producers = Producers::default();
        let mut streams = ArrowStreams::default();
        let credits =
            v1::PublishResponse { credits: Some(credits(&self.share)), ..hello(&self.ingest) };
        if self.answers.send(Answered::plain(Ok(credits))).await.is_err() {
            return (producers, false);
        }
        loop {
            let request = tokio::select! {
                biased;
                () = self.drain.started() => {
                    self.end(Drain::status()).await;
                    return (producers, false);
                }
                () = self.answers.closed() => return (producers, false),
                request = requests.next() => request,
            };
            let request = match request {
                None => return (producers, true),
                // The client is gone, or sent what is no message; it is told if it still listens.
                Some(Err(status)) => {
                    self.end(unreadable(&status)).await;
                    return (producers, false);
                }
                Some(Ok(request)) => request,
            };
            if let Err(error) = self.take(request, &mut streams, &mut producers).await {
                self.ingest.instruments.failed(&error);
                self.end(status(&error)).await;
                return (producers, false);
            }
        }
    }

    /// Takes one request in: waits for room, encodes it and hands it over.
    async fn take(
        &self,
        request: v1::PublishRequest,
        streams: &mut ArrowStreams,
        producers: &mut Producers,
    ) -> Result<(), IngestError> {
        let latest_at = self.ingest.latest_at();
        let batch = Batch::read(request, streams, latest_at)?;
        let cost = batch.cost();
        let admission = self.admit(cost, &batch)?;
        producers.attach(&self.ingest, &batch).await?;
        let (in_flight, permit) = match admission {
            Admission::Now(in_flight, permit) => (in_flight, permit),
            Admission::Waits(_place) => {
                let in_flight = self.window.enter(cost, &self.share).await;
                (in_flight, self.ingest.budget.acquire(self.share.peer(), cost).await)
            }
        };
        let flight = self.ingest.prepare(batch).await?;
        let flight = self.ingest.launch(flight, false).await?;
        // Nobody takes items any more when an answer could not be given: the call is over.
        let _ = self.items.send(Item::Flight(Box::new(flight), in_flight, permit)).await;
        Ok(())
    }

    /// Takes room for a batch that is decoded, or a place among those that wait: before anything is
    /// waited for, so that all that is in memory is counted.
    fn admit(&self, cost: Cost, batch: &Batch) -> Result<Admission, IngestError> {
        if let Some(in_flight) = self.window.try_enter(cost, &self.share)
            && let Some(permit) = self.ingest.budget.try_acquire(self.share.peer(), cost)
        {
            return Ok(Admission::Now(in_flight, permit));
        }
        let Some(place) = self.ingest.budget.try_wait(cost) else {
            self.ingest.withheld(&batch.stream, &batch.producer);
            return Err(IngestError::Full);
        };
        Ok(Admission::Waits(place))
    }

    async fn end(&self, status: Status) {
        let _ = self.items.send(Item::Last(status)).await;
    }
}

impl Producers {
    async fn attach(&mut self, ingest: &Ingest, batch: &Batch) -> Result<(), IngestError> {
        let pair = (Arc::clone(&batch.stream), Arc::clone(&batch.producer));
        // A stream that is unknown now may be applied while the call goes on.
        if let Some(Some(_)) = self.0.get(&pair) {
            return Ok(());
        }
        if self.0.len() == PRODUCERS_MAX && !self.0.contains_key(&pair) {
            let rule = format!("a call carries at most {PRODUCERS_MAX} producers and streams");
            return Err(IngestError::field("producer_id", rule));
        }
        let id = ingest.attach(&batch.stream, &batch.producer).await;
        self.0.insert(pair, id);
        Ok(())
    }
}

impl Answered {
    fn plain(response: Result<v1::PublishResponse, Status>) -> Self {
        Self { response, _held: None }
    }
}

/// Answers batches in the order in which they were handed over.
async fn answer(
    ingest: Arc<Ingest>,
    mut flights: mpsc::Receiver<Item>,
    answers: mpsc::Sender<Answered>,
    share: Arc<CallShare>,
) {
    // A client that is gone does not end this: what it sent is settled all the same. One that is
    // there and does not read would hold its part of the memory for ever.
    let read = async |answer| timeout(READ_PATIENCE, answers.send(answer)).await.is_ok();
    let mut durable: HashMap<(Arc<str>, Arc<str>), u64> = HashMap::new();
    while let Some(item) = flights.recv().await {
        let (flight, held) = match item {
            Item::Flight(flight, in_flight, permit) => (flight, Some((in_flight, permit))),
            Item::Last(status) => {
                read(Answered::plain(Err(status))).await;
                return;
            }
        };
        let (batch, answer) = match ingest.land(*flight).await {
            Ok(landed) => landed,
            Err(error) => {
                ingest.instruments.failed(&error);
                read(Answered::plain(Err(status(&error)))).await;
                return;
            }
        };
        let Batch { stream, producer, sequences, .. } = batch;
        let durable = durable.entry((stream, producer)).or_default();
        *durable = sequences.next().max(*durable);
        let response = v1::PublishResponse {
            credits: Some(credits(&share)),
            result: Some(result(answer, &sequences, *durable)),
            ..hello(&ingest)
        };
        if !read(Answered { response: Ok(response), _held: held }).await {
            return;
        }
    }
}

/// What the transport says of a request it could not read, as one of our statuses.
fn unreadable(status: &Status) -> Status {
    let code = match status.code() == Code::OutOfRange {
        true => ErrorCode::MessageTooLarge,
        false => ErrorCode::MessageMalformed,
    };
    Fault::new(code, status.message()).into_status()
}

fn credits(share: &CallShare) -> v1::Credits {
    let Cost { facts, bytes } = share.now();
    v1::Credits { facts: facts.into(), bytes: bytes.into() }
}

/// What every response states.
fn hello(ingest: &Ingest) -> v1::PublishResponse {
    v1::PublishResponse { dedup_retention: ingest.dedup_retention(), ..Default::default() }
}
