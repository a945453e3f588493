//! millrace-kernel
