//! The catalog over gRPC and over a store that fails.

use std::sync::Arc;

use millrace_client::port::CatalogPort;
use millrace_ingest::CatalogHandle;
use millrace_ingest::catalog::CatalogError;
use millrace_proto::v1::{self, CatalogChangeKind};
use millrace_store::memory::{Call, Fault, FaultPlan, MemoryStore};
use tonic_types::StatusExt as _;

use crate::support::{CATALOG, Running, batch, clicks, counts, soon};

const VIEW: &str = "\
views:
  activity:
    entity: user
    events: clicks
    features:
      clicks_1h: {count: {}, window: 1h}
";

fn apply(source: &str) -> v1::ApplyCatalogRequest {
    v1::ApplyCatalogRequest { source: source.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_catalog_is_shown_applied_and_kept() {
    let server = Running::start().await;
    let mut client = server.catalogs();
    let source = format!("{CATALOG}{VIEW}");
    let dry = v1::ApplyCatalogRequest { dry_run: true, ..apply(&source) };
    let shown = soon(client.apply_catalog(dry)).await.unwrap().into_inner();
    assert_eq!((shown.version, shown.applied, shown.changes.len()), (1, false, 1));
    assert_eq!(shown.changes[0].kind(), CatalogChangeKind::Added);
    assert_eq!(shown.changes[0].path, "views.activity");
    let watch = server.catalog.watch();
    let done = soon(client.apply_catalog(apply(&source))).await.unwrap().into_inner();
    assert_eq!((done.version, done.applied, &done.changes), (2, true, &shown.changes));
    assert_eq!(watch.borrow().version, 2);
    // Again: nothing changes, so there is no new version.
    let same = soon(client.apply_catalog(apply(&source))).await.unwrap().into_inner();
    assert_eq!((same.version, same.applied, same.changes.len()), (2, false, 0));
    for (version, found) in [(Some(1), CATALOG), (Some(2), &source), (None, &source)] {
        let text = soon(client.get_catalog(v1::GetCatalogRequest { version })).await.unwrap();
        assert_eq!(text.into_inner().source, found);
    }
    let missing = v1::GetCatalogRequest { version: Some(9) };
    let status = soon(client.get_catalog(missing)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    // Another process compiles the same versions from the store.
    let other = CatalogHandle::load(Arc::clone(&server.store) as _).await.unwrap();
    assert_eq!(*other.current(), *server.current());
    server.stop().await;
}

#[tokio::test]
async fn a_catalog_with_problems_is_refused_whole() {
    let server = Running::start().await;
    let mut client = server.catalogs();
    let bad = CATALOG.replace("at: ts", "at: tz").replace("price: double", "price: doubel");
    let request = v1::ValidateCatalogRequest { source: bad.clone() };
    let problems = soon(client.validate_catalog(request)).await.unwrap().into_inner().problems;
    assert!(problems.len() >= 3, "{problems:?}");
    assert!(problems.iter().all(|p| p.line > 0 && p.column > 0 && !p.rule.is_empty()));
    let status = soon(client.apply_catalog(apply(&bad))).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "CATALOG_INVALID");
    assert!(!status.get_details_bad_request().unwrap().field_violations.is_empty());
    // So is one that would make stored facts unreadable.
    let gone = CATALOG.replace(", price: double", "");
    assert!(soon(client.apply_catalog(apply(&gone))).await.is_err());
    let stale = v1::ApplyCatalogRequest { expected_version: Some(7), ..apply(CATALOG) };
    let status = soon(client.apply_catalog(stale)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Aborted);
    assert_eq!(server.current().version, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_becomes_known() {
    for fault in [Fault::AppliedUnknown, Fault::Lost, Fault::Unavailable] {
        let store = Arc::new(MemoryStore::new());
        let catalog = CatalogHandle::load(Arc::clone(&store) as _).await.unwrap();
        store.set_plan(FaultPlan::none().on_first(2, Call::PutCatalog, fault));
        let outcome = catalog.apply(CATALOG, false, Some(0)).await.unwrap();
        assert_eq!((outcome.version, outcome.applied), (1, true));
        assert_eq!(catalog.current().version, 1);
    }
}

#[tokio::test]
async fn of_two_processes_that_apply_the_second_goes_on_from_the_first() {
    let store = Arc::new(MemoryStore::new());
    let one = CatalogHandle::load(Arc::clone(&store) as _).await.unwrap();
    let two = CatalogHandle::load(Arc::clone(&store) as _).await.unwrap();
    one.apply(CATALOG, false, None).await.unwrap();
    // The difference that was looked at is no longer the one to the version in force.
    let outcome = two.apply(&format!("{CATALOG}{VIEW}"), false, Some(0)).await;
    assert_eq!(outcome, Err(CatalogError::Changed { expected: 0, found: 1 }));
    let outcome = two.apply(&format!("{CATALOG}{VIEW}"), false, None).await.unwrap();
    assert_eq!((outcome.version, outcome.changes.len()), (2, 1));
    one.refresh().await.unwrap();
    assert_eq!(*one.current(), *two.current());
}

/// A stream that was applied at another process is known to a batch that comes after it, whenever the
/// store was last asked.
#[tokio::test]
async fn what_another_process_applied_is_known_to_the_next_batch() {
    let server = Running::start().await;
    let other = CatalogHandle::load(Arc::clone(&server.store) as _).await.unwrap();
    let mut source = CATALOG.to_owned();
    for stream in ["first", "second"] {
        let unknown = server.batch(batch(stream, 1, clicks(1, &["a"]).rows)).await.unwrap();
        assert_eq!(counts(&unknown), [0, 0, 0, 0, 1]);
        source.push_str(
            &CATALOG
                .split_at(CATALOG.find("  clicks").unwrap())
                .1
                .replace("clicks", stream)
                .replace("visits", &format!("{stream}_visits")),
        );
        let applied = other.apply(&source, false, None).await.unwrap().version;
        if stream == "second" {
            let newest =
                server.catalogs().get_catalog(v1::GetCatalogRequest { version: None }).await;
            assert_eq!(newest.unwrap().get_ref().version, applied);
        }
        let known = server.batch(batch(stream, 1, clicks(1, &["a"]).rows)).await.unwrap();
        assert_eq!(counts(&known), [1, 0, 0, 0, 0], "{stream}");
    }
    server.stop().await;
}
