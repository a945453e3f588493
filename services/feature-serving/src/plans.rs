//! The plan of the newest catalog version, made once a version.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_client::port::CatalogPort;
use millrace_kernel::Plan;

/// Keeps the plan of the newest version.
pub(crate) struct Plans {
    catalog: Arc<dyn CatalogPort>,
    newest: Mutex<Arc<Plan>>,
}

impl Plans {
    pub(crate) fn new(catalog: Arc<dyn CatalogPort>) -> Self {
        let newest = Mutex::new(Arc::new(Plan::new(catalog.current())));
        Self { catalog, newest }
    }

    /// The plan of the newest version known here.
    pub(crate) fn newest(&self) -> Arc<Plan> {
        let catalog = self.catalog.current();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.catalog.version != catalog.version {
            *newest = Arc::new(Plan::new(catalog));
        }
        newest.clone()
    }

    /// Looks for a newer version now; true when there is one.
    pub(crate) async fn catch_up(&self) -> bool {
        self.catalog.catch_up().await
    }
}
