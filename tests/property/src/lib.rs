//! millrace-property-tests
