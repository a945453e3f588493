//! What `millrace status` tells of who owns slots, of slots that nobody serves, and of processes that do
//! not answer.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use millrace_proto::convert::ConvertError;
use millrace_proto::v1;
use serde::Serialize;

use super::report::instant;
use crate::commands::slot_runs::slot_runs;
use crate::output::Table;
use crate::output::json::JsonInstant;

/// The state of a join node; sums are over the slots that it owns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JoinNodeReport {
    /// Its name.
    pub node: String,
    /// Where it takes calls.
    pub endpoint: String,
    /// How many slots it wants in proportion to others.
    pub weight: u32,
    /// It gives its slots away and will end.
    pub leaving: bool,
    /// Slots that it owns.
    pub slots: u32,
    /// Facts received and not yet confirmed.
    pub queued_facts: u64,
    /// Confirmed chunks that a restart would replay.
    pub unmarked_chunks: u64,
    /// Entities that wait for a rebuild.
    pub dirty_entities: u64,
    /// The run that tells this, in hex.
    pub incarnation: String,
    /// False where it owns slots and does not answer.
    pub answers: bool,
    /// The lease of its newest run; `null` where it has none, or the store does not tell.
    pub lease: Option<LeaseReport>,
    /// The least and the greatest epoch that it owns slots in; `null` where it owns none.
    pub epochs: Option<(u64, u64)>,
    /// The age in seconds of the oldest confirmed chunk that no mark covers; `null` where all are covered.
    pub unmarked_seconds: Option<f64>,
}

/// The lease of a run of a join node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeaseReport {
    /// `held`, `expired` or `fenced`: its slots were taken over, and it is over for good.
    pub state: &'static str,
    /// Until when it holds unless it is renewed.
    pub until: Option<JsonInstant>,
    /// Seconds until then by the service's clock; less than 0 where that has passed.
    pub seconds_left: f64,
    /// The run, in hex.
    pub incarnation: String,
    /// How often it was renewed.
    pub renewals: u64,
}

/// A slot that nobody serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnownedReport {
    /// The slot.
    pub slot: u32,
    /// Why: `never_owned`, `silent`, `offered`, `released`, `lost`, `taking` or `unknown`.
    pub reason: &'static str,
    /// Who owned it last.
    pub node: Option<String>,
    /// For whom it was released.
    pub next_node: Option<String>,
    /// The epoch it was owned in last.
    pub epoch: Option<u64>,
}

/// A process of a service that does not serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnreachableReport {
    /// The service.
    pub service: String,
    /// Its name among the nodes of its kind.
    pub node: Option<String>,
    /// Where it should take calls.
    pub endpoint: String,
    /// What it says, or that it does not answer.
    pub reason: String,
    /// What to do about it.
    pub next: Option<String>,
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn run(incarnation: u64) -> String {
    format!("{incarnation:016x}")
}

/// How old something is, in seconds.
pub(super) fn age(from: Option<&prost_types::Duration>) -> Option<f64> {
    let age = from.and_then(|age| Duration::try_from(*age).ok());
    age.map(|age| age.as_secs_f64())
}

impl JoinNodeReport {
    /// Of every node.
    ///
    /// # Errors
    /// [`ConvertError`] for an instant that is none.
    pub fn all(from: &v1::GetStatusResponse) -> Result<Vec<Self>, ConvertError> {
        let places = || from.services.iter().flat_map(|service| &service.places);
        let silent = |node: &str| places().any(|place| place.node == node && !place.serving);
        let now = instant(from.now.as_ref())?;
        let one = |node: &v1::JoinNodeState| {
            let lease = node.lease.as_ref().map(|lease| LeaseReport::new(lease, now));
            Ok(Self {
                node: node.node.clone(),
                endpoint: node.endpoint.clone(),
                weight: node.weight,
                leaving: node.leaving,
                slots: node.slots,
                queued_facts: node.queued_facts,
                unmarked_chunks: node.unmarked_chunks,
                dirty_entities: node.dirty_entities,
                incarnation: run(node.incarnation),
                answers: !silent(&node.node),
                lease: lease.transpose()?,
                epochs: (node.last_epoch > 0).then_some((node.first_epoch, node.last_epoch)),
                unmarked_seconds: age(node.unmarked_for.as_ref()),
            })
        };
        from.join_nodes.iter().map(one).collect()
    }

    fn state(&self) -> &'static str {
        let lease = self.lease.as_ref().map(|lease| lease.state);
        match (self.leaving, self.slots, self.answers, lease) {
            (_, _, false, _) => "does not answer",
            (true, _, true, _) => "leaving",
            (false, 0, true, Some("held")) => "owns nothing: starting",
            (false, 0, true, Some("fenced")) => "gone: its slots were taken over",
            (false, 0, true, Some(_)) => "gone",
            (false, 0, true, None) => "owns nothing: starting, or gone",
            (false, _, true, _) => "",
        }
    }
}

impl LeaseReport {
    fn new(from: &v1::LeaseState, now: Option<JsonInstant>) -> Result<Self, ConvertError> {
        let until = instant(from.until.as_ref())?;
        let left = until.zip(now).map_or(0, |(until, now)| until.0.0.saturating_sub(now.0.0));
        let state = match (from.fenced, left > 0) {
            (true, _) => "fenced",
            (false, true) => "held",
            (false, false) => "expired",
        };
        Ok(Self {
            state,
            until,
            seconds_left: left as f64 / 1e6,
            incarnation: run(from.incarnation),
            renewals: from.renewals,
        })
    }

    fn text(&self) -> String {
        match self.state {
            "held" => format!("held, {:.1} s left", self.seconds_left),
            "expired" => format!("expired {} ago", lasted(-self.seconds_left)),
            other => other.to_owned(),
        }
    }
}

/// A time that may be long.
fn lasted(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.1} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}

impl From<&v1::UnownedSlot> for UnownedReport {
    fn from(from: &v1::UnownedSlot) -> Self {
        use v1::UnownedReason as Why;

        let reason = match from.reason() {
            Why::Unspecified => "unknown",
            Why::NeverOwned => "never_owned",
            Why::Silent => "silent",
            Why::Offered => "offered",
            Why::Released => "released",
            Why::Lost => "lost",
            Why::Taking => "taking",
        };
        Self {
            slot: from.slot,
            reason,
            node: some(&from.node),
            next_node: some(&from.next_node),
            epoch: (from.epoch > 0).then_some(from.epoch),
        }
    }
}

impl UnownedReport {
    /// Why, and what to do about it.
    fn text(&self) -> String {
        let node = self.node.as_deref().unwrap_or("its owner");
        let start = "start a join node: millrace serve join";
        match self.reason {
            "silent" => format!(
                "{node} does not answer: another node takes them once its lease is over; if there is \
                 none, start it again: millrace serve join --node {node}"
            ),
            "offered" => {
                let next = self.next_node.as_deref().unwrap_or("another node");
                format!("{node} released them for {next}, which takes them in a moment")
            }
            "released" => format!("{node} released them and nobody took them; {start}"),
            "lost" => {
                format!("{node} is gone and nobody took them yet; if there is no other, {start}")
            }
            "taking" => format!(
                "{node} took them and serves them once it has read their log; if it ends before, another \
                 node takes them"
            ),
            "never_owned" => format!("nobody owned them yet; {start}"),
            _ => "why is not known: the store does not tell".to_owned(),
        }
    }
}

impl UnreachableReport {
    /// Of every process that does not serve.
    #[must_use]
    pub fn all(services: &[v1::ServiceState]) -> Vec<Self> {
        let places = services.iter().flat_map(|service| {
            service.places.iter().filter(|place| !place.serving).map(|place| Self {
                service: service.name.clone(),
                node: some(&place.node),
                endpoint: place.endpoint.clone(),
                reason: place.reason.clone(),
                next: some(&place.next),
            })
        });
        places.collect()
    }
}

/// A line a process, and what to do below it.
pub(super) fn write_unreachable(all: &[UnreachableReport], out: &mut dyn Write) -> io::Result<()> {
    for one in all {
        let UnreachableReport { service, node, endpoint, reason, next } = one;
        let node = node.as_ref().map(|node| format!(" {node}")).unwrap_or_default();
        writeln!(out, "unreachable        {service}{node} at {endpoint}: {reason}")?;
        if let Some(next) = next {
            writeln!(out, "  next: {next}")?;
        }
    }
    Ok(())
}

/// A row a join node.
pub(super) fn write_nodes(nodes: &[JoinNodeReport], out: &mut dyn Write) -> io::Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        "join node",
        "endpoint",
        "slots",
        "queued",
        "to replay",
        "dirty",
        "behind",
        "run",
        "epochs",
        "lease",
        "state",
    ]);
    for node in nodes {
        let epochs = node.epochs.map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        table.push(vec![
            node.node.clone(),
            node.endpoint.clone(),
            node.slots.to_string(),
            node.queued_facts.to_string(),
            node.unmarked_chunks.to_string(),
            node.dirty_entities.to_string(),
            node.unmarked_seconds.map(|age| format!("{age:.1} s")).unwrap_or_default(),
            node.incarnation.clone(),
            epochs.unwrap_or_default(),
            node.lease.as_ref().map_or_else(|| "unknown".to_owned(), LeaseReport::text),
            node.state().to_owned(),
        ]);
    }
    table.write_framed(out, &[2, 3, 4, 5, 6, 8])
}

/// A line for all slots that nobody serves for the same reason.
pub(super) fn write_unowned(
    unowned: &[UnownedReport],
    count: u32,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for slot in unowned {
        groups.entry(slot.text()).or_default().push(slot.slot);
    }
    for (why, slots) in &groups {
        writeln!(out, "without owner      {}: {why}", slot_runs(slots))?;
    }
    let listed = unowned.len() as u32;
    if !unowned.is_empty() && count > listed {
        writeln!(out, "without owner      {} more slots", count - listed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unowned(slot: u32, reason: v1::UnownedReason, node: &str, next: &str) -> UnownedReport {
        UnownedReport::from(&v1::UnownedSlot {
            slot,
            reason: reason.into(),
            node: node.to_owned(),
            next_node: next.to_owned(),
            epoch: 2,
        })
    }

    #[test]
    fn slots_without_owner_are_told_group_by_group() {
        use v1::UnownedReason as Why;

        let mut all: Vec<_> = (0..4).map(|slot| unowned(slot, Why::Silent, "join-0", "")).collect();
        all.push(unowned(9, Why::Offered, "join-1", "join-2"));
        all.push(unowned(7, Why::Lost, "join-3", ""));
        all.push(unowned(8, Why::Taking, "join-1", ""));
        let mut out = Vec::new();
        write_unowned(&all, 9, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("slots 0-3: join-0 does not answer"), "{text}");
        assert!(text.contains("millrace serve join --node join-0"), "{text}");
        assert!(text.contains("slot 9: join-1 released them for join-2"), "{text}");
        assert!(text.contains("slot 7: join-3 is gone"), "{text}");
        assert!(text.contains("slot 8: join-1 took them"), "{text}");
        assert!(text.ends_with("without owner      2 more slots\n"), "{text}");
    }

    #[test]
    fn a_lease_is_held_expired_or_over_for_good() {
        let told = |seconds: i64, fenced| {
            let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
            let from = v1::LeaseState {
                incarnation: 0xab,
                until: Some(at(1_000 + seconds)),
                fenced,
                renewals: 3,
            };
            let lease = LeaseReport::new(&from, instant(Some(&at(1_000))).unwrap()).unwrap();
            (lease.state, lease.text(), lease.seconds_left)
        };
        assert_eq!(told(3, false), ("held", "held, 3.0 s left".to_owned(), 3.0));
        assert_eq!(told(-5, false), ("expired", "expired 5.0 s ago".to_owned(), -5.0));
        assert_eq!(told(-600, false).1, "expired 10 min ago");
        assert_eq!(told(-9_000, false).1, "expired 2 h ago");
        assert_eq!(told(3, true), ("fenced", "fenced".to_owned(), 3.0));
    }
}
