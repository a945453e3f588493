//! millrace-join
