//! The service over real gRPC, in front of a join service that does what a test says.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

mod catalog;
mod flow;
mod imports;
mod join;
mod publish;
mod resend;
mod support;
mod watermarks;
