//! Publishing many batches on one call.

mod batch;
mod driver;
mod window;

use std::time::Duration;

use millrace_proto::v1;
use tokio::sync::mpsc;

pub use batch::{Batch, Payload};

use crate::client::ClientOptions;
use crate::endpoints::Role;
use crate::error::ClientError;
use batch::Prepared;

/// How much a publisher holds in memory. What the server lets it have in flight comes on top of
/// neither: credits decide what of this is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublisherOptions {
    /// Batches that are not answered yet, and answers nobody took yet, each. At least 1. Default
    /// 256.
    pub batches_max: usize,
    /// Bytes of the batches that are not answered yet; the last one of them may go past it. Default
    /// 32 MiB.
    pub bytes_max: usize,
    /// Bytes of one batch, its schema included. A server takes no more than its limit, and refuses
    /// the whole call with a larger one. Default 4 MiB, the limit of servers by default.
    pub batch_bytes_max: usize,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self { batches_max: 256, bytes_max: 32 * 1024 * 1024, batch_bytes_max: 4 * 1024 * 1024 }
    }
}

/// Sends batches, in the order in which they are given, on one call. Clones share it.
#[derive(Debug, Clone)]
pub struct Publisher {
    batches: mpsc::Sender<Prepared>,
    batch_bytes_max: usize,
}

/// What becomes of the batches, in the order in which they were sent.
#[derive(Debug)]
pub struct Outcomes {
    outcomes: mpsc::Receiver<Result<Published, ClientError>>,
}

/// A batch that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The tag of the batch.
    pub tag: u64,
    /// Its producer.
    pub producer_id: String,
    /// Its stream.
    pub stream: String,
    /// What became of its facts.
    pub result: v1::PublishResult,
    /// How long a repeated batch is recognised without looking at its facts.
    pub dedup_retention: Option<Duration>,
}

impl Publisher {
    /// Hands a batch over. Waits while as much as may be is not answered yet, so somebody must take
    /// the outcomes meanwhile.
    ///
    /// # Errors
    /// [`ClientError::InvalidBatch`] for a batch that breaks a rule of its own,
    /// [`ClientError::PublisherEnded`] when the call ended for good; the outcomes say why.
    pub async fn send(&self, batch: Batch) -> Result<(), ClientError> {
        let prepared = Prepared::try_new(batch, self.batch_bytes_max)?;
        self.batches.send(prepared).await.map_err(|_| ClientError::PublisherEnded)
    }
}

impl Outcomes {
    /// The next outcome. `None` when every publisher was dropped and every batch answered, or after
    /// an error. Dropping the outcomes ends the publisher and gives up what is not answered.
    ///
    /// # Errors
    /// [`ClientError`] is the last outcome: the batches that have none may be sent again as they
    /// were, also by another publisher.
    pub async fn next(&mut self) -> Option<Result<Published, ClientError>> {
        self.outcomes.recv().await
    }
}

pub(crate) fn start(
    role: Role,
    options: PublisherOptions,
    client: ClientOptions,
) -> (Publisher, Outcomes) {
    // One batch waits here; all others are in the driver's window, where they are counted.
    let (batches, receiver) = mpsc::channel(1);
    let (sender, outcomes) = mpsc::channel(options.batches_max.max(1));
    tokio::spawn(driver::run(role, options, client, receiver, sender));
    let publisher = Publisher { batches, batch_bytes_max: options.batch_bytes_max };
    (publisher, Outcomes { outcomes })
}
