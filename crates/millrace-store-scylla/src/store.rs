//! The store: a session, its statements, and how they are run.

use std::sync::Mutex;
use std::time::Instant;

use millrace_store::StoreError;
use millrace_telemetry::Span;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

use crate::answered::Answered;
use crate::epochs::EpochCache;
use crate::gate::{Entered, Gates, Shard};
use crate::landed::Landed;
use crate::log::LogCache;
use crate::outcome::store_error;
use crate::statements::{Said, Statement, Statements};
use crate::windows::Windows;

/// Rows of a page where all rows of a partition are read.
const PAGE_ROWS: i32 = 1_000;

/// A keyspace of ScyllaDB or Cassandra as a store.
pub struct CqlStore {
    pub(crate) session: Session,
    pub(crate) statements: Statements,
    pub(crate) keyspace: String,
    pub(crate) gates: Gates,
    pub(crate) answered: Answered,
    pub(crate) epochs: Mutex<EpochCache>,
    pub(crate) log: Mutex<LogCache>,
    pub(crate) landed: Mutex<Landed>,
    pub(crate) windows: Mutex<Windows>,
}

impl CqlStore {
    pub(crate) fn new(
        session: Session,
        statements: Statements,
        keyspace: String,
        in_flight_max: usize,
    ) -> Self {
        Self {
            session,
            statements,
            keyspace,
            gates: Gates::new(in_flight_max),
            answered: Answered::now(),
            epochs: Mutex::default(),
            log: Mutex::default(),
            landed: Mutex::default(),
            windows: Mutex::default(),
        }
    }

    /// Runs a statement whose answer fits into one page.
    pub(crate) async fn run(
        &self,
        statement: Statement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, StoreError> {
        let (said, prepared) = (statement.said(), self.statements.get(statement));
        let entered =
            self.gates.enter(self.shard(&said, prepared, &values), statement.urgency()).await;
        let (span, began) = (said.span(), Instant::now());
        let outcome = self.session.execute_unpaged(prepared, values).await;
        self.leave(entered, &outcome, began);
        outcome.map_err(|error| failed(&span, &said, &error))
    }

    /// Runs a conditional write. True when the condition held and it is done.
    pub(crate) async fn run_conditional(
        &self,
        statement: Statement,
        values: impl SerializeRow,
    ) -> Result<bool, StoreError> {
        let result = self.run(statement, values).await?;
        // `[applied]`, and the row that stands there: always in ScyllaDB, in Cassandra where it was
        // not applied. Its columns differ; who wants them reads them.
        let row: Option<Row> = first(&statement.said(), result)?;
        match row.and_then(|row| row.columns.into_iter().next().flatten()) {
            Some(CqlValue::Boolean(applied)) => Ok(applied),
            Some(_) | None => Err(StoreError::Unknown {
                operation: statement.said().operation,
                reason: "the answer does not say whether it was applied".to_owned(),
            }),
        }
    }

    /// Runs a read of at most one row.
    pub(crate) async fn one<R>(
        &self,
        statement: Statement,
        values: impl SerializeRow,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let result = self.run(statement, values).await?;
        first(&statement.said(), result)
    }

    /// Runs a read of any number of rows and gives all of them.
    pub(crate) async fn all<R>(
        &self,
        statement: Statement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let (mut rows, mut state) = (Vec::new(), Some(PagingState::start()));
        while let Some(from) = state {
            let (page, next) = self.page(statement, &values, from, PAGE_ROWS).await?;
            rows.extend(page);
            state = next;
        }
        Ok(rows)
    }

    /// Reads one page of about `page_rows` rows, and says where the next one begins. A page may be
    /// empty although more follow.
    pub(crate) async fn page<R>(
        &self,
        statement: Statement,
        values: &impl SerializeRow,
        from: PagingState,
        page_rows: i32,
    ) -> Result<(Vec<R>, Option<PagingState>), StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let said = statement.said();
        let mut prepared = self.statements.get(statement).clone();
        prepared.set_page_size(page_rows);
        let entered =
            self.gates.enter(self.shard(&said, &prepared, values), statement.urgency()).await;
        let (span, began) = (said.span(), Instant::now());
        let outcome = self.session.execute_single_page(&prepared, values, from).await;
        self.leave(entered, &outcome, began);
        let (result, state) = outcome.map_err(|error| failed(&span, &said, &error))?;
        let unreadable = |error: &dyn std::error::Error| unreadable(&said, error);
        let result = result.into_rows_result().map_err(|error| unreadable(&error))?;
        let rows = result.rows::<R>().map_err(|error| unreadable(&error))?;
        let rows = rows.collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        let next = match state {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((rows, next))
    }

    /// A request that began then is over.
    fn leave<T>(&self, entered: Entered, outcome: &Result<T, ExecutionError>, began: Instant) {
        let took = began.elapsed();
        entered.leave(outcome, took);
        if outcome.is_ok() {
            self.answered.at(began + took);
        }
    }

    /// The shard that a statement goes to first, if that is known.
    fn shard(
        &self,
        said: &Said,
        prepared: &PreparedStatement,
        values: &impl SerializeRow,
    ) -> Shard {
        let token = prepared.calculate_token(values).ok().flatten()?;
        let state = self.session.get_cluster_state();
        let replicas = state.get_token_endpoints(&self.keyspace, said.table, token);
        let (node, shard) = replicas.first()?;
        Some((node.host_id.as_u128(), *shard))
    }
}

/// What an error of the driver means, which the span tells too.
fn failed(span: &Span, said: &Said, error: &ExecutionError) -> StoreError {
    let error = store_error(said.operation, said.way, error);
    span.fail(error.kind());
    error
}

fn first<R>(said: &Said, result: QueryResult) -> Result<Option<R>, StoreError>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    let result = result.into_rows_result().map_err(|error| unreadable(said, &error))?;
    result.maybe_first_row::<R>().map_err(|error| unreadable(said, &error))
}

fn unreadable(said: &Said, error: &dyn std::error::Error) -> StoreError {
    StoreError::Damaged {
        what: format!("answer of table {} for {}", said.table, said.operation),
        reason: error.to_string(),
    }
}

/// How a lock is taken: every step on what these guard is complete or not begun.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number of ours as the database holds it.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was stored.
pub(crate) fn read(what: &'static str, number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged {
        what: what.to_owned(),
        reason: format!("{number} is less than nothing"),
    })
}
