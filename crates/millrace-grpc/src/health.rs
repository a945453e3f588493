//! The health service, `grpc.health.v1.Health`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Says whether the services of a server take calls. Clones speak for the same server.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<[&'static str]>,
    serving: Arc<AtomicBool>,
}

impl Health {
    pub(crate) fn new(
        reporter: HealthReporter,
        services: &[&'static str],
        serving: Arc<AtomicBool>,
    ) -> Self {
        Self { reporter, services: services.into(), serving }
    }

    /// What was said last of the process as a whole.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Says it for the process as a whole (the empty name, and liveness of a whole server) and for
    /// every service.
    pub async fn set_serving(&self, serving: bool) {
        for name in self.services.iter() {
            self.reporter.set_service_status(name, status(serving)).await;
        }
        // Last, so that who sees the whole serving sees every part serving.
        self.reporter.set_service_status("", status(serving)).await;
        self.serving.store(serving, Ordering::Relaxed);
    }

    /// Says it for one service, e.g. `millrace.v1.IngestService`.
    pub async fn set_service_serving(&self, service: &str, serving: bool) {
        self.reporter.set_service_status(service, status(serving)).await;
    }
}

fn status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
