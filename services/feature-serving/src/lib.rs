//! millrace-feature-serving
