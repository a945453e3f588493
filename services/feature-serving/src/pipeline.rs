//! Reads of one call, several of them under way at a time.

use futures::{Stream, StreamExt as _};
use millrace_grpc::{Deadline, ErrorCode, Fault};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// Reads of one call under way at a time.
const AT_ONCE: usize = 16;

/// Works on the requests of a call side by side, at most [`AT_ONCE`] of them; answers come in the
/// order of the requests. What has begun goes on whether or not anybody asks for answers, and ends
/// with the call, whose deadline it has. Must be polled within a tokio runtime.
pub(crate) fn pipeline<Q, A, F>(
    deadline: Option<Deadline>,
    requests: impl Stream<Item = Result<Q, Status>> + Send,
    work: impl Fn(Q) -> F + Send,
) -> impl Stream<Item = Result<A, Status>> + Send
where
    Q: Send,
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let begun = requests.map(move |request| {
        let work = request.map(&work);
        async move {
            // In a task of its own: the transport does not poll the call of a client that does not
            // read, and a read that is not polled keeps its turn from everybody else.
            let read = AbortOnDropHandle::new(tokio::spawn(Deadline::carry(deadline, work?)));
            read.await.map_err(|panic| {
                tracing::error!(error = %panic, "a read of a stream failed");
                let message = "an internal error; see the server's log";
                Fault::new(ErrorCode::Internal, message).into_status()
            })
        }
    });
    begun.buffered(AT_ONCE)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use futures::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    /// Found under overload: a client that did not read kept the turns of the lane.
    #[tokio::test]
    async fn reads_of_a_client_that_does_not_read_give_up_their_turns() {
        let turns = Arc::new(Semaphore::new(1));
        let requests = futures::stream::iter((0..4).map(Ok));
        let answers = pipeline(None, requests, |request: u32| {
            let turns = Arc::clone(&turns);
            async move {
                let turn = turns.acquire_owned().await.unwrap();
                // As a read waits for its heads.
                tokio::task::yield_now().await;
                drop(turn);
                request
            }
        });
        let mut answers = pin!(answers);
        assert!(answers.next().now_or_never().is_none(), "nothing is answered at once");
        // From here on nobody asks for answers, as nobody does of a client that reads nothing.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(turns.try_acquire().is_ok(), "a turn is kept by a read that nobody polls");
        let answered: Vec<u32> = answers.map(Result::unwrap).collect().await;
        assert_eq!(answered, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn reads_have_the_deadline_of_their_call() {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        headers.insert("grpc-timeout", "3S".parse().unwrap());
        for deadline in [Deadline::of_headers(&headers), None] {
            let requests = futures::stream::iter([Ok(())]);
            let answers = pipeline(deadline, requests, |()| async { Deadline::current() });
            assert_eq!(pin!(answers).next().await.unwrap().unwrap(), deadline);
        }
    }

    #[tokio::test]
    async fn what_is_under_way_ends_with_its_call() {
        let turns = Arc::new(Semaphore::new(1));
        let answers = pipeline(None, futures::stream::iter([Ok(())]), |()| {
            let turns = Arc::clone(&turns);
            async move {
                let _turn = turns.acquire_owned().await.unwrap();
                std::future::pending::<()>().await;
            }
        });
        {
            let mut answers = pin!(answers);
            assert!(answers.next().now_or_never().is_none());
            tokio::task::yield_now().await;
            assert!(turns.try_acquire().is_err(), "the read has its turn");
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(turns.try_acquire().is_ok(), "a read outlives its call");
    }
}
