//! What a catalog may have been before: features, views and joins are missing, windows are narrower.

use super::catalogs::narrower;
use super::rng::Rng;
use super::spec::{CatalogSpec, FeatureSpec};

impl CatalogSpec {
    /// A catalog that this one may follow: streams and kinds are the same.
    #[must_use]
    pub fn earlier(&self, rng: &mut Rng) -> Self {
        let mut earlier = self.clone();
        for view in &mut earlier.views {
            if rng.percent(25)
                && let Some(join) = view.joins.pop()
            {
                let prefix = format!("{}.", self.streams[join].name);
                view.features.retain(|feature| !reads(feature, &prefix));
            }
            view.features.retain(|_| !rng.percent(40));
            for feature in &mut view.features {
                if let Some(window) = &mut feature.window
                    && rng.percent(30)
                {
                    window.width = narrower(rng, window.width, window.hop);
                }
                if rng.percent(10) {
                    feature.condition = None;
                }
            }
        }
        for stream in &mut earlier.streams {
            if stream.retention.is_some() && rng.percent(30) {
                stream.retention = None;
            }
        }
        earlier.views.retain(|view| !view.features.is_empty() && !rng.percent(10));
        earlier
    }
}

fn reads(feature: &FeatureSpec, prefix: &str) -> bool {
    let condition = feature.condition.as_deref().unwrap_or_default();
    feature.aggregate.contains(prefix) || condition.contains(prefix)
}
