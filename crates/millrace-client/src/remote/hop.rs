//! A long-lived call on which many requests are under way: answers come in any order, by tag. What is
//! under way keeps to the credits that the other side states.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use millrace_proto::v1;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::endpoints::Role;
use crate::error::innermost;
use crate::pauses::pauses;
use crate::wire::credits::{Load, Loaded};

/// Requests that wait to be sent; their senders wait beyond it.
const QUEUED: usize = 64;
/// Messages handed to the transport and not taken by it yet.
const BUFFERED: usize = 4;
/// A call that does not stand after this long is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// Pauses between attempts to open the call.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Broken {
    /// The call broke, or did not come about: whether the request was worked on is not known.
    #[error("the call broke: {0}")]
    Call(String),
    /// The other side is not trusted, or does not trust this one: the call did not come about.
    #[error("{0}")]
    NotTrusted(String),
}

impl Broken {
    fn of(role: &Role, status: &Status) -> Self {
        match role.distrust(status) {
            Some(reason) => Self::NotTrusted(reason),
            None => Self::Call(innermost(status)),
        }
    }
}

/// A request that carries a tag.
pub(crate) trait Asking: Loaded + Send + 'static {
    fn tag_mut(&mut self) -> &mut u64;
}

/// An answer that repeats the tag, and states credits.
pub(crate) trait Answering: Send + 'static {
    fn tag(&self) -> u64;
    fn credits(&self) -> Option<v1::Credits>;
}

macro_rules! hop {
    ($($request:ty => $answer:ty),* $(,)?) => {$(
        impl Asking for $request {
            fn tag_mut(&mut self) -> &mut u64 {
                &mut self.tag
            }
        }

        impl Answering for $answer {
            fn tag(&self) -> u64 {
                self.tag
            }

            fn credits(&self) -> Option<v1::Credits> {
                self.credits
            }
        }
    )*};
}

hop! {
    v1::AppendRequest => v1::AppendResponse,
    v1::PutRequest => v1::PutResponse,
    v1::ProcessRequest => v1::ProcessResponse,
}

type Opening<A> = Pin<Box<dyn Future<Output = Result<Streaming<A>, Status>> + Send>>;
type Answer<A> = oneshot::Sender<Result<A, Broken>>;

struct Job<Q, A> {
    request: Q,
    answer: Answer<A>,
}

/// The sending end. The call is opened for the first request, and again after it broke; it ends
/// once this is dropped and everything is answered.
#[derive(Debug)]
pub(crate) struct Hop<Q, A> {
    jobs: mpsc::Sender<Job<Q, A>>,
    credits: watch::Receiver<Load>,
}

impl<Q: Asking, A: Answering> Hop<Q, A> {
    /// A hop to a service, whose call `open` opens. Must be made within a tokio runtime.
    pub(crate) fn spawn(
        name: &'static str,
        role: Role,
        open: impl Fn(ReceiverStream<Q>) -> Opening<A> + Send + 'static,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUED);
        let (stated, credits) = watch::channel(Load::default());
        let line = Line {
            name,
            role,
            queue,
            pending: HashMap::new(),
            next_tag: 1,
            under_way: Load::default(),
            stated,
        };
        tokio::spawn(line.run(open));
        Self { jobs, credits }
    }

    /// What the other side stated last; nothing before it did.
    pub(crate) fn credits(&self) -> Load {
        *self.credits.borrow()
    }

    /// Queues a request, behind those queued before; resolves once it has its place. When the call
    /// breaks, every request queued or sent before fails, and none of them is sent.
    pub(crate) async fn send(&self, request: Q) -> oneshot::Receiver<Result<A, Broken>> {
        let (answer, answered) = oneshot::channel();
        // The line ends only with this handle; should it have died, the receiver says so.
        let _ = self.jobs.send(Job { request, answer }).await;
        answered
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn ask(&self, request: Q) -> Result<A, Broken> {
        let answered = self.send(request).await;
        answered.await.unwrap_or_else(|_| Err(Broken::Call("the hop ended".to_owned())))
    }
}

/// The end that owns the call.
struct Line<Q, A> {
    name: &'static str,
    role: Role,
    queue: mpsc::Receiver<Job<Q, A>>,
    /// What was taken from the queue, with what it takes of the credits.
    pending: HashMap<u64, (Answer<A>, Load)>,
    next_tag: u64,
    /// What was sent and is not answered.
    under_way: Load,
    stated: watch::Sender<Load>,
}

impl<Q: Asking, A: Answering> Line<Q, A> {
    async fn run(mut self, open: impl Fn(ReceiverStream<Q>) -> Opening<A>) {
        let pauses = || pauses(PAUSES.0, PAUSES.1);
        let mut waits = pauses();
        while let Some(first) = self.queue.recv().await {
            let (out, requests) = mpsc::channel(BUFFERED);
            let opened = timeout(OPEN_WITHIN, open(ReceiverStream::new(requests))).await;
            let broken = match opened {
                Ok(Ok(answers)) => {
                    waits = pauses();
                    match self.serve(first, out, answers).await {
                        Some(broken) => broken,
                        None => return,
                    }
                }
                Ok(Err(status)) => {
                    let broken = Broken::of(&self.role, &status);
                    let _ = first.answer.send(Err(broken.clone()));
                    broken
                }
                Err(_) => {
                    let broken = Broken::Call(format!("no answer within {OPEN_WITHIN:?}"));
                    let _ = first.answer.send(Err(broken.clone()));
                    broken
                }
            };
            tracing::debug!(hop = self.name, %broken, "call broke");
            self.fail(&broken);
            sleep(waits.next().unwrap_or(PAUSES.1)).await;
        }
    }

    /// Sends and answers until the call breaks; `None` when the hop is over.
    async fn serve(
        &mut self,
        first: Job<Q, A>,
        out: mpsc::Sender<Q>,
        mut answers: Streaming<A>,
    ) -> Option<Broken> {
        let mut waiting = Some(self.take(first));
        let mut open = true;
        loop {
            if !open && waiting.is_none() && self.pending.is_empty() {
                return None;
            }
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answered(answer),
                    Ok(None) => return Some(Broken::Call("the other side ended it".to_owned())),
                    Err(status) => return Some(Broken::of(&self.role, &status)),
                },
                permit = out.reserve(), if waiting.as_ref().is_some_and(|(_, l)| self.may_send(*l)) => {
                    match (permit, waiting.take()) {
                        (Ok(permit), Some((request, load))) => {
                            self.under_way.add(load);
                            permit.send(request);
                        }
                        (Ok(_), None) => {}
                        (Err(_), _) => return Some(Broken::Call("the transport ended it".to_owned())),
                    }
                }
                job = self.queue.recv(), if open && waiting.is_none() => match job {
                    Some(job) => waiting = Some(self.take(job)),
                    None => open = false,
                },
            }
        }
    }

    fn take(&mut self, job: Job<Q, A>) -> (Q, Load) {
        let Job { mut request, answer } = job;
        let load = request.load();
        *request.tag_mut() = self.next_tag;
        self.pending.insert(self.next_tag, (answer, load));
        self.next_tag += 1;
        (request, load)
    }

    fn may_send(&self, load: Load) -> bool {
        self.under_way.admits(load, *self.stated.borrow())
    }

    fn answered(&mut self, answer: A) {
        if let Some(credits) = answer.credits() {
            self.stated.send_replace(credits.into());
        }
        if let Some((waits, load)) = self.pending.remove(&answer.tag()) {
            self.under_way.remove(load);
            // Whoever dropped the receiver does not want to know.
            let _ = waits.send(Ok(answer));
        }
    }

    /// Fails what was sent and what was queued up to now: what comes later may rest on the failure
    /// being known.
    fn fail(&mut self, broken: &Broken) {
        self.under_way = Load::default();
        for (_, (waits, _)) in self.pending.drain() {
            let _ = waits.send(Err(broken.clone()));
        }
        while let Ok(job) = self.queue.try_recv() {
            let _ = job.answer.send(Err(broken.clone()));
        }
    }
}
