//! A read of features, in domain terms: what is asked, where it is answered, what comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use millrace_catalog::{Catalog, Kind, View};
use millrace_client::heads::outcome;
use millrace_client::port::{
    CatalogPort, EntityOutcome, HeadAnswer, HeadPort, HeadRequest, JoinError, SlotPort, StorePort,
};
use millrace_grpc::PeerNetwork;
use millrace_kernel::Plan;
use millrace_kernel::slot::Stamp;
use millrace_placement::Slots;
use millrace_telemetry::Span;
use millrace_types::entity::entity_hash;
use millrace_types::{Entity, EntityKey, KeyPart, KeyType, KnownAt, Micros, SlotId};
use tokio::time::Instant;

use crate::clock;
use crate::error::ReadError;
use crate::lane::{Lane, LaneLimits};
use crate::log_read::{Folded, LogReader};
use crate::metrics::{
    HEAD_READS, HEAD_READS_LIMIT, Instruments, LOG_READS, LOG_READS_LIMIT, SETS, SETS_LIMIT,
    TrainingInstruments,
};
use crate::parity::Sampler;
use crate::plans::Plans;

/// Entities one read may ask for.
pub(crate) const ENTITIES_MAX: usize = 1_000;

/// Settings of the reader.
#[derive(Debug, Clone)]
pub struct ReaderConfig {
    /// Entities whose heads are read at a time, and the reads there may be.
    pub head_reads: LaneLimits,
    /// Slots whose log is read at a time, and the reads of logs there may be.
    pub log_reads: LaneLimits,
    /// Facts a read from the log looks at.
    pub log_facts: u64,
    /// How long a read from the log takes, waiting included.
    pub log_time: Duration,
    /// Which heads its port reads.
    pub heads: HeadPath,
    /// Training sets made at a time, and the calls there may be.
    pub training_sets: LaneLimits,
    /// Memory of one training set, in bytes, about.
    pub training_bytes: u64,
    /// How long the client of one may take for the next rows of its spine.
    pub spine_stall: Duration,
}

/// Which heads a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPath {
    /// Those of a join service in this process.
    Live,
    /// Those in the store.
    Stored,
}

impl HeadPath {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "head",
            Self::Stored => "stored",
        }
    }
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self {
            head_reads: LaneLimits { at_once: 4_096, places: 2_048 },
            log_reads: LaneLimits { at_once: 2, places: 1_024 },
            log_facts: 5_000_000,
            log_time: Duration::from_secs(30),
            heads: HeadPath::Live,
            training_sets: LaneLimits { at_once: 1, places: 8 },
            training_bytes: 512 << 20,
            spine_stall: Duration::from_secs(60),
        }
    }
}

/// The instant of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A fixed instant.
    At(Micros),
    /// The service's clock.
    Now,
    /// The greatest event time seen in the view's streams.
    Latest,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Read {
    /// The view's name.
    pub view: String,
    /// The keys, each as parts.
    pub keys: Vec<EntityKey>,
    /// Feature names; empty for all.
    pub features: Vec<String>,
    /// The instant.
    pub moment: Moment,
    /// As known at; `None` for everything confirmed.
    pub known_at: Option<Micros>,
    /// Who asks.
    pub peer: PeerNetwork,
}

/// What comes back.
#[derive(Debug)]
pub struct Answer {
    /// The catalog the read was made under.
    pub catalog: Arc<Catalog>,
    /// Index of the view in it.
    pub view: usize,
    /// Indexes of the features in the view.
    pub features: Vec<usize>,
    /// The instant.
    pub at: Micros,
    /// As known at, where it was asked for.
    pub known_at: Option<KnownAt>,
    /// One outcome an entity, in order, with its slot.
    pub entities: Vec<(SlotId, EntityOutcome)>,
    /// How many of them were folded from the log.
    pub from_log: usize,
}

/// What a reader stands on.
#[derive(Clone)]
pub struct ReaderPorts {
    /// Heads.
    pub heads: Arc<dyn HeadPort>,
    /// What owners say of slots.
    pub owner: Arc<dyn SlotPort>,
    /// The store, for the log.
    pub store: Arc<dyn StorePort>,
    /// The catalog.
    pub catalog: Arc<dyn CatalogPort>,
}

/// Reads features.
pub struct Reader {
    heads: Arc<dyn HeadPort>,
    pub(crate) owner: Arc<dyn SlotPort>,
    pub(crate) slots: Slots,
    head_lane: Lane,
    pub(crate) log: LogReader,
    plans: Plans,
    head_path: HeadPath,
    instruments: Instruments,
    pub(crate) training_lane: Lane,
    pub(crate) training_instruments: TrainingInstruments,
    pub(crate) training_bytes: usize,
    pub(crate) spine_stall: Duration,
    /// What takes samples of answers, once anybody audits them.
    pub(crate) sampler: OnceLock<Sampler>,
    /// Slots of a training set worked on at a time.
    pub(crate) cores: usize,
}

impl Reader {
    /// A reader over these ports.
    #[must_use]
    pub fn new(config: &ReaderConfig, ports: ReaderPorts, slots: Slots) -> Self {
        let ReaderPorts { heads, owner, store, catalog } = ports;
        let log_lane = Lane::new("the log", config.log_reads);
        log_lane.show(&LOG_READS, &LOG_READS_LIMIT);
        let log = LogReader::new(store, log_lane, config.log_facts, config.log_time);
        let head_lane = Lane::new("heads", config.head_reads);
        head_lane.show(&HEAD_READS, &HEAD_READS_LIMIT);
        let plans = Plans::new(catalog);
        let (head_path, instruments) = (config.heads, Instruments::new());
        let training_lane = Lane::new("training sets", config.training_sets);
        training_lane.show(&SETS, &SETS_LIMIT);
        let training_bytes = usize::try_from(config.training_bytes).unwrap_or(usize::MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            heads,
            owner,
            slots,
            head_lane,
            log,
            plans,
            head_path,
            instruments,
            training_lane,
            training_instruments: TrainingInstruments::new(),
            training_bytes,
            spine_stall: config.spine_stall,
            sampler: OnceLock::new(),
            cores,
        }
    }

    /// Slots of the cluster.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.slots.count()
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plans.newest()
    }

    /// Looks for what other processes applied by now.
    pub(crate) async fn catch_up(&self) {
        self.plans.catch_up().await;
    }

    /// The newest plan, with what is found in it. Where something is not there, it may have been applied by
    /// another process a moment ago: then it is looked for once more.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) async fn plan_with<T>(
        &self,
        find: impl Fn(&Arc<Plan>) -> Result<T, ReadError>,
    ) -> Result<(Arc<Plan>, T), ReadError> {
        let plan = self.plan();
        match find(&plan) {
            Ok(found) => Ok((plan, found)),
            Err(
                ReadError::ViewNotFound { .. }
                | ReadError::FeatureNotFound { .. }
                | ReadError::StreamNotFound { .. },
            ) if self.plans.catch_up().await => {
                let plan = self.plan();
                let found = find(&plan)?;
                Ok((plan, found))
            }
            Err(error) => Err(error),
        }
    }

    /// The plan of a version that was in force once.
    pub(crate) async fn plan_of(&self, version: u32) -> Result<Option<Arc<Plan>>, ReadError> {
        self.plans.of_version(version).await.map_err(ReadError::Store)
    }

    /// Answers a read.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, read: Read) -> Result<Answer, ReadError> {
        let begun = Instant::now();
        let answer = self.read_again(&read).await?;
        self.instruments.read(&answer, self.head_path, begun.elapsed());
        if let Some(sampler) = self.sampler.get() {
            sampler.offer(&answer, &read.keys);
        }
        Ok(answer)
    }

    async fn read_again(&self, read: &Read) -> Result<Answer, ReadError> {
        match self.read_once(read).await {
            // A catalog version can come between the plan and the heads: then once more with it.
            Err(ReadError::Join(JoinError::UnknownCatalog(_))) => self.read_once(read).await,
            // It may have been applied by another process a moment ago.
            Err(ReadError::ViewNotFound { .. } | ReadError::FeatureNotFound { .. })
                if self.plans.catch_up().await =>
            {
                self.read_once(read).await
            }
            other => other,
        }
    }

    async fn read_once(&self, read: &Read) -> Result<Answer, ReadError> {
        let _place = self.head_lane.place(read.peer)?;
        let plan = self.plan();
        let catalog = plan.catalog.clone();
        let (view_index, view) = find_view(&catalog, &read.view)?;
        let features = find_features(view, &read.features)?;
        check_keys(&catalog, view, &read.keys)?;
        let at = self.instant(read.moment, view).await?;
        let known_at = self.known_at(read.known_at)?;
        let mut by_slot: BTreeMap<SlotId, Vec<usize>> = BTreeMap::new();
        let kind_name = catalog.kind(view.entity).map_or("", |k| k.name.as_str());
        for (index, key) in read.keys.iter().enumerate() {
            let slot = self.slots.slot_of(entity_hash(kind_name, key.as_bytes()));
            by_slot.entry(slot).or_default().push(index);
        }
        let shared: Arc<[usize]> = features.clone().into();
        let name: Arc<str> = view.name.as_str().into();
        let reads = by_slot.into_iter().map(|(slot, indexes)| {
            let entities = indexes
                .iter()
                .map(|i| Entity { kind: view.entity, key: read.keys[*i].clone() })
                .collect();
            let request = HeadRequest {
                slot,
                view: name.clone(),
                features: shared.clone(),
                catalog_version: catalog.version,
                entities,
                at,
                known_at: known_at.unwrap_or(KnownAt::MAX),
            };
            let (plan, peer) = (plan.clone(), read.peer);
            async move { Ok((slot, indexes, self.read_slot(plan, peer, request).await?)) }
        });
        // Each is woken alone: a read of many slots does not look at all of them for each that is answered.
        let reads: FuturesUnordered<_> = reads.collect();
        let answers: Vec<_> = reads.try_collect().await?;
        let mut entities: Vec<Option<(SlotId, EntityOutcome)>> = vec![None; read.keys.len()];
        let mut from_log = 0;
        for (slot, indexes, (outcomes, log)) in answers {
            from_log += log;
            for (index, outcome) in indexes.into_iter().zip(outcomes) {
                entities[index] = Some((slot, outcome));
            }
        }
        let entities = entities.into_iter().flatten().collect();
        Ok(Answer { catalog, view: view_index, features, at, known_at, entities, from_log })
    }

    pub(crate) async fn instant(&self, moment: Moment, view: &View) -> Result<Micros, ReadError> {
        match moment {
            Moment::At(at) => Ok(at),
            Moment::Now => Ok(clock::now()),
            Moment::Latest => {
                let slots = self.owner.status().await.map_err(ReadError::Join)?;
                slots
                    .iter()
                    .flat_map(|s| &s.latest)
                    .filter(|(stream, _)| view.streams().any(|s| s == *stream))
                    .map(|(_, at)| *at)
                    .max()
                    .ok_or(ReadError::NothingSeen)
            }
        }
    }

    pub(crate) fn known_at(&self, known_at: Option<Micros>) -> Result<Option<KnownAt>, ReadError> {
        let Some(known_at) = known_at else { return Ok(None) };
        let now = clock::now();
        if known_at > now {
            return Err(ReadError::KnownAtAhead { known_at, now });
        }
        Ok(Some(KnownAt(known_at.0)))
    }

    /// Reads entities of one slot: from heads, and from the log what heads do not cover. Also gives
    /// how many were read from the log.
    async fn read_slot(
        &self,
        plan: Arc<Plan>,
        peer: PeerNetwork,
        request: HeadRequest,
    ) -> Result<(Vec<EntityOutcome>, usize), ReadError> {
        let slot = request.slot;
        let known_at = request.known_at;
        if known_at < KnownAt::MAX {
            // No later chunk may have a smaller known_at, or asking again would not repeat this.
            self.owner.close_up_to(slot, known_at).await.map_err(ReadError::Join)?;
        }
        let turn = self.head_lane.turn(peer, request.entities.len() as u32).await;
        let span = Span::within("read heads");
        let answers = span.around(self.heads.read_heads(request.clone())).await;
        // What follows is another path.
        drop((span, turn));
        let answers = answers.map_err(ReadError::Join)?;
        let mut outcomes: Vec<Option<EntityOutcome>> = Vec::with_capacity(answers.len());
        let mut from_log = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                HeadAnswer::Answer(mut outcome) => {
                    outcome.known_at = outcome.known_at.min(known_at);
                    outcomes.push(Some(outcome));
                }
                HeadAnswer::FromLog { position, known_at, watermark, rebuilding } => {
                    outcomes.push(None);
                    from_log.push((index, position, known_at, watermark, rebuilding));
                }
                HeadAnswer::TooEarly(early) => {
                    return Err(ReadError::TooEarly { early, row: None });
                }
            }
        }
        // Chunks may be confirmed between two answers. All are folded up to the last of them, which is then
        // what all of them state.
        let newest = from_log.iter().max_by_key(|f| f.1).cloned();
        let Some((_, up_to, newest_known_at, newest_watermark, _)) = newest else {
            return Ok((outcomes.into_iter().flatten().collect(), 0));
        };
        let count = from_log.len();
        let wanted = from_log.iter().map(|f| request.entities[f.0].clone()).collect();
        let span = Span::within("read log");
        // Few reads come here: those that do not should not carry its state.
        let fold = Box::pin(self.log.fold(peer, plan.clone(), slot, wanted, known_at, up_to));
        let Folded { states, boundaries } = span.around(fold).await?;
        drop(span);
        let mut states: BTreeMap<Entity, _> = states.into_iter().collect();
        for (index, _, _, _, rebuilding) in from_log {
            let entity = &request.entities[index];
            let kind = plan.kind(entity.kind);
            let view = kind.and_then(|kind| Some((kind, kind.view_index(&request.view)?)));
            let (Some(state), Some((kind, view))) = (states.get_mut(entity), view) else {
                continue;
            };
            // The log may have been rewritten since the heads were asked.
            if let Some(early) = kind.too_early(view, &request.features, request.at, &boundaries) {
                return Err(ReadError::TooEarly { early, row: None });
            }
            let evaluation = state
                .evaluate(view, &request.features, request.at)
                .ok_or_else(|| ReadError::BudgetSpent { limit: "the log".to_owned() })?;
            let known_at = newest_known_at.min(known_at);
            let (position, watermark) = (up_to, newest_watermark);
            let stamp = Stamp { position, known_at, watermark, rebuilding };
            outcomes[index] = Some(outcome(evaluation, stamp));
        }
        Ok((outcomes.into_iter().flatten().collect(), count))
    }
}

pub(crate) fn find_view<'a>(
    catalog: &'a Catalog,
    name: &str,
) -> Result<(usize, &'a View), ReadError> {
    let found = catalog.views.iter().enumerate().find(|(_, v)| v.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = catalog.views.iter().map(|v| v.name.as_str()).collect();
        let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        ReadError::ViewNotFound { view: name.to_owned(), known }
    })
}

pub(crate) fn find_features(view: &View, names: &[String]) -> Result<Vec<usize>, ReadError> {
    if names.is_empty() {
        return Ok((0..view.features.len()).collect());
    }
    names
        .iter()
        .map(|name| {
            view.features.iter().position(|f| f.name == *name).ok_or_else(|| {
                let known: Vec<&str> = view.features.iter().map(|f| f.name.as_str()).collect();
                ReadError::FeatureNotFound {
                    view: view.name.clone(),
                    feature: name.clone(),
                    known: known.join(", "),
                }
            })
        })
        .collect()
}

pub(crate) fn check_keys(
    catalog: &Catalog,
    view: &View,
    keys: &[EntityKey],
) -> Result<(), ReadError> {
    if keys.is_empty() || keys.len() > ENTITIES_MAX {
        return Err(ReadError::Invalid {
            field: "entities".to_owned(),
            rule: format!("between 1 and {ENTITIES_MAX} entities a read, not {}", keys.len()),
        });
    }
    let Some(kind) = catalog.kind(view.entity) else { return Ok(()) };
    for (index, key) in keys.iter().enumerate() {
        check_key(&format!("entities[{index}]"), kind, key)?;
    }
    Ok(())
}

/// A key has the parts of its kind; `field` names it.
pub(crate) fn check_key(field: &str, kind: &Kind, key: &EntityKey) -> Result<(), ReadError> {
    let types: Vec<KeyType> = key
        .parts()
        .map(|part| match part {
            KeyPart::Int64(_) => KeyType::Int64,
            KeyPart::String(_) => KeyType::String,
        })
        .collect();
    if types == kind.parts {
        return Ok(());
    }
    let name = |t: &KeyType| match t {
        KeyType::Int64 => "int64",
        KeyType::String => "string",
    };
    let wanted: Vec<&str> = kind.parts.iter().map(name).collect();
    Err(ReadError::Invalid {
        field: field.to_owned(),
        rule: format!("a key of {} is {}", kind.name, wanted.join(", ")),
    })
}
