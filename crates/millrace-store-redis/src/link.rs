//! One connection to Redis, watched over: whoever asks gets it at once, or is told at once that
//! there is none. Nobody waits for Redis to come back but the task here.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long making a connection may take, credentials included.
const CONNECTS_WITHIN: Duration = Duration::from_secs(2);
/// The least and the greatest pause between two tries, less up to as much by chance.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The connection of now.
#[derive(Clone)]
enum State {
    /// Before the first attempt has come to an end.
    Connecting,
    Up {
        generation: u64,
        connection: MultiplexedConnection,
    },
    Down {
        reason: Arc<str>,
    },
}

/// A connection that is there, with the number to tell it from earlier ones.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) generation: u64,
    pub(crate) connection: MultiplexedConnection,
}

/// The connection and the task that watches over it.
pub(crate) struct Link {
    state: watch::Sender<State>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// Begins to connect. An answer may take `patience`.
    pub(crate) fn start(client: Client, patience: Duration) -> Self {
        let state = watch::Sender::new(State::Connecting);
        let task = tokio::spawn(watch_over(client, patience, state.clone()));
        Self { state, _task: AbortOnDropHandle::new(task) }
    }

    /// The connection, or why there is none.
    pub(crate) fn now(&self) -> Result<Up, Arc<str>> {
        match &*self.state.borrow() {
            State::Up { generation, connection } => {
                Ok(Up { generation: *generation, connection: connection.clone() })
            }
            State::Down { reason } => Err(Arc::clone(reason)),
            State::Connecting => Err("not connected yet".into()),
        }
    }

    /// Waits until there is one.
    pub(crate) async fn up(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so the wait ends by being fulfilled.
        let _ = state.wait_for(|state| matches!(state, State::Up { .. })).await;
    }

    /// Waits until there was an attempt to connect, whatever came of it.
    pub(crate) async fn tried(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| !matches!(state, State::Connecting)).await;
    }

    /// Tells of a failure on the connection of a generation, which may mean that it is gone.
    pub(crate) fn failed(&self, generation: u64, error: &RedisError) {
        if !is_lost(error) {
            return;
        }
        let reason: Arc<str> = explain(error).into();
        self.state.send_if_modified(|state| match state {
            State::Up { generation: now, .. } if *now == generation => {
                *state = State::Down { reason };
                true
            }
            State::Connecting | State::Up { .. } | State::Down { .. } => false,
        });
    }
}

/// Connects once.
///
/// # Errors
/// Why Redis cannot be used, for an operator.
pub(crate) async fn connect(
    client: &Client,
    patience: Duration,
) -> Result<MultiplexedConnection, String> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTS_WITHIN))
        .set_response_timeout(Some(patience));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match timeout(CONNECTS_WITHIN, connecting).await {
        Ok(connected) => connected.map_err(|error| explain(&error)),
        Err(_) => Err("it did not let us in in time".to_owned()),
    }
}

async fn watch_over(client: Client, patience: Duration, state: watch::Sender<State>) {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(PAUSES.0)
        .with_max_delay(PAUSES.1)
        .with_jitter()
        .without_max_times();
    let mut pauses = backoff.build();
    let mut told: Option<Arc<str>> = None;
    for generation in 1.. {
        match connect(&client, patience).await {
            Ok(connection) => {
                tracing::info!("Redis is there: producer windows are used");
                state.send_replace(State::Up { generation, connection });
                let mut changes = state.subscribe();
                let lost = changes.wait_for(|state| matches!(state, State::Down { .. })).await;
                if let Ok(lost) = lost
                    && let State::Down { reason } = &*lost
                {
                    tracing::warn!(%reason, "Redis is gone: facts are sent on without asking it");
                }
                told = None;
                pauses = backoff.build();
            }
            Err(reason) => {
                let reason: Arc<str> = reason.into();
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, "Redis cannot be used: facts are sent on without it");
                    told = Some(Arc::clone(&reason));
                }
                state.send_replace(State::Down { reason });
            }
        }
        sleep(pauses.next().unwrap_or(PAUSES.1)).await;
    }
}

/// True when the connection has to be made anew: nothing was answered, or the server says that it
/// is not the one to ask (any more).
fn is_lost(error: &RedisError) -> bool {
    let not_the_one = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
        )
    );
    let unanswered = matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse);
    unanswered || not_the_one || error.is_unrecoverable_error()
}

/// What went wrong, and the way out where an operator has to do something.
pub(crate) fn explain(error: &RedisError) -> String {
    let refused = error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
    if refused {
        return format!("{error}: check user and password, and what Redis lets the user do");
    }
    match error.code() {
        Some("OOM") => format!("{error}: Redis is full, give it more memory"),
        _ => error.to_string(),
    }
}
