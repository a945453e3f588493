//! A store whose connections go through `scylla-proxy`, which answers chosen requests in the
//! database's place. All of them share one keyspace on the shared server, and keep apart by slots,
//! nodes and versions of the catalog.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use millrace_store::{Retry, StoreError};
use millrace_store_scylla::{CqlConfig, CqlStore};
use millrace_test_servers::{Cassandra, free_port};
use scylla::errors::DbError;
use scylla_proxy::{
    Condition, Node, Proxy, Reaction, RequestFrame, RequestOpcode, RequestReaction, RequestRule,
    ResponseFrame, ResponseOpcode, ResponseReaction, ResponseRule, RunningProxy, ShardAwareness,
    TargetShard,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::sleep;

use super::{config, open};

/// How long a call waits for an answer that never comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// A number that no other case of this process has: for slots and versions.
pub(crate) fn fresh() -> u32 {
    static NUMBERS: AtomicU32 = AtomicU32::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// The keyspace of these cases.
pub(crate) async fn keyspace() -> &'static CqlConfig {
    static MADE: OnceCell<CqlConfig> = OnceCell::const_new();
    MADE.get_or_init(|| Box::pin(make())).await
}

async fn make() -> CqlConfig {
    let config = config(Cassandra::shared());
    open(&config).await.unwrap();
    CqlConfig { create: None, patience: PATIENCE, ..config }
}

/// What happens to one request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is lost, and so it is not done.
    RequestLost,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// The connection breaks instead of taking it.
    CutBefore,
    /// It is done, and the connection breaks instead of giving the answer.
    CutAfter,
    /// It does not reach the database, and this is answered, so many times.
    Told(DbError, usize),
    /// It is done, and this is answered.
    ToldAfter(DbError),
}

/// Which answer is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// The next one.
    Next,
    /// The next one of a conditional write.
    Conditional,
}

/// A store behind a proxy.
pub(crate) struct Proxied {
    pub(crate) store: CqlStore,
    proxy: RunningProxy,
    real: SocketAddr,
}

/// The requests that a fault met.
pub(crate) struct Met(mpsc::UnboundedReceiver<(RequestFrame, Option<TargetShard>)>);

impl Met {
    /// One of them; there must be one.
    pub(crate) fn one(&mut self) -> RequestFrame {
        self.0.try_recv().unwrap().0
    }

    /// Whether there was none.
    pub(crate) fn is_none(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

impl Proxied {
    pub(crate) async fn open() -> Self {
        let config = keyspace().await;
        let real: SocketAddr = config.nodes[0].parse().unwrap();
        let (proxy, port) = loop {
            let port = free_port().unwrap();
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            let node = Node::new(real, address, ShardAwareness::Unaware, None, None);
            // Somebody else may take the port first.
            if let Ok(running) = Proxy::new([node]).run().await {
                break (running, port);
            }
        };
        let nodes = vec![format!("127.0.0.1:{port}")];
        let store = open(&CqlConfig { nodes, ..config.clone() }).await.unwrap();
        Self { store, proxy, real }
    }

    /// Lets a fault meet the next request that holds these bytes.
    pub(crate) fn arm(&mut self, fault: &Fault, bytes: &[u8], answer: Answer) -> Met {
        let (meets, met) = mpsc::unbounded_channel();
        let times = if let Fault::Told(_, times) = fault { *times } else { 1 };
        let request = of_store()
            .and(Condition::RequestOpcode(RequestOpcode::Execute))
            .and(Condition::BodyContainsCaseSensitive(bytes.into()))
            .and(Condition::TrueForLimitedTimes(times));
        let (on_request, on_answer) = reactions(fault);
        let rule = RequestRule(request, on_request.with_feedback_when_performed(meets));
        let node = &mut self.proxy.running_nodes[0];
        node.change_request_rules(Some(vec![rule]));
        let meant = of_store().and(Condition::ResponseOpcode(ResponseOpcode::Result));
        let meant = match answer {
            Answer::Next => meant,
            Answer::Conditional => {
                meant.and(Condition::BodyContainsCaseSensitive((*b"[applied]").into()))
            }
        };
        let rule = |reaction| ResponseRule(meant.and(Condition::TrueForLimitedTimes(1)), reaction);
        node.change_response_rules(on_answer.map(|reaction| vec![rule(reaction)]));
        Met(met)
    }

    /// Lets a request that was held back reach the database at last, and waits until it is done.
    pub(crate) async fn land(&self, late: RequestFrame) {
        let mut stream = TcpStream::connect(self.real).await.unwrap();
        let mut startup = vec![0, 1];
        for text in ["CQL_VERSION", "3.0.0"] {
            startup.extend_from_slice(&(text.len() as u16).to_be_bytes());
            startup.extend_from_slice(text.as_bytes());
        }
        assert_eq!(ask(&mut stream, RequestOpcode::Startup, &startup).await, 0x02, "READY");
        assert_eq!(ask(&mut stream, late.opcode, &late.body).await, 0x08, "RESULT");
    }
}

/// Requests and answers of the store itself, not of the driver's look at the cluster.
fn of_store() -> Condition {
    Condition::not(Condition::ConnectionRegisteredAnyEvent)
}

fn reactions(fault: &Fault) -> (RequestReaction, Option<ResponseReaction>) {
    let pass = RequestReaction::noop;
    match fault {
        Fault::RequestLost => (RequestReaction::drop_frame(), None),
        Fault::AnswerLost => (pass(), Some(ResponseReaction::drop_frame())),
        Fault::CutBefore => (RequestReaction::drop_connection(), None),
        Fault::CutAfter => (pass(), Some(ResponseReaction::drop_connection())),
        Fault::Told(error, _) => (RequestReaction::forge_with_error(error.clone()), None),
        Fault::ToldAfter(error) => {
            let error = error.clone();
            let told = move |frame: ResponseFrame| {
                ResponseFrame::forged_error(frame.params, error.clone(), None).unwrap()
            };
            (pass(), Some(ResponseReaction::transform_frame(Arc::new(told))))
        }
    }
}

/// Sends a frame of version 4 and gives the operation of the answer.
async fn ask(stream: &mut TcpStream, operation: RequestOpcode, body: &[u8]) -> u8 {
    let mut frame = vec![0x04, 0, 0, 0, operation as u8];
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    stream.write_all(&frame).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    head[4]
}

/// Repeats a call for a minute: what the layer above the adapter does, without its budget.
pub(crate) struct Repeats(usize);

impl Repeats {
    pub(crate) fn new() -> Self {
        Self(6_000)
    }
}

#[async_trait]
impl Retry for Repeats {
    async fn again(&mut self, _: &StoreError) -> bool {
        self.0 = self.0.saturating_sub(1);
        // The driver tells nobody that it has connected again: it is asked, within a bound.
        sleep(Duration::from_millis(10)).await;
        self.0 > 0
    }
}
