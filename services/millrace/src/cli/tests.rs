use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;
use crate::files::Input;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn error(line: &str) -> String {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn options_of_every_command_stand_before_and_after_it() {
    for line in [
        "millrace -o json --endpoint http://h:1 --timeout 5s get user_activity 42",
        "millrace get -o json user_activity --endpoint http://h:1 42 --timeout 5s",
        "millrace get user_activity 42 --output json --timeout 5 --endpoint=http://h:1",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.global.output, Some(OutputFormat::Json), "{line}");
        assert_eq!(cli.global.endpoint, "http://h:1");
        assert_eq!(cli.global.timeout, Duration::from_secs(5));
        let Command::Get(get) = cli.command else { panic!("{line}") };
        assert_eq!((get.view.as_str(), get.keys), ("user_activity", vec!["42".to_owned()]));
        assert_eq!(get.at, ReadInstant::Now);
    }
    let cli = parse("millrace status").unwrap();
    assert_eq!(cli.global.output, None);
    assert_eq!(cli.global.timeout, Duration::from_secs(60));
}

#[test]
fn keys_and_instants_may_be_negative() {
    let line = "millrace get v -5 7,a --at -1 --known-at 2026-03-01T12:00:00Z --features a,b";
    let Command::Get(get) = parse(line).unwrap().command else { panic!("get") };
    assert_eq!(get.keys, ["-5", "7,a"]);
    assert_eq!(get.at, ReadInstant::At(millrace_types::Micros(-1)));
    assert!(matches!(get.known_at, Some(ReadInstant::At(_))));
    assert_eq!(get.features, ["a", "b"]);
    assert!(error("millrace get v 1 --at yesterday").contains("an instant is RFC 3339"));
}

#[test]
fn publish_takes_streams_with_files() {
    let line = "millrace publish clicks=a=b.csv profiles=- --producer p --rate 10 --format ndjson";
    let Command::Publish(publish) = parse(line).unwrap().command else { panic!("publish") };
    assert_eq!(publish.sources[0].stream, "clicks");
    assert_eq!(publish.sources[0].input, Input::File("a=b.csv".into()));
    assert_eq!(publish.sources[1].input, Input::Stdin);
    assert_eq!(publish.format, Some(Format::Ndjson));
    assert!(error("millrace publish clicks.csv").contains("STREAM=FILE"));
    assert!(error("millrace publish a=b --rate 0").contains("0 is not in 1.."));
    assert_eq!(parse("millrace publish").unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
}

#[test]
fn import_takes_fields_of_streams() {
    let line = "millrace import clicks=a.csv profiles=b.csv --known-at clicks=seen --known-at \
                profiles=x=y";
    let Command::Import(import) = parse(line).unwrap().command else { panic!("import") };
    assert_eq!(import.sources.len(), 2);
    let fields: Vec<_> =
        import.known_at.iter().map(|of| (of.stream.as_str(), of.field.as_str())).collect();
    assert_eq!(fields, [("clicks", "seen"), ("profiles", "x=y")]);
    assert!(error("millrace import clicks=a.csv --known-at seen").contains("STREAM=FIELD"));
    assert!(error("millrace import clicks=a.csv --rate 10").contains("--rate"));
}

#[test]
fn dev_has_the_documented_defaults() {
    let Command::Dev(dev) = parse("millrace dev").unwrap().command else { panic!("dev") };
    assert_eq!(dev.data, PathBuf::from(".millrace"));
    assert_eq!(dev.listen.to_string(), "127.0.0.1:7400");
    assert_eq!((dev.slots, dev.at_hand_bytes), (64, 64 << 20));
    assert!(error("millrace dev --slots 48").contains("power of two"));
}

#[test]
fn tail_begins_at_a_place() {
    let from = |line: &str| {
        let Command::Tail(tail) = parse(line).unwrap().command else { panic!("tail") };
        (tail.from, tail.until_idle)
    };
    assert_eq!(from("millrace tail v"), (TailFrom::Start, false));
    assert_eq!(from("millrace tail v --from now --until-idle"), (TailFrom::Now, true));
    let cursor = TailFrom::Cursor("abc".to_owned());
    assert_eq!(from("millrace tail v --from abc"), (cursor, false));
}

#[test]
fn times_have_units() {
    let timeout = |text: &str| values::duration(text);
    assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(timeout("1.5m"), Ok(Duration::from_secs(90)));
    assert!(timeout("0").is_err() && timeout("5d").is_err() && timeout("s").is_err());
}

#[test]
fn every_command_shows_examples() {
    let mut cli = Cli::command();
    let bench = cli.find_subcommand("bench").unwrap().clone();
    for command in cli.get_subcommands_mut().filter(|c| c.get_name() != "bench") {
        assert!(command.render_help().to_string().contains("Examples:"), "{}", command.get_name());
    }
    for mut command in bench.get_subcommands().cloned() {
        assert!(command.render_help().to_string().contains("Examples:"), "{}", command.get_name());
    }
}
