//! Reflection in both versions lists what is served, and no more.

use std::collections::BTreeSet;

use millrace_grpc::ServerLimits;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{Running, soon};

const SERVED: [&str; 3] =
    ["grpc.health.v1.Health", "millrace.v1.FeatureService", "millrace.v1.JoinService"];

#[tokio::test]
async fn v1_lists_the_services() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let server = Running::start(ServerLimits::default()).await;
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = futures::stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: BTreeSet<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    assert!(names.is_superset(&BTreeSet::from(SERVED)), "{names:?}");
    assert!(!names.contains("millrace.v1.IngestService"), "{names:?}");
}

#[tokio::test]
async fn v1alpha_describes_a_method() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let server = Running::start(ServerLimits::default()).await;
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let symbol = "millrace.v1.FeatureService.GetFeatures".to_owned();
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol)),
    };
    let requests = futures::stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let described = String::from_utf8_lossy(&files.file_descriptor_proto[0]).into_owned();
    assert!(described.contains("GetFeaturesRequest"));
}
