//! The operator's page lists what the code has: every metric, every error, every limit.

mod fixed;
mod limits;

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use millrace::cli::Cli;
use millrace::metrics::PARTS;
use millrace::serve::ServeKeys;
use millrace_grpc::ErrorCode;

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// The rows of the tables below a heading and above the next of its level, as cells; the heads of
/// the tables are left out.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let level = heading.chars().take_while(|c| *c == '#').count();
    let mut lines = PAGE.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "docs/operations.md has no heading {heading:?}");
    let next = |line: &&str| {
        let marks = line.chars().take_while(|c| *c == '#').count();
        !(marks > 0 && marks <= level)
    };
    lines
        .take_while(next)
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// Compares what is written with what is; says which rows to write.
#[track_caller]
fn assert_rows(heading: &str, written: &[Vec<String>], expected: &[Vec<String>]) {
    let line = |row: &Vec<String>| format!("| {} |", row.join(" | "));
    let all = || expected.iter().map(line).collect::<Vec<_>>().join("\n");
    for row in expected {
        assert!(written.contains(row), "{heading} lacks {}\nall of it:\n{}", line(row), all());
    }
    for row in written {
        assert!(expected.contains(row), "{heading} has {}, which is no more", line(row));
    }
    assert_eq!(written.len(), expected.len(), "{heading} has a row twice");
}

#[test]
fn every_metric_is_on_the_page_and_no_other() {
    for (part, metrics) in PARTS {
        let heading = format!("### {part}");
        let expected: Vec<Vec<String>> = metrics
            .iter()
            .map(|metric| {
                let labels: Vec<String> =
                    metric.labels.iter().map(|label| format!("`{label}`")).collect();
                vec![
                    format!("`{}`", metric.name),
                    metric.kind.to_string(),
                    if labels.is_empty() { "–".to_owned() } else { labels.join(", ") },
                    metric.help.to_owned(),
                ]
            })
            .collect();
        assert_rows(&heading, &rows(&heading), &expected);
    }
}

/// Rules that name what is not there would never fire.
#[test]
fn the_page_names_no_metric_that_is_not_there() {
    let known: Vec<&str> =
        PARTS.iter().flat_map(|(_, metrics)| *metrics).map(|metric| metric.name).collect();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = 0;
    for name in PAGE.split(|c| !word(c)).filter(|name| name.starts_with("millrace_")) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(known.contains(&name) || base.is_some_and(|b| known.contains(&b)), "{name}");
        found += 1;
    }
    assert!(found > known.len(), "the rules name some");
}

#[test]
fn every_error_is_on_the_page_with_what_to_do() {
    let written: BTreeMap<String, Vec<String>> =
        rows("## Errors").into_iter().map(|row| (row[0].clone(), row)).collect();
    assert_eq!(written.len(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        let row = written.get(&format!("`{}`", code.reason()));
        let row = row.unwrap_or_else(|| panic!("{} is not on the page", code.reason()));
        assert_eq!(row[1], status(code), "{}", code.reason());
        assert_eq!(row[2], if code.is_retryable() { "yes" } else { "no" }, "{}", code.reason());
        assert!(row[3].len() > 20, "{} says what to do", code.reason());
    }
}

/// Options of every command that are none of a service.
const OF_COMMANDS: [&str; 6] =
    ["endpoint", "serving-endpoint", "output", "timeout", "quiet", "config"];

#[test]
fn every_setting_of_a_service_is_on_the_page() {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").expect("there is such a command");
    let rows = rows("## Settings of `millrace serve`");
    let mut found = 0;
    for arg in serve.get_arguments() {
        let (Some(long), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        if OF_COMMANDS.contains(&long) {
            continue;
        }
        let flag = |cell: &String| {
            let rest = cell.strip_prefix("`--").and_then(|cell| cell.strip_prefix(long));
            rest.is_some_and(|rest| rest.starts_with([' ', '`']))
        };
        let variable = format!("`{}`", variable.to_string_lossy());
        let row = rows.iter().find(|row| row.iter().any(flag));
        let row = row.unwrap_or_else(|| panic!("--{long} is not among the settings"));
        assert!(row.contains(&variable), "--{long} is set by {variable}: {row:?}");
        found += 1;
    }
    assert_eq!(found, rows.len(), "there is a row that is no setting");
}

#[test]
fn the_file_takes_the_keys_of_the_page() {
    let rows = rows("## Settings of `millrace serve`");
    let keys = rows.iter().map(|row| row[0].trim_matches('`')).filter(|cell| cell.contains('.'));
    let keys: Vec<&str> = keys.collect();
    assert_eq!(keys.len(), 19, "{keys:?}");
    for key in keys {
        let value = match key {
            "security.insecure" => "true",
            "cql.nodes" => "[\"x\"]",
            "redis.expiry" => "\"1h\"",
            _ => "\"x\"",
        };
        let read = toml::from_str::<ServeKeys>(&format!("{key} = {value}"));
        assert!(read.is_ok(), "{key}: {read:?}");
    }
}

/// The status as the protocol writes it.
fn status(code: ErrorCode) -> String {
    let mut name = String::new();
    for (index, c) in format!("{:?}", code.grpc_code()).char_indices() {
        if c.is_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}
