//! A disk that is full, or that cannot be written to: a clear refusal, and nothing acknowledged is lost.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use millrace_e2e_tests::{DevOptions, PublishReport, http_get, wait_until};

use crate::apart::Place;
use crate::fixture::{CLICKS, Site, pair};
use crate::folders::refusal;

/// A disk of this size is full within, on a machine that builds beside the tests.
const FULL_WITHIN: Duration = Duration::from_secs(120);

/// A small file system in memory, unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, said on stderr, where this user may not mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        if disk.run("mount", &["-t", "tmpfs", "-o", &size(megabytes), "tmpfs"]) {
            return Some(disk);
        }
        say_left_out();
        None
    }

    fn grow(&self, megabytes: u32) {
        let options = format!("remount,{}", size(megabytes));
        assert!(self.run("mount", &["-o", &options]), "it can be remounted");
    }

    /// Makes it one that can only be read, or one that can be written to again.
    fn turn(&self, how: &str) {
        assert!(self.run("mount", &["-o", &format!("remount,{how}")]), "it can be remounted");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, program: &str, args: &[&str]) -> bool {
        let status = Command::new(program).args(args).arg(self.path()).status();
        status.is_ok_and(|status| status.success())
    }
}

#[expect(clippy::print_stderr, reason = "a test that leaves something out must say so")]
fn say_left_out() {
    eprintln!("left out: this user may not mount a small file system");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failing test left may still have files open for a moment.
        self.run("umount", &["-l"]);
    }
}

fn size(megabytes: u32) -> String {
    format!("size={megabytes}m")
}

/// About a megabyte of clicks whose categories hardly compress.
fn clicks(part: u64) -> Vec<String> {
    let mut state = part.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let mut rows = vec![CLICKS.to_owned()];
    for n in 0..2_000 {
        let category: String = (0..30).map(|_| noise()).collect();
        let at = 1_709_280_000_000_000 + (part * 2_000 + n) * 1_000;
        rows.push(format!("p{part}-{n},{},{at},0,,1,1,{category}", n % 20));
    }
    rows
}

fn publish(site: &Site, file: &Path) -> Result<PublishReport, String> {
    site.cli().publish([pair("clicks", file)]).map_err(|error| error.to_string())
}

/// Whatever its format, a set that does not fit is said to be so, and what stood in its place stays.
#[test]
fn a_training_set_that_does_not_fit_is_no_file() {
    const MEGABYTES: u32 = 1;
    let Some(disk) = SmallDisk::mount(MEGABYTES) else { return };
    let site = Site::new();
    site.publish("clicks", &[CLICKS, "e1,1,2026-03-01T10:00:00Z,,,500,1.5,a"]);
    // A column that hardly compresses: each format has more to write than there is room for.
    let header = "user_id,at,note";
    let rows: Vec<String> = (0..24_u64)
        .flat_map(|part| clicks(part).into_iter().skip(1))
        .map(|row| row.rsplit(',').next().unwrap_or_default()[..64].to_owned())
        .map(|note| format!("1,2026-03-01T12:00:00Z,{note}"))
        .collect();
    let lines: Vec<&str> = std::iter::once(header).chain(rows.iter().map(String::as_str)).collect();
    let spine = site.file("spine.csv", &lines).display().to_string();
    for name in ["set.parquet", "set.arrow", "set.csv", "set.ndjson"] {
        let out = disk.path().join(name);
        std::fs::write(&out, "the set of yesterday").expect("there is room for it");
        let file = out.display().to_string();
        let args = ["training", "user_activity", "--spine", &spine, "--known-at", "latest"];
        let done = site.cli().run(args.into_iter().chain(["--out", file.as_str()]));
        let done = done.expect("it ends");
        assert_eq!(done.code, 1, "{name}: {}", done.stderr);
        let says = done.stderr.contains(&file) && done.stderr.contains("No space left");
        assert!(says, "{name} says {}", done.stderr);
        let left: Vec<_> = std::fs::read_dir(disk.path())
            .expect("it is mounted")
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        assert_eq!(left, [name], "something else was left");
        let stands = std::fs::read_to_string(&out).expect("it is still there");
        assert_eq!(stands, "the set of yesterday");
        std::fs::remove_file(&out).expect("it can be removed");
    }
}

#[test]
fn a_full_disk_refuses_clearly_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let mut site = Site::with(|options| options.data = disk.path().join("data"));
    let mut acknowledged = Vec::new();
    let mut refusal = None;
    for part in 0..100 {
        let lines = clicks(part);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let file = site.file(&format!("part{part}.csv"), &lines);
        match publish(&site, &file) {
            Ok(report) => {
                assert_eq!(report.accepted, report.sent, "{report:?}");
                acknowledged.push(file);
            }
            Err(error) => {
                refusal = Some((file, error));
                break;
            }
        }
    }
    let (refused, error) = refusal.expect("a hundred megabytes do not fit into forty");
    assert!(!acknowledged.is_empty(), "nothing fitted: {error}");
    let said = format!("{error}\n{}", site.server().log()).to_lowercase();
    assert!(said.contains("bytes are free there") || said.contains("space"), "{said}");

    disk.grow(400);
    let port = site.server().port();
    site.crash_and_restart();
    assert_eq!(site.server().port(), port);
    for file in &acknowledged {
        let report = publish(&site, file).expect("there is room again");
        assert_eq!(report.duplicate, report.sent, "{}: {report:?}", file.display());
    }
    let report = publish(&site, &refused).expect("there is room again");
    assert_eq!(report.accepted + report.duplicate, report.sent, "{report:?}");
}

/// Nothing starts on a disk that can only be read, which is told with what to do. Once it can be written to,
/// all is there.
#[test]
fn a_disk_that_can_only_be_read_is_refused() {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let folder = disk.path().join("data");
    let mut site = Site::with(|options| options.data.clone_from(&folder));
    let lines = [CLICKS, "c1,1,2024-03-01T10:00:00Z,0,,1,1,book"];
    assert_eq!(site.publish("clicks", &lines).accepted, 1);
    assert_eq!(site.stop(), 0);
    disk.turn("ro");
    for data in [folder, disk.path().join("new")] {
        let said = refusal(&DevOptions::on(&data));
        let name = data.display().to_string();
        for words in [&*name, "Read-only file system", "mount it for writing, or choose another"] {
            assert!(said.contains(words), "{words} is not in: {said}");
        }
    }
    disk.turn("rw");
    site.start_again();
    let report = site.publish("clicks", &lines);
    assert_eq!((report.sent, report.duplicate), (1, 1), "{report:?}");
}

/// Apart, join ends and store-writer stays, for reads: it is not ready and says why. Once there is room
/// and both were started again, all goes on, and nothing that was acknowledged is lost.
#[test]
fn a_store_writer_that_cannot_write_is_not_ready_and_says_why() {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let mut place = Place::made(|options| {
        options.data = disk.path().join("data");
        options.admin = true;
    });
    let ready = |admin| http_get(admin, "/readyz").map_or(0, |(status, _)| status);
    let admin = place.services.admin("store-writer").expect("an admin port");
    assert_eq!(ready(admin), 200);
    let mut lines = vec![CLICKS.to_owned()];
    lines.extend((0..40).flat_map(|part| clicks(part).into_iter().skip(1)));
    let file = pair("clicks", &place.write("clicks.csv", &lines.join("\n")));
    let (cli, total) = (place.cli(), lines.len() as u64 - 1);
    let publishing = {
        let file = file.clone();
        thread::spawn(move || cli.publish([file]))
    };
    wait_until("store-writer to say that it cannot write", FULL_WITHIN, || {
        (ready(admin) == 503).then_some(())
    });
    let log = place.services.log("store-writer");
    assert!(log.contains("not serving") && log.contains("Make room"), "{log}");
    let read = ["user_activity", "1", "--at", "2026-03-02T00:00:00Z", "--features", "clicks"];
    assert_eq!(place.cli().get(read).expect("reads go on").len(), 1);
    assert_ne!(place.services.wait("join", FULL_WITHIN).expect("it ends"), 0);

    disk.grow(400);
    for service in ["store-writer", "join"] {
        place.kill_and_start(service);
    }
    // Join may end before it has passed on why: then ingest sends the facts to the next one, which has room.
    match publishing.join().expect("no panic") {
        Err(refused) => assert!(refused.to_string().contains("cannot write"), "{refused}"),
        Ok(report) => {
            let settled = report.accepted + report.duplicate;
            assert_eq!((report.sent, settled), (total, total), "{report:?}");
        }
    }
    let report = place.cli().publish([&file]).expect("there is room again");
    assert_eq!((report.sent, report.accepted + report.duplicate), (total, total), "{report:?}");
    assert!(report.duplicate > 0, "what was acknowledged is there: {report:?}");
    assert_eq!(ready(place.services.admin("store-writer").expect("an admin port")), 200);
}
