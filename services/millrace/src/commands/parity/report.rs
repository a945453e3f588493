//! What `millrace parity` found.

use std::io::{self, Write};

use serde::Serialize;

use crate::output::json::{JsonFeature, JsonInstant, JsonKey};
use crate::output::{Report, Table, text_of_feature};

/// Differences that are listed; all are counted.
const LISTED_MAX: usize = 100;

/// What was compared and what differs.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct ParityReport {
    /// Entities compared, over all views.
    pub checked: u64,
    /// Entities of which a value differs.
    pub mismatches: u64,
    /// The one by the other; 0 where nothing was compared.
    pub parity_mismatch_ratio: f64,
    /// The views.
    pub views: Vec<ViewParity>,
    /// The first differences: of each entity the first.
    pub differences: Vec<Mismatch>,
}

/// What was compared of a view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewParity {
    /// Its name.
    pub view: String,
    /// Entities compared.
    pub entities: u64,
    /// Their values compared.
    pub values: u64,
    /// Entities left out, because they wait for a rebuild.
    pub rebuilding: u64,
    /// Values left out, because they are being filled in from the log.
    pub backfilling: u64,
    /// Entities of which a value differs.
    pub mismatches: u64,
}

/// A value that is another one online than in the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// The view.
    pub view: String,
    /// The entity.
    pub key: JsonKey,
    /// The feature.
    pub feature: String,
    /// The instant of the read.
    pub at: JsonInstant,
    /// What the answer was known at.
    pub known_at: JsonInstant,
    /// What was served.
    pub online: JsonFeature,
    /// What the log says.
    pub offline: JsonFeature,
}

impl ParityReport {
    /// The counts of a view.
    pub(super) fn of(&mut self, view: &str) -> &mut ViewParity {
        let place = self.views.iter().position(|of| of.view == view).unwrap_or_else(|| {
            let view = view.to_owned();
            self.views.push(ViewParity {
                view,
                entities: 0,
                values: 0,
                rebuilding: 0,
                backfilling: 0,
                mismatches: 0,
            });
            self.views.len() - 1
        });
        &mut self.views[place]
    }

    /// Notes a difference.
    pub(super) fn differs(&mut self, mismatch: Mismatch) {
        self.of(&mismatch.view).mismatches += 1;
        if self.differences.len() < LISTED_MAX {
            self.differences.push(mismatch);
        }
    }

    /// Adds the views up.
    #[must_use]
    pub(super) fn summed(mut self) -> Self {
        self.checked = self.views.iter().map(|view| view.entities).sum();
        self.mismatches = self.views.iter().map(|view| view.mismatches).sum();
        self.parity_mismatch_ratio = match self.checked {
            0 => 0.0,
            checked => self.mismatches as f64 / checked as f64,
        };
        self
    }
}

impl Report for ParityReport {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table =
            Table::new(&["view", "entities", "values", "rebuilding", "backfilling", "mismatches"]);
        for view in &self.views {
            table.push(vec![
                view.view.clone(),
                view.entities.to_string(),
                view.values.to_string(),
                view.rebuilding.to_string(),
                view.backfilling.to_string(),
                view.mismatches.to_string(),
            ]);
        }
        table.write_framed(out, &[1, 2, 3, 4, 5])?;
        if !self.differences.is_empty() {
            self.csv().write_framed(out, &[])?;
        }
        Ok(())
    }

    fn csv(&self) -> Table {
        let mut table =
            Table::new(&["view", "key", "feature", "at", "known_at", "online", "offline"]);
        for found in &self.differences {
            table.push(vec![
                found.view.clone(),
                found.key.0.to_string(),
                found.feature.clone(),
                found.at.0.to_string(),
                found.known_at.0.to_string(),
                text_of_feature(&found.online, "NULL"),
                text_of_feature(&found.offline, "NULL"),
            ]);
        }
        table
    }
}
