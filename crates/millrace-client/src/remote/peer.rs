//! [`PeerPort`] over gRPC's health service.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::endpoints::{EndpointError, Role};
use crate::error::innermost;
use crate::port::PeerPort;
use crate::security::ClientSecurity;

/// A service that does not answer after this long does not serve.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A service in another process.
#[derive(Debug)]
pub struct RemotePeer {
    pub(super) role: Role,
}

impl RemotePeer {
    /// The service at these addresses; it serves as soon as one of them does. Must be made within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] for an address that is none, or that is not fit for what would be sent.
    pub fn new(
        name: &'static str,
        endpoints: &[String],
        security: &ClientSecurity,
    ) -> Result<Self, EndpointError> {
        Ok(Self { role: Role::secure(name, endpoints, security)? })
    }
}

#[async_trait]
impl PeerPort for RemotePeer {
    fn name(&self) -> &'static str {
        self.role.name
    }

    async fn serves(&self) -> Result<(), String> {
        self.role.trusted()?;
        let mut client = HealthClient::new(self.role.wire());
        // The empty name is the process as a whole.
        let asked = client.check(HealthCheckRequest { service: String::new() });
        match timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(answer)) if answer.get_ref().status == ServingStatus::Serving as i32 => Ok(()),
            Ok(Ok(_)) => Err("it says that it does not serve".to_owned()),
            Ok(Err(status)) => {
                Err(self.role.distrust(&status).unwrap_or_else(|| innermost(&status)))
            }
            Err(_) => Err(format!("no answer within {ANSWERS_WITHIN:?}")),
        }
    }
}
