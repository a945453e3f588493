//! `CatalogService` over gRPC.

use std::sync::Arc;

use millrace_catalog::{Change, Diagnostic};
use millrace_client::port::CatalogPort as _;
use millrace_grpc::{Drain, ErrorCode, Fault, status};
use millrace_proto::v1;
use millrace_proto::v1::catalog_service_server::CatalogService;
use tonic::{Request, Response, Status};

use crate::catalog::{CatalogHandle, Outcome};

/// The service on a server.
#[derive(Clone)]
pub struct CatalogApi {
    catalog: Arc<CatalogHandle>,
    drain: Drain,
}

impl CatalogApi {
    /// Serves `catalog`; `drain` waits for an apply that is under way.
    #[must_use]
    pub fn new(catalog: Arc<CatalogHandle>, drain: Drain) -> Self {
        Self { catalog, drain }
    }
}

#[tonic::async_trait]
impl CatalogService for CatalogApi {
    async fn validate_catalog(
        &self,
        request: Request<v1::ValidateCatalogRequest>,
    ) -> Result<Response<v1::ValidateCatalogResponse>, Status> {
        let problems = self.catalog.validate(&request.into_inner().source);
        let problems = problems.into_iter().map(problem).collect();
        Ok(Response::new(v1::ValidateCatalogResponse { problems }))
    }

    async fn apply_catalog(
        &self,
        request: Request<v1::ApplyCatalogRequest>,
    ) -> Result<Response<v1::ApplyCatalogResponse>, Status> {
        let v1::ApplyCatalogRequest { source, dry_run, expected_version } = request.into_inner();
        let catalog = Arc::clone(&self.catalog);
        // An apply must reach its end: a client that leaves must not leave a version in the store
        // that is not in force.
        let task = self
            .drain
            .tasks()
            .spawn(async move { catalog.apply(&source, dry_run, expected_version).await });
        let outcome = task.await.map_err(|panic| {
            tracing::error!(error = %panic, "applying a catalog failed");
            Fault::new(ErrorCode::Internal, "an internal error; see the server's log")
        })?;
        let Outcome { version, applied, changes } = outcome.map_err(|error| status(&error))?;
        let changes = changes.into_iter().map(change).collect();
        Ok(Response::new(v1::ApplyCatalogResponse { version, applied, changes }))
    }

    async fn get_catalog(
        &self,
        request: Request<v1::GetCatalogRequest>,
    ) -> Result<Response<v1::GetCatalogResponse>, Status> {
        let version = request.into_inner().version;
        if version.is_none() {
            // The newest one may have been applied at another process a moment ago.
            self.catalog.catch_up().await;
        }
        let text = self.catalog.text(version).await;
        let (version, source) = text.map_err(|error| status(&error))?;
        Ok(Response::new(v1::GetCatalogResponse { version, source }))
    }
}

fn problem(from: Diagnostic) -> v1::CatalogProblem {
    let Diagnostic { line, column, rule, path, message, suggestion } = from;
    let message = match path.as_str() {
        "" => message,
        path => format!("{path}: {message}"),
    };
    v1::CatalogProblem {
        line,
        column,
        rule: rule.name().to_owned(),
        message,
        suggestion: suggestion.unwrap_or_default(),
    }
}

fn change(from: Change) -> v1::CatalogChange {
    use v1::CatalogChangeKind::{Added, Changed, Removed};
    let none = String::new;
    let (kind, path, before, after) = match from {
        Change::EntityAdded { entity, key } => (Added, format!("entities.{entity}"), none(), key),
        Change::EntityRemoved { entity } => (Removed, format!("entities.{entity}"), none(), none()),
        Change::StreamAdded { stream, summary } => {
            (Added, format!("streams.{stream}"), none(), summary)
        }
        Change::StreamRemoved { stream } => (Removed, format!("streams.{stream}"), none(), none()),
        Change::StreamChanged { stream, setting, old, new } => {
            (Changed, format!("streams.{stream}.{setting}"), old, new)
        }
        Change::FieldAdded { stream, field, ty } => {
            (Added, format!("streams.{stream}.fields.{field}"), none(), ty)
        }
        Change::FieldRemoved { stream, field } => {
            (Removed, format!("streams.{stream}.fields.{field}"), none(), none())
        }
        Change::FieldChanged { stream, field, old, new } => {
            (Changed, format!("streams.{stream}.fields.{field}"), old, new)
        }
        Change::ViewAdded { view, summary, features } => {
            let after = format!("{summary}, features {}", features.join(", "));
            (Added, format!("views.{view}"), none(), after)
        }
        Change::ViewRemoved { view } => (Removed, format!("views.{view}"), none(), none()),
        Change::ViewChanged { view, old, new } => (Changed, format!("views.{view}"), old, new),
        Change::FeatureAdded { view, feature, definition } => {
            (Added, format!("views.{view}.features.{feature}"), none(), definition)
        }
        Change::FeatureRemoved { view, feature } => {
            (Removed, format!("views.{view}.features.{feature}"), none(), none())
        }
        Change::FeatureChanged { view, feature, old, new } => {
            (Changed, format!("views.{view}.features.{feature}"), old, new)
        }
    };
    v1::CatalogChange { kind: kind as i32, path, before, after }
}
