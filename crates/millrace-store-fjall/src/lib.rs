//! millrace-store-fjall
