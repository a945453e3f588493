//! Readers of frames and headers, which are private otherwise, for the fuzz targets.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::meter::{Flood, HEAD_BYTES, Meter, PREFACE_BYTES};
use super::receiving::{PREFIX, Place};
use crate::{Deadline, FrameLimits};

/// Control frames of each kind that a meter here lets pass: ten seconds' worth of one a second.
const BURST: usize = 10;

/// Follows the control frames of a connection whose bytes come in pieces of this size; true when a call
/// began and no flood was seen.
///
/// # Panics
/// When what is seen depends on how the bytes are cut, or is not what the heads of the frames say.
#[must_use]
pub fn control_frames(bytes: &[u8], cut: usize) -> bool {
    let limits = FrameLimits {
        pings: 1,
        settings: 1,
        window_updates: 1,
        resets: 1,
        small_data: 1,
        others: 1,
    };
    // A meter of which no time passes, so that nothing depends on how fast this runs.
    let later = Instant::now() + Duration::from_secs(3_600);
    let seen = |cut: usize| {
        let mut meter = Meter::new(&limits, later);
        let flood = bytes.chunks(cut).find_map(|piece| meter.read(piece, || 0).err());
        (flood.map(|Flood { frames }| frames), meter.has_call())
    };
    let expected = told_by_heads(bytes);
    for cut in [bytes.len(), cut, 1] {
        assert_eq!(seen(cut.max(1)), expected, "in pieces of {cut}");
    }
    expected == (None, true)
}

/// The kind of which there are too many, and whether a call began before.
fn told_by_heads(bytes: &[u8]) -> (Option<&'static str>, bool) {
    const OTHER: &str = "other";
    let (mut frames, mut has_call, mut small_data) = (Vec::new(), false, BURST);
    let mut rest = bytes.get(PREFACE_BYTES..).unwrap_or_default();
    while let Some([a, b, c, kind, flags, ..]) = rest.first_chunk::<HEAD_BYTES>() {
        let name = match kind {
            // The last of a stream is free, and more than a few bytes make up for one of less.
            0 if flags & 1 == 1 => None,
            0 if (*a, *b) != (0, 0) || *c >= 16 => {
                small_data = BURST.min(small_data + 1);
                None
            }
            0 if small_data == 0 => return (Some("small DATA"), has_call),
            0 => {
                small_data -= 1;
                None
            }
            1 => {
                has_call = true;
                small_data = BURST.min(small_data + 2);
                None
            }
            9 => None,
            3 => Some("RST_STREAM"),
            4 => Some("SETTINGS"),
            6 => Some("PING"),
            8 => Some("WINDOW_UPDATE"),
            _ => Some(OTHER),
        };
        frames.extend(name);
        let same = |other: &&&str| Some(**other) == name;
        if name.is_some() && frames.iter().filter(same).count() > BURST {
            return (name, has_call);
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        rest = rest.get(HEAD_BYTES + length..).unwrap_or_default();
    }
    (None, has_call)
}

/// Follows the messages of a call's body that comes in pieces of this size; true when it ends with a
/// whole one.
///
/// # Panics
/// When the bytes that are no whole message depend on how they are cut, or are not what the lengths of
/// the messages say.
#[must_use]
pub fn messages(bytes: &[u8], cut: usize) -> bool {
    let mut rest = bytes;
    while let Some([_, a, b, c, d]) = rest.first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(behind) = rest.get(PREFIX + length..) else { break };
        rest = behind;
    }
    for cut in [bytes.len(), cut, 1] {
        let mut place = Place::default();
        bytes.chunks(cut.max(1)).for_each(|piece| place.pass(piece));
        assert_eq!(place.partial(), rest.len(), "in pieces of {cut}");
    }
    rest.is_empty() && !bytes.is_empty()
}

/// Reads the timeout of a call; true when it has a deadline.
///
/// # Panics
/// When the deadline is later than any that can be asked for.
#[must_use]
pub fn timeout(text: &str) -> bool {
    let Ok(value) = HeaderValue::from_str(text) else { return false };
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]);
    let Some(deadline) = Deadline::of_headers(&headers) else { return false };
    // Eight digits of hours.
    let longest = Duration::from_secs(99_999_999 * 3_600);
    assert!(deadline.remaining() <= longest, "{text}");
    true
}
