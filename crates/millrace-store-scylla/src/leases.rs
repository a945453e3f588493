//! Leases of nodes: what is decided stands in `millrace_store::rules`; here it is made to happen by
//! conditional writes on the node's partition.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use millrace_store::rules::{self, NodeRow, RunRow};
use millrace_store::{Applied, GRANT, Incarnation, NodeId, NodeLease, Ownership, StoreError};
use millrace_types::{KnownAt, Micros, SlotId};

use crate::checks::{SKEW_MAX, seconds};
use crate::statements::Statement;
use crate::store::{CqlStore, read, stored};

/// How often a conditional write is tried against others that are faster. A node's row has one writer
/// and now and then somebody who fences it.
const TRIES: usize = 16;

/// Rows that a look reads at a time: little beside what a shard has in flight.
const LOOKS: usize = 32;

/// `newest`, `ceiling`, `renewals`, `fenced`, as they stand.
type Row = (Option<i64>, Option<i64>, Option<i64>, Option<bool>);

fn node_of(row: &Row) -> Option<NodeRow> {
    let (newest, ceiling, ..) = *row;
    Some(NodeRow { newest: Incarnation(newest?.cast_unsigned()), ceiling: KnownAt(ceiling?) })
}

fn run_of(row: &Row) -> Result<Option<RunRow>, StoreError> {
    let (_, _, renewals, fenced) = *row;
    if renewals.is_none() && fenced.is_none() {
        return Ok(None);
    }
    let renewals = read("renewals of a node", renewals.unwrap_or_default())?;
    Ok(Some(RunRow { renewals, fenced: fenced.unwrap_or_default() }))
}

/// How far the clock is ahead that asks for a ceiling, in microseconds, if too far. One that is behind
/// cannot be told from a renewal that was under way for long, and does no harm: versions rise from
/// the slot's floor on.
fn lead(ceiling: KnownAt, theirs: Micros) -> Option<i64> {
    let grant = i64::try_from(GRANT.as_micros()).unwrap_or(i64::MAX);
    let lead = ceiling.0.saturating_sub(theirs.0).saturating_sub(grant);
    (lead > SKEW_MAX).then_some(lead)
}

impl CqlStore {
    /// Refuses a ceiling that only a clock asks for which is ahead of the database's.
    async fn check_clock(&self, node: &NodeId, ceiling: KnownAt) -> Result<(), StoreError> {
        let row = self.one::<(i64,)>(Statement::Clock, ()).await?;
        let (millis,) = row.ok_or_else(|| StoreError::Damaged {
            what: "keyspace".to_owned(),
            reason: "the row of its schema version is gone".to_owned(),
        })?;
        // The database cuts to milliseconds.
        let theirs = Micros(millis.saturating_add(1).saturating_mul(1_000));
        let Some(lead) = lead(ceiling, theirs) else { return Ok(()) };
        let reason = format!(
            "the clock of node {} is {:.1} s ahead of the database's: set the clocks (NTP); 1 s is \
             allowed",
            node.0,
            seconds(lead)
        );
        Err(StoreError::ClockSkew { reason })
    }

    /// What stands of a run and its node, at one instant.
    async fn lease_row(&self, node: &NodeId, run: Incarnation) -> Result<Row, StoreError> {
        let row = self.one::<Row>(Statement::Run, (&node.0, run.0.cast_signed())).await?;
        match row {
            Some(row) => Ok(row),
            // Of a run that has no row the read gives nothing at all, also not of its node.
            None => {
                let node = self.one::<(Option<i64>, Option<i64>)>(Statement::Node, (&node.0,));
                let (newest, ceiling) = node.await?.unwrap_or_default();
                Ok((newest, ceiling, None, None))
            }
        }
    }

    pub(crate) async fn renew(
        &self,
        node: &NodeId,
        run: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        self.check_clock(node, ceiling).await?;
        for _ in 0..TRIES {
            let row = self.lease_row(node, run).await?;
            let (of_node, of_run) = (node_of(&row), run_of(&row)?);
            let Some((new_node, new_run)) = rules::renewed(of_node, of_run, run, ceiling) else {
                let ceiling = of_node.map_or(KnownAt(0), |node| node.ceiling);
                return Ok(Applied::No(of_run.map(|of_run| of_run.lease(run, ceiling))));
            };
            let (newest, renewals) = (new_node.newest.0.cast_signed(), stored(new_run.renewals));
            let (key, (a, b, c, d)) = (run.0.cast_signed(), row);
            let values = (newest, new_node.ceiling.0, renewals, &node.0, key, a, b, c, d);
            if self.run_conditional(Statement::Renew, values).await? {
                return Ok(Applied::Yes);
            }
        }
        Err(contended("renew node"))
    }

    pub(crate) async fn fence(
        &self,
        node: &NodeId,
        run: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError> {
        for _ in 0..TRIES {
            let row = self.lease_row(node, run).await?;
            let of_run = run_of(&row)?;
            // A SERIAL read that shows it settles it.
            if of_run.is_some_and(|run| run.fenced) {
                return Ok(Applied::Yes);
            }
            let fenced = rules::fenced(of_run);
            let values = (stored(fenced.renewals), &node.0, run.0.cast_signed(), row.2, row.3);
            if self.run_conditional(Statement::Fence, values).await? {
                return Ok(Applied::Yes);
            }
        }
        Err(contended("fence node"))
    }

    pub(crate) async fn lease(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        for _ in 0..TRIES {
            let statics = self.one::<(Option<i64>, Option<i64>)>(Statement::Node, (&node.0,));
            let Some((Some(newest), _)) = statics.await? else { return Ok(None) };
            let run = Incarnation(newest.cast_unsigned());
            let row = self.lease_row(node, run).await?;
            // Both at one instant, unless a later run was faster.
            if let (Some(of_node), Some(of_run)) = (node_of(&row), run_of(&row)?)
                && of_node.newest == run
            {
                return Ok(Some(of_run.lease(run, of_node.ceiling)));
            }
        }
        Err(contended("read node"))
    }

    pub(crate) async fn confirms(
        &self,
        node: &NodeId,
        run: Incarnation,
    ) -> Result<bool, StoreError> {
        Ok(self.quorum_run(node, run).await?.is_some_and(RunRow::confirms))
    }

    /// What a quorum has of a run.
    async fn quorum_run(
        &self,
        node: &NodeId,
        run: Incarnation,
    ) -> Result<Option<RunRow>, StoreError> {
        let values = (&node.0, run.0.cast_signed());
        let row = self.one::<(Option<i64>, Option<bool>)>(Statement::Confirm, values).await?;
        let (renewals, fenced) = row.unwrap_or_default();
        run_of(&(None, None, renewals, fenced))
    }

    /// The lease of a node's newest run, as a quorum has it.
    async fn quorum_lease(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        let row = self.one::<(Option<i64>, Option<i64>)>(Statement::LookNode, (&node.0,)).await?;
        let Some((Some(newest), Some(ceiling))) = row else { return Ok(None) };
        let run = Incarnation(newest.cast_unsigned());
        let found = self.quorum_run(node, run).await?;
        Ok(found.map(|found| found.lease(run, KnownAt(ceiling))))
    }

    pub(crate) async fn look_at(
        &self,
        nodes: Vec<NodeId>,
        slots: Vec<SlotId>,
    ) -> Result<Ownership, StoreError> {
        let leases = stream::iter(nodes)
            .map(|node| async move { self.quorum_lease(&node).await })
            .buffered(LOOKS)
            .try_collect();
        let epochs = stream::iter(slots)
            .map(|slot| self.newest_epoch_rows(slot))
            .buffered(LOOKS)
            .try_collect();
        Ok(Ownership { leases: leases.await?, epochs: epochs.await? })
    }
}

fn contended(operation: &'static str) -> StoreError {
    let reason = format!("others changed the row {TRIES} times in between");
    StoreError::Unavailable { operation, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_lead_by_a_second_beyond_the_grant() {
        let theirs = Micros(1_000_000_000);
        let after = |micros: i64| KnownAt(theirs.0 + micros);
        assert_eq!(lead(KnownAt(0), theirs), None);
        assert_eq!(lead(after(4_000_000), theirs), None);
        assert_eq!(lead(after(5_000_000), theirs), None);
        assert_eq!(lead(after(5_000_001), theirs), Some(1_000_001));
        assert_eq!(lead(KnownAt(i64::MAX), Micros(0)), Some(i64::MAX - 4_000_000));
    }
}
