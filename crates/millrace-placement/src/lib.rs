//! millrace-placement
