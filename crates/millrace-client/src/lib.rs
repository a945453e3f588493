//! Ports between the services, and the gRPC client library for producers and readers.
//!
//! A hop between services is a port: a trait whose messages are owned data. In one process the
//! service behind it is called directly; apart, a gRPC client stands in its place.

pub mod port;
