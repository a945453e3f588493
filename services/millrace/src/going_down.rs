//! How a process of services goes down: every step out of one time, counted from the signal.

use std::time::Duration;

use millrace_grpc::DrainLimits;
use millrace_telemetry::Traces;
use millrace_telemetry::trace::FLUSH_WITHIN;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::dev::DevError;

/// What is kept of the time for what blocks a thread, such as a disk that does not answer: then it is
/// left as a crash leaves it, which loses nothing that was acknowledged.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// A server that runs in a task of its own.
pub(crate) struct Serving {
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) served: JoinHandle<Result<(), DevError>>,
}

/// Ends the server's calls, saves what services have to save, and sends the last spans. Over within
/// the bound, whatever a step takes: the server has its own part of it, and the rest is for saving.
///
/// # Errors
/// [`DevError`] when the server failed, or not all could be saved in time; nothing acknowledged is lost.
pub(crate) async fn go_down(
    limits: &DrainLimits,
    server: Serving,
    save: impl Future<Output = ()>,
    traces: Option<Traces>,
) -> Result<(), DevError> {
    let over = Instant::now() + limits.bound.saturating_sub(CLOSE_WITHIN);
    let spans = if traces.is_some() { FLUSH_WITHIN } else { Duration::ZERO };
    // The server may have ended by itself already.
    let _ = server.stop.send(());
    let served = match server.served.await {
        Ok(served) => served,
        Err(error) => Err(DevError::Task(error.to_string())),
    };
    let saved = timeout_at(over - spans, save).await;
    if let Some(traces) = traces
        && timeout_at(over, traces.shut_down()).await.is_err()
    {
        tracing::warn!("the last spans were not all sent");
    }
    served?;
    saved.map_err(|_| DevError::DrainCut)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMITS: DrainLimits = DrainLimits {
        notice: Duration::ZERO,
        streams: Duration::from_secs(2),
        connections: Duration::from_secs(4),
        bound: Duration::from_secs(10),
    };

    /// A server that takes so long to end.
    fn serving(takes: Duration) -> Serving {
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            stopped.await.unwrap();
            // In paused time: it stands for what a server does.
            tokio::time::sleep(takes).await;
            Ok(())
        });
        Serving { stop, served }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_took_is_not_given_to_saving_once_more() {
        let begun = Instant::now();
        let server = serving(Duration::from_secs(5));
        let outcome = go_down(&LIMITS, server, pending(), None).await;
        assert!(matches!(outcome, Err(DevError::DrainCut)), "{outcome:?}");
        assert_eq!(begun.elapsed(), LIMITS.bound - CLOSE_WITHIN);

        let begun = Instant::now();
        // In paused time as well.
        let save = async { tokio::time::sleep(Duration::from_secs(4)).await };
        go_down(&LIMITS, serving(Duration::from_secs(5)), save, None).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(9));
    }
}
