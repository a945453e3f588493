//! The response of a call, ended by its deadline, its age or the drain.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::call::Streams;
use super::untaken::{Untaken, Waiting};
use crate::deadline::{self, Deadline};
use crate::drain::OpenCall;
use crate::metrics::Measured;
use crate::{Drain, ErrorCode, Fault};

/// When a response ends, whatever its handler does, and what its client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    at: Instant,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Deadline,
    Age,
}

impl End {
    /// The end of a call that began `now`. Its number spreads the ends of streams that began
    /// together over an eighth of their age.
    pub(super) fn of(
        deadline: Option<Deadline>,
        now: Instant,
        age_max: Duration,
        number: u64,
    ) -> Self {
        // Neighbouring numbers fall far from each other: the upper bits of a multiple of the golden
        // ratio, of which seven are used.
        let spread = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u32;
        let aged = now + age_max - age_max / 1024 * spread;
        match deadline {
            Some(deadline) if deadline.instant() <= aged => {
                Self { at: deadline.instant(), why: Why::Deadline }
            }
            Some(_) | None => Self { at: aged, why: Why::Age },
        }
    }

    fn status(self) -> Status {
        match self.why {
            Why::Deadline => deadline::exceeded(),
            Why::Age => {
                let message = "the stream is as old as streams get; begin another where it was";
                Fault::new(ErrorCode::StreamAged, message).into_status()
            }
        }
    }
}

/// Passes the messages of a response on until its end, or until the drain ends calls. tonic's own
/// timeout stops at the response's headers, so a stream would outlive its deadline.
pub(super) struct CallBody {
    /// `None` once ended from outside; dropping it tells the handler.
    inner: Option<Body>,
    end: End,
    drain: Drain,
    /// Made when the response first has to wait: most never do.
    timer: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    untaken: Option<Arc<Untaken>>,
    /// From when the transport has something of this response until it asks for more.
    waiting: Option<Waiting>,
    _open: (OpenCall, Streams),
    /// Counts the call when it ends; dropped before, as one its client gave up.
    measured: Measured,
}

impl CallBody {
    pub(super) fn new(
        inner: Body,
        end: End,
        drain: Drain,
        untaken: Option<Arc<Untaken>>,
        open: (OpenCall, Streams),
        measured: Measured,
    ) -> Self {
        let waiting = untaken.as_ref().map(Untaken::begin);
        let inner = Some(inner);
        Self { inner, end, drain, timer: None, untaken, waiting, _open: open, measured }
    }

    /// Why the call is over, if it is; a stream that never waits is asked too.
    fn over(&self) -> Option<Status> {
        if self.drain.are_calls_cut() {
            return Some(Drain::status());
        }
        (Instant::now() >= self.end.at).then(|| self.end.status())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let timer = self.timer.get_or_insert_with(|| {
            let (cut, end) = (self.drain.calls_cut(), self.end);
            Box::pin(async move {
                tokio::select! {
                    () = cut => Drain::status(),
                    () = tokio::time::sleep_until(end.at) => end.status(),
                }
            })
        });
        timer.as_mut().poll(cx)
    }

    fn end_with(&mut self, status: &Status) -> Frame<Bytes> {
        self.inner = None;
        self.measured.end(status);
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
        self.waiting = None;
        if self.inner.is_none() {
            return Poll::Ready(None);
        }
        if let Some(status) = self.over() {
            return Poll::Ready(Some(Ok(self.end_with(&status))));
        }
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame
                && let (Some(data), Some(untaken)) = (frame.data_ref(), &this.untaken)
            {
                this.waiting = Some(untaken.hand_out(data.len()));
            }
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
            {
                this.measured.end_with(trailers);
            }
            return Poll::Ready(frame);
        }
        let status = ready!(this.poll_end(cx));
        Poll::Ready(Some(Ok(this.end_with(&status))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
