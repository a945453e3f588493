//! A database behind `scylla-proxy`, which loses, refuses, holds back or cuts off chosen statements of
//! processes that know nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_test_servers::{Cassandra, free_port};
use scylla_proxy::example_db_errors::{overloaded, read_timeout, unprepared, write_timeout};
use scylla_proxy::{
    Condition, Node, Proxy, Reaction, RequestFrame, RequestOpcode, RequestReaction, RequestRule,
    RunningProxy, ShardAwareness,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::cql::wire;

/// A statement that was done is answered after it was: it takes a few milliseconds.
const ANSWERED_AFTER: Duration = Duration::from_millis(50);
/// Statements whose outcome is told wrong that may wait to be looked at: far more than a test makes.
const HELD_MAX: usize = 100_000;

/// A statement, told by the words that it begins with; `KS` stands for the keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Statement(&'static str);

impl Statement {
    pub(crate) const CHUNK: Self = Self("INSERT INTO KS.log (");
    pub(crate) const PART: Self = Self("INSERT INTO KS.snapshot (");
    pub(crate) const MARK: Self = Self("INSERT INTO KS.mark (");
    pub(crate) const MEMBER: Self = Self("INSERT INTO KS.member (");
    pub(crate) const RENEW: Self = Self("UPDATE KS.node SET newest");
    pub(crate) const FENCE: Self = Self("UPDATE KS.node SET renewals");
    pub(crate) const EPOCH: Self = Self("INSERT INTO KS.slot_epoch (");
    pub(crate) const CONFIRM: Self = Self("SELECT renewals, fenced FROM KS.node");
    pub(crate) const LOAD: Self = Self("SELECT value FROM KS.snapshot");
    pub(crate) const LOAD_MARK: Self = Self("SELECT value FROM KS.mark");
    pub(crate) const CHUNKS: Self = Self("SELECT epoch, sequence, chunk FROM KS.log");

    /// Every one of them.
    const ALL: [Self; 11] = [
        Self::CHUNK,
        Self::PART,
        Self::MARK,
        Self::MEMBER,
        Self::RENEW,
        Self::FENCE,
        Self::EPOCH,
        Self::CONFIRM,
        Self::LOAD,
        Self::LOAD_MARK,
        Self::CHUNKS,
    ];

    fn is_read(self) -> bool {
        self.0.starts_with("SELECT")
    }
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    TimedOut,
    Overloaded,
    Unprepared,
    /// The connection breaks.
    Cut,
}

/// Whether the statement is done nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Never,
    AtOnce,
    /// When [`Proxied::land`] says so.
    Later,
}

/// What becomes of the next statements of a sort.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) statement: Statement,
    pub(crate) times: usize,
    pub(crate) answer: Answer,
    pub(crate) done: Done,
}

/// What faults met so far.
#[derive(Debug, Default)]
struct Met {
    /// By the number of the fault.
    times: Vec<usize>,
    /// How many were done behind the back of those who asked for it.
    landed: usize,
    held: Vec<RequestFrame>,
}

/// A database and the proxy in front of it.
pub(crate) struct Proxied {
    keyspace: String,
    real: SocketAddr,
    port: u16,
    /// What a server calls a prepared statement.
    ids: BTreeMap<Statement, Vec<u8>>,
    prepared: mpsc::UnboundedReceiver<(RequestFrame, Option<u16>)>,
    met: Arc<Mutex<Met>>,
    proxy: RunningProxy,
    runtime: Runtime,
}

fn lock(met: &Mutex<Met>) -> MutexGuard<'_, Met> {
    met.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxied {
    pub(crate) fn start(database: &Cassandra, keyspace: &str) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let real: SocketAddr = database.address().parse().expect("an address");
        let (learned, prepared) = mpsc::unbounded_channel();
        let (proxy, port) = loop {
            let port = free_port().expect("a port");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let asks = Condition::RequestOpcode(RequestOpcode::Prepare);
            let passes = RequestReaction::noop().with_feedback_when_performed(learned.clone());
            let rules = vec![RequestRule(asks, passes)];
            let node = Node::new(real, address, ShardAwareness::Unaware, Some(rules), None);
            // Somebody else may take the port first.
            if let Ok(running) = runtime.block_on(Proxy::new([node]).run()) {
                break (running, port);
            }
        };
        let (keyspace, ids, met) = (keyspace.to_owned(), BTreeMap::new(), Arc::default());
        Self { keyspace, real, port, ids, prepared, met, proxy, runtime }
    }

    /// Where clients connect: `ADDRESS:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Learns how the server calls what was prepared through the proxy so far.
    pub(crate) fn learn(&mut self) {
        let mut texts = BTreeSet::new();
        while let Ok((frame, _)) = self.prepared.try_recv() {
            // The length of the text stands before it.
            texts.insert(String::from_utf8_lossy(&frame.body[4..]).into_owned());
        }
        for statement in Statement::ALL {
            let words = statement.0.replace("KS", &self.keyspace);
            let mut its = texts.iter().filter(|text| text.starts_with(&words));
            let (Some(text), None) = (its.next(), its.next()) else {
                panic!("{words}: not one of {texts:?}");
            };
            let id = self.runtime.block_on(wire::prepare(self.real, text));
            self.ids.insert(statement, id);
        }
    }

    /// Lets faults meet the next statements, each so many of its sort; of faults of one sort the first first.
    pub(crate) fn arm(&mut self, faults: &[Fault]) {
        // A new one: what earlier faults met late is theirs.
        self.met = Arc::new(Mutex::new(Met { times: vec![0; faults.len()], ..Met::default() }));
        let rules = faults.iter().enumerate().map(|(n, fault)| self.rule(n, *fault)).collect();
        self.proxy.running_nodes[0].change_request_rules(Some(rules));
    }

    /// Lets everything pass again.
    pub(crate) fn disarm(&mut self) {
        self.proxy.running_nodes[0].change_request_rules(None);
    }

    /// Whether each of the faults met a statement since they were armed.
    pub(crate) fn all_met(&self) -> bool {
        lock(&self.met).times.iter().all(|times| *times > 0)
    }

    /// How often each did.
    pub(crate) fn met(&self) -> Vec<usize> {
        lock(&self.met).times.clone()
    }

    /// How many statements were done, though they were answered as if they were not, or not at all.
    pub(crate) fn landed(&self) -> usize {
        lock(&self.met).landed
    }

    /// Lets what was held back reach the database at last, and waits until it is done.
    pub(crate) fn land(&self) {
        let held = std::mem::take(&mut lock(&self.met).held);
        for frame in held {
            self.runtime.block_on(land(self.real, &frame));
            lock(&self.met).landed += 1;
        }
    }

    fn rule(&self, number: usize, fault: Fault) -> RequestRule {
        let Fault { statement, times, answer, done } = fault;
        let told = |error: fn() -> _| {
            let after = (done == Done::AtOnce).then_some(ANSWERED_AFTER);
            RequestReaction::forge_with_error_lazy_delay(Box::new(error), after)
        };
        let reaction = match answer {
            Answer::Nothing => RequestReaction::drop_frame(),
            Answer::TimedOut if statement.is_read() => told(read_timeout),
            Answer::TimedOut => told(write_timeout),
            Answer::Overloaded => told(overloaded),
            Answer::Unprepared => told(unprepared),
            Answer::Cut => RequestReaction::drop_connection(),
        };
        let (meets, mut meet) = mpsc::unbounded_channel::<(RequestFrame, _)>();
        let (met, real) = (Arc::clone(&self.met), self.real);
        // It ends when the rule goes.
        self.runtime.spawn(async move {
            while let Some((frame, _)) = meet.recv().await {
                if done == Done::AtOnce {
                    land(real, &frame).await;
                }
                let mut met = lock(&met);
                met.times[number] += 1;
                match done {
                    Done::Never => {}
                    Done::AtOnce => met.landed += 1,
                    Done::Later => {
                        assert!(met.held.len() < HELD_MAX, "too many statements are held back");
                        met.held.push(frame);
                    }
                }
            }
        });
        let id = self.ids[&statement].clone();
        let meant = Condition::RequestOpcode(RequestOpcode::Execute)
            .and(Condition::BodyContainsCaseSensitive(id.into()))
            .and(Condition::TrueForLimitedTimes(times));
        RequestRule(meant, reaction.with_feedback_when_performed(meets))
    }
}

/// Does a statement in the place of who asked for it.
async fn land(real: SocketAddr, frame: &RequestFrame) {
    wire::result(real, frame.opcode as u8, &frame.body).await;
}
