//! `kill -9` and full disks. The child is this very test binary, told by its environment to write
//! until it dies and to say what was acknowledged.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use millrace_store::memory::SplitMix64;
use millrace_store::{
    Append, CatalogStore, Incarnation, LogStore, Mark, NodeId, Part, Put, Retry, SnapshotStore,
    StoreError, take_over,
};
use millrace_store_fjall::{FjallStore, Options};
use millrace_types::chunk::encode_chunk;
use millrace_types::{ChunkHeader, Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};

const FOLDER: &str = "MILLRACE_TEST_FOLDER";
const RUN: &str = "MILLRACE_TEST_RUN";
const MODE: &str = "MILLRACE_TEST_MODE";
const SLOTS: u32 = 8;

struct Never;

#[async_trait::async_trait]
impl Retry for Never {
    async fn again(&mut self, _: &StoreError) -> bool {
        false
    }
}

fn open(folder: &Path) -> FjallStore {
    FjallStore::open(folder, &Options { slots: Some(SLOTS), ..Options::default() }).unwrap()
}

/// A chunk of 1 to 60 KiB whose bytes follow from its place.
fn chunk(slot: u32, position: Position) -> Bytes {
    let mut random = SplitMix64(u64::from(slot) << 40 | position.epoch << 20 | position.sequence);
    let length = 1_024 + random.below(60 << 10) as usize;
    let noise: Vec<u8> = std::iter::repeat_with(|| random.next_u64().to_le_bytes())
        .take(length / 8)
        .flatten()
        .collect();
    let known_at = KnownAt(position.sequence.cast_signed());
    let header = ChunkHeader { known_at, ..ChunkHeader::default() };
    Bytes::from(encode_chunk(&header, [noise.as_slice()]))
}

fn user(slot: u32) -> Entity {
    let key = EntityKey::try_new(&[KeyPart::Int64(i64::from(slot))]).unwrap();
    Entity { kind: KindId(1), key }
}

fn say(line: &str) {
    // To the pipe, past the capture of the test harness. Without a reader there is nothing to do.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Owns one slot and appends to it until the store refuses, saying what was acknowledged.
async fn write(store: Arc<FjallStore>, slot: u32, run: u64) -> StoreError {
    let node = NodeId(format!("writer-{slot}"));
    let (incarnation, id) = (Incarnation(run), SlotId(slot));
    // Each run is granted more versions than it stamps.
    let ceiling = KnownAt(run.cast_signed() << 40);
    if let Err(error) = store.renew_node(&node, incarnation, ceiling).await {
        return error;
    }
    let row = match take_over(&*store, id, &node, incarnation, &mut Never).await {
        Ok(row) => row,
        Err(error) => return error.into(),
    };
    for sequence in 1.. {
        let position = Position { epoch: row.epoch, sequence };
        let bytes = chunk(slot, position);
        let known_at = KnownAt(sequence.cast_signed());
        if let Err(error) = store.append(vec![Append { slot: id, position, known_at, bytes }]).await
        {
            return error;
        }
        say(&format!("chunk {slot} {position}"));
        if sequence % 4 == 0 {
            let ver = KnownAt(row.floor.0 + sequence.cast_signed());
            let bytes = Bytes::from(position.to_string());
            let head = Put { slot: id, entity: user(slot), part: Part::Head, ver, bytes };
            let mark = Mark {
                position,
                closed: known_at,
                watermarks: vec![],
                incarnations: vec![],
                views: vec![],
                latest: vec![],
                oldest_waiting: None,
                erasures: 0,
                filled: millrace_types::Filled::FIRST,
                retained: millrace_types::Retained::default(),
            };
            if let Err(error) = store.put(vec![head]).await {
                return error;
            }
            say(&format!("head {slot} {position}"));
            if let Err(error) = store.put_mark(id, ver, mark).await {
                return error;
            }
            say(&format!("mark {slot} {position}"));
        }
    }
    unreachable!("sequences do not end")
}

/// All slots side by side, until the first refusal.
async fn write_all(store: &Arc<FjallStore>, run: u64) -> StoreError {
    let mut slots = tokio::task::JoinSet::new();
    for slot in 0..SLOTS {
        slots.spawn(write(Arc::clone(store), slot, run));
    }
    let mut last = None;
    while let Some(error) = slots.join_next().await {
        last = Some(error.unwrap());
    }
    last.unwrap()
}

/// What was acknowledged: the last chunk, head and mark of each slot.
#[derive(Debug, Default)]
struct Acknowledged {
    chunks: BTreeMap<u32, Vec<Position>>,
    heads: BTreeMap<u32, Position>,
    marks: BTreeMap<u32, Position>,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [what @ ("chunk" | "head" | "mark"), slot, position] = words[..] else {
            return; // the test harness's own words
        };
        let (slot, position) = (slot.parse().unwrap(), position.parse().unwrap());
        match what {
            "chunk" => self.chunks.entry(slot).or_default().push(position),
            "head" => drop(self.heads.insert(slot, position)),
            _ => drop(self.marks.insert(slot, position)),
        }
    }

    async fn verify(&self, store: &FjallStore) {
        for slot in 0..SLOTS {
            let page = store
                .read_log(SlotId(slot), Position::START, Position::END, usize::MAX)
                .await
                .unwrap();
            let found: BTreeMap<_, _> = page.chunks.into_iter().collect();
            for position in self.chunks.get(&slot).into_iter().flatten() {
                assert_eq!(
                    found.get(position),
                    Some(&chunk(slot, *position)),
                    "chunk {position} of slot {slot} was acknowledged"
                );
            }
            if let Some(position) = self.heads.get(&slot) {
                let head = store.load(vec![(user(slot), Part::Head)]).await.unwrap().remove(0);
                let text = String::from_utf8(head.unwrap().1.to_vec()).unwrap();
                assert!(text.parse::<Position>().unwrap() >= *position);
            }
            if let Some(position) = self.marks.get(&slot) {
                let (_, mark) = store.load_mark(SlotId(slot)).await.unwrap().unwrap();
                assert!(mark.position >= *position);
                assert!(found.contains_key(&mark.position), "a mark is ahead of the log");
            }
        }
    }
}

/// The child, when the environment asks for it; otherwise nothing.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let run: u64 = std::env::var(RUN).unwrap().parse().unwrap();
    if std::env::var(MODE).as_deref() == Ok("open") {
        match FjallStore::open(&folder, &Options::default()) {
            Ok(_) => say("opened"),
            Err(error) => say(&format!("refused {error}")),
        }
        return;
    }
    let store = Arc::new(open(&folder));
    match std::env::var(MODE).as_deref() {
        Ok("full") => until_full(&store, run).await,
        Ok("verify") => {
            let mut acknowledged = Acknowledged::default();
            std::io::stdin().lines().for_each(|line| acknowledged.hear(&line.unwrap()));
            acknowledged.verify(&store).await;
            let chunks: usize = acknowledged.chunks.values().map(Vec::len).sum();
            // There is room again: the same folder takes writes.
            assert!(store.put_catalog(1, "entities: {}".into()).await.is_ok());
            say(&format!("verified {chunks}"));
        }
        Ok(other) => panic!("no such mode: {other}"),
        Err(_) => drop(write_all(&store, run).await),
    }
}

/// Writes until the disk is full. That is said at every later write too, and reads go on.
async fn until_full(store: &Arc<FjallStore>, run: u64) {
    let refused = write_all(store, run).await;
    let again = store.put_catalog(2, "x".repeat(1_000)).await.unwrap_err();
    for error in [refused, again] {
        let StoreError::Failed { reason } = &error else { panic!("{error:?}") };
        say(&format!("refused {reason}"));
    }
    store.read_log(SlotId(0), Position::START, Position::END, 1).await.unwrap();
}

fn spawn(mut command: Command, folder: &Path, run: u64) -> (Child, impl Iterator<Item = String>) {
    let mut child = command
        .env(FOLDER, folder)
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

fn this_binary() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture", "--quiet"]);
    command
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let mut acknowledged = Acknowledged::default();
    // How many lines are heard before the kill: the first run dies while it makes the folder, others
    // after memtables were flushed.
    for (run, patience) in (1..).zip([1, 25, 900, 1_300, 300, 1_500]) {
        let (mut child, lines) = spawn(this_binary(), &folder, run);
        let mut lines = lines.into_iter();
        for line in lines.by_ref().take(patience) {
            acknowledged.hear(&line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| acknowledged.hear(&line)); // said before it died
        // No stale lock, no torn row, nothing missing.
        let store = open(&folder);
        acknowledged.verify(&store).await;
    }
    let chunks: usize = acknowledged.chunks.values().map(Vec::len).sum();
    assert!(chunks > 500, "{chunks} chunks were acknowledged");
}

/// Shell commands that fill a disk and then make room: `$FILL` and `$VERIFY` are this binary.
fn full_disks(folder: &Path) -> Vec<String> {
    let room = folder.parent().unwrap().display();
    let mounted = |size: u32, ballast: u32| {
        format!(
            "mount -t tmpfs -o size={size}m tmpfs '{room}' \
             && head -c {ballast}M /dev/zero > '{room}/ballast' \
             && sh -c \"$FILL\"; rm -f '{room}/ballast'; sh -c \"$VERIFY\""
        )
    };
    let may_mount = Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("mount -t tmpfs tmpfs '{room}'")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if may_mount {
        // 24 MiB: the journal does not fit. 56 MiB: the memtable's file does not.
        vec![mounted(64, 40), mounted(96, 40)]
    } else {
        // Without the right to mount, the operating system is told to refuse longer files.
        drop(open(folder));
        vec!["(trap '' XFSZ; ulimit -f 16384; sh -c \"$FILL\"); sh -c \"$VERIFY\"".into()]
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_full_disk() {
    let parent = tempfile::tempdir().unwrap();
    let room = parent.path().join("room");
    std::fs::create_dir(&room).unwrap();
    let folder = room.join("data");
    let acknowledged = parent.path().join("acknowledged");
    let (binary, said) = (std::env::current_exe().unwrap(), acknowledged.display());
    let child = format!("'{}' child --exact --nocapture --quiet", binary.display());
    for script in full_disks(&folder) {
        // A namespace of its own: what is mounted there goes with it, however the test ends.
        let mut shell = Command::new("sh");
        if script.starts_with("mount") {
            shell = Command::new("unshare");
            shell.args(["--mount", "sh"]);
        }
        let output = shell
            .args(["-c", &script])
            .env(FOLDER, &folder)
            .env(RUN, "1")
            .env("FILL", format!("{MODE}=full {child} > '{said}'"))
            .env("VERIFY", format!("{MODE}=verify {child} < '{said}'"))
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let said = std::fs::read_to_string(&acknowledged).unwrap();
        let refused: Vec<_> = said.lines().filter(|line| line.starts_with("refused")).collect();
        assert_eq!(refused.len(), 2, "{script}: {said} {err}");
        for line in refused {
            assert!(line.contains(folder.to_str().unwrap()), "{line}");
            assert!(line.contains("everything acknowledged is kept"), "{line}");
        }
        let verified = out.lines().find_map(|line| line.strip_prefix("verified "));
        let chunks: u32 =
            verified.unwrap_or_else(|| panic!("{script}: {out} {err}")).parse().unwrap();
        assert!(chunks > 50, "{chunks} chunks were acknowledged");
    }
}

/// A folder that cannot be written is refused in words that say what to do, and is left as it is.
#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    drop(open(&folder));
    let child = format!(
        "{MODE}=open '{}' child --exact --nocapture --quiet",
        std::env::current_exe().unwrap().display()
    );
    let shown = folder.display();
    let mount = format!(
        "mount --bind '{shown}' '{shown}' && mount -o remount,ro,bind '{shown}' && {child}"
    );
    let run = |mut shell: Command, script: &str| {
        let output =
            shell.args(["-c", script]).env(FOLDER, &folder).env(RUN, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines()
            .find(|line| line.starts_with("refused") || *line == "opened")
            .map(str::to_owned)
    };
    let mut namespace = Command::new("unshare");
    namespace.args(["--mount", "sh"]);
    // Without the right to mount, this is no superuser, and the rights of files hold.
    let said = run(namespace, &mount).unwrap_or_else(|| {
        run(Command::new("sh"), &format!("chmod a-w '{shown}' '{shown}'/*; {child}")).unwrap()
    });
    assert!(said.starts_with("refused"), "{said}");
    assert!(said.contains(folder.to_str().unwrap()) && said.contains("millrace.lock"), "{said}");
    assert!(said.contains("or choose another folder"), "{said}");
}
