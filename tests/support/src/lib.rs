//! millrace-test-support
