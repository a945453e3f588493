//! Training sets in little memory: the same as in much, and the server keeps to it.

use std::fs;
use std::path::{Path, PathBuf};

use millrace_e2e_tests::{Apart, ApartOptions, Scrape};
use tempfile::TempDir;

use super::VIEW;
use crate::fixture::{CLICKS, catalog, pair};

/// Little enough that entities of a slot take turns and rows are answered in sections.
const TRAINING_BYTES: u64 = 16 << 20;
/// What feature-serving may take at most with it, all else that it holds included. It takes far less:
/// whatever is kept of every section that was answered is more before long.
const PEAK_BYTES: u64 = 384 << 20;

/// Services apart with facts of one slot. They end before their folder does.
struct Scene {
    services: Apart,
    folder: TempDir,
}

impl Scene {
    /// With a catalog and these clicks, as lines of CSV.
    fn start(source: &str, header: &str, clicks: impl Iterator<Item = String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = ApartOptions::on(&folder.path().join("data"));
        options.slots = Some(1);
        options.admin = true;
        let services = Apart::start(&options).expect("the services start");
        let scene = Self { services, folder };
        let catalog = scene.file("catalog.yaml", source);
        let cli = scene.services.cli();
        let applied = cli.run([Path::new("apply"), &catalog]);
        applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        let lines: Vec<String> = std::iter::once(header.to_owned()).chain(clicks).collect();
        let path = scene.file("clicks.csv", &lines.join("\n"));
        let report = cli.publish([pair("clicks", &path)]).expect("published");
        assert_eq!(report.accepted as usize, lines.len() - 1, "{report:?}");
        scene.services.settle();
        scene
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Makes the set of a spine; how many facts were looked at, and the set.
    fn make(&self, spine: &Path, rows: usize, out: &str) -> (u64, Vec<u8>) {
        let (spine, out) = (spine.display().to_string(), self.folder.path().join(out));
        let file = out.display().to_string();
        let args = ["training", VIEW, "--spine", &spine, "--known-at", "latest", "--out", &file];
        let told = self.services.cli().json(args).expect("made");
        assert_eq!(told["rows"], rows);
        (told["facts_read"].as_u64().expect("a number"), fs::read(&out).expect("the set"))
    }

    /// Makes the set of these rows in much memory and in little, which must be the same one. Gives how many
    /// facts were looked at.
    #[expect(clippy::print_stderr, reason = "how far the peak is from its bound is for people")]
    fn compare(&mut self, header: &str, rows: &[String]) -> [u64; 2] {
        let spine = self.file("spine.csv", &format!("{header}\n{}", rows.join("\n")));
        let (usual_facts, usual) = self.make(&spine, rows.len(), "usual.csv");
        // A process of its own: the peak is of what is made in little memory alone.
        self.services.kill("feature-serving").expect("it can be killed");
        let little = vec![("MILLRACE_TRAINING_BYTES", TRAINING_BYTES.to_string())];
        self.services.start_again_with("feature-serving", little).expect("it starts again");
        let (facts, small) = self.make(&spine, rows.len(), "small.csv");
        assert!(small == usual, "the set depends on the memory it is made in");
        self.assert_divided(rows.len(), facts);
        let peak = self.services.peak_bytes("feature-serving").expect("it still runs");
        let taken = peak >> 20;
        eprintln!("training: feature-serving took {taken} MiB at most");
        assert!(peak <= PEAK_BYTES, "feature-serving took {taken} MiB");
        [usual_facts, facts]
    }

    /// Whether the set was made in parts, as the server counts.
    fn assert_divided(&self, rows: usize, facts: u64) {
        let admin = self.services.admin("feature-serving").expect("it has an admin port");
        let scrape = Scrape::of(admin).expect("metrics");
        let counted = |name: &str| scrape.sum(&format!("millrace_training_{name}"), &[]);
        assert_eq!(counted("sets"), 0.0);
        assert_eq!(counted("rows_total"), rows as f64);
        assert_eq!(counted("facts_total"), facts as f64);
        assert!(counted("sections_total") > 1.0, "{scrape:?}");
        let divided = [("outcome", "divided")];
        assert!(scrape.sum("millrace_training_slot_reads_total", &divided) > 0.0, "{scrape:?}");
    }
}

/// Few entities with many facts and rows each.
#[test]
fn a_set_larger_than_its_memory_is_the_same_set() {
    let click = |n: usize| {
        let second = n % 80_000;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let at = format!("2026-03-01T{hour:02}:{minute:02}:{second:02}Z");
        format!("e{n},{},{at},,,{},{}.5,a category of some length {n}", n % 97, n % 900, n % 50)
    };
    let source = fs::read_to_string(catalog("clickprofile.yaml")).expect("it is there");
    let mut scene = Scene::start(&source, CLICKS, (0..40_000).map(click));
    let row = |n: usize| format!("{},2026-03-0{}T12:00:00Z", n % 97, 1 + n % 2);
    let rows: Vec<String> = (0..250_000).map(row).collect();
    let [usual, facts] = scene.compare("user_id,at", &rows);
    assert!(facts >= 3 * usual, "the log was read {facts} facts of {usual}");
}

/// Many entities with few facts each: long keys, and answers that are lists.
#[test]
fn a_set_of_many_long_keys_and_lists_is_the_same_in_little_memory() {
    const CATALOG: &str = "\
entities: {user: string}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: string, ts: timestamp, item: string}
views:
  user_activity:
    entity: user
    events: clicks
    features:
      clicks: {count: {}}
      last_items: {last_n: item, n: 5}
      favourite_items: {top_k: item, k: 5}
";
    const USERS: usize = 30_000;
    let user = |n: usize| {
        format!("a user with a name of some length, so that keys weigh, {:08}", n % USERS)
    };
    let click = |n: usize| {
        let at = format!("2026-03-01T{:02}:00:00Z", n / USERS);
        format!("e{n},\"{}\",{at},an item of some length {}", user(n), n % 1_009)
    };
    let mut scene = Scene::start(CATALOG, "event_id,user_id,ts,item", (0..4 * USERS).map(click));
    // Each user before, between and after the clicks.
    let instant = |n: usize| ["00:00:00", "00:30:00", "12:00:00"][n / USERS];
    let row = |n: usize| format!("\"{}\",2026-03-01T{}Z", user(n), instant(n));
    let rows: Vec<String> = (0..3 * USERS).map(row).collect();
    let [usual, facts] = scene.compare("user_id,at", &rows);
    assert!(facts > usual, "the log was read {facts} facts of {usual}");
}
