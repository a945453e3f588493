//! Retentions, and features that fit them.

use super::rng::Rng;
use super::spec::{CatalogSpec, FeatureSpec, Span, WindowSpec};

const RETENTIONS: [Span; 6] = [
    Span { text: "1s", us: 1_000_000 },
    Span { text: "10m", us: 600_000_000 },
    Span { text: "5h", us: 18_000_000_000 },
    Span { text: "25h", us: 90_000_000_000 },
    Span { text: "7d", us: 604_800_000_000 },
    Span { text: "121d", us: 10_454_400_000_000 },
];

/// The widest hop that a window has where none is stated.
const HOP_US_MAX: i64 = 86_400_000_000;

/// Gives event streams a retention, mostly a short one, and features over them windows that it takes.
pub(super) fn retain(rng: &mut Rng, catalog: &mut CatalogSpec) {
    for index in 0..catalog.streams.len() {
        let stream = &mut catalog.streams[index];
        if !stream.event || rng.percent(15) {
            continue;
        }
        let enough: Vec<Span> =
            RETENTIONS.into_iter().filter(|span| span.us >= stream.repair.us).collect();
        let retention = if rng.percent(70) { enough[0] } else { *rng.pick(&enough) };
        stream.retention = Some(retention);
        let views = catalog.views.iter_mut().filter(|view| view.events == index);
        for feature in views.flat_map(|view| &mut view.features) {
            fit(rng, feature, retention);
        }
    }
}

fn fit(rng: &mut Rng, feature: &mut FeatureSpec, retention: Span) {
    if feature.aggregate.starts_with("latest:") {
        return;
    }
    let reach = |window: &WindowSpec| match (window.exact, window.hop) {
        (true, _) => window.width.us,
        (false, Some(hop)) => window.width.us + hop.us,
        (false, None) => window.width.us + HOP_US_MAX.min(window.width.us),
    };
    if feature.window.is_none_or(|window| reach(&window) > retention.us) {
        let width = *rng.pick(&[
            Span { text: "1us", us: 1 },
            Span { text: "1500us", us: 1_500 },
            Span { text: "250ms", us: 250_000 },
            Span { text: "500ms", us: 500_000 },
        ]);
        let hop = rng.percent(50).then_some(Span { text: "1us", us: 1 });
        feature.window = Some(WindowSpec { width, hop, exact: false });
    }
}
