//! millrace-proto
