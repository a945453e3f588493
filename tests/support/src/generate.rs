//! Random catalogs, histories, orders of arrival and reads. Everything follows from one seed, so a
//! failure is told by its seed and the options alone.
//!
//! ```
//! use millrace_test_support::generate::{Case, Options};
//!
//! let case = Case::generate(42, &Options::default());
//! println!("{case}"); // the catalog, and the records batch by batch
//! ```

mod arrival;
mod catalogs;
mod conditions;
mod evolution;
mod history;
mod reads;
mod retention;
mod rng;
mod shrink;
mod spec;
mod strategy;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;

use millrace_catalog::{Catalog, Diagnostic};

pub use arrival::{Arrival, Order, arrange, batched};
pub use reads::{Read, reads};
pub use rng::Rng;
pub use shrink::shrink;
pub use spec::{
    CatalogSpec, FeatureSpec, KindSpec, OpSpec, Span, StreamSpec, ViewSpec, WindowSpec,
};
pub use strategy::{CaseTree, cases};

use crate::oracle::Oracle;
use crate::record::RawRecord;
use crate::wheres::Wheres;

/// What may occur in a case.
#[derive(Debug, Clone)]
pub struct Options {
    /// Records at most; at least 1.
    pub records_max: usize,
    /// Features a view at most; at least 1.
    pub features_max: usize,
    /// Streams with `beyond_repair: hold`. Whoever checks them leaves LATE facts out of the oracle.
    pub hold: bool,
    /// Event streams with a `retention`, and features over them that fit it. Whoever checks them makes the
    /// oracle forget.
    pub retention: bool,
    /// Records that are REJECTED: NULL in `at` or a key, NaN and infinities, negative revisions,
    /// values of another type.
    pub bad_records: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { records_max: 60, features_max: 8, hold: false, retention: false, bad_records: true }
    }
}

/// A catalog and a history as it arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The seed it was made from.
    pub seed: u64,
    /// The catalog.
    pub catalog: CatalogSpec,
    /// The order of arrival.
    pub order: Order,
    /// The records in their order of arrival.
    pub arrivals: Vec<Arrival>,
}

impl Case {
    /// The case of a seed.
    #[must_use]
    pub fn generate(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed);
        let mut catalog = catalogs::catalog(&mut rng, options);
        if options.retention {
            retention::retain(&mut rng, &mut catalog);
        }
        let mut records = history::history(&mut rng, options, &catalog);
        let order = *rng.pick(&Order::ALL);
        arrange(&mut records, order, &mut rng, |_| "ts");
        Self { seed, catalog, order, arrivals: batched(records, &mut rng) }
    }

    /// The same records in another order and other batches.
    #[must_use]
    pub fn rearranged(&self, order: Order, rng: &mut Rng) -> Self {
        let mut records: Vec<RawRecord> = self.arrivals.iter().map(|a| a.record.clone()).collect();
        arrange(&mut records, order, rng, |_| "ts");
        Self { order, arrivals: batched(records, rng), ..self.clone() }
    }

    /// Compiles the catalog.
    ///
    /// # Errors
    /// The catalog's diagnostics; the generator makes none that is refused.
    pub fn compile(&self) -> Result<Catalog, Vec<Diagnostic>> {
        Catalog::compile(&self.catalog.to_yaml(), None)
    }

    /// The `where` texts.
    #[must_use]
    pub fn wheres(&self) -> Wheres {
        let mut wheres = Wheres::default();
        for view in &self.catalog.views {
            for feature in &view.features {
                if let Some(text) = &feature.condition {
                    wheres.insert(&view.name, &feature.name, text);
                }
            }
        }
        wheres
    }

    /// An oracle without facts for the compiled catalog.
    ///
    /// # Panics
    /// When a `where` text is no expression of the semantics: then the generator is wrong.
    #[must_use]
    pub fn oracle(&self, catalog: &Catalog) -> Oracle {
        Oracle::new(catalog, &self.wheres()).unwrap_or_else(|e| panic!("{e}\n{self}"))
    }

    /// The records batch by batch.
    #[must_use]
    pub fn batches(&self) -> Vec<Vec<&RawRecord>> {
        self.arrivals
            .chunk_by(|a, b| a.batch == b.batch)
            .map(|batch| batch.iter().map(|a| &a.record).collect())
            .collect()
    }
}

/// The catalog file, and the records batch by batch.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# seed {}, {:?}", self.seed, self.order)?;
        f.write_str(&self.catalog.to_yaml())?;
        for (number, batch) in self.batches().iter().enumerate() {
            writeln!(f, "# batch {number}")?;
            for record in batch {
                writeln!(f, "{record}")?;
            }
        }
        Ok(())
    }
}
