//! The plan of the newest catalog version, made once a version.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_client::port::CatalogPort;
use millrace_kernel::Plan;
use millrace_store::StoreError;

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

    /// The plan of a version that was in force once; `None` where there is none of this number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn of_version(&self, version: u32) -> Result<Option<Arc<Plan>>, StoreError> {
        let newest = self.newest();
        if newest.catalog.version == version {
            return Ok(Some(newest));
        }
        let catalog = self.catalog.version(version).await?;
        Ok(catalog.map(|catalog| Arc::new(Plan::new(catalog))))
    }

    /// Looks for a newer version now; true when there is one.
    pub(crate) async fn catch_up(&self) -> bool {
        self.catalog.catch_up().await
    }
}
