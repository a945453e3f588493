//! millrace-architecture-tests
