//! Group commit: one thread a database takes whatever is queued, makes one batch and one sync of
//! it, and answers everybody.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use millrace_store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::failure::{self, Failure};
use crate::keys::describe;
use crate::settings::WRITE_BUFFER_BYTES_MAX;

/// Calls that may wait for the thread.
const QUEUE_CALLS: usize = 1_024;
/// Bytes of values that may wait for the thread or be committed by it, counted in KiB.
const QUEUE_KIB: usize = 64 << 10;
/// Bytes of values after which a group takes no further call.
const GROUP_BYTES: usize = 16 << 20;
/// How long the thread waits before it looks again whether fjall caught up with flushing.
pub(crate) const STALL: Duration = Duration::from_millis(2);

type Answer = Box<dyn FnOnce(Option<StoreError>) + Send>;
type Job = Box<dyn FnOnce(&mut Group) -> Answer + Send>;

/// The writes of one commit. Reads see the writes before them in the same group.
pub(crate) struct Group {
    rows: Keyspace,
    batch: OwnedWriteBatch,
    overlay: HashMap<Bytes, Option<Bytes>>,
    bytes: usize,
    sync: bool,
}

impl Group {
    fn new(database: &Database, rows: &Keyspace) -> Self {
        Self {
            rows: rows.clone(),
            batch: database.batch(),
            overlay: HashMap::new(),
            bytes: 0,
            sync: false,
        }
    }

    /// The value of a key as the writes before leave it.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.overlay.get(key) {
            Some(value) => Ok(value.clone()),
            None => get(&self.rows, key),
        }
    }

    /// Writes a value that later calls of the group may read.
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Bytes) {
        let key = Bytes::from(key);
        self.overlay.insert(key.clone(), Some(value.clone()));
        self.insert(key, value);
    }

    /// Writes a value that no conditional write reads.
    pub(crate) fn put_blind(&mut self, key: Vec<u8>, value: Bytes) {
        self.insert(key.into(), value);
    }

    fn insert(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.batch.insert(&self.rows, key, value);
    }

    /// Deletes a key that no conditional write reads.
    pub(crate) fn remove_blind(&mut self, key: Vec<u8>) {
        self.batch.remove(&self.rows, key);
    }

    /// The group is on the disk, not only with the operating system, before it is answered.
    pub(crate) fn sync(&mut self) {
        self.sync = true;
    }

    fn commit(self) -> fjall::Result<()> {
        let mode = if self.sync { PersistMode::SyncData } else { PersistMode::Buffer };
        self.batch.durability(Some(mode)).commit()
    }
}

/// Reads a key.
pub(crate) fn get(rows: &Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    match rows.get(key) {
        Ok(value) => Ok(value.map(Bytes::from)),
        Err(error) => Err(failure::of_read(|| describe(key), &error)),
    }
}

/// The way to the writer thread of one database. Dropping it commits what is queued and ends the
/// thread.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<mpsc::Sender<(Job, OwnedSemaphorePermit)>>,
    bytes: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        name: &str,
        database: Database,
        rows: Keyspace,
        failure: Arc<Failure>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE_CALLS);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let mut commit = |group: Group| {
                wait_for_room(&database, &rows)?;
                group.commit()
            };
            run(queue, || Group::new(&database, &rows), &mut commit, &failure);
            // What was not synced yet goes to the disk; whoever needed it there had it synced.
            let _ = database.persist(PersistMode::SyncAll);
        })?;
        let bytes = Arc::new(Semaphore::new(QUEUE_KIB));
        Ok(Self { jobs: Some(jobs), bytes, thread: Some(thread) })
    }

    /// Lets `work` write, with other calls in one commit, and gives its result once that commit is
    /// known. `bytes` is about what it writes.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Group) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ended =
            || StoreError::Failed { reason: "the writer thread of the store has ended".into() };
        let kib = (bytes / 1_024 + 1).min(QUEUE_KIB) as u32; // at most QUEUE_KIB
        let permit = Arc::clone(&self.bytes).acquire_many_owned(kib).await.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |group| {
            let result = work(group);
            Box::new(move |failed: Option<StoreError>| {
                // Nobody is there to hear it when the caller gave up; the write stands.
                let _ = answer.send(match failed {
                    None => result,
                    Some(error) => Err(error),
                });
            })
        });
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send((job, permit)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was reported by the runtime already
        }
    }
}

fn run(
    mut queue: mpsc::Receiver<(Job, OwnedSemaphorePermit)>,
    group: impl Fn() -> Group,
    commit: &mut dyn FnMut(Group) -> fjall::Result<()>,
    failure: &Failure,
) {
    let mut answers: Vec<(Answer, OwnedSemaphorePermit)> = Vec::new();
    while let Some((job, permit)) = queue.blocking_recv() {
        let mut group = group();
        answers.push((job(&mut group), permit));
        while group.bytes < GROUP_BYTES && answers.len() < QUEUE_CALLS {
            let Ok((job, permit)) = queue.try_recv() else { break };
            answers.push((job(&mut group), permit));
        }
        let failed =
            failure.told().or_else(|| commit(group).err().map(|error| failure.of_write(&error)));
        for (answer, _permit) in answers.drain(..) {
            answer(failed.clone());
        }
    }
}

/// Waits while fjall is behind with flushing and compacting. fjall waits too, inside a commit, in
/// steps of 100 ms and for ever when its worker died of a full disk; here the steps are short and
/// a dead worker is an error.
fn wait_for_room(database: &Database, rows: &Keyspace) -> fjall::Result<()> {
    loop {
        let sealed = rows.sealed_memtable_count();
        let full = database.write_buffer_size() > WRITE_BUFFER_BYTES_MAX;
        if sealed <= 2 && rows.l0_table_count() <= 18 && !full {
            return Ok(());
        }
        // Full and nothing under way: a request to rotate the memtable was dropped.
        if full && sealed == 0 && !rows.rotate_memtable()? {
            return Ok(());
        }
        database.persist(PersistMode::Buffer)?; // an error once the database is poisoned
        thread::sleep(STALL);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io;

    use millrace_store::LogStore;

    use super::*;
    use crate::settings::{self, Options};
    use crate::store::FjallStore;

    /// A sync that fails once is final, although the next one would succeed: what it was to make
    /// durable may be gone from the operating system's buffers.
    #[tokio::test]
    async fn nothing_is_written_after_a_failed_sync() {
        let folder = tempfile::tempdir().unwrap();
        let database = settings::database(folder.path(), 1 << 20).unwrap();
        let rows = database.keyspace("rows", settings::log_rows).unwrap();
        let failure = Failure::new(folder.path());
        let (sender, queue) = mpsc::channel(QUEUE_CALLS);
        let table = (database.clone(), rows.clone());
        let thread = thread::spawn(move || {
            let mut commits = 0;
            let mut commit = |group: Group| {
                commits += 1;
                group.commit()?;
                if commits == 2 { Err(io::Error::from_raw_os_error(5).into()) } else { Ok(()) }
            };
            run(queue, || Group::new(&table.0, &table.1), &mut commit, &failure);
            commits
        });
        let bytes = Arc::new(Semaphore::new(QUEUE_KIB));
        let writer = Writer { jobs: Some(sender), bytes, thread: None };
        let put = async |key: &'static [u8]| {
            let work = move |group: &mut Group| {
                group.put(key.to_vec(), Bytes::from_static(b"value"));
                Ok(())
            };
            writer.run(8, work).await
        };
        assert_eq!(put(b"a").await, Ok(()));
        for key in [b"b", b"c", b"d"] {
            let Err(StoreError::Failed { reason }) = put(key).await else { panic!("{key:?}") };
            assert!(reason.contains("Input/output error"), "{reason}");
            assert!(reason.contains("everything acknowledged is kept"), "{reason}");
        }
        drop(writer);
        assert_eq!(thread.join().unwrap(), 2, "nothing was tried after the failure");
        assert_eq!(get(&rows, b"d"), Ok(None));
    }

    #[tokio::test]
    async fn a_store_that_can_write_no_more_is_not_ready_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let store = FjallStore::open(folder.path(), &Options::default()).unwrap();
        assert_eq!(store.ready().await, Ok(()));
        store.inner.failure.of_write(&io::Error::from_raw_os_error(28).into());
        let Err(StoreError::Failed { reason }) = store.ready().await else { panic!("it is ready") };
        assert!(reason.contains("No space left") && reason.contains("start again"), "{reason}");
    }
}
