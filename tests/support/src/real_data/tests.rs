//! The oracle over whole data sets: fast enough, and the same whatever the order of arrival.

use millrace_types::{KnownAt, Micros, Status};

use super::{DataSet, Folder, Loaded, ONLINE_RETAIL, VCPKG_PORTS};
use crate::generate::Rng;
use crate::ingest;
use crate::oracle::Oracle;
use crate::record::RawRecord;

fn load(set: DataSet) -> Option<Loaded> {
    match set.find().unwrap() {
        Folder::Present(folder) => Some(set.load(&folder).unwrap()),
        Folder::Absent(folder) => {
            #[expect(clippy::print_stderr, reason = "a test that does nothing has to say so")]
            {
                eprintln!("skipped: there is no data set at {}", folder.display());
            }
            None
        }
    }
}

fn oracle<'a>(loaded: &Loaded, records: impl Iterator<Item = &'a RawRecord>) -> Oracle {
    let mut oracle = Oracle::new(&loaded.catalog, &loaded.wheres).unwrap();
    for record in records {
        for fact in ingest::facts(&loaded.catalog, record, None).unwrap() {
            oracle.insert(KnownAt(0), fact);
        }
    }
    oracle
}

/// Reads every view of some entities at some of their edges in two oracles.
fn check(loaded: &Loaded, one: &Oracle, other: &Oracle) -> usize {
    let mut rng = Rng::new(7);
    let mut present = 0;
    for view in &loaded.catalog.views {
        let entities = one.entities();
        let of_view: Vec<_> = entities.iter().filter(|e| e.kind == view.entity).collect();
        for _ in 0..100 {
            let entity = **rng.pick(&of_view);
            let (a, b) = (
                one.as_known(&view.name, entity, KnownAt::MAX),
                other.as_known(&view.name, entity, KnownAt::MAX),
            );
            let instants = one.interesting_instants(&view.name, entity);
            for _ in 0..3 {
                let at: Micros = *rng.pick(&instants);
                let read = a.read(at);
                assert_eq!(read, b.read(at), "{} {entity:?} {at}", view.name);
                present += read.iter().filter(|(_, s)| *s == Status::Present).count();
            }
        }
    }
    present
}

#[test]
fn vcpkg_ports_read_the_same_in_any_order() {
    let Some(loaded) = load(VCPKG_PORTS) else { return };
    assert_eq!(loaded.bad_rows, []);
    assert_eq!(loaded.streams.iter().map(Vec::len).collect::<Vec<_>>(), [101_572, 41_829]);
    let one = oracle(&loaded, loaded.streams.iter().flatten());
    let other = oracle(&loaded, loaded.streams.iter().flatten().rev());
    assert!(check(&loaded, &one, &other) > 5_000);
}

#[test]
fn online_retail_takes_back_the_lines_that_were_cancelled() {
    let Some(loaded) = load(ONLINE_RETAIL) else { return };
    assert_eq!(loaded.bad_rows, []);
    let counts: Vec<usize> = loaded.streams.iter().map(Vec::len).collect();
    assert_eq!(counts, [541_909, 89_680, 4_388]);
    let one = oracle(&loaded, loaded.streams.iter().flatten());
    // Each of the 2,899 cancelling lines takes one line back and is no line itself. A quarter of
    // all lines has no customer and is routed to its item alone.
    let rows = |view: &str| -> usize {
        let kind = loaded.catalog.view(view).unwrap().entity;
        let entities = one.entities().into_iter().filter(|e| e.kind == kind);
        entities.map(|e| one.joined_rows(view, e, KnownAt::MAX).len()).sum()
    };
    assert_eq!(rows("item_sales"), 541_909 - 2 * 2_899);
    assert!(rows("customer_spending") < 541_909 - 135_080);
    assert!(check(&loaded, &one, &one) > 5_000);
}
