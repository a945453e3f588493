//! One history: several runs of two nodes and some readers, on two store-writers, in the order of a
//! seed.

use millrace_store::memory::{FaultPlan, MemoryStore, Rates, SplitMix64};
use millrace_types::SlotId;
use tokio::task::JoinHandle;

use crate::Broken;
use crate::node::Node;
use crate::port::Port;
use crate::reader;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::verdict;
use crate::world::{Counts, World};

/// The slots everybody fights over.
pub const SLOTS: [SlotId; 2] = [SlotId(5), SlotId(6)];

/// Runs of nodes in a history.
const RUNS: u64 = 6;
/// Calls a process makes in a row at the most before somebody else may go on.
const BURST: u64 = 15;

/// What came of a history.
#[derive(Debug)]
pub struct Outcome {
    /// The promises broken.
    pub violations: Vec<String>,
    /// What happened.
    pub counts: Counts,
}

/// Plays the history of a seed.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn play(seed: u64, broken: Broken) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    runtime.block_on(History::new(seed, broken).run())
}

struct History {
    random: SplitMix64,
    broken: Broken,
    /// Failovers follow each other before an owner has written anything, clocks are far apart, and
    /// late writes land at the very end: what only a floor kept per slot withstands.
    hasty: bool,
    world: World,
    root: MemoryStore,
    schedule: Schedule,
    tasks: Vec<JoinHandle<()>>,
}

impl History {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut random = SplitMix64(seed);
        let hasty = random.below(4) == 0;
        Self {
            random,
            broken,
            hasty,
            world: World::default(),
            root: MemoryStore::new(),
            schedule: Schedule::default(),
            tasks: Vec::new(),
        }
    }

    fn server(&self, process: u64, plan: FaultPlan, broken: Broken) -> std::sync::Arc<Server> {
        Server::start(Port {
            store: self.root.handle(plan),
            process,
            schedule: self.schedule.clone(),
            world: self.world.clone(),
            broken,
        })
    }

    /// Faults of one process: in some histories late writes land soon, in others at the very end.
    fn plan(&mut self) -> FaultPlan {
        let late_calls_max = [40, 400, 100_000][self.random.below(3) as usize];
        let rates = if self.hasty {
            Rates { late: 300, late_calls_max: 1_000_000, ..Rates::default() }
        } else {
            Rates { delayed: 20, late_calls_max, ..Rates::rough() }
        };
        FaultPlan::seeded(self.random.next_u64(), rates)
    }

    async fn run(mut self) -> Outcome {
        let mut servers = Vec::new();
        for process in 0..2 {
            let plan = self.plan();
            servers.push(self.server(process, plan, self.broken));
        }
        let mut runs = 0;
        loop {
            self.schedule.settle().await;
            self.tasks.retain(|task| !task.is_finished());
            if runs < RUNS && (self.tasks.is_empty() || self.random.below(10) == 0) {
                runs += 1;
                self.start(runs, &servers);
                continue;
            }
            if self.tasks.is_empty() {
                break;
            }
            if self.random.below(24) == 0 {
                self.kill(&servers);
                continue;
            }
            self.go_on().await;
        }
        self.finish().await
    }

    /// A run of a node, and now and then a reader beside it.
    fn start(&mut self, number: u64, servers: &[std::sync::Arc<Server>]) {
        let server = &servers[self.random.below(servers.len() as u64) as usize];
        let mut node = Node::new(&self.world, server, number, self.random.next_u64());
        node.skew = [0, 60, 400][self.random.below(3) as usize];
        node.broken = self.broken;
        node.dies_early = self.random.below(if self.hasty { 2 } else { 6 }) == 0;
        if self.random.below(3) == 0 {
            node.slots.truncate(1);
        }
        self.tasks.push(tokio::spawn(node.live()));
        if self.random.below(2) == 0 {
            let random = SplitMix64(self.random.next_u64());
            let follow = reader::follow(self.world.clone(), std::sync::Arc::clone(server), random);
            self.tasks.push(tokio::spawn(follow));
        }
    }

    /// `kill -9` of a node, a reader or a store-writer.
    fn kill(&mut self, servers: &[std::sync::Arc<Server>]) {
        self.world.seen().counts.kills += 1;
        let victim = self.random.below((self.tasks.len() + servers.len()) as u64) as usize;
        match self.tasks.get(victim) {
            Some(task) => task.abort(),
            None => servers[victim - self.tasks.len()].restart(),
        }
    }

    /// One process goes on for a few calls; the others are paused meanwhile.
    async fn go_on(&mut self) {
        let waiting = self.schedule.processes();
        if waiting.is_empty() {
            // Everybody waits for writes that are held back.
            self.root.land();
            return;
        }
        let (process, _) = waiting[self.random.below(waiting.len() as u64) as usize];
        for _ in 0..=self.random.below(BURST) {
            let waiting = self.schedule.processes();
            let Some((_, calls)) = waiting.into_iter().find(|(p, _)| *p == process) else { return };
            self.schedule.let_go(process, self.random.below(calls));
            self.schedule.settle().await;
        }
    }

    /// A last run takes the slots over without faults; then everything that is still held back
    /// lands, and what stands is held against what was seen.
    async fn finish(mut self) -> Outcome {
        let server = self.server(9, FaultPlan::none(), Broken::Nothing);
        let mut last = Node::new(&self.world, &server, RUNS + 1, 0);
        let task = tokio::spawn(async move { last.settle().await });
        while !task.is_finished() {
            self.schedule.settle().await;
            self.go_on().await;
        }
        let settled = task.await.expect("the last run does not panic");
        self.world.seen().counts.late = self.root.late_writes() as u64;
        self.root.land();
        if let Ok(wrote) = settled {
            verdict::check(&self.world, &self.root, &wrote).await;
        } else if self.world.seen().violations.is_empty() {
            self.world.blame("the last run was stopped although nothing was in its way".into());
        }
        let seen = self.world.seen();
        Outcome { violations: seen.violations.clone(), counts: seen.counts }
    }
}
