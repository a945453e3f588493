//! `AdminService`: the state of the services, for `millrace status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_client::port::{CatalogPort, JoinPort, SlotStatus};
use millrace_grpc::{Drain, status};
use millrace_proto::convert::{known_at_timestamp, to_timestamp};
use millrace_proto::v1;
use millrace_proto::v1::admin_service_server::AdminService;
use millrace_types::{Micros, StreamId};
use tonic::{Request, Response, Status};

use crate::clock;
use crate::error::ReadError;

/// The service.
pub struct Admin {
    join: Arc<dyn JoinPort>,
    catalog: Arc<dyn CatalogPort>,
    drain: Drain,
}

impl Admin {
    /// Answers for the services of this process.
    #[must_use]
    pub fn new(join: Arc<dyn JoinPort>, catalog: Arc<dyn CatalogPort>, drain: Drain) -> Self {
        Self { join, catalog, drain }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let slots = self.join.status().await.map_err(|e| status(&ReadError::Join(e)))?;
        let catalog = self.catalog.current();
        let serving = !self.drain.is_started();
        let names = ["ingest", "join", "store-writer", "feature-serving"];
        let sum = |of: fn(&SlotStatus) -> u64| slots.iter().map(of).sum::<u64>();
        let response = v1::GetStatusResponse {
            serving,
            services: names
                .iter()
                .map(|name| v1::ServiceState { name: (*name).to_owned(), serving })
                .collect(),
            slot_count: slots.len() as u32,
            rebuild_queue: sum(|s| s.dirty),
            streams: over_slots(&catalog, &slots),
            queued_facts: sum(|s| s.queued),
            unmarked_chunks: sum(|s| {
                let same = s.position.epoch == s.marked.epoch;
                s.position.sequence - if same { s.marked.sequence } else { 0 }
            }),
            resident_entities: sum(|s| s.resident),
            resident_bytes: sum(|s| s.resident_bytes),
            at_hand_bytes: sum(|s| s.at_hand_bytes),
            catalog_version: catalog.version,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            now: Some(to_timestamp(clock::now())),
            slots: match request.into_inner().include_slots {
                true => slots.iter().map(|s| slot_state(&catalog, s)).collect(),
                false => Vec::new(),
            },
        };
        Ok(Response::new(response))
    }
}

/// By stream: the least watermark over the slots that have one, and the greatest `at`.
fn over_slots(catalog: &Catalog, slots: &[SlotStatus]) -> Vec<v1::StreamState> {
    let mut watermarks: BTreeMap<StreamId, Micros> = BTreeMap::new();
    let mut latest: BTreeMap<StreamId, Micros> = BTreeMap::new();
    for slot in slots {
        for (stream, at) in slot.watermarks.iter().filter(|(_, at)| *at > Micros::MIN) {
            let least = watermarks.entry(*stream).or_insert(*at);
            *least = (*least).min(*at);
        }
        for (stream, at) in &slot.latest {
            let most = latest.entry(*stream).or_insert(*at);
            *most = (*most).max(*at);
        }
    }
    stream_states(catalog, &watermarks, &latest)
}

fn stream_states(
    catalog: &Catalog,
    watermarks: &BTreeMap<StreamId, Micros>,
    latest: &BTreeMap<StreamId, Micros>,
) -> Vec<v1::StreamState> {
    catalog
        .streams
        .iter()
        .map(|stream| v1::StreamState {
            stream: stream.name.clone(),
            watermark: watermarks.get(&stream.id).map(|at| to_timestamp(*at)),
            latest: latest.get(&stream.id).map(|at| to_timestamp(*at)),
        })
        .collect()
}

fn slot_state(catalog: &Catalog, slot: &SlotStatus) -> v1::SlotState {
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
        ),
    }
}
