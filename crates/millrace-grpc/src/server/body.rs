//! The response of a call, ended by its deadline or by the drain.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use crate::Drain;
use crate::deadline::{self, Deadline};
use crate::drain::OpenCall;

/// Passes the messages of a response on until its end, its deadline, or until the drain ends calls.
/// tonic's own timeout stops at the response's headers, so a stream would outlive its deadline.
pub(super) struct CallBody {
    /// `None` once ended from outside; dropping it tells the handler.
    inner: Option<Body>,
    deadline: Option<Deadline>,
    drain: Drain,
    /// Made when the response first has to wait: most never do.
    end: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    _open: OpenCall,
}

impl CallBody {
    pub(super) fn new(
        inner: Body,
        deadline: Option<Deadline>,
        drain: Drain,
        open: OpenCall,
    ) -> Self {
        Self { inner: Some(inner), deadline, drain, end: None, _open: open }
    }

    /// Why the call is over, if it is; a stream that never waits is asked too.
    fn over(&self) -> Option<Status> {
        if self.drain.are_calls_cut() {
            return Some(Drain::status());
        }
        self.deadline.filter(|d| d.remaining().is_zero()).map(|_| deadline::exceeded())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let end = self.end.get_or_insert_with(|| {
            let (cut, deadline) = (self.drain.calls_cut(), self.deadline);
            Box::pin(async move {
                let Some(deadline) = deadline else {
                    cut.await;
                    return Drain::status();
                };
                tokio::select! {
                    () = cut => Drain::status(),
                    () = tokio::time::sleep_until(deadline.instant()) => deadline::exceeded(),
                }
            })
        });
        end.as_mut().poll(cx)
    }

    fn end_with(&mut self, status: &Status) -> Frame<Bytes> {
        self.inner = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            // Our own statuses are text and base64, which headers take; the code alone always is.
            trailers.insert(Status::GRPC_STATUS, (status.code() as i32).into());
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.inner.is_none() {
            return Poll::Ready(None);
        }
        if let Some(status) = self.over() {
            return Poll::Ready(Some(Ok(self.end_with(&status))));
        }
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let status = ready!(this.poll_end(cx));
        Poll::Ready(Some(Ok(this.end_with(&status))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
