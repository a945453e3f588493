//! millrace-grpc
