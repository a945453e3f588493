//! How fast the log is scanned in the background.

use std::time::Duration;

use tokio::time::Instant;

use super::recover::SCAN_BYTES;

/// Bytes of the log that a scan in the background may read a second.
#[derive(Clone, Copy)]
pub(super) struct ScanRate(pub(super) u64);

impl ScanRate {
    /// The bytes of a page: at slow rates it has no more than a second's.
    pub(super) fn page_bytes(self) -> usize {
        SCAN_BYTES.min(usize::try_from(self.0).unwrap_or(usize::MAX)).max(1)
    }

    /// Waits until a page of so many bytes, begun then, has taken the time that it may take at least.
    pub(super) async fn keep(self, begun: Instant, bytes: usize) {
        let micros = (bytes as u64).saturating_mul(1_000_000) / self.0.max(1);
        // The rate is set so that publishing and reads have the rest of the disk and the core.
        tokio::time::sleep_until(begun + Duration::from_micros(micros)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_scan_reads_no_more_than_its_rate() {
        let begun = Instant::now();
        ScanRate(1_000).keep(begun, 2_500).await;
        let waited = begun.elapsed();
        assert!((2_500..2_510).contains(&waited.as_millis()), "{waited:?}");
        // The page took longer by itself.
        ScanRate(1_000).keep(begun, 500).await;
        assert!(begun.elapsed() - waited < Duration::from_millis(10));
        assert_eq!(ScanRate(1_000).page_bytes(), 1_000);
        assert_eq!(ScanRate(u64::MAX).page_bytes(), SCAN_BYTES);
        assert_eq!(ScanRate(0).page_bytes(), 1);
    }
}
