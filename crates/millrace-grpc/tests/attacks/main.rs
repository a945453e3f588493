//! Attacks on a server over the loopback: each is closed or refused, and a legitimate reader on a
//! connection of its own does not notice.
//!
//! Frames are written by hand, since no client library sends them. Every attack runs against the
//! default limits but for times and shares, which are made small. With the limits lifted the attacks
//! get through and their tests fail, but for three that `h2` stops by itself: endless headers, header
//! names that are none, and empty DATA. Their tests hold a newer `h2` to that.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

mod bodies;
mod connections;
mod floods;
mod messages;
mod slow;
mod streams;
mod support;
