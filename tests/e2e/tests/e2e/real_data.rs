//! Real data sets, published whole in several orders, read through the command line and compared
//! with the oracle.
//!
//! In each order and whichever stream comes first, every feature of sampled entities at sampled
//! instants equals the oracle's answer over all facts, so the orders also equal each other.

mod answer;
mod expected;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use millrace_e2e_tests::{
    Cli, DataSet, Dev, DevOptions, HarnessError, Order, data_set, repository_root, wait_until,
};

use expected::Expected;

use crate::fixture::pair;

/// A data set, the example catalog for it, and its streams with their files, events first.
struct Subject {
    name: &'static str,
    streams: &'static [(&'static str, &'static str)],
    expected: OnceLock<Expected>,
}

static VCPKG_PORTS: Subject = Subject {
    name: "vcpkg-ports",
    streams: &[("touches", "events"), ("manifests", "profile_changes")],
    expected: OnceLock::new(),
};

static ONLINE_RETAIL: Subject = Subject {
    name: "online-retail",
    streams: &[("lines", "events"), ("items", "item_changes"), ("customers", "customer_changes")],
    expected: OnceLock::new(),
};

impl Subject {
    fn catalog(&self) -> PathBuf {
        repository_root().join("examples").join(format!("{}.yaml", self.name))
    }

    fn expected(&self, data: &DataSet) -> &Expected {
        self.expected.get_or_init(|| Expected::compute(&self.catalog(), data, self.streams))
    }

    /// Publishes everything in this order, each stream whole before the next one, and checks every
    /// sampled read.
    fn check(&self, order: Order) {
        let Some(data) = data_set(self.name).expect("the real data sets") else { return };
        let expected = self.expected(&data);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files: Vec<String> = self
            .streams
            .iter()
            .map(|(stream, file)| {
                let path = folder.path().join(format!("{file}.csv"));
                let table = data.table(file).expect("a table").ordered(order);
                table.write(&path).expect("a file can be written");
                pair(stream, &path)
            })
            .collect();
        let reversed = files.iter().rev().cloned().collect();
        for (first, files) in [("events", files), ("changelogs", reversed)] {
            let options = DevOptions::on(&folder.path().join(first));
            let server = Dev::start(&options).expect("the server starts");
            let cli = server.cli();
            let apply = cli.run(["apply".as_ref(), self.catalog().as_os_str()]);
            apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
            publish(&cli, &files, expected).expect("published");
            let differences = expected.differences(&cli);
            assert!(
                differences.is_empty(),
                "{} {order:?}, {first} first: {} of {} reads differ from the oracle, such as\n{}",
                self.name,
                differences.len(),
                expected.reads(),
                differences[..differences.len().min(5)].join("\n")
            );
        }
    }
}

/// Publishes the files one after the other, until nothing waits for a rebuild.
fn publish(cli: &Cli, files: &[String], expected: &Expected) -> Result<(), HarnessError> {
    let mut sent = 0;
    for file in files {
        let report = cli.publish([file])?;
        assert_eq!(report.rejected, 0, "the oracle takes every row: {report:?}");
        assert_eq!(report.duplicate + report.late, 0, "each fact once: {report:?}");
        sent += report.sent;
    }
    assert_eq!(sent, expected.rows(), "every row is sent");
    wait_until("the rebuilds", Duration::from_secs(600), || {
        let status = cli.json(["status"]).ok()?;
        (status["rebuild_queue"] == 0).then_some(())
    });
    Ok(())
}

#[test]
fn vcpkg_ports_as_given() {
    VCPKG_PORTS.check(Order::Given);
}

#[test]
fn vcpkg_ports_reversed() {
    VCPKG_PORTS.check(Order::Reversed);
}

#[test]
fn vcpkg_ports_shuffled() {
    VCPKG_PORTS.check(Order::Shuffled(3));
}

#[test]
fn online_retail_as_given() {
    ONLINE_RETAIL.check(Order::Given);
}

#[test]
fn online_retail_reversed() {
    ONLINE_RETAIL.check(Order::Reversed);
}

#[test]
fn online_retail_shuffled() {
    ONLINE_RETAIL.check(Order::Shuffled(3));
}
