//! The role each method needs. A path that is not here is refused.

/// What a caller needs to begin a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: load balancers ask without a credential.
    Nothing,
    /// A credential the server knows, whatever its roles.
    Known,
    /// `publish`, of at least one stream; each batch is checked for its own.
    Publish,
    /// `read`, of at least one view; each read is checked for its own.
    Read,
    /// `admin`.
    Admin,
    /// `internal`: a service of the suite.
    Internal,
}

/// Every method and its need. Those of a whole service end with a slash: only [`Need::Internal`],
/// which no method can exceed, may stand for what is not named.
const TABLE: [(&str, Need); 21] = [
    ("/grpc.health.v1.Health/Check", Need::Nothing),
    ("/grpc.health.v1.Health/Watch", Need::Nothing),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Known),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Need::Known),
    ("/millrace.v1.IngestService/Publish", Need::Publish),
    ("/millrace.v1.IngestService/PublishBatch", Need::Publish),
    ("/millrace.v1.CatalogService/ValidateCatalog", Need::Known),
    // Whoever publishes or reads needs to know the fields.
    ("/millrace.v1.CatalogService/GetCatalog", Need::Known),
    ("/millrace.v1.CatalogService/ApplyCatalog", Need::Admin),
    ("/millrace.v1.FeatureService/GetFeatures", Need::Read),
    ("/millrace.v1.FeatureService/StreamFeatures", Need::Read),
    ("/millrace.v1.FeatureService/Explain", Need::Read),
    ("/millrace.v1.FeatureService/GetTrainingSet", Need::Read),
    ("/millrace.v1.JoinService/Subscribe", Need::Read),
    // Changes nothing and shows no fact: watermarks and slots, which publishers and readers watch.
    ("/millrace.v1.AdminService/GetStatus", Need::Known),
    // LATE facts are shown whole, of any stream.
    ("/millrace.v1.AdminService/ListLateFacts", Need::Admin),
    ("/millrace.v1.AdminService/ReplayLateFacts", Need::Admin),
    ("/millrace.v1.AdminService/EraseEntity", Need::Admin),
    ("/millrace.v1.AdminService/", Need::Internal),
    ("/millrace.v1.JoinService/", Need::Internal),
    ("/millrace.v1.StoreService/", Need::Internal),
];

/// Methods of clients whose calls last: those with a stream in either direction.
const STREAMS: [&str; 7] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/millrace.v1.IngestService/Publish",
    "/millrace.v1.FeatureService/StreamFeatures",
    "/millrace.v1.FeatureService/GetTrainingSet",
    "/millrace.v1.JoinService/Subscribe",
];

/// Whether calls of this method, which clients make, last. Those between services are bounded by
/// credits.
#[must_use]
pub(crate) fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

/// What a method, as in `/package.Service/Method`, needs; `None` when it is not known.
#[must_use]
pub fn need(path: &str) -> Option<Need> {
    let service = path.rfind('/').map_or("", |slash| &path[..=slash]);
    let find = |wanted: &str| TABLE.iter().find(|(name, _)| *name == wanted);
    find(path).or_else(|| find(service)).map(|(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use millrace_proto::FILE_DESCRIPTOR_SET;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// A new method is refused until somebody says who may call it.
    #[test]
    fn every_method_of_the_protocol_is_in_the_table() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut methods = 0;
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(need(&path).is_some(), "{path} is not in the table");
                    let lasts = method.client_streaming() || method.server_streaming();
                    let internal = need(&path) == Some(Need::Internal);
                    assert_eq!(is_stream(&path), lasts && !internal, "{path}");
                    methods += 1;
                }
            }
        }
        assert!(methods >= 9, "{methods}");
    }

    #[test]
    fn what_is_not_in_the_table_is_not_allowed() {
        for path in [
            "",
            "/",
            "/millrace.v1.IngestService/",
            "/millrace.v1.IngestService/Other",
            "/millrace.v1.IngestService/publish",
            "millrace.v1.IngestService/Publish",
            "/millrace.v1.StoreServiceX/Append",
            "//millrace.v1.StoreService/Append",
            "/grpc.health.v1.Health/Other",
        ] {
            assert_eq!(need(path), None, "{path}");
        }
        assert_eq!(need("/millrace.v1.StoreService/Append"), Some(Need::Internal));
        assert_eq!(need("/millrace.v1.JoinService/Process"), Some(Need::Internal));
        assert_eq!(need("/millrace.v1.JoinService/Subscribe"), Some(Need::Read));
    }

    #[test]
    fn only_internal_stands_for_a_whole_service() {
        for (name, need) in TABLE {
            assert!(!name.ends_with('/') || need == Need::Internal, "{name}");
        }
    }
}
