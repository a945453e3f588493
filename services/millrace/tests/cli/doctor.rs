//! `millrace doctor` on a folder that `millrace dev` left, and on damaged copies of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use millrace::dev::{Dev, DevOptions};
use millrace_catalog::Catalog;
use millrace_grpc::Security;
use millrace_kernel::{Head, Plan};
use millrace_store::{
    Append, CatalogStore, LogStore, Mark, Part, Put, SlotEpoch, SnapshotStore, StoreError,
};
use millrace_store_fjall::{FjallStore, Options};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ran, millrace, run, run_at};

const CATALOG: &str = "entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp, price: double}
views:
  user_activity:
    entity: user
    events: clicks
    features:
      clicks: {count: {}}
      spend: {sum: price}
";

async fn start(data: &Path, catalog: &Path) -> Dev {
    let options = DevOptions {
        data: data.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        slots: 4,
        at_hand_bytes: 64 << 10,
        parity_sample: Default::default(),
        backfill_bytes_per_second: 32 << 20,
        catalog: Some(catalog.to_owned()),
        security: Security::default(),
        admin: None,
    };
    Dev::start(&options).await.unwrap()
}

/// A folder with 6,000 clicks of 20 users in 4 slots, of whom some have a page, left in good order. Says what doctor said
/// while a process had it open.
pub(crate) async fn folder() -> (TempDir, Ran) {
    let parent = tempfile::tempdir().unwrap();
    let catalog = parent.path().join("catalog.yaml");
    fs::write(&catalog, CATALOG).unwrap();
    let data = parent.path().join("data");
    let dev = start(&data, &catalog).await;
    let clicks = parent.path().join("clicks.csv");
    let rows: String =
        (0..6_000_i64).map(|n| format!("e{n},{},{},0.5\n", n % 20, n * 1_000_000)).collect();
    fs::write(&clicks, format!("event_id,user_id,ts,price\n{rows}")).unwrap();
    let published =
        run_at(dev.address(), &["publish", &format!("clicks={}", clicks.display())]).await;
    assert_eq!(published.code, 0, "{published:?}");
    let locked = doctor(&data).await;
    dev.stop().await.unwrap();
    (parent, locked)
}

async fn doctor(data: &Path) -> Ran {
    run(millrace(&["doctor", "-o", "json", "--data", data.to_str().unwrap()])).await
}

fn files(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

/// A copy of the folder.
fn copy(data: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut found = BTreeMap::new();
    files(data, &mut found);
    for (path, bytes) in found {
        let to = copy.path().join(path.strip_prefix(data).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    copy
}

/// A copy of the folder, open.
pub(crate) fn opened(data: &Path) -> (TempDir, FjallStore) {
    let copy = copy(data);
    let store = FjallStore::open(copy.path(), &Options::default()).unwrap();
    (copy, store)
}

/// Doctor finds exactly one kind of thing wrong, in this check, and names it.
#[track_caller]
fn assert_named(ran: &Ran, check: &str, words: &[&str]) {
    assert_eq!(ran.code, 1, "{ran:?}");
    let report = ran.json();
    assert_eq!(report["clean"], false);
    let checks = report["checks"].as_array().unwrap();
    let wrong: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    let [wrong] = wrong[..] else { panic!("{wrong:#?}") };
    assert_eq!(wrong["check"], check, "{wrong:#}");
    let problem = wrong["problems"][0].to_string();
    for word in words {
        assert!(problem.contains(word), "{word}: {problem}");
    }
    assert!(!wrong["problems"][0]["next"].as_str().unwrap().is_empty());
}

/// Its slots were opened, some of them twice, and marked where nothing was written in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_to_which_little_or_nothing_was_published_is_clean() {
    let parent = tempfile::tempdir().unwrap();
    let (catalog, data) = (parent.path().join("catalog.yaml"), parent.path().join("data"));
    fs::write(&catalog, CATALOG).unwrap();
    let clicks = parent.path().join("clicks.csv");
    fs::write(&clicks, "event_id,user_id,ts,price\ne1,1,1000000,0.5\n").unwrap();
    for publishes in [false, true, false, false] {
        let dev = start(&data, &catalog).await;
        if publishes {
            let file = format!("clicks={}", clicks.display());
            let published = run_at(dev.address(), &["publish", &file]).await;
            assert_eq!(published.code, 0, "{published:?}");
        }
        dev.stop().await.unwrap();
        let copy = copy(&data);
        let ran = doctor(copy.path()).await;
        assert_eq!((ran.code, &ran.json()["clean"]), (0, &Value::Bool(true)), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_folder_is_clean_and_stays_as_it_is() {
    let (parent, locked) = folder().await;
    assert_named(&locked, "folder", &["in use by process", "stop the process"]);
    let data = parent.path().join("data");
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    files(&data, &mut before);
    let ran = doctor(&data).await;
    files(&data, &mut after);
    assert!(before == after, "the folder was changed");
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    assert_eq!(report["clean"], true);
    let looked_at: BTreeMap<&str, u64> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| (check["check"].as_str().unwrap(), check["looked_at"].as_u64().unwrap()))
        .collect();
    assert_eq!(looked_at["epochs"], 4, "{looked_at:?}");
    assert_eq!(looked_at["marks"], 4, "{looked_at:?}");
    assert_eq!(looked_at["catalogs"], 1, "{looked_at:?}");
    assert!(looked_at["heads"] >= 20 && looked_at["chunks"] >= 4, "{looked_at:?}");
    let table = run(millrace(&["doctor", "-o", "table", "--data", data.to_str().unwrap()])).await;
    assert_eq!(table.code, 0);
    assert!(table.stdout.contains("chunks") && table.stdout.contains("ok"), "{}", table.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_damage_is_named() {
    let (parent, _) = folder().await;
    let data = parent.path().join("data");

    let nothing = tempfile::tempdir().unwrap();
    assert_named(&doctor(nothing.path()).await, "folder", &["no data folder", "--data"]);

    let folder = copy(&data);
    fs::remove_file(folder.path().join("millrace.format")).unwrap();
    assert_named(&doctor(folder.path()).await, "folder", &["millrace.format is missing"]);

    let missing = nothing.path().join("missing");
    assert_named(&doctor(&missing).await, "folder", &["looking at it", "missing"]);

    for entry in ["millrace.format", "log/version", "snapshots/version"] {
        let folder = copy(&data);
        let path = folder.path().join(entry);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let named = entry.split('/').next().unwrap();
        assert_named(&doctor(folder.path()).await, "folder", &["is damaged", named]);
        assert_eq!(fs::read(&path).unwrap().len(), bytes.len() / 2, "{entry} was changed");
    }

    let folder = copy(&data);
    let path = folder.path().join("log/0.jnl");
    let mut journal = fs::read(&path).unwrap();
    journal[200] ^= 1;
    fs::write(&path, journal).unwrap();
    let shown = folder.path().to_str().unwrap();
    assert_named(&doctor(folder.path()).await, "folder", &[shown, "log: journal 0.jnl", "byte"]);

    let (folder, store) = opened(&data);
    ahead(&store, slot_in_use(&store).await).await.unwrap();
    drop(store);
    assert_named(&doctor(folder.path()).await, "marks", &["mark of slot", "not in the log"]);

    let (folder, store) = opened(&data);
    without_a_page(&store).await;
    drop(store);
    assert_named(&doctor(folder.path()).await, "heads", &["head of entity", "which is gone"]);

    let (folder, store) = opened(&data);
    garbled_chunk(&store, slot_in_use(&store).await).await;
    drop(store);
    assert_named(&doctor(folder.path()).await, "chunks", &["chunk 1.1 of slot", "checksum"]);

    let (folder, store) = opened(&data);
    missing_chunk(&store, slot_in_use(&store).await).await;
    drop(store);
    assert_named(&doctor(folder.path()).await, "chunks", &["of slot", "is missing"]);

    let (folder, store) = opened(&data);
    store.put_catalog(2, "entities: 7".into()).await.unwrap();
    drop(store);
    assert_named(&doctor(folder.path()).await, "catalogs", &["version 2", "does not compile"]);
}

pub(crate) async fn slot_in_use(store: &FjallStore) -> SlotId {
    for slot in (0..store.slots()).map(SlotId) {
        if store.last_chunk(slot, 1).await.unwrap().is_some() {
            return slot;
        }
    }
    panic!("no slot holds a chunk");
}

/// A mark that covers more than the log has.
async fn ahead(store: &FjallStore, slot: SlotId) -> Result<(), StoreError> {
    let (ver, mark) = store.load_mark(slot).await?.unwrap();
    let position = Position { sequence: mark.position.sequence + 9, ..mark.position };
    store.put_mark(slot, KnownAt(ver.0 + 1), Mark { position, ..mark }).await
}

/// A head that lists a page which was deleted.
async fn without_a_page(store: &FjallStore) {
    let plan = Plan::new(Arc::new(Catalog::compile(CATALOG, None).unwrap()));
    for user in 0..20 {
        let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
        let entity = Entity { kind: KindId(0), key };
        let head = store.load(vec![(entity.clone(), Part::Head)]).await.unwrap().remove(0);
        let head = Head::decode(plan.kind(KindId(0)).unwrap(), &head.unwrap().1).unwrap();
        if let Some((ver, number)) = head.part_names().0.first() {
            let (part, ver) = (Part::Page(*ver, *number), KnownAt(ver.0 + 1));
            let put = Put { slot: SlotId(0), entity, part, ver, bytes: Bytes::new() };
            return store.put(vec![put]).await.unwrap();
        }
    }
    panic!("no head lists a page");
}

/// A chunk whose bytes are not what was written, below fjall's own sums.
pub(crate) async fn garbled_chunk(store: &FjallStore, slot: SlotId) {
    let first = Position { epoch: 1, sequence: 1 };
    let page = store.read_log(slot, Position::START, first, usize::MAX).await.unwrap();
    let mut bytes = page.chunks[0].1.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 4;
    let known_at = KnownAt(i64::MAX);
    let append = Append { slot, position: first, known_at, bytes: bytes.into() };
    store.append(vec![append]).await.unwrap();
}

/// An epoch that was sealed at a chunk which is not there.
async fn missing_chunk(store: &FjallStore, slot: SlotId) {
    let last = store.last_epoch(slot).await.unwrap().unwrap();
    let next = SlotEpoch {
        epoch: last.epoch + 1,
        floor: KnownAt(last.floor.0 + 1),
        previous_end: 0,
        released: None,
        ..last.clone()
    };
    let (end, _) = last.released.unwrap();
    let sealed = SlotEpoch { previous_end: end, ..next.clone() };
    let after = SlotEpoch {
        epoch: next.epoch + 1,
        floor: KnownAt(next.floor.0 + 1),
        previous_end: 1,
        ..next
    };
    store.insert_epoch(slot, sealed).await.unwrap();
    store.insert_epoch(slot, after).await.unwrap();
}

/// The one finding of a look at a database, in its place.
#[track_caller]
fn assert_finding(ran: &Ran, check: &str, words: &[&str]) {
    assert_eq!(ran.code, 1, "{ran:?}");
    let report = ran.json();
    assert_eq!((&report["clean"], &report["state"]), (&false.into(), &"fail".into()), "{report}");
    let findings = report["checks"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
    assert_eq!(finding["state"], "fail", "{report}");
    let text = format!("{} {}", finding["found"], finding["next"]);
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(ran.stderr.contains("do what is said beside each problem"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_with_the_setting() {
    let doctor = ["doctor", "-o", "json", "--cql", "127.0.0.1:1"];
    let ran = run(millrace(&doctor)).await;
    let words = ["127.0.0.1:1", "can be reached", "--cql", "MILLRACE_CQL"];
    assert_finding(&ran, "database", &words);
    // A rule is broken before anything is connected.
    let broken = [&doctor[..], &["--cql-keyspace", "No; DROP"]].concat();
    assert_finding(&run(millrace(&broken)).await, "database", &["keyspace", "lower-case"]);
    // The Redis beside it is looked at all the same.
    let redis = [&doctor[..], &["--redis", "redis://127.0.0.1:1"]].concat();
    let words = ["redis://127.0.0.1:1", "start Redis", "--redis", "MILLRACE_REDIS"];
    assert_finding(&run(millrace(&redis)).await, "redis", &words);

    let mut command = millrace(&["doctor", "-o", "table"]);
    command.env("MILLRACE_CQL", "127.0.0.1:1");
    let table = run(command).await;
    assert_eq!(table.code, 1, "{table:?}");
    assert!(table.stdout.starts_with("fail database"), "{}", table.stdout);
    assert!(table.stdout.contains("\n  next: start the database"), "{}", table.stdout);
}

#[tokio::test]
async fn settings_of_a_database_come_from_a_file_and_are_refused_where_they_cannot_be_meant() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store-writer.toml");
    fs::write(&file, "slots = 8\n[cql]\nnodes = [\"127.0.0.1:1\"]\nkeyspace = \"mine\"\n").unwrap();
    let file = file.to_str().unwrap();
    let ran = run(millrace(&["doctor", "-o", "json", "--config", file])).await;
    assert_finding(&ran, "database", &["127.0.0.1:1"]);
    assert_eq!(ran.json()["keyspace"], "mine");

    let ran = run(millrace(&["doctor", "--config", file, "--data", "."])).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("leave out --data, or --cql"), "{}", ran.stderr);
    let ran = run(millrace(&["doctor", "--cql", "127.0.0.1:1", "--cql-user", "u"])).await;
    assert!(ran.stderr.contains("--cql-user and --cql-password-file"), "{}", ran.stderr);
    let ran = run(millrace(&["doctor", "--cql-user", "u"])).await;
    assert!(ran.stderr.contains("say --cql HOST:PORT"), "{}", ran.stderr);
}
