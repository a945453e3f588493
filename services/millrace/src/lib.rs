//! millrace
