//! The control frames of a connection, counted as they are read.
//!
//! `h2` bounds what streams cost, but answers PING and SETTINGS for as long as they come: one
//! connection then keeps a core busy. So does one that sends a message in DATA of single bytes, which
//! `h2` bounds only as long as they wait for their handler. Here only the nine bytes of each frame's
//! head are looked at.

use std::time::Duration;

use tokio::time::Instant;

use crate::FrameLimits;

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`; what comes instead is refused by `h2`.
pub(super) const PREFACE_BYTES: usize = 24;
pub(super) const HEAD_BYTES: usize = 9;
/// DATA of fewer bytes costs more than it brings. A read of one entity, prefix included, has as many: a client
/// may send a window full of these before it is answered.
const SMALL_DATA_BYTES: usize = 16;
/// The flag of a frame that is the last of its stream.
const END_STREAM: u8 = 1;
/// How many seconds' worth of frames may come at once.
const BURST_SECONDS: u32 = 10;

/// A connection sent more control frames than its limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flood {
    /// Of which kind.
    pub(super) frames: &'static str,
}

/// Follows the frames that a client sends.
#[derive(Debug)]
pub(super) struct Meter {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    /// Bytes to pass over before the next head.
    skip: usize,
    has_call: bool,
    pings: Bucket,
    settings: Bucket,
    window_updates: Bucket,
    resets: Bucket,
    small_data: Bucket,
    others: Bucket,
}

impl Meter {
    pub(super) fn new(limits: &FrameLimits, now: Instant) -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_len: 0,
            skip: PREFACE_BYTES,
            has_call: false,
            pings: Bucket::new("PING", limits.pings, now),
            settings: Bucket::new("SETTINGS", limits.settings, now),
            window_updates: Bucket::new("WINDOW_UPDATE", limits.window_updates, now),
            resets: Bucket::new("RST_STREAM", limits.resets, now),
            small_data: Bucket::new("small DATA", limits.small_data, now),
            others: Bucket::new("other", limits.others, now),
        }
    }

    /// Whether a call ever began.
    pub(super) fn has_call(&self) -> bool {
        self.has_call
    }

    /// Follows bytes as they were read. `responded` takes the number of response frames sent since
    /// it was last asked. Not to be called again after a flood.
    ///
    /// # Errors
    /// [`Flood`] for more control frames than the limits allow.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        responded: impl Fn() -> u32,
    ) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEAD_BYTES - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + n].copy_from_slice(&bytes[..n]);
            self.head_len += n;
            bytes = &bytes[n..];
            if self.head_len == HEAD_BYTES {
                self.head_len = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                // 24 bits fit.
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.frame(kind, flags, &responded)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, responded: &impl Fn() -> u32) -> Result<(), Flood> {
        match kind {
            // The last of a stream, of which there are no more than streams.
            0 if flags & END_STREAM != 0 => return Ok(()),
            0 if self.skip >= SMALL_DATA_BYTES => {
                self.small_data.add(1);
                return Ok(());
            }
            1 => {
                self.has_call = true;
                self.small_data.add(2);
                return Ok(());
            }
            // CONTINUATION belongs to a call; `h2` bounds long lists.
            9 => return Ok(()),
            _ => {}
        }
        if self.bucket(kind).take() {
            return Ok(());
        }
        let frames = responded();
        self.pings.add(frames);
        self.window_updates.add(frames.saturating_mul(2));
        self.small_data.add(frames.saturating_mul(2));
        let bucket = self.bucket(kind);
        if bucket.take() { Ok(()) } else { Err(bucket.flood()) }
    }

    fn bucket(&mut self, kind: u8) -> &mut Bucket {
        match kind {
            0 => &mut self.small_data,
            3 => &mut self.resets,
            4 => &mut self.settings,
            6 => &mut self.pings,
            8 => &mut self.window_updates,
            _ => &mut self.others,
        }
    }
}

/// Frames of one kind that may still come.
#[derive(Debug)]
struct Bucket {
    frames: &'static str,
    a_second: u32,
    left: u32,
    /// Until when time was turned into frames.
    since: Instant,
}

impl Bucket {
    fn new(frames: &'static str, a_second: u32, now: Instant) -> Self {
        Self { frames, a_second, left: a_second.saturating_mul(BURST_SECONDS), since: now }
    }

    /// Takes one frame; reads the clock only when none is left.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            self.refill(Instant::now());
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let burst = Duration::from_secs(BURST_SECONDS.into());
        let frames = elapsed.min(burst).as_millis() * u128::from(self.a_second) / 1_000;
        // What is too short for a frame counts on.
        if frames > 0 {
            self.since = now;
            self.add(u32::try_from(frames).unwrap_or(u32::MAX));
        }
    }

    fn add(&mut self, frames: u32) {
        let most = self.a_second.saturating_mul(BURST_SECONDS);
        self.left = self.left.saturating_add(frames).min(most);
    }

    fn flood(&self) -> Flood {
        Flood { frames: self.frames }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits {
        pings: 2,
        settings: 1,
        window_updates: 3,
        resets: 1,
        small_data: 2,
        others: 1,
    };

    fn frame(kind: u8, len: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, 0, 0, 0, 0, 1];
        // Payloads look like heads of PINGs.
        frame.resize(HEAD_BYTES + usize::from(len), 6);
        frame
    }

    fn greeted() -> Meter {
        let mut meter = Meter::new(&LIMITS, Instant::now());
        meter.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || 0).unwrap();
        meter
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_has_its_burst_and_its_rate() {
        for (kind, a_second, name) in [
            (6, 2, "PING"),
            (4, 1, "SETTINGS"),
            (8, 3, "WINDOW_UPDATE"),
            (3, 1, "RST_STREAM"),
            (0, 2, "small DATA"),
            (2, 1, "other"),
            (0xbe, 1, "other"),
        ] {
            let mut meter = greeted();
            for _ in 0..a_second * 10 {
                meter.read(&frame(kind, 0), || 0).unwrap();
            }
            assert_eq!(meter.read(&frame(kind, 0), || 0), Err(Flood { frames: name }));
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..a_second {
                meter.read(&frame(kind, 0), || 0).unwrap();
            }
            assert_eq!(meter.read(&frame(kind, 0), || 0), Err(Flood { frames: name }));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_the_bytes_are_cut() {
        for cut in 1..40 {
            let mut meter = Meter::new(&LIMITS, Instant::now());
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            for _ in 0..20 {
                bytes.extend(frame(0, 200));
                bytes.extend(frame(6, 8));
                bytes.extend(frame(9, 0));
            }
            assert!(bytes.chunks(cut).all(|chunk| meter.read(chunk, || 0).is_ok()), "{cut}");
            assert!(!meter.has_call());
            let refused = frame(6, 8).chunks(cut).any(|chunk| meter.read(chunk, || 0).is_err());
            assert!(refused, "{cut}");
            meter.skip = 0;
            meter.read(&frame(1, 3), || 0).unwrap();
            assert!(meter.has_call());
        }
    }

    fn data(len: u16, flags: u8) -> Vec<u8> {
        let [a, b] = len.to_be_bytes();
        let mut frame = vec![0, a, b, 0, flags, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + usize::from(len), 0);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn small_data_is_explained_by_calls_responses_and_large_data() {
        let mut meter = greeted();
        for _ in 0..1_000 {
            // The ends of streams count for nothing.
            meter.read(&[data(1, 1), data(0, 1)].concat(), || 0).unwrap();
            meter.read(&[frame(1, 0), data(15, 0), data(1, 0)].concat(), || 0).unwrap();
            meter.read(&[data(16, 0), data(1, 0)].concat(), || 0).unwrap();
        }
        for _ in 0..1_000 {
            meter.read(&[data(5, 0), data(1, 0)].concat(), || 1).unwrap();
        }
        let more = (0..30).find(|_| meter.read(&data(15, 0), || 0).is_err());
        assert!(more.is_some_and(|more| more <= 20), "{more:?}");
    }

    /// As a client sends them that does not wait for answers: one a frame, as fast as it can.
    #[tokio::test(start_paused = true)]
    async fn a_window_full_of_small_reads_is_no_flood() {
        let mut meter = greeted();
        meter.read(&frame(1, 0), || 0).unwrap();
        for _ in 0..100_000 {
            meter.read(&data(20, 0), || 0).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_responses_may_measure_and_take_as_it_reads() {
        let mut meter = greeted();
        for _ in 0..1_000 {
            meter.read(&frame(6, 8), || 1).unwrap();
            meter.read(&frame(8, 4), || 2).unwrap();
            meter.read(&frame(8, 4), || 2).unwrap();
        }
        // It is no excuse for anything else.
        for _ in 0..10 {
            meter.read(&frame(4, 6), || 9).unwrap();
        }
        assert!(meter.read(&frame(4, 6), || 9).is_err());
    }
}
