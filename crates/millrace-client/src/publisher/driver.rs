//! Runs a publisher: one call after the other until everything is answered.

use std::time::Duration;

use millrace_proto::v1;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::batch::Prepared;
use super::window::Window;
use super::{Published, PublisherOptions};
use crate::client::{ClientOptions, ingest};
use crate::endpoints::Role;
use crate::error::ClientError;
use crate::reach::Patience;

/// Requests handed to the transport and not taken by it yet.
const REQUESTS_BUFFERED: usize = 2;

type Outcome = Result<Published, ClientError>;

/// What ends a call without an error.
enum Ended {
    /// Everything is answered and nothing more comes.
    Done,
    /// Nobody takes outcomes any more.
    Abandoned,
}

struct Driver {
    role: Role,
    client: ClientOptions,
    window: Window,
    batches: mpsc::Receiver<Prepared>,
    /// False once every publisher was dropped.
    more: bool,
    outcomes: mpsc::Sender<Outcome>,
}

pub(super) async fn run(
    role: Role,
    options: PublisherOptions,
    client: ClientOptions,
    batches: mpsc::Receiver<Prepared>,
    outcomes: mpsc::Sender<Outcome>,
) {
    let window = Window::new(options.batches_max, options.bytes_max);
    let mut driver = Driver { role, client, window, batches, more: true, outcomes };
    if let Err(error) = driver.drive().await {
        // Nobody may be there to hear it; then nobody misses it.
        let _ = driver.outcomes.send(Err(error)).await;
    }
}

impl Driver {
    async fn drive(&mut self) -> Result<(), ClientError> {
        let mut patience = Patience::new(self.client.reach_within);
        loop {
            if self.window.is_empty() {
                // A call without facts has no use, so it waits for the first. What went wrong while
                // there was nothing to send is of no consequence.
                patience.renew();
                match self.batches.recv().await {
                    Some(batch) => self.window.push(batch),
                    None => return Ok(()),
                }
            }
            self.window.restart();
            match self.call(&mut patience).await {
                Ok(Ended::Done | Ended::Abandoned) => return Ok(()),
                Err(error) => patience.wait(&self.role, error).await?,
            }
        }
    }

    /// One call: sends what the credits allow, takes answers, until everything is answered.
    async fn call(&mut self, patience: &mut Patience) -> Result<Ended, ClientError> {
        let (requests, stream) = mpsc::channel(REQUESTS_BUFFERED);
        let mut answers = self.open(ReceiverStream::new(stream)).await?;
        // The transport stops taking requests when the call is over; its answers then say why.
        let mut is_open = true;
        let outcomes = self.outcomes.clone();
        let mut place = None;
        while self.more || !self.window.is_empty() {
            tokio::select! {
                // A place for the outcome first: an answer that nobody takes is not read.
                reserved = outcomes.reserve(), if place.is_none() => match reserved {
                    Ok(permit) => place = Some(permit),
                    Err(_) => return Ok(Ended::Abandoned),
                },
                answer = answers.message(), if place.is_some() => {
                    let limit = self.client.call_timeout;
                    let answer = answer.map_err(|s| ClientError::of(&s, &self.role, limit))?;
                    let reason = "the server ended the call before everything was answered";
                    let answer = answer.ok_or(ClientError::Broken { reason: reason.to_owned() })?;
                    if let Some(published) = self.take(answer)? {
                        patience.renew();
                        if let Some(permit) = place.take() {
                            permit.send(Ok(published));
                        }
                    }
                }
                slot = requests.reserve(), if is_open && self.window.may_send() => match slot {
                    Ok(slot) => if let Some(request) = self.window.send() {
                        slot.send(request);
                    },
                    Err(_) => is_open = false,
                },
                batch = self.batches.recv(), if self.more && self.window.has_room() => match batch {
                    Some(batch) => self.window.push(batch),
                    None => self.more = false,
                },
            }
        }
        // The producer is done: the server hears it by the end of the requests and ends the call.
        // Everything is answered, so however that goes is of no consequence.
        drop(requests);
        let end = async { while let Ok(Some(_)) = answers.message().await {} };
        let _ = timeout(self.client.reach_within, end).await;
        Ok(Ended::Done)
    }

    async fn open(
        &self,
        requests: ReceiverStream<v1::PublishRequest>,
    ) -> Result<Streaming<v1::PublishResponse>, ClientError> {
        let limit = self.client.call_timeout;
        let mut client = ingest(self.role.wire());
        match timeout(limit, client.publish(requests)).await {
            Ok(Ok(answers)) => Ok(answers.into_inner()),
            Ok(Err(status)) => Err(ClientError::of(&status, &self.role, limit)),
            Err(_) => Err(ClientError::DeadlineExceeded { after: limit }),
        }
    }

    /// Takes an answer: credits always, and a result if it has one.
    fn take(&mut self, answer: v1::PublishResponse) -> Result<Option<Published>, ClientError> {
        if let Some(credits) = answer.credits {
            self.window.grant(credits);
        }
        let Some(result) = answer.result else { return Ok(None) };
        let found = (result.first_sequence, result.next_sequence);
        let Some(batch) = self.window.answered() else {
            return Err(ClientError::Protocol(format!("{found:?} was answered but never sent")));
        };
        let (first, next) = batch.sequences();
        if found != (first, next) {
            let problem = format!("{found:?} was answered where [{first}, {next}) was sent");
            return Err(ClientError::Protocol(problem));
        }
        Ok(Some(Published {
            tag: batch.tag,
            producer_id: batch.producer_id().to_owned(),
            stream: batch.stream().to_owned(),
            result,
            dedup_retention: answer.dedup_retention.and_then(|d| Duration::try_from(d).ok()),
        }))
    }
}
