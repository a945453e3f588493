//! Catalogs and the expressions in them.

use millrace_catalog::diff;
use millrace_catalog::{Catalog, FieldSource, Source, View};
use millrace_kernel::Plan;
use millrace_test_support::generate::{Case, Options};
use millrace_types::{FieldType, Micros, ValueRef};

use crate::history::HISTORY;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let generated = (1..6).map(|seed| Case::generate(seed, &Options::default()).catalog.to_yaml());
    let examples = [
        include_str!("../../../examples/clickprofile.yaml"),
        include_str!("../../../examples/online-retail.yaml"),
        include_str!("../../../examples/vcpkg-ports.yaml"),
    ];
    let texts = examples.into_iter().map(str::to_owned).chain(generated);
    texts.map(String::into_bytes).collect()
}

/// A catalog: compiled alone and after another one, resolved, and its expressions evaluated.
pub(crate) fn catalog(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    // Every problem is one with a place, whatever the text.
    let _ = Catalog::compile(text, Some(&HISTORY.catalog));
    let catalog = match Catalog::compile(text, None) {
        Ok(catalog) => catalog,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason: {text:?}");
            return false;
        }
    };
    let again = Catalog::compile(text, Some(&catalog)).expect("a catalog follows itself");
    assert!(diff(&catalog, &again).is_empty(), "a catalog differs from itself: {text:?}");
    for view in &catalog.views {
        let rows = [Extreme::Null, Extreme::Least, Extreme::Greatest];
        for extreme in rows {
            let row = Row { catalog: &catalog, view, extreme };
            for program in view.features.iter().filter_map(|feature| feature.filter.as_ref()) {
                assert_eq!(program.matches(&row), program.evaluate(&row) == Some(true));
            }
        }
    }
    let _ = Plan::new(catalog.into());
    true
}

#[derive(Debug, Clone, Copy)]
enum Extreme {
    Null,
    Least,
    Greatest,
}

/// A joined row of which all values are extreme.
#[derive(Debug)]
struct Row<'a> {
    catalog: &'a Catalog,
    view: &'a View,
    extreme: Extreme,
}

impl FieldSource for Row<'_> {
    fn field(&self, source: Source, field: usize) -> ValueRef<'_> {
        let stream = match source {
            Source::Event => self.view.events,
            Source::Join(join) => self.view.joins[join],
        };
        let ty = self.catalog.streams[usize::from(stream.0)].fields[field].ty;
        let greatest = match self.extreme {
            Extreme::Null => return ValueRef::Null,
            Extreme::Least => false,
            Extreme::Greatest => true,
        };
        match ty {
            FieldType::Bool => ValueRef::Bool(greatest),
            FieldType::Int64 => ValueRef::Int64(if greatest { i64::MAX } else { i64::MIN }),
            FieldType::Double => ValueRef::Double(if greatest { f64::MAX } else { f64::MIN }),
            FieldType::String => {
                ValueRef::String(if greatest { "\u{10ffff}\u{10ffff}" } else { "" })
            }
            FieldType::Bytes => ValueRef::Bytes(if greatest { &[255; 16] } else { &[] }),
            FieldType::Timestamp => {
                ValueRef::Timestamp(if greatest { Micros::MAX } else { Micros::MIN })
            }
        }
    }
}
