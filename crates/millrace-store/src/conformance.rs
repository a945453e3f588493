//! The conformance suite: what the port docs promise, sentence by sentence, for every adapter.
//!
//! An adapter's tests invoke [`conformance_tests!`](crate::conformance_tests) with a function that
//! makes an empty store; each case then is a test of its own. The cases use only the ports, so
//! they hold for a store in another process as well.
//!
//! # Panics
//! Every case panics where the store breaks a promise.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "test code: a case fails by panicking"
)]

mod audit;
mod erasures;
mod leases;
mod log;
mod snapshots;
mod takeover;
mod windows;

use bytes::Bytes;
use millrace_types::chunk::encode_chunk;
use millrace_types::{ChunkHeader, Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};

pub use self::audit::*;
pub use self::erasures::*;
pub use self::leases::*;
pub use self::log::*;
pub use self::snapshots::*;
pub use self::takeover::*;
pub use self::windows::*;
use crate::port::{Append, Incarnation, LogStore, NodeId, SlotEpoch};

/// Makes a test of every case. The argument is a path to `async fn() -> (impl Deref<Target = S>, G)`
/// where `S: Store + ?Sized` and `G` is whatever must outlive the store, e.g. its folder.
#[macro_export]
macro_rules! conformance_tests {
    ($make:path) => {
        $crate::conformance_tests!(@ $make:
            runs_have_leases_that_are_renewed
            a_ceiling_never_goes_down
            a_fenced_run_never_confirms_again
            runs_of_one_node_are_told_apart
            a_run_fenced_before_its_first_lease_never_gets_one
            an_epoch_is_inserted_once
            an_epoch_is_released_once_and_by_its_owner
            a_sealed_epoch_is_not_released
            a_look_shows_leases_and_the_newest_epochs
            chunks_are_read_back_in_log_order
            a_log_is_read_in_pages
            chunks_beyond_a_sealed_end_are_never_read
            chunks_beyond_a_released_end_are_never_read
            chunks_of_an_epoch_without_a_row_are_not_read
            an_open_epoch_is_read_as_far_as_asked
            a_missing_chunk_is_damage
            the_last_chunk_of_an_epoch_is_found
            a_chunk_written_again_changes_nothing
            empty_calls_do_nothing
            a_part_is_replaced_by_greater_versions_only
            parts_are_kept_by_name
            an_immutable_part_is_deleted_by_empty_bytes
            parts_of_one_call_are_written_in_order
            a_mark_is_replaced_by_greater_versions_only
            a_member_is_replaced_by_greater_versions_only
            samples_are_read_in_the_order_they_were_taken
            a_ring_of_samples_is_bounded_by_its_places
            samples_are_forgotten_whosever_they_are
            a_catalog_version_is_written_once
            an_erasure_is_written_once
            a_receipt_is_replaced_by_greater_versions_only
            a_rewritten_chunk_stays_rewritten
            the_parts_of_an_entity_are_found
            a_first_epoch_is_opened
            a_released_slot_is_taken_with_its_stated_end
            a_fenced_slot_is_sealed_at_its_last_chunk
            floors_survive_two_failovers
            a_slot_behind_its_mark_is_not_sealed
            taking_over_again_gives_the_same_epoch
            a_member_that_is_alive_keeps_its_slot
        );
        $crate::window_conformance_tests!($make);
    };
    (@ $make:path: $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (store, _keep) = $make().await;
                $crate::conformance::$case(&*store).await;
            }
        )*
    };
}

/// The same for an adapter of producer windows alone.
#[macro_export]
macro_rules! window_conformance_tests {
    ($make:path) => {
        $crate::conformance_tests!(@ $make:
            a_window_remembers_what_comes_in_order
            a_window_never_invents
            a_window_does_what_the_shared_one_does
            an_empty_range_of_numbers_is_no_work
        );
    };
}

pub(crate) const A: Incarnation = Incarnation(0xa);
pub(crate) const B: Incarnation = Incarnation(0xb);

pub(crate) fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

pub(crate) fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

pub(crate) fn user(id: i64) -> Entity {
    Entity { kind: KindId(1), key: EntityKey::try_new(&[KeyPart::Int64(id)]).unwrap() }
}

/// A real chunk without facts; `payload` makes its bytes its own.
pub(crate) fn chunk(known_at: i64, payload: &[u8]) -> Bytes {
    let header = ChunkHeader { known_at: KnownAt(known_at), ..ChunkHeader::default() };
    Bytes::from(encode_chunk(&header, [payload]))
}

pub(crate) fn row(epoch: u64, incarnation: Incarnation, previous_end: u64) -> SlotEpoch {
    SlotEpoch {
        epoch,
        node: node("join-0"),
        incarnation,
        floor: KnownAt(100 * epoch.cast_signed()),
        previous_end,
        released: None,
    }
}

pub(crate) fn append(slot: u32, position: Position) -> Append {
    let known_at = position.epoch.cast_signed() * 1_000 + position.sequence.cast_signed();
    let bytes = chunk(known_at, format!("{slot}/{position}").as_bytes());
    Append { slot: SlotId(slot), position, known_at: KnownAt(known_at), bytes }
}

/// Appends the chunks `first..=last` of an epoch.
pub(crate) async fn fill<S: LogStore + ?Sized>(
    store: &S,
    slot: u32,
    epoch: u64,
    sequences: std::ops::RangeInclusive<u64>,
) {
    store.append(sequences.map(|s| append(slot, at(epoch, s))).collect()).await.unwrap();
}

/// The positions of all chunks between two positions.
pub(crate) async fn positions<S: LogStore + ?Sized>(
    store: &S,
    slot: u32,
    after: Position,
    up_to: Position,
) -> Vec<Position> {
    let page = store.read_log(SlotId(slot), after, up_to, usize::MAX).await.unwrap();
    assert!(page.complete);
    page.chunks.into_iter().map(|(position, _)| position).collect()
}
