//! Versions of the catalog: one partition, written once each.

use async_trait::async_trait;
use millrace_store::{Applied, CatalogStore, StoreError};

use crate::statements::Statement;
use crate::store::CqlStore;

fn version_of(number: i32) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Damaged {
        what: "version of the catalog".to_owned(),
        reason: format!("{number} is less than nothing"),
    })
}

/// Numbers beyond what the database can hold are beyond every version there is.
fn stored(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}

#[async_trait]
impl CatalogStore for CqlStore {
    async fn put_catalog(&self, version: u32, text: String) -> Result<Applied<String>, StoreError> {
        if self.run_conditional(Statement::InsertCatalog, (stored(version), &text)).await? {
            return Ok(Applied::Yes);
        }
        let there = self.one::<(String,)>(Statement::Catalog, (stored(version),)).await?;
        Ok(Applied::No(there.map(|(text,)| text)))
    }

    async fn catalogs(&self) -> Result<Vec<(u32, String)>, StoreError> {
        self.catalogs_after(0).await
    }

    /// Looks by a read of a quorum first, which finds every version that somebody was told of, and costs the
    /// database a fraction.
    async fn catalogs_after(&self, version: u32) -> Result<Vec<(u32, String)>, StoreError> {
        if self.one::<(i32,)>(Statement::NewerCatalog, (stored(version),)).await?.is_none() {
            return Ok(Vec::new());
        }
        let rows = self.all::<(i32, String)>(Statement::Catalogs, (stored(version),)).await?;
        rows.into_iter().map(|(version, text)| Ok((version_of(version)?, text))).collect()
    }
}
