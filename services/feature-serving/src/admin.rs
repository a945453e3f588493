//! `AdminService`: the state of the services, for `millrace status`, LATE facts, for `millrace late`,
//! and erasures, for `millrace erase`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_catalog::Catalog;
use millrace_client::port::{
    BackfillStatus, CatalogPort, JoinPort, PeerPort, Place, SlotPort, SlotStatus, StorePort,
};
use millrace_grpc::{Drain, PeerNetwork, peer_of, status};
use millrace_kernel::late::LateFact;
use millrace_proto::convert::{id_text, known_at_timestamp, to_timestamp};
use millrace_proto::v1;
use millrace_proto::v1::admin_service_server::AdminService;
use millrace_types::{Boundaries, Micros, SlotId, StreamId};
use tonic::{Request, Response, Status};

use crate::clock;
use crate::erase::{EraseDesk, find_kind};
use crate::error::ReadError;
use crate::late::{self, Cursor, LatePage, PAGE_DEFAULT, PAGE_MAX};
use crate::nodes::{Nodes, age};
use crate::read::Reader;

/// The service.
pub struct Admin {
    owner: Arc<dyn SlotPort>,
    catalog: Arc<dyn CatalogPort>,
    drain: Drain,
    /// The services in other processes.
    peers: Vec<Arc<dyn PeerPort>>,
    /// Where join nodes tell of themselves.
    store: Option<Arc<dyn StorePort>>,
    /// What LATE facts are read and replayed through.
    late: Option<(Arc<Reader>, Arc<dyn JoinPort>)>,
    /// Who takes erasures.
    erase: Option<EraseDesk>,
}

/// The services of Millrace, in the order of a fact's way.
const SERVICES: [&str; 4] = ["ingest", "join", "store-writer", "feature-serving"];

impl Admin {
    /// Answers for the services of this process.
    #[must_use]
    pub fn new(owner: Arc<dyn SlotPort>, catalog: Arc<dyn CatalogPort>, drain: Drain) -> Self {
        Self { owner, catalog, drain, peers: Vec::new(), store: None, late: None, erase: None }
    }

    /// The same, with services in other processes, which are asked whether they serve.
    #[must_use]
    pub fn with_peers(mut self, peers: Vec<Arc<dyn PeerPort>>) -> Self {
        self.peers = peers;
        self
    }

    /// The same, also for the join nodes that tell of themselves in this store.
    #[must_use]
    pub fn with_nodes(mut self, store: Arc<dyn StorePort>) -> Self {
        self.store = Some(store);
        self
    }

    /// The join nodes; none where one process is all, or where the store was asked and did not answer.
    async fn nodes(&self, slots: &[SlotStatus]) -> Nodes {
        match &self.store {
            Some(store) if slots.iter().all(|slot| slot.is_known) => {
                Nodes::look(store, slots).await
            }
            Some(_) | None => Nodes::default(),
        }
    }

    /// Each service that is known here, and whether it serves.
    async fn services(&self) -> Vec<v1::ServiceState> {
        let here = !self.drain.is_started();
        let asked = self.peers.iter().map(|p| async {
            let (serves, places) = futures::future::join(p.serves(), p.places()).await;
            peer_state(p.name(), serves, &places)
        });
        let mut peers = futures::future::join_all(asked).await;
        SERVICES
            .iter()
            .filter_map(|name| {
                let peer = peers.iter().position(|peer| peer.name == *name);
                // Beside peers only feature-serving is in this process.
                let inside = self.peers.is_empty() || *name == "feature-serving";
                let (serving, reason) = match peer {
                    Some(peer) => return Some(peers.swap_remove(peer)),
                    None if !inside => return None,
                    None if here => (true, String::new()),
                    None => (false, "it is draining, and will end".to_owned()),
                };
                Some(v1::ServiceState {
                    name: (*name).to_owned(),
                    serving,
                    reason,
                    places: Vec::new(),
                })
            })
            .collect()
    }

    /// Also answers for LATE facts, which stand in the log that this reader reads, and which the join
    /// service takes once more when they are replayed.
    #[must_use]
    pub fn with_late(mut self, reader: Arc<Reader>, join: Arc<dyn JoinPort>) -> Self {
        self.late = Some((reader, join));
        self
    }

    /// Also takes erasures, which slots learn of from this store.
    #[must_use]
    pub fn with_erasures(mut self, store: Arc<dyn StorePort>, slots: u32) -> Self {
        self.erase = Some(EraseDesk::new(store, slots));
        self
    }

    /// The newest catalog. Where it lacks something, another process may have applied that a moment ago:
    /// then it is looked for once more.
    async fn catalog_with(&self, has: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
        let catalog = self.catalog.current();
        if has(&catalog) || !self.catalog.catch_up().await {
            return catalog;
        }
        self.catalog.current()
    }

    fn late(&self) -> Result<&(Arc<Reader>, Arc<dyn JoinPort>), ReadError> {
        self.late.as_ref().ok_or(ReadError::NoLog)
    }

    async fn list_late(
        &self,
        request: v1::ListLateFactsRequest,
        peer: PeerNetwork,
    ) -> Result<v1::ListLateFactsResponse, ReadError> {
        let (reader, _) = self.late()?;
        let (plan, stream) = reader.late_stream(&request.stream).await?;
        let from = Cursor::parse(&request.cursor, &stream.name, reader.slots.count())?;
        let page = page_size(request.page_size)?;
        let page = reader.late_page(peer, &plan, stream.id, from, page).await?;
        let facts =
            page.facts.iter().filter(|(_, f)| !request.pending_only || f.in_effect.is_none());
        Ok(v1::ListLateFactsResponse {
            facts: facts.map(|(slot, fact)| late_fact(&plan.catalog, &page, *slot, fact)).collect(),
            fields: stream.fields.iter().map(|f| f.name.clone()).collect(),
            next_cursor: page.next.map(|c| c.text(&stream.name)).unwrap_or_default(),
        })
    }

    async fn replay_late(
        &self,
        request: v1::ReplayLateFactsRequest,
        peer: PeerNetwork,
    ) -> Result<v1::ReplayLateFactsResponse, ReadError> {
        let (reader, join) = self.late()?;
        let (plan, stream) = reader.late_stream(&request.stream).await?;
        let from = Cursor::parse(&request.cursor, &stream.name, reader.slots.count())?;
        let page = page_size(request.page_size)?;
        let page = reader.late_page(peer, &plan, stream.id, from, page).await?;
        let counts = late::replay(&**join, &plan, stream.id, &page).await?;
        Ok(v1::ReplayLateFactsResponse {
            counts: Some(counts.into()),
            next_cursor: page.next.map(|c| c.text(&stream.name)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let slots = self.owner.known_status().await.map_err(|e| status(&ReadError::Join(e)))?;
        let is_known = |catalog: &Catalog| slots.iter().all(|slot| has_all_of(catalog, slot));
        let catalog = self.catalog_with(is_known).await;
        let (services, nodes) = futures::future::join(self.services(), self.nodes(&slots)).await;
        let known = || slots.iter().filter(|slot| slot.is_known);
        let unowned_slots = slots.iter().filter(|slot| !slot.is_owned).count() as u32;
        let sum = |of: fn(&SlotStatus) -> u64| slots.iter().map(of).sum::<u64>();
        let response = v1::GetStatusResponse {
            serving: services.iter().all(|s| s.serving) && unowned_slots == 0,
            services,
            slot_count: slots.len() as u32,
            unowned_slots,
            unknown_slots: (slots.len() - known().count()) as u32,
            rebuild_queue: sum(|s| s.dirty),
            streams: over_slots(&catalog, &slots),
            queued_facts: sum(|s| s.queued),
            unmarked_chunks: sum(SlotStatus::unmarked_chunks),
            join_nodes: nodes.states(&slots),
            unowned: nodes.unowned(&slots),
            backfill: backfill_over(&slots),
            backfilling_slots: slots.iter().filter(|slot| slot.backfill.is_some()).count() as u32,
            resident_entities: sum(|s| s.resident),
            resident_bytes: sum(|s| s.resident_bytes),
            at_hand_bytes: sum(|s| s.at_hand_bytes),
            catalog_version: catalog.version,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            now: Some(to_timestamp(clock::now())),
            slots: match request.into_inner().include_slots {
                true => known().map(|s| slot_state(&catalog, &nodes, s)).collect(),
                false => Vec::new(),
            },
        };
        Ok(Response::new(response))
    }

    async fn list_late_facts(
        &self,
        request: Request<v1::ListLateFactsRequest>,
    ) -> Result<Response<v1::ListLateFactsResponse>, Status> {
        let peer = peer_of(&request);
        let listed = self.list_late(request.into_inner(), peer).await;
        listed.map(Response::new).map_err(|e| status(&e))
    }

    async fn replay_late_facts(
        &self,
        request: Request<v1::ReplayLateFactsRequest>,
    ) -> Result<Response<v1::ReplayLateFactsResponse>, Status> {
        let peer = peer_of(&request);
        let replayed = self.replay_late(request.into_inner(), peer).await;
        replayed.map(Response::new).map_err(|e| status(&e))
    }

    async fn erase_entity(
        &self,
        request: Request<v1::EraseEntityRequest>,
    ) -> Result<Response<v1::EraseEntityResponse>, Status> {
        let desk = self.erase.as_ref().ok_or_else(|| status(&ReadError::NoErasures))?;
        let request = request.into_inner();
        let is_kind = |catalog: &Catalog| find_kind(catalog, &request.entity).is_ok();
        let catalog = self.catalog_with(is_kind).await;
        let erased = desk.erase(&catalog, request).await;
        erased.map(Response::new).map_err(|e| status(&e))
    }
}

/// A service in other processes: with what to do where it does not serve.
fn peer_state(name: &str, serves: Result<(), String>, places: &[Place]) -> v1::ServiceState {
    let serving = serves.is_ok();
    let mut reason = serves.err().unwrap_or_default();
    let silent = || places.iter().filter_map(|place| place.silence.as_ref());
    match silent().find(|silence| !silence.next.is_empty()) {
        Some(silence) if !serving => reason = format!("{reason}; {}", silence.next),
        // Nothing is known to be there.
        None if !serving && places.is_empty() => {
            reason = format!("{reason}; start it: millrace serve {name}");
        }
        Some(_) | None => {}
    }
    let place = |place: &Place| {
        let silence = place.silence.as_ref();
        v1::ServicePlace {
            node: place.node.clone().unwrap_or_default(),
            endpoint: place.endpoint.clone(),
            serving: silence.is_none(),
            reason: silence.map(|s| s.reason.clone()).unwrap_or_default(),
            next: silence.map(|s| s.next.clone()).unwrap_or_default(),
        }
    };
    let places = places.iter().map(place).collect();
    v1::ServiceState { name: name.to_owned(), serving, reason, places }
}

/// How many facts a page holds at most.
fn page_size(asked: u32) -> Result<usize, ReadError> {
    match asked {
        0 => Ok(PAGE_DEFAULT as usize),
        1..=PAGE_MAX => Ok(asked as usize),
        more => Err(ReadError::Invalid {
            field: "page_size".to_owned(),
            rule: format!("at most {PAGE_MAX}, not {more}"),
        }),
    }
}

fn late_fact(catalog: &Catalog, page: &LatePage, slot: SlotId, late: &LateFact) -> v1::LateFact {
    let kind = catalog.kind(late.entity.kind);
    v1::LateFact {
        entity: kind.map(|k| k.name.clone()).unwrap_or_default(),
        key: Some((&late.entity.key).into()),
        id: id_text(&late.body.id).into_owned(),
        at: Some(to_timestamp(late.body.at)),
        revision: late.body.revision,
        op: v1::FactOp::from(late.body.op).into(),
        values: late.body.row.view().values().map(Into::into).collect(),
        known_at: Some(known_at_timestamp(late.known_at)),
        slot: slot.0,
        position: Some(late.place.position.into()),
        in_effect_since: late.in_effect.map(|(_, known_at)| known_at_timestamp(known_at)),
        late_for_good: page.is_for_good(slot, late),
    }
}

/// Whether a catalog has what a slot tells of. One that lacks a stream may also be newer and have dropped it.
fn has_all_of(catalog: &Catalog, slot: &SlotStatus) -> bool {
    let mut told = slot.watermarks.iter().chain(&slot.latest).map(|(stream, _)| *stream);
    told.all(|id| catalog.streams.iter().any(|stream| stream.id == id))
        && slot.backfill.is_none_or(|backfill| backfill.catalog_version <= catalog.version)
}

/// By stream: the least watermark over the slots that have one, and the greatest `at`.
fn over_slots(catalog: &Catalog, slots: &[SlotStatus]) -> Vec<v1::StreamState> {
    let mut watermarks: BTreeMap<StreamId, Micros> = BTreeMap::new();
    let mut latest: BTreeMap<StreamId, Micros> = BTreeMap::new();
    let mut forgotten = Boundaries::default();
    for slot in slots {
        forgotten.raise_all(&slot.forgotten);
        for (stream, at) in slot.watermarks.iter().filter(|(_, at)| *at > Micros::MIN) {
            let least = watermarks.entry(*stream).or_insert(*at);
            *least = (*least).min(*at);
        }
        for (stream, at) in &slot.latest {
            let most = latest.entry(*stream).or_insert(*at);
            *most = (*most).max(*at);
        }
    }
    stream_states(catalog, &watermarks, &latest, &forgotten)
}

fn stream_states(
    catalog: &Catalog,
    watermarks: &BTreeMap<StreamId, Micros>,
    latest: &BTreeMap<StreamId, Micros>,
    forgotten: &Boundaries,
) -> Vec<v1::StreamState> {
    let forgotten = |id| Some(forgotten.of(id)).filter(|at| *at > Micros::MIN);
    catalog
        .streams
        .iter()
        .map(|stream| v1::StreamState {
            stream: stream.name.clone(),
            watermark: watermarks.get(&stream.id).map(|at| to_timestamp(*at)),
            latest: latest.get(&stream.id).map(|at| to_timestamp(*at)),
            forgotten_before: forgotten(stream.id).map(to_timestamp),
        })
        .collect()
}

fn backfill_state(backfill: BackfillStatus) -> v1::BackfillState {
    let BackfillStatus { catalog_version, done_permille, time_left } = backfill;
    let time_left = time_left.and_then(|left| left.try_into().ok());
    v1::BackfillState { catalog_version, done_permille, time_left }
}

/// The backfill over all slots: those without one are done. It ends with the owner that takes longest, and
/// that is known once it is of all of them.
fn backfill_over(slots: &[SlotStatus]) -> Option<v1::BackfillState> {
    let left = || slots.iter().filter_map(|slot| slot.backfill);
    let catalog_version = left().map(|backfill| backfill.catalog_version).max()?;
    let undone: u32 = left().map(|b| 1_000_u32.saturating_sub(b.done_permille)).sum();
    // Slots hold about as many entities each. Something is left, so that it is not all.
    let undone = undone.div_ceil(slots.len().max(1) as u32).max(1);
    let done_permille = 1_000_u32.saturating_sub(undone);
    let times: Option<Vec<Duration>> = left().map(|backfill| backfill.time_left).collect();
    let time_left = times.and_then(|times| times.into_iter().max());
    Some(backfill_state(BackfillStatus { catalog_version, done_permille, time_left }))
}

fn slot_state(catalog: &Catalog, nodes: &Nodes, slot: &SlotStatus) -> v1::SlotState {
    let watermarks = slot.watermarks.iter().copied().filter(|(_, at)| *at > Micros::MIN);
    v1::SlotState {
        slot: slot.slot.0,
        position: Some(slot.position.into()),
        known_at: Some(known_at_timestamp(slot.known_at)),
        marked: Some(slot.marked.into()),
        dirty_entities: slot.dirty,
        resident_entities: slot.resident,
        resident_bytes: slot.resident_bytes,
        at_hand_bytes: slot.at_hand_bytes,
        queued_facts: slot.queued,
        streams: stream_states(
            catalog,
            &watermarks.collect(),
            &slot.latest.iter().copied().collect(),
            &slot.forgotten,
        ),
        backfill: slot.backfill.map(backfill_state),
        node: nodes.name_of(slot),
        unmarked_for: age(slot.unmarked_for),
    }
}

#[cfg(test)]
mod tests {
    use millrace_client::port::Silence;

    use super::*;

    fn slot(number: u32, backfill: Option<(u32, Option<u64>)>) -> SlotStatus {
        let status = |(done_permille, seconds): (u32, Option<u64>)| BackfillStatus {
            catalog_version: 2,
            done_permille,
            time_left: seconds.map(Duration::from_secs),
        };
        let backfill = backfill.map(status);
        SlotStatus { is_owned: true, backfill, ..SlotStatus::new(SlotId(number)) }
    }

    #[test]
    fn a_catalog_that_slots_are_ahead_of_lacks_something() {
        let catalog = Catalog::empty();
        assert!(has_all_of(&catalog, &slot(0, None)));
        assert!(!has_all_of(&catalog, &slot(0, Some((500, None)))), "of a version to come");
        let watermarks = vec![(StreamId(1), Micros(5))];
        assert!(!has_all_of(&catalog, &SlotStatus { watermarks, ..slot(0, None) }));
        let latest = vec![(StreamId(1), Micros(5))];
        assert!(!has_all_of(&catalog, &SlotStatus { latest, ..slot(0, None) }));
    }

    #[test]
    fn a_service_that_does_not_serve_says_what_to_do() {
        let silence = |next: &str| Silence { reason: "refused".into(), next: next.into() };
        let place =
            |silence| Place { node: None, endpoint: "http://127.0.0.1:7401".to_owned(), silence };
        let gone = || Err("refused".to_owned());
        let start = "start it: millrace serve ingest";
        let told = peer_state("ingest", gone(), &[place(Some(silence(start)))]);
        assert_eq!(told.reason, format!("refused; {start}"));
        assert_eq!((told.places[0].serving, &*told.places[0].next), (false, start));
        assert_eq!(peer_state("ingest", gone(), &[]).reason, format!("refused; {start}"));
        // A reason that says it itself, and one of two that is gone.
        assert_eq!(peer_state("ingest", gone(), &[place(Some(silence("")))]).reason, "refused");
        let one = peer_state("ingest", Ok(()), &[place(Some(silence(start))), place(None)]);
        assert_eq!((one.serving, &*one.reason), (true, ""));
        assert_eq!(one.places.iter().map(|p| p.serving).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_backfill_ends_with_the_owner_that_takes_longest() {
        let told = |slots: &[SlotStatus]| {
            let over = backfill_over(slots)?;
            Some((over.done_permille, over.time_left.map(|left| left.seconds)))
        };
        assert_eq!(told(&[slot(0, None), slot(1, None)]), None);
        let of_one = [slot(0, None), slot(1, Some((500, Some(40))))];
        assert_eq!(told(&of_one), Some((750, Some(40))));
        let of_two = [slot(0, Some((500, Some(40)))), slot(1, Some((0, Some(90))))];
        assert_eq!(told(&of_two), Some((250, Some(90))));
        let unknown = [slot(0, Some((500, Some(40)))), slot(1, Some((0, None)))];
        assert_eq!(told(&unknown), Some((250, None)), "of an owner nothing is known yet");
    }
}
