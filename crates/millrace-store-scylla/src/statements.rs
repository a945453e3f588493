//! Every statement there is, prepared once.

use std::sync::Arc;

use futures::future::try_join_all;
use millrace_telemetry::Span;
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

use crate::gate::Urgency;
use crate::outcome::Way;

/// A statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    Node,
    Run,
    Confirm,
    Renew,
    Fence,
    LastEpoch,
    EpochsFrom,
    Epoch,
    InsertEpoch,
    ReleaseEpoch,
    LookNode,
    LookEpochs,
    NewerCatalog,
    Catalogs,
    Catalog,
    InsertCatalog,
    AppendHour,
    AppendChunk,
    Hours,
    HoursDown,
    LastChunk,
    Chunks,
    PutPart,
    DeletePart,
    LoadPart,
    PutMark,
    LoadMark,
    PutMember,
    Members,
    Erasures,
    Erasure,
    InsertErasure,
    PutReceipt,
    Receipts,
    Parts,
    PutSample,
    Samples,
    SampledNodes,
    ForgetSample,
    Meta,
    ClaimMeta,
    Clock,
}

/// What a statement is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// What it does, for messages.
    pub(crate) operation: &'static str,
    /// The table it is about.
    pub(crate) table: &'static str,
    /// How it is run.
    pub(crate) way: Way,
    /// Its text; `T` stands for the table.
    text: &'static str,
}

impl Statement {
    /// Every statement, in the order of their numbers.
    pub(crate) const ALL: [Self; 42] = [
        Self::Node,
        Self::Run,
        Self::Confirm,
        Self::Renew,
        Self::Fence,
        Self::LastEpoch,
        Self::EpochsFrom,
        Self::Epoch,
        Self::InsertEpoch,
        Self::ReleaseEpoch,
        Self::LookNode,
        Self::LookEpochs,
        Self::NewerCatalog,
        Self::Catalogs,
        Self::Catalog,
        Self::InsertCatalog,
        Self::AppendHour,
        Self::AppendChunk,
        Self::Hours,
        Self::HoursDown,
        Self::LastChunk,
        Self::Chunks,
        Self::PutPart,
        Self::DeletePart,
        Self::LoadPart,
        Self::PutMark,
        Self::LoadMark,
        Self::PutMember,
        Self::Members,
        Self::Erasures,
        Self::Erasure,
        Self::InsertErasure,
        Self::PutReceipt,
        Self::Receipts,
        Self::Parts,
        Self::PutSample,
        Self::Samples,
        Self::SampledNodes,
        Self::ForgetSample,
        Self::Meta,
        Self::ClaimMeta,
        Self::Clock,
    ];

    /// What it is.
    #[rustfmt::skip] // a table is read line by line
    #[expect(clippy::too_many_lines, reason = "a table: one statement after the other")]
    pub(crate) fn said(self) -> Said {
        use Way::{Conditional, QuorumRead, SerialRead, Write};
        let of = |operation, table, way, text| Said { operation, table, way, text };
        match self {
            Self::Node => of("read node", "node", SerialRead,
                "SELECT newest, ceiling FROM T WHERE name = ? LIMIT 1"),
            Self::Run => of("read node", "node", SerialRead,
                "SELECT newest, ceiling, renewals, fenced FROM T WHERE name = ? AND run = ?"),
            // Not SERIAL: begun after an append, it finds fences known before.
            Self::Confirm => of("confirm", "node", QuorumRead,
                "SELECT renewals, fenced FROM T WHERE name = ? AND run = ?"),
            Self::Renew => of("renew node", "node", Conditional,
                "UPDATE T SET newest = ?, ceiling = ?, renewals = ?, fenced = false \
                 WHERE name = ? AND run = ? \
                 IF newest = ? AND ceiling = ? AND renewals = ? AND fenced = ?"),
            Self::Fence => of("fence node", "node", Conditional,
                "UPDATE T SET renewals = ?, fenced = true WHERE name = ? AND run = ? \
                 IF renewals = ? AND fenced = ?"),
            Self::LastEpoch => of("last epoch", "slot_epoch", SerialRead,
                "SELECT epoch, node, run, floor, previous_end, released_end, released_ver \
                 FROM T WHERE slot = ? LIMIT 1"),
            Self::EpochsFrom => of("epochs", "slot_epoch", SerialRead,
                "SELECT epoch, node, run, floor, previous_end, released_end, released_ver \
                 FROM T WHERE slot = ? AND epoch >= ?"),
            Self::Epoch => of("epochs", "slot_epoch", SerialRead,
                "SELECT epoch, node, run, floor, previous_end, released_end, released_ver \
                 FROM T WHERE slot = ? AND epoch = ?"),
            Self::InsertEpoch => of("insert epoch", "slot_epoch", Conditional,
                "INSERT INTO T (slot, epoch, last, node, run, floor, previous_end) \
                 VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS"),
            Self::ReleaseEpoch => of("release epoch", "slot_epoch", Conditional,
                "UPDATE T SET released_end = ?, released_ver = ? WHERE slot = ? AND epoch = ? \
                 IF run = ? AND released_end = null AND last = ?"),
            // For people, who ask as often as they like: SERIAL reads would stand in the way of renewals.
            Self::LookNode => of("look at a node", "node", QuorumRead,
                "SELECT newest, ceiling FROM T WHERE name = ? LIMIT 1"),
            Self::LookEpochs => of("look at epochs", "slot_epoch", QuorumRead,
                "SELECT epoch, node, run, floor, previous_end, released_end, released_ver \
                 FROM T WHERE slot = ? LIMIT 8"),
            // Every process asks again and again: SERIAL reads of one row stand in each other's way.
            Self::NewerCatalog => of("catalogs", "catalog", QuorumRead,
                "SELECT version FROM T WHERE id = 0 AND version > ? LIMIT 1"),
            Self::Catalogs => of("catalogs", "catalog", SerialRead,
                "SELECT version, text FROM T WHERE id = 0 AND version > ?"),
            Self::Catalog => of("catalogs", "catalog", SerialRead,
                "SELECT text FROM T WHERE id = 0 AND version = ?"),
            Self::InsertCatalog => of("put catalog", "catalog", Conditional,
                "INSERT INTO T (id, version, text) VALUES (0, ?, ?) IF NOT EXISTS"),
            Self::AppendHour => of("append", "log_hours", Write,
                "INSERT INTO T (slot, hour) VALUES (?, ?) USING TIMESTAMP ?"),
            Self::AppendChunk => of("append", "log", Write,
                "INSERT INTO T (slot, hour, epoch, sequence, chunk) VALUES (?, ?, ?, ?, ?) \
                 USING TIMESTAMP ?"),
            Self::Hours => of("read log", "log_hours", QuorumRead,
                "SELECT hour FROM T WHERE slot = ? AND hour >= ?"),
            Self::HoursDown => of("last chunk", "log_hours", QuorumRead,
                "SELECT hour FROM T WHERE slot = ? AND hour >= ? ORDER BY hour DESC"),
            Self::LastChunk => of("last chunk", "log", QuorumRead,
                "SELECT sequence, chunk FROM T WHERE slot = ? AND hour = ? AND epoch = ? \
                 ORDER BY epoch DESC, sequence DESC LIMIT 1"),
            Self::Chunks => of("read log", "log", QuorumRead,
                "SELECT epoch, sequence, chunk FROM T WHERE slot = ? AND hour = ? \
                 AND (epoch, sequence) > (?, ?) AND (epoch, sequence) <= (?, ?)"),
            Self::PutPart => of("put", "snapshot", Write,
                "INSERT INTO T (entity, part, value) VALUES (?, ?, ?) USING TIMESTAMP ?"),
            // Of immutable parts alone, whose names are never used again.
            Self::DeletePart => of("put", "snapshot", Write,
                "DELETE FROM T USING TIMESTAMP ? WHERE entity = ? AND part = ?"),
            Self::LoadPart => of("load", "snapshot", QuorumRead,
                "SELECT value FROM T WHERE entity = ? AND part = ?"),
            Self::PutMark => of("put mark", "mark", Write,
                "INSERT INTO T (slot, value) VALUES (?, ?) USING TIMESTAMP ?"),
            Self::LoadMark => of("load mark", "mark", QuorumRead, "SELECT value FROM T WHERE slot = ?"),
            Self::PutMember => of("put member", "member", Write,
                "INSERT INTO T (id, node, value) VALUES (0, ?, ?) USING TIMESTAMP ?"),
            Self::Members => of("members", "member", QuorumRead, "SELECT value FROM T WHERE id = 0"),
            Self::Erasures => of("erasures", "erasure", SerialRead,
                "SELECT number, value FROM T WHERE id = 0 AND number > ? LIMIT 4096"),
            Self::Erasure => of("erasures", "erasure", SerialRead,
                "SELECT value FROM T WHERE id = 0 AND number = ?"),
            Self::InsertErasure => of("put erasure", "erasure", Conditional,
                "INSERT INTO T (id, number, value) VALUES (0, ?, ?) IF NOT EXISTS"),
            Self::PutReceipt => of("put receipt", "erasure_receipt", Write,
                "INSERT INTO T (number, slot, value) VALUES (?, ?, ?) USING TIMESTAMP ?"),
            Self::Receipts => of("receipts", "erasure_receipt", QuorumRead,
                "SELECT value FROM T WHERE number = ?"),
            Self::Parts => of("parts", "snapshot", QuorumRead,
                "SELECT part FROM T WHERE entity = ?"),
            Self::PutSample => of("put samples", "audit", Write,
                "INSERT INTO T (node, place, value) VALUES (?, ?, ?) USING TIMESTAMP ?"),
            Self::Samples => of("samples", "audit", QuorumRead,
                "SELECT place, value FROM T WHERE node = ?"),
            Self::SampledNodes => of("forget samples", "audit", QuorumRead, "SELECT DISTINCT node FROM T "),
            Self::ForgetSample => of("forget samples", "audit", Write,
                "DELETE FROM T USING TIMESTAMP ? WHERE node = ? AND place = ?"),
            Self::Meta => of("read meta", "meta", SerialRead, "SELECT value FROM T WHERE name = ?"),
            Self::ClaimMeta => of("claim keyspace", "meta", Conditional,
                "INSERT INTO T (name, value) VALUES (?, ?) IF NOT EXISTS"),
            // Of a row that every keyspace has: what is wanted is the clock of who answers.
            Self::Clock => of("read clock", "meta", SerialRead,
                "SELECT toUnixTimestamp(now()) FROM T WHERE name = 'schema'"),
        }
    }
}

impl Statement {
    /// Whether somebody waits for it. Heads, and what is dropped with them, come by the thousand.
    pub(crate) fn urgency(self) -> Urgency {
        let behind = [Self::PutPart, Self::DeletePart, Self::PutSample, Self::ForgetSample];
        if behind.contains(&self) { Urgency::Behind } else { Urgency::AtOnce }
    }
}

impl Said {
    /// One run of it, within what it is run for. The system is named after the protocol's origin, as the
    /// conventions have no name for ScyllaDB's own.
    pub(crate) fn span(&self) -> Span {
        Span::database("cassandra", self.operation, self.table)
    }

    fn cql(&self, keyspace: &str) -> String {
        let table = format!(" {keyspace}.{} ", self.table);
        self.text.replacen(" T ", &table, 1).replacen("UPDATE T ", &format!("UPDATE{table}"), 1)
    }
}

/// Every statement, prepared.
pub(crate) struct Statements(Vec<PreparedStatement>);

impl Statements {
    /// Prepares all of them in a keyspace.
    pub(crate) async fn prepare(session: &Session, keyspace: &str) -> Result<Self, PrepareError> {
        let prepare = |statement: Statement| async move {
            let said = statement.said();
            let mut one = session.prepare(said.cql(keyspace)).await?;
            one.set_consistency(match said.way {
                Way::SerialRead => Consistency::Serial,
                Way::QuorumRead | Way::Write | Way::Conditional => Consistency::LocalQuorum,
            });
            one.set_serial_consistency(Some(SerialConsistency::Serial));
            // The one layer that repeats is above.
            one.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
            Ok(one)
        };
        // Side by side, and in order.
        try_join_all(Statement::ALL.into_iter().map(prepare)).await.map(Self)
    }

    /// One of them.
    pub(crate) fn get(&self, statement: Statement) -> &PreparedStatement {
        &self.0[statement as usize] // ALL is in the order of the numbers, which a test holds
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_of_them_stand_at_their_numbers_and_name_a_table() {
        let tables: HashSet<&str> = crate::ddl::names().collect();
        for (number, statement) in Statement::ALL.into_iter().enumerate() {
            assert_eq!(statement as usize, number);
            let said = statement.said();
            assert!(tables.contains(said.table), "{said:?}");
            let cql = said.cql("ks");
            assert_eq!(cql.matches(&format!("ks.{}", said.table)).count(), 1, "{cql}");
        }
    }

    /// Conditional statements take no timestamp of ours, registers always have one, and no table is
    /// written both ways.
    #[test]
    fn no_table_is_written_both_ways() {
        let mut ways = HashSet::new();
        for statement in Statement::ALL {
            let said = statement.said();
            let (ours, conditional) =
                (said.text.contains("USING TIMESTAMP ?"), said.text.contains(" IF "));
            assert!(!said.text.contains("TTL"), "{said:?}");
            match said.way {
                Way::Write => assert!(ours && !conditional, "{said:?}"),
                Way::Conditional => assert!(conditional && !ours, "{said:?}"),
                Way::QuorumRead | Way::SerialRead => {
                    assert!(said.text.starts_with("SELECT") && !ours && !conditional, "{said:?}");
                    continue;
                }
            }
            ways.insert((said.table, said.way == Way::Conditional));
        }
        let tables: HashSet<_> = ways.iter().map(|(table, _)| table).collect();
        assert_eq!(tables.len(), ways.len(), "{ways:?}");
    }

    #[test]
    fn conditional_tables_are_read_serially_but_for_the_confirmation_and_looks() {
        let conditional: HashSet<&str> = Statement::ALL
            .iter()
            .map(|statement| statement.said())
            .filter(|said| said.way == Way::Conditional)
            .map(|said| said.table)
            .collect();
        for statement in Statement::ALL {
            let said = statement.said();
            let quorum = said.way == Way::QuorumRead && conditional.contains(said.table);
            let may = [
                Statement::Confirm,
                Statement::NewerCatalog,
                Statement::LookNode,
                Statement::LookEpochs,
            ];
            assert_eq!(quorum, may.contains(&statement), "{said:?}");
        }
    }

    #[test]
    fn a_look_is_bounded_as_the_port_says() {
        let bound = format!("LIMIT {}", millrace_store::LOOK_EPOCHS);
        assert!(Statement::LookEpochs.said().text.ends_with(&bound));
    }
}
