//! millrace-store-writer
