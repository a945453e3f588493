//! Loads of heads, shared by reads that want the same one.
//!
//! A read looks at its slot's mark first and loads heads after that, so that everything up to the mark is
//! in them. It may therefore share a load that has not begun when it asks, and none that has. Of an entity
//! one load is under way at a time; those who ask meanwhile share the next one. A read that knows since
//! when its mark is known takes a head that was loaded since then, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use millrace_client::port::StorePort;
use millrace_grpc::Deadline;
use millrace_store::{Part, StoreError};
use millrace_telemetry::Span;
use millrace_types::Entity;
use tokio::sync::watch;

use super::StoredLimits;
use super::hot::HotHeads;
use super::parts::Parts;

/// A head's bytes; `None` where the store has none.
type Loaded = Result<Option<Bytes>, StoreError>;

/// Those who wait for the same load, and the deadline of the last of them.
struct Waiting {
    sender: watch::Sender<Option<Loaded>>,
    until: Option<Deadline>,
}

/// The entities of which a load is under way, each with who waits for the next one.
type UnderWay = Mutex<HashMap<Entity, Option<Waiting>>>;

/// A head that a read asked for.
enum Head {
    /// It was loaded a moment ago.
    Hot(Option<Bytes>),
    /// A load of it is under way, or will be.
    Loading(watch::Receiver<Option<Loaded>>),
}

impl Head {
    async fn found(self) -> Loaded {
        let mut receiver = match self {
            Self::Hot(head) => return Ok(head),
            Self::Loading(receiver) => receiver,
        };
        let loaded = receiver.wait_for(Option::is_some).await.map(|loaded| loaded.clone());
        // Where the task is gone, the process goes down.
        loaded.ok().flatten().unwrap_or_else(|| {
            let reason = "the load of heads was given up".to_owned();
            Err(StoreError::Unavailable { operation: "load", reason })
        })
    }
}

/// Loads heads, one load of an entity at a time.
pub(super) struct HeadLoads {
    parts: Parts,
    under_way: Arc<UnderWay>,
    hot: Arc<HotHeads>,
}

impl HeadLoads {
    pub(super) fn new(store: Arc<dyn StorePort>, limits: StoredLimits) -> Self {
        Self::over(Parts::of(store), limits)
    }

    fn over(parts: Parts, limits: StoredLimits) -> Self {
        Self { parts, under_way: Arc::default(), hot: Arc::new(HotHeads::new(limits)) }
    }

    /// The stored heads of these entities, in order, each as of after this call began or of a load that
    /// began `since` then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn load(
        &self,
        entities: &[Entity],
        since: Option<Instant>,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let until = Deadline::current();
        let mut own = Vec::new();
        let mut heads = Vec::with_capacity(entities.len());
        {
            let mut under_way = lock(&self.under_way);
            for entity in entities {
                if let Some(head) = self.hot.get(entity, since) {
                    heads.push(Head::Hot(head));
                } else if let Some(next) = under_way.get_mut(entity) {
                    let sender = || watch::channel(None).0;
                    let next = next.get_or_insert_with(|| Waiting { sender: sender(), until });
                    next.until = Deadline::last(next.until, until);
                    heads.push(Head::Loading(next.sender.subscribe()));
                } else {
                    let (sender, receiver) = watch::channel(None);
                    under_way.insert(entity.clone(), None);
                    own.push((entity.clone(), Waiting { sender, until }));
                    heads.push(Head::Loading(receiver));
                }
            }
        }
        if !own.is_empty() {
            let span = Span::within("load heads");
            let (under_way, hot) = (self.under_way.clone(), self.hot.clone());
            let batch = Batch { entities: own, under_way, hot };
            let work = run(self.parts.clone(), batch);
            // On its own: whoever asked first may leave, and the others still wait.
            tokio::spawn(async move { span.around(work).await });
        }
        let mut found = Vec::with_capacity(heads.len());
        for head in heads {
            found.push(head.found().await?);
        }
        Ok(found)
    }
}

/// Heads that are being loaded together. However the load ends, they are under way no longer.
struct Batch {
    entities: Vec<(Entity, Waiting)>,
    under_way: Arc<UnderWay>,
    hot: Arc<HotHeads>,
}

impl Batch {
    /// Hands the heads of a load over that began then. Gives the batch of those for whom others wait by
    /// now.
    fn over(mut self, began: Instant, loaded: Result<Vec<Option<Bytes>>, StoreError>) -> Self {
        let entities = std::mem::take(&mut self.entities);
        let mut next = Vec::new();
        {
            // Before anybody is told: whoever asks from here on begins another load.
            let mut under_way = lock(&self.under_way);
            for (index, (entity, _)) in entities.iter().enumerate() {
                if let Some(head) = loaded.as_ref().ok().and_then(|heads| heads.get(index)) {
                    self.hot.put(entity, began, head);
                }
                let waiting = under_way.remove(entity).flatten();
                // Who waited may have left.
                if let Some(waiting) = waiting.filter(|w| w.sender.receiver_count() > 0) {
                    under_way.insert(entity.clone(), None);
                    next.push((entity.clone(), waiting));
                }
            }
        }
        let mut heads = loaded.map(Vec::into_iter);
        for (_, waiting) in &entities {
            let head = match &mut heads {
                Ok(heads) => Ok(heads.next().flatten()),
                Err(error) => Err(error.clone()),
            };
            waiting.sender.send_replace(Some(head));
        }
        Self { entities: next, under_way: self.under_way.clone(), hot: self.hot.clone() }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.entities.is_empty() {
            return;
        }
        let mut under_way = lock(&self.under_way);
        for (entity, _) in &self.entities {
            under_way.remove(entity);
        }
    }
}

/// Loads a batch, and those that others waited for meanwhile, until nobody waits.
async fn run(parts: Parts, mut batch: Batch) {
    while !batch.entities.is_empty() {
        let wanted = batch.entities.iter().map(|(entity, _)| (entity.clone(), Part::Head));
        let began = Instant::now();
        // No longer than anybody waits for it.
        let until = batch.entities.iter().map(|(_, waiting)| waiting.until);
        let until = until.reduce(Deadline::last).flatten();
        let loaded = Deadline::carry(until, parts.load(wanted.collect())).await;
        let heads = loaded.map(|found| found.into_iter().map(|head| head.map(|h| h.1)).collect());
        batch = batch.over(began, heads);
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<Entity, Option<Waiting>>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use millrace_types::{EntityKey, KeyPart, KindId, KnownAt};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A load that the store was asked for, to be answered, and its deadline.
    struct Asked(Vec<Entity>, oneshot::Sender<Result<Bytes, StoreError>>, Option<Deadline>);

    /// Loads that wait until they are answered, all heads of one alike.
    fn loads() -> (Arc<HeadLoads>, mpsc::Receiver<Asked>) {
        let (asks, asked) = mpsc::channel(16);
        let parts = Parts::fake(move |parts| {
            let asks = asks.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                let entities: Vec<Entity> = parts.into_iter().map(|(e, _)| e).collect();
                let count = entities.len();
                asks.send(Asked(entities, answer, Deadline::current())).await.unwrap();
                let head = answered.await.unwrap()?;
                Ok(vec![Some((KnownAt(1), head)); count])
            }
            .boxed()
        });
        let limits = StoredLimits { hot_heads_for: Duration::MAX, ..StoredLimits::default() };
        (Arc::new(HeadLoads::over(parts, limits)), asked)
    }

    fn user(user: i64) -> Entity {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        Entity { kind: KindId(0), key }
    }

    type Read = tokio::task::JoinHandle<Result<Vec<Option<Bytes>>, StoreError>>;

    /// Begins a read, and comes back once it waits.
    async fn begin(loads: &Arc<HeadLoads>, users: &[i64]) -> Read {
        let loads = loads.clone();
        let entities: Vec<Entity> = users.iter().copied().map(user).collect();
        let task = tokio::spawn(async move { loads.load(&entities, None).await });
        tokio::task::yield_now().await;
        task
    }

    async fn heads(read: Read) -> Vec<String> {
        let heads = read.await.unwrap().unwrap();
        heads.into_iter().map(|h| String::from_utf8(h.unwrap().to_vec()).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_read_shares_a_load_that_begins_after_it_and_none_that_began_before() {
        let (loads, mut asked) = loads();
        let first = begin(&loads, &[1, 2]).await;
        let began = asked.recv().await.unwrap();
        assert_eq!(began.0, [user(1), user(2)]);
        // Those who ask now must not see what it finds: their marks may be newer.
        let second = begin(&loads, &[1]).await;
        let third = begin(&loads, &[3, 1]).await;
        // What nobody loads is loaded at once.
        let other = asked.recv().await.unwrap();
        assert_eq!(other.0, [user(3)]);
        began.1.send(Ok("old".into())).unwrap();
        assert_eq!(heads(first).await, ["old", "old"]);
        let shared = asked.recv().await.unwrap();
        assert_eq!(shared.0, [user(1)], "one load for both");
        let fourth = begin(&loads, &[1]).await;
        shared.1.send(Ok("new".into())).unwrap();
        other.1.send(Ok("other".into())).unwrap();
        assert_eq!(heads(second).await, ["new"]);
        assert_eq!(heads(third).await, ["other", "new"]);
        asked.recv().await.unwrap().1.send(Ok("newest".into())).unwrap();
        assert_eq!(heads(fourth).await, ["newest"]);
        assert!(lock(&loads.under_way).is_empty());
    }

    /// A load has as much time as the last of those who share it.
    #[tokio::test(start_paused = true)]
    async fn a_load_keeps_to_the_deadlines_of_those_who_wait() {
        let (loads, mut asked) = loads();
        let limit = Duration::from_secs(30);
        let within = |seconds| {
            let mut headers = tonic::codegen::http::HeaderMap::new();
            headers.insert("grpc-timeout", format!("{seconds}S").parse().unwrap());
            Deadline::of_headers(&headers)
        };
        let begin = |deadline| {
            let loads = loads.clone();
            let load = async move { loads.load(&[user(1)], None).await };
            tokio::spawn(Deadline::carry(deadline, load))
        };
        let mut told = Vec::new();
        let first = begin(within(2));
        let one = asked.recv().await.unwrap();
        let shared = [begin(within(3)), begin(within(5))];
        tokio::task::yield_now().await;
        told.push(one.2);
        one.1.send(Ok("a".into())).unwrap();
        let two = asked.recv().await.unwrap();
        let endless = [begin(within(3)), begin(None)];
        tokio::task::yield_now().await;
        told.push(two.2);
        two.1.send(Ok("b".into())).unwrap();
        let three = asked.recv().await.unwrap();
        told.push(three.2);
        three.1.send(Ok("c".into())).unwrap();
        let left = told.iter().map(|deadline| deadline.map_or(limit, Deadline::remaining));
        let left: Vec<u64> = left.map(|left| left.as_secs_f64().ceil() as u64).collect();
        assert_eq!(left, [2, 5, 30]);
        for read in [first].into_iter().chain(shared).chain(endless) {
            read.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_read_takes_what_was_loaded_since_its_mark_was_seen() {
        let (loads, mut asked) = loads();
        let before = Instant::now();
        let first = begin(&loads, &[1]).await;
        asked.recv().await.unwrap().1.send(Ok("head".into())).unwrap();
        assert_eq!(heads(first).await, ["head"]);
        let hot = loads.load(&[user(1)], Some(before)).await.unwrap();
        assert_eq!(hot, [Some(Bytes::from("head"))]);
        assert!(asked.try_recv().is_err(), "the store is not asked");
        // One whose mark was seen later asks for the head anew; of several, for what is lacking alone.
        let later = {
            let (loads, now) = (loads.clone(), Instant::now());
            tokio::spawn(async move { loads.load(&[user(1)], Some(now)).await })
        };
        let began = asked.recv().await.unwrap();
        assert_eq!(began.0, [user(1)]);
        began.1.send(Ok("newer".into())).unwrap();
        assert_eq!(heads(later).await, ["newer"]);
        let both = {
            let loads = loads.clone();
            tokio::spawn(async move { loads.load(&[user(1), user(2)], Some(before)).await })
        };
        let began = asked.recv().await.unwrap();
        assert_eq!(began.0, [user(2)]);
        began.1.send(Ok("other".into())).unwrap();
        assert_eq!(heads(both).await, ["newer", "other"]);
        assert!(lock(&loads.under_way).is_empty());
    }

    #[tokio::test]
    async fn whoever_leaves_keeps_nobody_waiting_and_an_error_reaches_all() {
        let (loads, mut asked) = loads();
        let first = begin(&loads, &[1]).await;
        let began = asked.recv().await.unwrap();
        let (second, third) = (begin(&loads, &[1]).await, begin(&loads, &[1]).await);
        first.abort();
        second.abort();
        began.1.send(Ok("nobody".into())).unwrap();
        let failed = StoreError::Failed { reason: "disk".to_owned() };
        asked.recv().await.unwrap().1.send(Err(failed.clone())).unwrap();
        assert_eq!(third.await.unwrap(), Err(failed));
        // When all have left, nothing more is loaded, and the next read begins afresh.
        let (fourth, fifth) = (begin(&loads, &[1]).await, begin(&loads, &[1]).await);
        let began = asked.recv().await.unwrap();
        fifth.abort();
        assert!(fifth.await.unwrap_err().is_cancelled());
        began.1.send(Ok("alone".into())).unwrap();
        assert_eq!(heads(fourth).await, ["alone"]);
        assert!(asked.try_recv().is_err());
        assert!(lock(&loads.under_way).is_empty());
    }
}
