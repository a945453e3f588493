//! The catalog's versions: compiled in order from the store, handed to every service, applied.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_catalog::{Catalog, Change, Diagnostic, diff};
use millrace_client::port::CatalogPort;
use millrace_grpc::{Coded, ErrorCode, Fault};
use millrace_store::{Applied, CatalogStore, Retry, StoreError, until_known};
use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How often a write whose outcome is unknown is repeated, and the pause in between.
const REPEATS: (u32, Duration) = (8, Duration::from_millis(100));
/// How often an apply starts over because another one came first.
const RACES_MAX: u32 = 8;
/// The store is asked for newer versions at most this often, however many ask for what is not there. A batch
/// of a stream that nobody made waits for it, and the next one of its call behind it.
const CATCH_UP_EVERY: Duration = Duration::from_millis(10);

/// The catalog in force, and the way to change it.
pub struct CatalogHandle {
    store: Arc<dyn CatalogStore>,
    current: watch::Sender<Arc<Catalog>>,
    /// One apply at a time in this process; the store decides between processes.
    applying: Mutex<()>,
    caught_up: Mutex<Option<Instant>>,
}

/// What an apply did, or would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The version in force now.
    pub version: u32,
    /// True when a new version was made.
    pub applied: bool,
    /// The difference to the version in force before.
    pub changes: Vec<Change>,
}

/// Why a catalog is not loaded or not applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A version in the store does not compile: it was made by another version of Millrace, or
    /// damaged.
    #[error("stored catalog version {version} does not compile: {problem}")]
    Stored {
        /// The version.
        version: u32,
        /// The first problem.
        problem: String,
    },
    /// The catalog has these problems.
    #[error("the catalog has {} problem(s), the first: {}", .0.len(), first(.0))]
    Invalid(Vec<Diagnostic>),
    /// Another version is in force than the one expected.
    #[error("catalog version {found} is in force, not {expected}: look at the difference again")]
    Changed {
        /// The version expected.
        expected: u32,
        /// The version in force.
        found: u32,
    },
    /// Others keep applying catalogs at the same moment.
    #[error("other catalogs are being applied at this moment; try again")]
    Contended,
    /// There is no such version.
    #[error("there is no catalog version {0}")]
    NoVersion(u32),
}

fn first(problems: &[Diagnostic]) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default()
}

/// Repeats a write whose outcome is unknown a bounded number of times.
struct Repeats(u32);

#[async_trait]
impl Retry for Repeats {
    async fn again(&mut self, _: &StoreError) -> bool {
        let Some(left) = self.0.checked_sub(1) else { return false };
        self.0 = left;
        sleep(REPEATS.1).await;
        true
    }
}

impl CatalogHandle {
    /// Compiles every version of the store, in order.
    ///
    /// # Errors
    /// [`CatalogError::Store`] and [`CatalogError::Stored`].
    pub async fn load(store: Arc<dyn CatalogStore>) -> Result<Arc<Self>, CatalogError> {
        let current = watch::Sender::new(Arc::new(Catalog::empty()));
        let handle = Self { store, current, applying: Mutex::new(()), caught_up: Mutex::new(None) };
        handle.refresh().await?;
        Ok(Arc::new(handle))
    }

    /// Takes up versions that other processes applied since.
    ///
    /// # Errors
    /// [`CatalogError::Store`] and [`CatalogError::Stored`].
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        let newest = self.current();
        let mut repeats = Repeats(REPEATS.0);
        let newer = || self.store.catalogs_after(newest.version);
        let versions = until_known(&mut repeats, newer).await?;
        let newest = compile_all(newest, versions)
            .map_err(|(version, problem)| CatalogError::Stored { version, problem })?;
        self.put_in_force(newest);
        Ok(())
    }

    /// Takes up versions of other processes every `every`, for ever.
    pub async fn follow(self: Arc<Self>, every: Duration) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "look for newer catalog versions");
            }
        }
    }

    fn put_in_force(&self, catalog: Arc<Catalog>) {
        self.current.send_if_modified(|current| {
            let newer = catalog.version > current.version;
            if newer {
                *current = catalog;
            }
            newer
        });
    }

    /// Every problem of a catalog, on its own and against the version in force.
    #[must_use]
    pub fn validate(&self, source: &str) -> Vec<Diagnostic> {
        compile(source, &self.current()).err().unwrap_or_default()
    }

    /// Applies a catalog, or with `dry_run` only says what it would change. Without a change no
    /// version is made.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn apply(
        &self,
        source: &str,
        dry_run: bool,
        expected: Option<u32>,
    ) -> Result<Outcome, CatalogError> {
        let _one_at_a_time = self.applying.lock().await;
        for _ in 0..RACES_MAX {
            let before = self.current();
            if let Some(expected) = expected.filter(|&v| v != before.version) {
                return Err(CatalogError::Changed { expected, found: before.version });
            }
            let compiled = compile(source, &before).map_err(CatalogError::Invalid)?;
            let changes = diff(&before, &compiled);
            if dry_run || changes.is_empty() {
                return Ok(Outcome { version: before.version, applied: false, changes });
            }
            let version = compiled.version;
            let mut repeats = Repeats(REPEATS.0);
            let put = || self.store.put_catalog(version, source.to_owned());
            let ours = match until_known(&mut repeats, put).await? {
                Applied::Yes => true,
                // The write before this one had succeeded although its outcome was unknown.
                Applied::No(there) => there.as_deref() == Some(source),
            };
            if ours {
                self.put_in_force(Arc::new(compiled));
                return Ok(Outcome { version, applied: true, changes });
            }
            self.refresh().await?;
        }
        Err(CatalogError::Contended)
    }

    /// The text of a version; `None` asks for the one in force.
    ///
    /// # Errors
    /// [`CatalogError::NoVersion`] and [`CatalogError::Store`].
    pub async fn text(&self, version: Option<u32>) -> Result<(u32, String), CatalogError> {
        let current = self.current();
        match version {
            None => Ok((current.version, current.source.to_string())),
            Some(v) if v == current.version => Ok((v, current.source.to_string())),
            Some(v) => {
                let versions = self.store.catalogs().await?;
                let found = versions.into_iter().find(|(version, _)| *version == v);
                found.ok_or(CatalogError::NoVersion(v))
            }
        }
    }
}

/// The last of these versions, which come after `before` in their order; or the one that does not compile,
/// with its first problem.
fn compile_all(
    before: Arc<Catalog>,
    versions: impl IntoIterator<Item = (u32, String)>,
) -> Result<Arc<Catalog>, (u32, String)> {
    let mut last = before;
    for (version, text) in versions {
        if version > last.version {
            let compiled = compile(&text, &last);
            last = Arc::new(compiled.map_err(|problems| (version, first(&problems)))?);
        }
    }
    Ok(last)
}

/// The version after `before`.
fn compile(source: &str, before: &Catalog) -> Result<Catalog, Vec<Diagnostic>> {
    Catalog::compile(source, (before.version > 0).then_some(before))
}

#[async_trait]
impl CatalogPort for CatalogHandle {
    fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.current.subscribe()
    }

    async fn version(&self, version: u32) -> Result<Option<Arc<Catalog>>, StoreError> {
        let mut catalog = Some(self.current()).filter(|current| current.version == version);
        if catalog.is_none() {
            // Each is compiled against the one before, as it was when it was applied.
            let versions = self.store.catalogs().await?;
            let upto = versions.into_iter().take_while(|(number, _)| *number <= version);
            catalog = compile_all(Arc::new(Catalog::empty()), upto)
                .map(|last| Some(last).filter(|last| last.version == version))
                .map_err(|(number, problem)| StoreError::Damaged {
                    what: format!("catalog version {number}"),
                    reason: problem,
                })?;
        }
        Ok(catalog)
    }

    async fn catch_up(&self) -> bool {
        let (before, arrived) = (self.current().version, Instant::now());
        let mut last = self.caught_up.lock().await;
        // Whoever began to look while this call waited has seen what was applied before it.
        if self.current().version == before && last.is_none_or(|last| last < arrived) {
            if let Some(last) = *last {
                sleep_until(last + CATCH_UP_EVERY).await;
            }
            *last = Some(Instant::now());
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "look for newer catalog versions");
            }
        }
        self.current().version > before
    }
}

impl Coded for CatalogError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::Stored { .. } => ErrorCode::StoreDamaged,
            Self::Invalid(_) => ErrorCode::CatalogInvalid,
            Self::Changed { .. } => ErrorCode::CatalogChanged,
            Self::Contended => ErrorCode::Overloaded,
            Self::NoVersion(_) => ErrorCode::CatalogVersionNotFound,
        }
    }

    fn describe(&self, fault: Fault) -> Fault {
        match self {
            Self::Invalid(problems) => problems.iter().fold(fault, |fault, problem| {
                let field = match problem.path.as_str() {
                    "" => "source".to_owned(),
                    path => format!("source.{path}"),
                };
                fault.violation(field, problem.to_string())
            }),
            Self::Changed { expected, found } => {
                fault.with("expected_version", expected).with("version", found)
            }
            Self::NoVersion(version) => {
                fault.with("version", version).resource("catalog", version.to_string())
            }
            Self::Store(_) | Self::Stored { .. } | Self::Contended => fault,
        }
    }
}
