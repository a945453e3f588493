//! The tables: one description, and the statements that make them in either dialect.

use crate::config::Replication;

/// The version of this description, kept in the keyspace. A process refuses another one.
pub(crate) const SCHEMA_VERSION: &str = "1";

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// ScyllaDB, with tablets.
    Scylla,
    /// Apache Cassandra 5.
    Cassandra,
}

/// How rows of a table are written, which decides what may be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By conditional statements alone; never deleted, no time to live.
    Conditional,
    /// Small values, overwritten and read one by one; the greatest timestamp wins.
    Register,
    /// Large values, written once and read in order.
    Log,
}

/// A table.
struct Table {
    name: &'static str,
    /// Columns with their types, the key's first.
    columns: &'static [&'static str],
    /// The primary key.
    key: &'static str,
    /// Order of the clustering columns where it is not the ascending one.
    order: Option<&'static str>,
    kind: Kind,
}

const TABLES: [Table; 12] = [
    Table {
        name: "meta",
        columns: &["name text", "value text"],
        key: "name",
        order: None,
        kind: Kind::Conditional,
    },
    // `newest` and `ceiling` are of the node, the rest of one run of it, so that one conditional
    // statement renews both.
    Table {
        name: "node",
        columns: &[
            "name text",
            "run bigint",
            "newest bigint static",
            "ceiling bigint static",
            "renewals bigint",
            "fenced boolean",
        ],
        key: "(name), run",
        order: None,
        kind: Kind::Conditional,
    },
    // `last` is the slot's greatest epoch: a release is conditional on it.
    Table {
        name: "slot_epoch",
        columns: &[
            "slot int",
            "epoch bigint",
            "last bigint static",
            "node text",
            "run bigint",
            "floor bigint",
            "previous_end bigint",
            "released_end bigint",
            "released_ver bigint",
        ],
        key: "(slot), epoch",
        order: Some("epoch DESC"),
        kind: Kind::Conditional,
    },
    Table {
        name: "catalog",
        columns: &["id int", "version int", "text text"],
        key: "(id), version",
        order: None,
        kind: Kind::Conditional,
    },
    Table {
        name: "erasure",
        columns: &["id int", "number bigint", "value blob"],
        key: "(id), number",
        order: None,
        kind: Kind::Conditional,
    },
    Table {
        name: "erasure_receipt",
        columns: &["number bigint", "slot int", "value blob"],
        key: "(number), slot",
        order: None,
        kind: Kind::Register,
    },
    Table {
        name: "log",
        columns: &["slot int", "hour int", "epoch bigint", "sequence bigint", "chunk blob"],
        key: "(slot, hour), epoch, sequence",
        order: None,
        kind: Kind::Log,
    },
    Table {
        name: "log_hours",
        columns: &["slot int", "hour int"],
        key: "(slot), hour",
        order: None,
        kind: Kind::Register,
    },
    Table {
        name: "snapshot",
        columns: &["entity blob", "part blob", "value blob"],
        key: "(entity), part",
        order: None,
        kind: Kind::Register,
    },
    Table {
        name: "member",
        columns: &["id int", "node text", "value blob"],
        key: "(id), node",
        order: None,
        kind: Kind::Register,
    },
    Table {
        name: "audit",
        columns: &["node text", "place int", "value blob"],
        key: "(node), place",
        order: None,
        kind: Kind::Register,
    },
    Table {
        name: "mark",
        columns: &["slot int", "value blob"],
        key: "slot",
        order: None,
        kind: Kind::Register,
    },
];

/// The statement that makes the keyspace.
pub(crate) fn keyspace(dialect: Dialect, name: &str, replication: &Replication) -> String {
    let Replication { datacenter, factor } = replication;
    let tablets = match dialect {
        Dialect::Scylla => " AND tablets = {'enabled': true}",
        Dialect::Cassandra => "",
    };
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', '{datacenter}': {factor}}}{tablets}"
    )
}

/// The statements that make the tables of a keyspace, in an order that may be gone through again.
pub(crate) fn tables(dialect: Dialect, keyspace: &str) -> Vec<String> {
    TABLES.iter().map(|table| table.statement(dialect, keyspace)).collect()
}

/// The names of the tables.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

impl Table {
    fn statement(&self, dialect: Dialect, keyspace: &str) -> String {
        let Self { name, columns, key, order, kind } = self;
        let columns = columns.join(", ");
        let mut options: Vec<String> = Vec::new();
        options.extend(order.map(|order| format!("CLUSTERING ORDER BY ({order})")));
        options.extend(kind.options(dialect).iter().map(|option| (*option).to_owned()));
        let options = match options.is_empty() {
            true => String::new(),
            false => format!(" WITH {}", options.join(" AND ")),
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{name} ({columns}, PRIMARY KEY ({key})){options}"
        )
    }
}

impl Kind {
    fn options(self, dialect: Dialect) -> &'static [&'static str] {
        // A late write below a tombstone that was collected comes back: a week of it is allowed for.
        // A limit is ten times what one partition is expected to see; what is conditional is not
        // covered by limits.
        match (self, dialect) {
            (Self::Conditional, Dialect::Scylla) => {
                &["tombstone_gc = {'mode': 'repair', 'propagation_delay_in_seconds': '604800'}"]
            }
            (Self::Register, Dialect::Scylla) => &[
                "compaction = {'class': 'LeveledCompactionStrategy'}",
                "tombstone_gc = {'mode': 'repair', 'propagation_delay_in_seconds': '604800'}",
                "per_partition_rate_limit = \
                 {'max_writes_per_second': 2000, 'max_reads_per_second': 20000}",
            ],
            (Self::Log, Dialect::Scylla) => &[
                "compaction = {'class': 'SizeTieredCompactionStrategy'}",
                "tombstone_gc = {'mode': 'repair', 'propagation_delay_in_seconds': '604800'}",
                "per_partition_rate_limit = \
                 {'max_writes_per_second': 2000, 'max_reads_per_second': 20000}",
            ],
            (Self::Conditional, Dialect::Cassandra) => &["gc_grace_seconds = 864000"],
            (Self::Register, Dialect::Cassandra) => &[
                "compaction = {'class': 'LeveledCompactionStrategy'}",
                "gc_grace_seconds = 864000",
            ],
            (Self::Log, Dialect::Cassandra) => &[
                "compaction = {'class': 'SizeTieredCompactionStrategy'}",
                "gc_grace_seconds = 864000",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_says_what_only_it_knows() {
        let replication = Replication { datacenter: "dc1".into(), factor: 3 };
        assert_eq!(
            keyspace(Dialect::Cassandra, "m", &replication),
            "CREATE KEYSPACE IF NOT EXISTS m WITH replication = \
             {'class': 'NetworkTopologyStrategy', 'dc1': 3}"
        );
        let scylla = keyspace(Dialect::Scylla, "m", &replication);
        assert!(scylla.ends_with(" AND tablets = {'enabled': true}"), "{scylla}");
        let only = ["tombstone_gc", "per_partition_rate_limit", "tablets"];
        let cassandra = tables(Dialect::Cassandra, "m").join("\n");
        assert!(only.iter().all(|word| !cassandra.contains(word)), "{cassandra}");
        let scylla = tables(Dialect::Scylla, "m");
        assert!(scylla.iter().all(|table| table.contains("tombstone_gc")), "{scylla:?}");
        assert!(scylla.iter().all(|table| !table.contains("gc_grace_seconds")));
    }

    /// Limits do not cover what is conditional: one there would only seem to hold.
    #[test]
    fn scylla_limits_the_partitions_of_all_tables_but_the_conditional_ones() {
        let limit = "per_partition_rate_limit = \
                     {'max_writes_per_second': 2000, 'max_reads_per_second': 20000}";
        let texts = tables(Dialect::Scylla, "m");
        let mut free = Vec::new();
        for (name, text) in names().zip(&texts) {
            if text.contains(limit) {
                continue;
            }
            assert!(!text.contains("per_partition_rate_limit"), "another limit: {text}");
            free.push(name);
        }
        assert_eq!(free, ["meta", "node", "slot_epoch", "catalog", "erasure"]);
    }

    /// Two columns written apart could mix, and a time to live would let a fence run out.
    #[test]
    fn registers_have_one_value_and_nothing_expires() {
        for table in TABLES {
            let text = table.statement(Dialect::Cassandra, "m");
            assert!(!text.contains("time_to_live"), "{text}");
            let key: Vec<&str> =
                table.key.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            let values = table.columns.iter().filter(|column| {
                let name = column.split(' ').next().unwrap();
                !key.contains(&name)
            });
            assert!(values.count() <= 1 || table.kind == Kind::Conditional, "{}", table.name);
        }
        assert_eq!(
            TABLES[2].statement(Dialect::Cassandra, "m"),
            "CREATE TABLE IF NOT EXISTS m.slot_epoch (slot int, epoch bigint, last bigint static, \
             node text, run bigint, floor bigint, previous_end bigint, released_end bigint, \
             released_ver bigint, PRIMARY KEY ((slot), epoch)) WITH CLUSTERING ORDER BY \
             (epoch DESC) AND gc_grace_seconds = 864000"
        );
    }
}
