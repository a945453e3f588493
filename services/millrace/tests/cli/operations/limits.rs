//! Every limit with its value. The structs are taken apart whole, so that a new limit does not
//! compile until it is written down here, and then on the page.

use std::time::Duration;

use millrace_catalog::limits as catalog;
use millrace_feature_serving::parity::ParityConfig;
use millrace_feature_serving::{ReaderConfig, StoredLimits};
use millrace_grpc::{DrainLimits, FrameLimits, ServerLimits};
use millrace_ingest::budget::BudgetLimits;
use millrace_join::JoinConfig;
use millrace_store_writer::{APPENDS, LOADS_AT_ONCE, LOG_READS_AT_ONCE, Options, PUTS};
use millrace_telemetry::admin::AdminLimits;
use millrace_types::limits as types;

use super::{fixed, rows};

/// A limit, its value as the page writes it.
pub(super) type Limit = (&'static str, String);

/// A count, with commas.
pub(super) fn count(n: impl TryInto<u64>) -> String {
    let Ok(n) = n.try_into() else { panic!("limits fit 64 bits") };
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes, in the greatest binary unit that is exact.
pub(super) fn bytes(n: impl TryInto<u64>) -> String {
    let Ok(n) = n.try_into() else { panic!("limits fit 64 bits") };
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |shift: u32| n > 0 && n % (1 << shift) == 0;
    match units.into_iter().find(|(shift, _)| fits(*shift)) {
        Some((shift, unit)) => format!("{} {unit}", count(n >> shift)),
        None => format!("{} bytes", count(n)),
    }
}

/// A time, in the greatest unit that is exact.
pub(super) fn time(duration: Duration) -> String {
    let ms = duration.as_millis() as u64;
    let units = [(3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{ms} ms"),
    }
}

fn server() -> Vec<Limit> {
    let ServerLimits {
        connections_max,
        connections_per_peer_max,
        streams_per_connection_max,
        calls_per_connection_max,
        calls_per_peer_max,
        calls_max,
        streams_max,
        streams_per_peer_max,
        receiving_bytes_max,
        local_error_resets_max,
        pending_accept_resets_max,
        header_list_bytes_max,
        stream_window_bytes,
        connection_window_bytes,
        keepalive_interval,
        keepalive_timeout,
        first_call_within,
        connection_age_max,
        connection_age_grace,
        stream_age_max,
        response_stall_max,
        frames: FrameLimits { pings, settings, window_updates, resets, small_data, others },
        handler_timeout,
        publish_message_bytes_max,
        internal_message_bytes_max,
        request_message_bytes_max,
        response_message_bytes_max,
        drain: DrainLimits { notice, streams, connections, bound },
    } = ServerLimits::default();
    vec![
        ("connections_max", count(connections_max as u64)),
        ("connections_per_peer_max", count(connections_per_peer_max as u64)),
        ("streams_per_connection_max", count(streams_per_connection_max)),
        ("calls_per_connection_max", count(calls_per_connection_max as u64)),
        ("calls_per_peer_max", count(calls_per_peer_max as u64)),
        ("calls_max", count(calls_max as u64)),
        ("streams_max", count(streams_max as u64)),
        ("streams_per_peer_max", count(streams_per_peer_max as u64)),
        ("receiving_bytes_max", bytes(receiving_bytes_max as u64)),
        ("local_error_resets_max", count(local_error_resets_max as u64)),
        ("pending_accept_resets_max", count(pending_accept_resets_max as u64)),
        ("header_list_bytes_max", bytes(header_list_bytes_max)),
        ("stream_window_bytes", bytes(stream_window_bytes)),
        ("connection_window_bytes", bytes(connection_window_bytes)),
        ("keepalive_interval", time(keepalive_interval)),
        ("keepalive_timeout", time(keepalive_timeout)),
        ("first_call_within", time(first_call_within)),
        ("connection_age_max", time(connection_age_max)),
        ("connection_age_grace", time(connection_age_grace)),
        ("stream_age_max", time(stream_age_max)),
        ("response_stall_max", time(response_stall_max)),
        ("frames.pings", count(pings)),
        ("frames.settings", count(settings)),
        ("frames.window_updates", count(window_updates)),
        ("frames.resets", count(resets)),
        ("frames.small_data", count(small_data)),
        ("frames.others", count(others)),
        ("handler_timeout", time(handler_timeout)),
        ("publish_message_bytes_max", bytes(publish_message_bytes_max as u64)),
        ("internal_message_bytes_max", bytes(internal_message_bytes_max as u64)),
        ("request_message_bytes_max", bytes(request_message_bytes_max as u64)),
        ("response_message_bytes_max", bytes(response_message_bytes_max as u64)),
        ("drain.notice", time(notice)),
        ("drain.streams", time(streams)),
        ("drain.connections", time(connections)),
        ("drain.bound", time(bound)),
    ]
}

fn admin_port() -> Vec<Limit> {
    let AdminLimits { connections, headers, header_bytes, header_within, connection_within } =
        AdminLimits::default();
    vec![
        ("connections", count(connections as u64)),
        ("headers", count(headers as u64)),
        ("header_bytes", bytes(header_bytes as u64)),
        ("header_within", time(header_within)),
        ("connection_within", time(connection_within)),
    ]
}

fn ingest() -> Vec<Limit> {
    let BudgetLimits {
        facts,
        bytes: in_flight,
        call_facts,
        call_bytes,
        waiting_bytes,
        waiting_small_bytes,
    } = BudgetLimits::default();
    vec![
        ("budget.facts", count(facts)),
        ("budget.bytes", bytes(in_flight)),
        ("budget.call_facts", count(call_facts)),
        ("budget.call_bytes", bytes(call_bytes)),
        ("budget.waiting_bytes", bytes(waiting_bytes)),
        ("budget.waiting_small_bytes", bytes(waiting_small_bytes)),
        ("batch.facts", count(types::BATCH_FACTS_MAX as u64)),
        ("batch.span", count(millrace_ingest::batch::SPAN_MAX)),
        ("arrow.schemas", count(millrace_ingest::arrow::SCHEMAS_MAX as u64)),
        ("arrow.columns", count(millrace_arrow::COLUMNS_MAX as u64)),
        ("producers_gone", count(millrace_ingest::watermark::GONE_MAX as u64)),
    ]
}

fn join() -> Vec<Limit> {
    let JoinConfig {
        slots: _, // a setting, not a limit
        beside: _,
        workers: _,
        at_hand_bytes,
        resident_bytes,
        queue_facts,
        queue_bytes,
        linger,
        mark_interval,
        head_delay,
        head_interval,
        head_bytes_per_second,
        head_overdue_after,
        idle_after,
        ingest_inside: _,
        rebuild_entities,
        backfill,
        subscribe_facts,
        subscribe_bytes,
    } = JoinConfig::default();
    vec![
        ("at_hand_bytes", bytes(at_hand_bytes as u64)),
        ("resident_bytes", bytes(resident_bytes as u64)),
        ("queue_facts", count(queue_facts)),
        ("queue_bytes", bytes(queue_bytes as u64)),
        ("linger", time(linger)),
        ("mark_interval", time(mark_interval)),
        ("head_delay", time(head_delay)),
        ("head_interval", time(head_interval)),
        ("head_bytes_per_second", bytes(head_bytes_per_second)),
        ("head_overdue_after", time(head_overdue_after)),
        ("idle_after", time(idle_after)),
        ("rebuild_entities", count(rebuild_entities as u64)),
        ("backfill.bytes_per_second", bytes(backfill.bytes_per_second)),
        ("backfill.entities", count(backfill.entities as u64)),
        ("backfill.bytes", bytes(backfill.bytes as u64)),
        ("subscribe_facts", count(subscribe_facts)),
        ("subscribe_bytes", bytes(subscribe_bytes)),
        ("repair_rows", count(types::REPAIR_ROWS_MAX)),
    ]
}

fn store_writer() -> Vec<Limit> {
    let Options {
        queue_flushes,
        queue_bytes,
        group_bytes,
        pause_min,
        pause_max,
        retries,
        ownership_retries,
        retry_percent,
        retries_per_second,
    } = Options::default();
    vec![
        ("queue_flushes", count(queue_flushes as u64)),
        ("queue_bytes", bytes(queue_bytes as u64)),
        ("appends.facts", count(APPENDS.facts)),
        ("appends.bytes", bytes(APPENDS.bytes)),
        ("puts.facts", count(PUTS.facts)),
        ("puts.bytes", bytes(PUTS.bytes)),
        ("loads_at_once", count(LOADS_AT_ONCE)),
        ("log_reads_at_once", count(LOG_READS_AT_ONCE)),
        ("group_bytes", bytes(group_bytes as u64)),
        ("pause_min", time(pause_min)),
        ("pause_max", time(pause_max)),
        ("retries", count(retries as u64)),
        ("ownership_retries", count(ownership_retries as u64)),
        ("retry_percent", count(retry_percent)),
        ("retries_per_second", count(retries_per_second)),
    ]
}

fn feature_serving() -> Vec<Limit> {
    let ReaderConfig {
        head_reads,
        log_reads,
        log_facts,
        log_time,
        heads: _,
        training_sets,
        training_bytes,
        spine_stall,
    } = ReaderConfig::default();
    let StoredLimits { page_cache_bytes, pages_at_once, hot_heads_for, hot_head_bytes } =
        StoredLimits::default();
    // A share and a name are settings, not limits.
    let ParityConfig { share: _, samples_a_second, node: _, ring } = ParityConfig::of("node");
    vec![
        ("head_reads.at_once", count(head_reads.at_once)),
        ("head_reads.places", count(head_reads.places)),
        ("log_reads.at_once", count(log_reads.at_once)),
        ("log_reads.places", count(log_reads.places)),
        ("log_facts", count(log_facts)),
        ("log_time", time(log_time)),
        ("training_sets.at_once", count(training_sets.at_once)),
        ("training_sets.places", count(training_sets.places)),
        ("training_bytes", bytes(training_bytes)),
        ("spine_stall", time(spine_stall)),
        ("page_cache_bytes", bytes(page_cache_bytes)),
        ("pages_at_once", count(pages_at_once)),
        ("hot_heads_for", time(hot_heads_for)),
        ("hot_head_bytes", bytes(hot_head_bytes)),
        ("parity.samples_a_second", count(samples_a_second)),
        ("parity.ring", count(ring)),
    ]
}

fn sizes() -> Vec<Limit> {
    vec![
        ("key", bytes(types::KEY_BYTES_MAX as u64)),
        ("id", bytes(types::ID_BYTES_MAX as u64)),
        ("fact", bytes(types::FACT_BYTES_MAX as u64)),
        ("chunk", bytes(types::CHUNK_BYTES_MAX as u64)),
        ("page", bytes(types::PAGE_BYTES_MAX as u64)),
        ("head", bytes(types::HEAD_BYTES_MAX as u64)),
        ("catalog", bytes(catalog::CATALOG_BYTES_MAX as u64)),
        ("catalog.name", bytes(catalog::NAME_BYTES_MAX as u64)),
        ("catalog.kinds", count(catalog::KINDS_MAX as u64)),
        ("catalog.streams", count(catalog::STREAMS_MAX as u64)),
        ("catalog.fields", count(catalog::FIELDS_MAX as u64)),
        ("catalog.views", count(catalog::VIEWS_MAX as u64)),
        ("catalog.joins", count(catalog::JOINS_MAX as u64)),
        ("catalog.features", count(catalog::FEATURES_MAX as u64)),
        ("catalog.distinct", count(catalog::DISTINCT_LIMIT_MAX as u64)),
        ("catalog.where", bytes(catalog::WHERE_BYTES_MAX as u64)),
    ]
}

#[test]
fn every_limit_is_on_the_page_with_its_value() {
    for (heading, limits) in [
        ("### Limits of a server", [server(), fixed::server()].concat()),
        ("### Limits of the admin port", admin_port()),
        ("### Limits of ingest", [ingest(), fixed::ingest()].concat()),
        ("### Limits of join", [join(), fixed::join()].concat()),
        ("### Limits of store-writer", [store_writer(), fixed::store_writer()].concat()),
        ("### Limits of feature-serving", [feature_serving(), fixed::feature_serving()].concat()),
        ("### Limits of calls between services", fixed::between_services()),
        ("### Limits of the stores", fixed::stores()),
        ("### Sizes", [sizes(), fixed::sizes()].concat()),
    ] {
        let written = rows(heading);
        for (name, value) in &limits {
            let row = written.iter().find(|row| row[0] == format!("`{name}`"));
            let Some(row) = row else {
                let all: Vec<String> =
                    limits.iter().map(|(n, v)| format!("| `{n}` | {v} | |")).collect();
                panic!("{heading} lacks {name}; all of it:\n{}", all.join("\n"));
            };
            assert_eq!(row[1], *value, "{heading}: {name}");
            assert!(row[2].len() > 10, "{heading}: {name} says what it bounds");
        }
        assert_eq!(written.len(), limits.len(), "{heading} has a row that is no limit");
    }
}
