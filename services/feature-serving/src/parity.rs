//! Parity, checked continuously: of the answers to online reads a share is written down, with what each was
//! answered from, in a ring of samples in the store. An auditor beside the reads makes each once more from
//! the slot's log, by the same function, and compares the two bit for bit.
//!
//! What is recomputed is the log up to the *position* of the answer's token, under the catalog version of
//! it. That is exactly what was in effect then, so nothing has to be waited for, and what is imported later
//! changes nothing of it, though it may change what was known by the instant of the answer. An answer about a
//! dirty entity names the position before it became dirty.
//!
//! What differs is an alarm, and its entity is rebuilt from the log.

mod auditor;
mod heal;
pub(crate) mod sample;
mod sampler;
mod tally;

use std::sync::Arc;

use millrace_config::Share;
use millrace_store::NodeId;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use self::auditor::Auditor;
pub(crate) use self::sampler::Sampler;
use self::sampler::Writer;
pub use self::tally::{Skip, Tally};
use crate::read::Reader;

/// Samples that may wait to be written.
const CHANNEL: usize = 256;

/// What is sampled, and where it is kept.
#[derive(Debug, Clone)]
pub struct ParityConfig {
    /// Of the answers about entities so many are sampled; none: nothing is audited.
    pub share: Share,
    /// But no more in a second.
    pub samples_a_second: u32,
    /// The name under which samples are kept: the same after a restart, and no other process'. Those that
    /// share one overwrite each other's samples, and look at each other's.
    pub node: NodeId,
    /// Samples that are kept at most; the oldest are overwritten.
    pub ring: u32,
}

impl ParityConfig {
    /// The defaults, under a name.
    #[must_use]
    pub fn of(node: &str) -> Self {
        let settings = millrace_config::Settings::default();
        Self {
            share: settings.parity_sample,
            samples_a_second: 100,
            node: NodeId(node.to_owned()),
            ring: settings.parity_ring,
        }
    }
}

/// The sampling and auditing of a reader's answers, until it is dropped.
#[derive(Debug)]
pub struct Parity {
    tally: Arc<Tally>,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

impl Parity {
    /// Starts to sample what this reader answers, and to audit it, the samples that the last run of the node
    /// left first. With a share of none nothing is done. To be called once a reader.
    ///
    /// # Panics
    /// Outside a tokio runtime, where there is something to do.
    #[must_use]
    pub fn start(reader: &Arc<Reader>, config: &ParityConfig) -> Self {
        let tally = Tally::new();
        if config.share.is_none() {
            return Self { tally, tasks: Mutex::default() };
        }
        let (sender, taken) = mpsc::channel(CHANNEL);
        let wake = Arc::new(Notify::new());
        let sampler = Sampler::new(config, sender, Arc::clone(&tally));
        let writer =
            Writer::new(config, reader.log.store(), taken, Arc::clone(&wake), Arc::clone(&tally));
        let auditor = Auditor::new(
            config,
            reader,
            writer.versions(),
            writer.written(),
            wake,
            Arc::clone(&tally),
        );
        // A second call would only sample for the first one's auditor.
        let _ = reader.sampler.set(sampler);
        let tasks = [tokio::spawn(writer.run()), tokio::spawn(auditor.run())];
        let tasks = tasks.into_iter().map(AbortOnDropHandle::new).collect();
        Self { tally, tasks: Mutex::new(tasks) }
    }

    /// Stops both, and waits until they hold the store no more. What is not compared by then is compared
    /// by the next run.
    pub async fn stop(&self) {
        for task in std::mem::take(&mut *self.tasks.lock().await) {
            task.abort();
            // That it was aborted is what was asked for.
            let _ = task.await;
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }
}
