//! What is served equals what the log says: after rebuilds, corrections and a crash, and from stored
//! heads where services run apart.

use millrace_e2e_tests::{Apart, ApartOptions, Cli};
use serde_json::Value;

use crate::fixture::{CLICKS, PROFILES, Site, catalog, pair};

/// Clicks of some users over two days, every tenth corrected, every fifteenth taken back.
fn clicks() -> Vec<String> {
    let click = |n: usize, revision: &str, op: &str| {
        let (user, day, hour) = (n % 37, 1 + n % 2, n % 24);
        let at = format!("2026-03-0{day}T{hour:02}:{:02}:00Z", n % 60);
        format!("e{n},{user},{at},{revision},{op},{},{}.25,c{}", n % 900, n % 50, n % 5)
    };
    let first = (0..2_000).map(|n| click(n, "", ""));
    let corrected = (0..2_000).step_by(10).map(|n| click(n, "1", ""));
    let gone = (0..2_000).step_by(15).map(|n| click(n, "2", "retract"));
    std::iter::once(CLICKS.to_owned()).chain(first).chain(corrected).chain(gone).collect()
}

fn profiles() -> Vec<String> {
    let profile = |n: usize| {
        let (user, hour) = (n % 37, n % 24);
        format!("p{n},{user},2026-03-01T{hour:02}:30:00Z,,,C{},{}", n % 7, n % 5)
    };
    std::iter::once(PROFILES.to_owned()).chain((0..150).map(profile)).collect()
}

fn compare(cli: &Cli, at: &str) -> Value {
    let told = cli.json(["parity", "--at", at]).expect("nothing differs");
    assert_eq!(told["mismatches"], 0, "{told}");
    told
}

#[test]
fn online_answers_equal_the_log_through_rebuilds_and_a_crash() {
    let mut site = Site::with(|options| options.at_hand_bytes = Some(4_096));
    for (stream, lines) in [("clicks", clicks()), ("profiles", profiles())] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        site.publish(stream, &lines);
        for at in ["latest", "2026-03-01T13:10:00Z"] {
            compare(&site.cli(), at);
        }
    }
    site.crash_and_restart();
    let told = compare(&site.cli(), "latest");
    let of_view = &told["views"][0];
    let seen = of_view["entities"].as_u64().zip(of_view["rebuilding"].as_u64());
    assert_eq!(seen.map(|(checked, left_out)| checked + left_out), Some(37), "{told}");
    let few = site.cli().json(["parity", "--sample", "5", "--seed", "3"]).expect("nothing differs");
    let of_view = &few["views"][0];
    let seen = of_view["entities"].as_u64().zip(of_view["rebuilding"].as_u64());
    assert_eq!(seen.map(|(checked, left_out)| checked + left_out), Some(5), "{few}");
}

#[test]
fn stored_heads_equal_the_log_where_services_run_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let services = Apart::start(&ApartOptions::on(folder.path())).expect("the services start");
    let cli = services.cli();
    let apply = cli.run(["apply".as_ref(), catalog("clickprofile.yaml").as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    for (stream, lines) in [("clicks", clicks()), ("profiles", profiles())] {
        let path = folder.path().join(format!("{stream}.csv"));
        std::fs::write(&path, lines.join("\n") + "\n").expect("a file can be written");
        cli.publish([pair(stream, &path)]).expect("published");
    }
    services.settle();
    assert_eq!(compare(&cli, "latest")["checked"], 37);
}
