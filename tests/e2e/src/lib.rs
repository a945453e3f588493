//! millrace-e2e-tests
