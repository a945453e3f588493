//! The gRPC protocol of Millrace: the messages and services generated from `proto/millrace/v1`, and
//! the conversions between them and the vocabulary of `millrace-types`.
//!
//! Services convert at their edge: nothing behind a handler sees a generated type.

pub mod convert;

/// The package `millrace.v1`, generated.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_lifetimes,
        elided_lifetimes_in_paths,
        clippy::all,
        clippy::pedantic,
        clippy::wildcard_enum_match_arm,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        clippy::missing_errors_doc,
        reason = "generated code"
    )]
    tonic::include_proto!("millrace.v1");
}

/// The compiled descriptors of `millrace.v1` and of what it imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/millrace.v1.binpb"));
