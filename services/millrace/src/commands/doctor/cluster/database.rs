//! What the database and the keyspace are like: nodes, commit logs, clocks, copies, whose it is.

use std::collections::BTreeMap;

use millrace_store_scylla::inspect::{NodeSeen, Whose, explain};
use millrace_store_scylla::{CheckError, OpenError};

use super::report::Finding;

/// Copies with which a node may be gone while a quorum is there.
const COPIES: u32 = 3;

/// Why there is no connection, with the setting to look at.
pub(super) fn unconnected(error: &OpenError) -> Finding {
    let next = match error {
        OpenError::Setting(_) => "correct that setting",
        OpenError::Unreachable { .. } => {
            "start the database, or name its nodes with --cql (MILLRACE_CQL, cql.nodes)"
        }
        OpenError::Credentials { .. } => {
            "check --cql-user and --cql-password-file (MILLRACE_CQL_USER, MILLRACE_CQL_PASSWORD_FILE, \
             cql.user, cql.password_file)"
        }
        OpenError::Check(_) | OpenError::Statement { .. } | OpenError::Tables { .. } => {
            "see the log of the database"
        }
    };
    Finding::fail("database", explain(error), next)
}

/// Which nodes can be reached.
pub(super) fn reachable(nodes: &[NodeSeen]) -> Finding {
    let named = |reached: bool| {
        let nodes = nodes.iter().filter(|node| node.told.is_some() == reached);
        nodes.map(|node| node.address.to_string()).collect::<Vec<_>>()
    };
    let (up, down) = (named(true), named(false));
    let found = format!("{} of {} can be reached: {}", up.len(), nodes.len(), up.join(", "));
    match down.as_slice() {
        [] => Finding::ok("nodes", found),
        down => Finding::warn(
            "nodes",
            format!("{found}; not {}", down.join(", ")),
            "start them again, or take them out of the database's cluster",
        ),
    }
}

/// Whether every node answers only once its commit log is on disk.
pub(super) fn commit_logs(nodes: &[NodeSeen]) -> Vec<Finding> {
    let check = "commit log";
    let mut ways: BTreeMap<&str, u32> = BTreeMap::new();
    let mut findings = Vec::new();
    for told in nodes.iter().filter_map(|node| node.told.as_ref()) {
        match &told.commit_log {
            Ok(way) => *ways.entry(way).or_default() += 1,
            Err(error) => findings.push(wrong(
                check,
                error,
                "set commitlog_sync to batch or group in the node's settings and start it again",
            )),
        }
    }
    if findings.is_empty() {
        let ways: Vec<String> =
            ways.iter().map(|(way, count)| format!("{way} on {count} nodes")).collect();
        findings.push(Finding::ok(check, format!("synced before an answer: {}", ways.join(", "))));
    }
    findings
}

/// Whether the clocks of nodes and of this machine agree.
pub(super) fn clocks(nodes: &[NodeSeen]) -> Vec<Finding> {
    let check = "clocks";
    let (mut worst, mut findings) = (0, Vec::new());
    for told in nodes.iter().filter_map(|node| node.told.as_ref()) {
        match &told.clock {
            Ok(ahead) => worst = worst.max(ahead.abs()),
            Err(error) => {
                findings.push(wrong(check, error, "set the clocks of both machines (NTP)"));
            }
        }
    }
    if findings.is_empty() {
        let millis = worst / 1_000;
        let found = format!("within {millis} ms of this machine's, 1 s is allowed");
        findings.push(Finding::ok(check, found));
    }
    findings
}

fn wrong(check: &'static str, error: &CheckError, next: &str) -> Finding {
    Finding::fail(check, error.to_string(), next)
}

/// Where the copies of the keyspace are. `replication` is what its strategy is told.
pub(super) fn copies(
    keyspace: &str,
    replication: Option<&BTreeMap<String, String>>,
    nodes: &[NodeSeen],
) -> Finding {
    let check = "keyspace";
    let Some(replication) = replication else {
        return Finding::fail(
            check,
            format!("there is no keyspace {keyspace}"),
            "name the right one with --cql-keyspace (MILLRACE_CQL_KEYSPACE, cql.keyspace), or have \
             store-writer make it with --cql-create DC=COPIES",
        );
    };
    let class =
        replication.get("class").map_or("", |class| class.rsplit('.').next().unwrap_or(class));
    let factors: Vec<(&str, u32)> = replication
        .iter()
        .filter(|(name, _)| *name != "class")
        .filter_map(|(name, factor)| Some((name.as_str(), factor.parse().ok()?)))
        .collect();
    let text: Vec<String> =
        factors.iter().map(|(name, factor)| format!("{name}: {factor}")).collect();
    let found = format!("{keyspace} has copies by {class}, {}", text.join(", "));
    let [(datacenter, factor)] = factors[..] else {
        return Finding::warn(
            check,
            found,
            "keep the keyspace in one datacenter: a fence is only seen by a quorum of the one it was \
             written in",
        );
    };
    // SimpleStrategy has its copies wherever there are nodes.
    let inside = |node: &&NodeSeen| {
        class == "SimpleStrategy" || node.datacenter.as_deref() == Some(datacenter)
    };
    let there = nodes.iter().filter(inside).count() as u32;
    let up = nodes.iter().filter(inside).filter(|node| node.told.is_some()).count() as u32;
    let quorum = factor / 2 + 1;
    if there < factor {
        return Finding::fail(
            check,
            format!("{found}, but there are {there} nodes"),
            "add nodes, or lower the number of copies with ALTER KEYSPACE and repair",
        );
    }
    if factor < COPIES && there >= COPIES {
        let next = format!(
            "have {COPIES} copies (ALTER KEYSPACE, then repair): with fewer a node that is gone stops \
             writes"
        );
        return Finding::warn(check, found, next);
    }
    Finding::ok(check, format!("{found}; {up} of {there} nodes up, a quorum is {quorum}"))
}

/// Why it cannot be told whose the keyspace is.
pub(super) fn untold(error: &OpenError) -> Finding {
    let (check, next) = match error {
        OpenError::Check(CheckError::NoTables { .. }) => (
            "tables",
            "name the right keyspace with --cql-keyspace (MILLRACE_CQL_KEYSPACE, cql.keyspace), or have \
             store-writer make the tables with --cql-create DC=COPIES",
        ),
        OpenError::Check(_) | OpenError::Tables { .. } => {
            ("tables", "look at it with the version of millrace that made it")
        }
        OpenError::Statement { .. } => (
            "quorum",
            "start the nodes that are gone, or see what the user may do: a quorum of the copies must \
             answer",
        ),
        OpenError::Setting(_) | OpenError::Unreachable { .. } | OpenError::Credentials { .. } => {
            ("quorum", "start the nodes that are gone")
        }
    };
    Finding::fail(check, explain(error), next)
}

/// Whether the keyspace is of this version, and of the cluster and number of slots that were stated.
pub(super) fn whose(
    keyspace: &str,
    whose: &Whose,
    cluster: Option<&str>,
    slots: Option<u32>,
) -> Vec<Finding> {
    let check = "schema";
    let Whose { schema: Some(schema), cluster: Some(owner), slots: Some(count), .. } = whose else {
        let found = format!("keyspace {keyspace} is nobody's yet");
        let next = "the first store-writer that starts on it makes it its cluster's";
        return vec![Finding::warn(check, found, next)];
    };
    let problems = whose.problems(keyspace, cluster, slots);
    if problems.is_empty() {
        let found = format!("version {schema}, of cluster {owner}, with {count} slots");
        return vec![Finding::ok(check, found)];
    }
    let finding = |error: &CheckError| {
        let next = match error {
            CheckError::SchemaVersion { .. } => "run the millrace of that version",
            CheckError::OtherCluster { .. } => {
                "name the right keyspace (--cql-keyspace) or cluster (--cluster, MILLRACE_CLUSTER)"
            }
            CheckError::Slots { .. } => "state the same --slots (MILLRACE_SLOTS) for every service",
            CheckError::CommitLog { .. }
            | CheckError::Clock { .. }
            | CheckError::Silent { .. }
            | CheckError::NoTables { .. }
            | CheckError::SomebodyElses { .. }
            | CheckError::Unknown { .. } => "see the message",
        };
        Finding::fail(check, error.to_string(), next)
    };
    problems.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use millrace_store_scylla::inspect::NodeTold;

    use super::super::report::State;
    use super::*;

    fn node(port: u16, is_up: bool) -> NodeSeen {
        let told = NodeTold { commit_log: Ok("group".to_owned()), clock: Ok(-3_000) };
        NodeSeen {
            address: ([127, 0, 0, 1], port).into(),
            datacenter: Some("dc1".to_owned()),
            told: is_up.then_some(told),
        }
    }

    fn state(replication: &[(&str, &str)], nodes: &[NodeSeen]) -> (State, String) {
        let map: BTreeMap<String, String> =
            replication.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let finding = copies("millrace", Some(&map), nodes);
        (finding.state, finding.found)
    }

    #[test]
    fn copies_are_held_against_the_nodes_there_are() {
        let topology = ("class", "org.apache.cassandra.locator.NetworkTopologyStrategy");
        let three = [node(1, true), node(2, true), node(3, false)];
        let (told, found) = state(&[topology, ("dc1", "3")], &three);
        assert_eq!(told, State::Ok);
        assert!(found.contains("by NetworkTopologyStrategy, dc1: 3; 2 of 3 nodes up"), "{found}");
        assert_eq!(state(&[topology, ("dc1", "1")], &three).0, State::Warn);
        assert_eq!(state(&[topology, ("dc1", "1")], &three[..1]).0, State::Ok, "a trial");
        assert_eq!(state(&[topology, ("dc1", "3")], &three[..2]).0, State::Fail);
        assert_eq!(state(&[topology, ("dc2", "3")], &three).0, State::Fail, "no such datacenter");
        assert_eq!(state(&[topology, ("dc1", "3"), ("dc2", "3")], &three).0, State::Warn);
        let simple = [("class", "SimpleStrategy"), ("replication_factor", "3")];
        assert_eq!(state(&simple, &three).0, State::Ok);
        let none = copies("other", None, &three);
        assert_eq!(none.state, State::Fail);
        assert!(none.next.unwrap().contains("--cql-keyspace"));
    }

    #[test]
    fn nodes_that_are_gone_and_clocks_that_agree_are_told() {
        let all = [node(1, true), node(2, false)];
        let found = reachable(&all);
        assert_eq!((found.state, found.check), (State::Warn, "nodes"));
        assert!(found.found.ends_with("; not 127.0.0.1:2"), "{}", found.found);
        assert_eq!(reachable(&all[..1]).state, State::Ok);
        assert!(clocks(&all)[0].found.starts_with("within 3 ms"), "{:?}", clocks(&all));
        assert!(commit_logs(&all)[0].found.contains("group on 1 nodes"));
    }

    #[test]
    fn a_keyspace_is_held_against_what_was_stated() {
        let found = Whose {
            schema: Some("1".to_owned()),
            cluster: Some("one".to_owned()),
            slots: Some("64".to_owned()),
            identity: None,
        };
        assert_eq!(whose("k", &found, None, None)[0].state, State::Ok);
        assert_eq!(whose("k", &found, Some("one"), Some(64))[0].state, State::Ok);
        let wrong = whose("k", &found, Some("two"), Some(128));
        assert_eq!(wrong.iter().map(|f| f.state).collect::<Vec<_>>(), [State::Fail; 2]);
        assert!(wrong[0].found.contains("belongs to cluster \"one\""), "{wrong:?}");
        assert!(wrong[1].next.as_deref().unwrap().contains("--slots"), "{wrong:?}");
        assert_eq!(whose("k", &Whose::default(), None, None)[0].state, State::Warn);
    }
}
