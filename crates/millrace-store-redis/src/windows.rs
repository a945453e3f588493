//! The port of producer windows on Redis.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{StreamExt, stream};
use millrace_store::window::WINDOW_NUMBERS;
use millrace_store::{ProducerWindows, Seen, StoreError};
use millrace_telemetry::{Span, TraceContext};
use redis::{RedisError, Script};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::cache::{Cache, Known};
use crate::config::{RedisConfig, RedisConfigError};
use crate::link::{Link, Up, explain};
use crate::metrics::Instruments;
use crate::pending::{Pending, Waiting};
use crate::script::{FIELDS, Fields, LAYOUT, NUMBERS_END, SOURCE, merge};

/// Producers whose marks are on their way at once, on the one connection.
const IN_FLIGHT: usize = 64;
/// The least and the greatest pause after marks that Redis did not take while it was there.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Producer windows in Redis. Cheap calls: a batch that goes on in order asks nothing, and its mark is
/// written behind the caller's back.
pub struct RedisWindows {
    shared: Arc<Shared>,
    _writer: AbortOnDropHandle<()>,
}

struct Shared {
    config: RedisConfig,
    /// The store whose log the windows are about.
    store: String,
    script: Script,
    link: Link,
    metrics: Instruments,
    cache: Mutex<Cache>,
    pending: Mutex<Pending>,
    /// Marks that wait or are on their way.
    unwritten: watch::Sender<usize>,
    added: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every step on what is locked is complete or not begun, also where a thread panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RedisWindows {
    /// The windows over the log of a store, by its identity
    /// ([`millrace_store::CatalogStore::identity`]): those over another log are not looked at.
    ///
    /// Begins to connect and comes back once that went well or not: Redis may come later. Must be
    /// called in a tokio runtime.
    ///
    /// # Errors
    /// [`RedisConfigError`] when it could never work.
    pub async fn start(
        config: RedisConfig,
        store: impl Into<String>,
    ) -> Result<Self, RedisConfigError> {
        let store = store.into();
        RedisConfig::check_store(&store)?;
        let client = config.client()?;
        let link = Link::start(client, config.patience);
        link.tried().await;
        let shared = Arc::new(Shared {
            config,
            store,
            script: Script::new(SOURCE),
            link,
            metrics: Instruments::new(),
            cache: Mutex::default(),
            pending: Mutex::default(),
            unwritten: watch::Sender::new(0),
            added: Notify::new(),
        });
        let writer = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).write_marks()));
        Ok(Self { shared, _writer: writer })
    }

    /// How long a window stays after its last mark.
    #[must_use]
    pub fn expiry(&self) -> Duration {
        self.shared.config.expiry
    }

    /// Waits until Redis has every mark that was made so far, or has forgotten it. As long as Redis
    /// is gone this does not end: callers bound it.
    pub async fn written(&self) {
        let mut unwritten = self.shared.unwritten.subscribe();
        // The sender lives in `self`, so the wait ends by being fulfilled.
        let _ = unwritten.wait_for(|count| *count == 0).await;
    }
}

impl Shared {
    /// Writes marks for ever.
    async fn write_marks(self: Arc<Self>) {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(PAUSES.0)
            .with_max_delay(PAUSES.1)
            .with_jitter()
            .without_max_times();
        let mut pauses = backoff.build();
        loop {
            let taken = lock(&self.pending).take();
            if taken.is_empty() {
                self.added.notified().await;
                continue;
            }
            self.link.up().await;
            let left = match self.link.now() {
                Ok(up) => self.write(&up, taken).await,
                Err(_) => taken, // gone again
            };
            let failed = !left.is_empty();
            self.put_back(left);
            if failed {
                // Back-off: Redis refuses writes while it has no memory, say.
                sleep(pauses.next().unwrap_or(PAUSES.1)).await;
            } else {
                pauses = backoff.build();
            }
        }
    }

    /// Writes marks, producers side by side and the runs of each in order, and gives back what is
    /// left where one failed. A mark that was written although its answer is lost is written again.
    async fn write(&self, up: &Up, taken: Vec<Waiting>) -> Vec<Waiting> {
        let total = |all: &[Waiting]| all.iter().map(|waiting| waiting.runs.len()).sum::<usize>();
        let before = total(&taken);
        let left: Vec<Waiting> = stream::iter(taken)
            .map(|waiting| async move {
                let traces = || waiting.traces.clone();
                let span = Span::shared_database("redis", "mark", "window", traces);
                for (written, run) in waiting.runs.iter().enumerate() {
                    if let Err(error) = self.write_one(up, &waiting.producer, run).await {
                        span.fail("not_written");
                        self.link.failed(up.generation, &error);
                        tracing::debug!(reason = explain(&error), "mark is not written");
                        let runs = waiting.runs[written..].to_vec();
                        return Some(Waiting { runs, ..waiting });
                    }
                }
                None
            })
            .buffer_unordered(IN_FLIGHT)
            .filter_map(async |left| left)
            .collect()
            .await;
        let written = before - total(&left);
        self.unwritten.send_modify(|count| *count -= written);
        left
    }

    async fn write_one(&self, up: &Up, producer: &str, run: &Range<u64>) -> Result<(), RedisError> {
        let expiry = u64::try_from(self.config.expiry.as_millis()).unwrap_or(NUMBERS_END);
        let mut call = self.script.key(self.config.key(&self.store, producer));
        call.arg(LAYOUT).arg(run.start).arg(run.end).arg(WINDOW_NUMBERS);
        call.arg(expiry.min(NUMBERS_END));
        self.metrics.marks();
        // Loads the script where Redis does not have it (any more).
        let (status, ..): (u8, Option<u64>, Option<u64>) =
            call.invoke_async(&mut up.connection.clone()).await?;
        if status != 0 {
            tracing::debug!(producer, "window has a newer layout, and is left alone");
        }
        Ok(())
    }

    /// Puts marks back that were not written. Those that find no room any more are forgotten.
    fn put_back(&self, left: Vec<Waiting>) {
        let mut gone = 0;
        for Waiting { producer, runs, traces } in left {
            let mut traces = traces.into_iter();
            for run in runs {
                gone += self.add(&producer, run, traces.next().unwrap_or_default()).1;
            }
        }
        self.unwritten.send_modify(|count| *count -= gone);
    }

    /// Adds a mark to those that wait. True when it was taken in; and how many runs there are
    /// fewer than if it stood alone.
    fn add(&self, producer: &str, run: Range<u64>, trace: TraceContext) -> (bool, usize) {
        let mut pending = lock(&self.pending);
        let before = pending.len();
        let taken = pending.add(producer, run, trace);
        (taken, 1 - (pending.len() - before))
    }

    async fn read(&self, producer: &str) -> Result<Fields, Arc<str>> {
        let up = self.link.now()?;
        let mut command = redis::cmd("HMGET");
        command.arg(self.config.key(&self.store, producer)).arg(&FIELDS);
        self.metrics.reads();
        let span = Span::database("redis", "read", "window");
        let read = command.query_async(&mut up.connection.clone()).await;
        read.map_err(|error| {
            span.fail("not_read");
            self.link.failed(up.generation, &error);
            explain(&error).into()
        })
    }
}

#[async_trait]
impl ProducerWindows for RedisWindows {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        if first >= next {
            return Ok(Vec::new());
        }
        let Shared { cache, .. } = &*self.shared;
        if let Known::All(seen) = lock(cache).known(producer, first, next) {
            return Ok(seen);
        }
        match self.shared.read(producer).await {
            Ok(fields) => {
                let mut cache = lock(cache);
                let window = cache.change(producer, |window| merge(&fields, window));
                Ok(window.seen_range(first, next))
            }
            // What this process marked itself is true without Redis.
            Err(reason) => lock(cache).alone(producer, first, next).ok_or_else(|| {
                StoreError::Unavailable { operation: "read window", reason: reason.to_string() }
            }),
        }
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        let next = next.min(NUMBERS_END);
        if first >= next {
            return Ok(());
        }
        let shared = &*self.shared;
        lock(&shared.cache).change(producer, |window| window.mark(first, next));
        // Counted first: the writer must not find more written than there is.
        shared.unwritten.send_modify(|count| *count += 1);
        let (taken, fewer) = shared.add(producer, first..next, TraceContext::current());
        shared.unwritten.send_modify(|count| *count -= fewer);
        shared.added.notify_one();
        if taken {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            operation: "mark window",
            reason: "Redis takes no marks, and too many wait already".to_owned(),
        })
    }
}
