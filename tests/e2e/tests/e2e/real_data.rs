//! Real data sets, published whole in several orders, read through the command line and compared
//! with the oracle.
//!
//! In each order and whichever stream comes first, every feature of sampled entities at sampled
//! instants equals the oracle's answer over all facts, so the orders also equal each other.

mod expected;

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, Cli, Dev, DevOptions, HarnessError, Order, Table};
use millrace_test_servers::{Cassandra, Redis, RedisOptions};
use millrace_test_support::real_data::{DataSet, Folder, ONLINE_RETAIL, VCPKG_PORTS};

use expected::Expected;

use crate::fixture::pair;

/// The oracle's answers, computed once for all orders.
static VCPKG_PORTS_EXPECTED: OnceLock<Expected> = OnceLock::new();
static ONLINE_RETAIL_EXPECTED: OnceLock<Expected> = OnceLock::new();

/// Publishes a data set in this order, each file whole before the next one, events first and
/// events last, and checks every sampled read.
fn check(data: &DataSet, expected: &OnceLock<Expected>, order: Order) {
    let source = match data.find().expect("the real data sets") {
        Folder::Present(source) => source,
        Folder::Absent(wanted) => return say_left_out(&wanted),
    };
    let expected = expected.get_or_init(|| Expected::compute(data, &source));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = in_order(data, &source, order, folder.path());
    let reversed = files.iter().rev().cloned().collect();
    for (first, files) in [("events", files), ("changelogs", reversed)] {
        let server =
            Dev::start(&DevOptions::on(&folder.path().join(first))).expect("the server starts");
        let cli = server.cli();
        let apply = cli.run(["apply".as_ref(), data.catalog_path().as_os_str()]);
        apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        // A comparison that could not fail would prove nothing: before the facts there is one.
        assert!(!expected.differences(&cli).is_empty(), "the oracle expects nothing");
        publish(&cli, &files, expected, true).expect("published");
        let differences = expected.differences(&cli);
        assert!(
            differences.is_empty(),
            "{} {order:?}, {first} first: {} of {} features differ from the oracle, such as\n{}",
            data.name,
            differences.len(),
            expected.features(),
            differences[..differences.len().min(5)].join("\n")
        );
        let offline = expected.training_differences(&cli, folder.path(), "latest");
        assert_eq!(offline, [""; 0], "{} {order:?}, {first} first, offline", data.name);
    }
}

/// The files of a data set with their rows in this order, each behind its stream.
fn in_order(data: &DataSet, source: &Path, order: Order, folder: &Path) -> Vec<String> {
    let file = |(stream, file): &(&str, &str)| {
        let original = source.join(file);
        if order == Order::Given {
            return pair(stream, &original);
        }
        let path = folder.join(format!("{stream}.csv"));
        let table = Table::read(&original).expect("a table").ordered(order);
        table.write(&path).expect("a file can be written");
        pair(stream, &path)
    };
    data.files.iter().map(file).collect()
}

/// Imports a data set, each fact known when it happened, and checks every sampled row of training sets,
/// as known at its own instant and latest; then publishes all of it once more, which changes nothing.
fn check_imported(data: &DataSet, expected: &OnceLock<Expected>) {
    let source = match data.find().expect("the real data sets") {
        Folder::Present(source) => source,
        Folder::Absent(wanted) => return say_left_out(&wanted),
    };
    let expected = expected.get_or_init(|| Expected::compute(data, &source));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = Vec::new();
    for (stream, file) in data.files {
        // Files keep the order in which their rows were known.
        let mut table = Table::read(&source.join(file)).expect("a table");
        let at = table.header.iter().position(|name| name == expected.at_column(stream));
        let at = at.expect("the column of instants");
        table.rows.sort_by(|a, b| a[at].cmp(&b[at]));
        let path = folder.path().join(format!("{stream}.csv"));
        table.write(&path).expect("a file can be written");
        files.push(pair(stream, &path));
    }
    let server =
        Dev::start(&DevOptions::on(&folder.path().join("data"))).expect("the server starts");
    let cli = server.cli();
    let apply = cli.run(["apply".as_ref(), data.catalog_path().as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    let import = ["import"].into_iter().chain(files.iter().map(String::as_str));
    let told = cli.json(import).expect("imported");
    assert_eq!(told["sent"], expected.rows(), "every row is sent: {told}");
    let training = |known_at| expected.training_differences(&cli, folder.path(), known_at);
    let early = training("at-event");
    assert_eq!(early[..early.len().min(5)], [""; 0], "{} at event: {}", data.name, early.len());
    assert_eq!(training("latest"), [""; 0], "{} latest, imported", data.name);
    let again = cli.publish(&files).expect("published");
    assert_eq!(again.accepted, 0, "what was imported is known: {again:?}");
    assert_eq!(training("at-event"), [""; 0], "{} at event, published again", data.name);
}

/// Publishes a data set to services that run apart, which read stored heads, and checks every sampled read;
/// then once more after all of them were killed and started again.
fn check_apart(
    data: &DataSet,
    expected: &OnceLock<Expected>,
    order: Order,
    change: impl FnOnce(&mut ApartOptions),
) {
    let source = match data.find().expect("the real data sets") {
        Folder::Present(source) => source,
        Folder::Absent(wanted) => return say_left_out(&wanted),
    };
    let expected = expected.get_or_init(|| Expected::compute(data, &source));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = ApartOptions::on(&folder.path().join("data"));
    change(&mut options);
    let what = format!("{} {order:?} on {:?}", data.name, options.env);
    let mut services = Apart::start(&options).expect("the services start");
    let cli = services.cli();
    let apply = cli.run(["apply".as_ref(), data.catalog_path().as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    assert!(!expected.differences(&cli).is_empty(), "the oracle expects nothing");
    let files = in_order(data, &source, order, folder.path());
    publish(&cli, &files, expected, options.more.is_empty()).expect("published");
    services.settle();
    assert_eq!(expected.differences(&cli), [""; 0], "{what}");
    let offline = expected.training_differences(&cli, folder.path(), "latest");
    assert_eq!(offline, [""; 0], "{what}, offline");
    for service in services.names() {
        services.kill(service).expect("it can be killed");
    }
    for service in services.names() {
        services.start_again(service).expect("it starts again");
    }
    assert_eq!(expected.differences(&cli), [""; 0], "{what}, after kills");
}

/// The same where two of each share Cassandra and Redis.
fn check_distributed(data: &DataSet, expected: &OnceLock<Expected>, order: Order) {
    let redis = Redis::start(RedisOptions::default()).expect("a Redis");
    check_apart(data, expected, order, |options| {
        let keyspace = format!("{}_{}", data.name.replace('-', "_"), order.name());
        options.env.extend(crate::cql::env(Cassandra::shared(), &keyspace));
        options.env.push(("MILLRACE_REDIS", redis.url()));
        options.more = vec!["store-writer-1", "join-1", "ingest-1", "feature-serving-1"];
    });
}

/// Publishes the files one after the other, until nothing waits for a rebuild.
fn publish(
    cli: &Cli,
    files: &[String],
    expected: &Expected,
    once: bool,
) -> Result<(), HarnessError> {
    let mut sent = 0;
    for file in files {
        let report = cli.publish([file])?;
        assert_eq!(report.rejected, 0, "every row is good: {report:?}");
        assert_eq!(report.late, 0, "nothing is too late: {report:?}");
        // Where slots have several owners a batch may be sent again to who took one over.
        if once {
            assert_eq!(report.duplicate, 0, "each fact once: {report:?}");
        }
        sent += report.sent;
    }
    assert_eq!(sent, expected.rows(), "every row is sent");
    cli.wait_for_rebuilds(Duration::from_secs(600));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a test that leaves something out must say so")]
fn say_left_out(folder: &Path) {
    eprintln!("left out: there is no data set at {}", folder.display());
}

#[test]
fn vcpkg_ports_as_given() {
    check(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Given);
}

#[test]
fn vcpkg_ports_reversed() {
    check(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Reversed);
}

#[test]
fn vcpkg_ports_shuffled() {
    check(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Shuffled(3));
}

#[test]
fn online_retail_as_given() {
    check(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED, Order::Given);
}

#[test]
fn online_retail_reversed() {
    check(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED, Order::Reversed);
}

#[test]
fn online_retail_shuffled() {
    check(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED, Order::Shuffled(3));
}

#[test]
fn vcpkg_ports_imported() {
    check_imported(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED);
}

#[test]
fn online_retail_imported() {
    check_imported(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED);
}

#[test]
fn vcpkg_ports_apart() {
    check_apart(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Given, |_| ());
}

#[test]
fn vcpkg_ports_distributed_as_given() {
    check_distributed(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Given);
}

#[test]
fn vcpkg_ports_distributed_reversed() {
    check_distributed(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Reversed);
}

#[test]
fn vcpkg_ports_distributed_shuffled() {
    check_distributed(&VCPKG_PORTS, &VCPKG_PORTS_EXPECTED, Order::Shuffled(5));
}

#[test]
fn online_retail_distributed_shuffled() {
    check_distributed(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED, Order::Shuffled(6));
}

/// Half a million rows take minutes on a cluster.
#[test]
fn online_retail_distributed_as_given_overnight() {
    check_distributed(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED, Order::Given);
}

#[test]
fn online_retail_distributed_reversed_overnight() {
    check_distributed(&ONLINE_RETAIL, &ONLINE_RETAIL_EXPECTED, Order::Reversed);
}
