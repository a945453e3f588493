//! [`PeerPort`] over gRPC's health service.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::endpoints::{EndpointError, Role};
use crate::error::innermost;
use crate::port::{PeerPort, Place, Silence};
use crate::security::ClientSecurity;

/// A service that does not answer after this long does not serve.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A service in another process, or in several that are all alike.
#[derive(Debug)]
pub struct RemotePeer {
    role: Role,
    /// Each process by itself, where there are several.
    each: Vec<Role>,
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
        let role = Role::secure(name, endpoints, security)?;
        let several = if endpoints.len() > 1 { endpoints } else { &[] };
        let one = |endpoint| Role::secure(name, std::slice::from_ref(endpoint), security);
        Ok(Self { role, each: several.iter().map(one).collect::<Result<_, _>>()? })
    }

    /// The service that is called as this one.
    pub(super) fn of(role: &Role) -> Self {
        Self { role: role.clone(), each: Vec::new() }
    }

    /// Asks whether it serves.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn asked(&self) -> Result<(), Silence> {
        ask(&self.role).await
    }
}

async fn ask(role: &Role) -> Result<(), Silence> {
    let without = |reason| Silence { reason, next: String::new() };
    role.trusted().map_err(without)?;
    let mut client = HealthClient::new(role.wire());
    // The empty name is the process as a whole.
    let asked = client.check(HealthCheckRequest { service: String::new() });
    match timeout(ANSWERS_WITHIN, asked).await {
        Ok(Ok(answer)) if answer.get_ref().status == ServingStatus::Serving as i32 => Ok(()),
        Ok(Ok(_)) => Err(Silence {
            reason: "it says that it does not serve".to_owned(),
            next: "its log, and /readyz of its admin port, say what it waits for".to_owned(),
        }),
        Ok(Err(status)) => Err(match role.distrust(&status) {
            Some(reason) => without(reason),
            None => Silence {
                reason: innermost(&status),
                next: format!("start it: millrace serve {}", role.name),
            },
        }),
        Err(_) => Err(Silence {
            reason: format!("no answer within {ANSWERS_WITHIN:?}"),
            next: "see whether it is frozen, overloaded or cut off; its log tells".to_owned(),
        }),
    }
}

#[async_trait]
impl PeerPort for RemotePeer {
    fn name(&self) -> &'static str {
        self.role.name
    }

    async fn serves(&self) -> Result<(), String> {
        self.asked().await.map_err(|silence| silence.reason)
    }

    async fn places(&self) -> Vec<Place> {
        let all = if self.each.is_empty() { std::slice::from_ref(&self.role) } else { &self.each };
        let place = |role: &Role| {
            let role = role.clone();
            async move {
                let silence = ask(&role).await.err();
                Place { node: None, endpoint: role.address, silence }
            }
        };
        futures::future::join_all(all.iter().map(place)).await
    }
}
