//! Texts of flags, cursors, headers and settings.

use std::str::FromStr;

use millrace::cli::{KnownAtField, ReadInstant, Source, TailFrom};
use millrace::decoders::{entity_key, settings};
use millrace_config::Share;
use millrace_feature_serving::decoders::{late_cursor, training_cursor, training_version};
use millrace_grpc::Access;
use millrace_grpc::server::decoders::timeout;
use millrace_join::decoders::cursor;
use millrace_telemetry::TraceContext;
use millrace_types::{Micros, Position};

use crate::history::HISTORY;

/// How many slots the cursors are of.
const SLOTS: u32 = 2;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seeds: [(u8, &str); 20] = [
        (0, "2026-03-01T12:00:00.000001Z"),
        (0, "1969-12-31T23:59:59.5+14:00"),
        (1, "latest"),
        (1, "1772366400000000"),
        (2, "now"),
        (3, "view/2@1:1.5,0:2.3#7"),
        (4, "stream@1:1.3/4"),
        (4, "stream@1"),
        (5, "[[token]]\nname = \"trainer\"\ntoken = \"0123456789abcdef\"\nroles = [\"read:v\"]\n"),
        (6, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nvendor=a,other=b"),
        (7, "listen = \"127.0.0.1:7401\"\nslots = 64\n"),
        (8, "1.5"),
        (9, "clicks=clicks.csv.gz"),
        (10, "1,a"),
        (11, "AQEBAgAAAQI"),
        (12, "AQABAwIBYQoAAmUx"),
        (13, "250m"),
        (13, "99999999H"),
        (14, "clicks=received_at"),
        (15, "0.001"),
    ];
    seeds.iter().map(|(which, text)| [&[*which], text.as_bytes()].concat()).collect()
}

/// One of the texts, chosen by the first byte.
pub(crate) fn text(data: &[u8]) -> bool {
    let Some((which, text)) = data.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match which % 16 {
        0 => Micros::parse_rfc3339(text).is_ok_and(|instant| {
            assert_eq!(Micros::parse_rfc3339(&instant.to_rfc3339()), Ok(instant), "{text}");
            true
        }),
        1 => ReadInstant::from_str(text).is_ok(),
        2 => TailFrom::from_str(text).is_ok(),
        3 => cursor(text, "view", SLOTS as usize),
        4 => late_cursor(text, "stream", SLOTS),
        5 => Access::parse(text).is_ok(),
        6 => {
            let (parent, state) = text.split_once('\n').unwrap_or((text, ""));
            let context = TraceContext::parse(parent, state);
            let (parent, state) = context.write();
            assert_eq!(TraceContext::parse(&parent, &state), context, "{text}");
            !parent.is_empty()
        }
        7 => settings(text),
        8 => Position::from_str(text).is_ok_and(|position| {
            assert_eq!(Position::from_str(&position.to_string()), Ok(position), "{text}");
            true
        }),
        9 => Source::parse(text).is_ok(),
        11 => training_version(text, SLOTS),
        12 => training_cursor(text, SLOTS),
        13 => timeout(text),
        14 => KnownAtField::parse(text).is_ok(),
        15 => Share::from_str(text).is_ok_and(|share| {
            assert_eq!(Share::from_str(&share.to_string()), Ok(share), "{text}");
            true
        }),
        _ => {
            let keys = HISTORY.catalog.kinds.iter().filter_map(|kind| entity_key(text, kind));
            // What was taken is shown again without a fault.
            keys.filter(|key| !key.to_string().is_empty()).count() > 0
        }
    }
}
