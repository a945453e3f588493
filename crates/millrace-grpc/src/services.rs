//! The servers of the protocol's services with their message sizes and compression set, so that no
//! service is registered without them.

use millrace_proto::v1::admin_service_server::{AdminService, AdminServiceServer};
use millrace_proto::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use millrace_proto::v1::feature_service_server::{FeatureService, FeatureServiceServer};
use millrace_proto::v1::ingest_service_server::{IngestService, IngestServiceServer};
use millrace_proto::v1::join_service_server::{JoinService, JoinServiceServer};
use millrace_proto::v1::store_service_server::{StoreService, StoreServiceServer};
use tonic::codec::CompressionEncoding;

use crate::ServerLimits;

/// Compressed requests are taken, since clients in other languages send them; answers are sent as
/// they are, since on the way to a feature a CPU costs more than the bytes.
macro_rules! limited {
    ($server:expr, $received:expr, $limits:expr) => {
        $server
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size($received)
            .max_encoding_message_size($limits.response_message_bytes_max)
    };
}

/// The server of `IngestService`, which takes the largest messages.
pub fn ingest<T: IngestService>(service: T, limits: &ServerLimits) -> IngestServiceServer<T> {
    limited!(IngestServiceServer::new(service), limits.publish_message_bytes_max, limits)
}

/// The server of `CatalogService`.
pub fn catalog<T: CatalogService>(service: T, limits: &ServerLimits) -> CatalogServiceServer<T> {
    limited!(CatalogServiceServer::new(service), limits.request_message_bytes_max, limits)
}

/// The server of `FeatureService`.
pub fn features<T: FeatureService>(service: T, limits: &ServerLimits) -> FeatureServiceServer<T> {
    limited!(FeatureServiceServer::new(service), limits.request_message_bytes_max, limits)
}

/// The server of `JoinService`.
pub fn join<T: JoinService>(service: T, limits: &ServerLimits) -> JoinServiceServer<T> {
    limited!(JoinServiceServer::new(service), limits.internal_message_bytes_max, limits)
}

/// The server of `StoreService`.
pub fn store<T: StoreService>(service: T, limits: &ServerLimits) -> StoreServiceServer<T> {
    limited!(StoreServiceServer::new(service), limits.internal_message_bytes_max, limits)
}

/// The server of `AdminService`.
pub fn admin<T: AdminService>(service: T, limits: &ServerLimits) -> AdminServiceServer<T> {
    limited!(AdminServiceServer::new(service), limits.request_message_bytes_max, limits)
}
