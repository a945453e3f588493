//! The progress bar of a publish or an import: how much of the files, and how many facts, were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Producer;
use crate::files::Progress;

/// Shows how far all files together are. Only on a terminal: elsewhere nothing is drawn.
#[derive(Debug, Clone)]
pub(in crate::commands) struct PublishProgress {
    bar: ProgressBar,
    files: Arc<[Progress]>,
    facts: Arc<AtomicU64>,
}

impl PublishProgress {
    pub(in crate::commands) fn start(producers: &[Producer]) -> Self {
        let jobs = || producers.iter().flat_map(|producer| &producer.jobs);
        let total: Option<u64> = jobs().map(|job| job.bytes).sum();
        // The bar draws on standard error, and hides itself where that is no terminal.
        let bar = match total {
            Some(bytes) => ProgressBar::new(bytes),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{wide_bar} {percent:>3} %  {msg}  {eta} left",
            None => "{spinner} {bytes} read  {msg}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, files: jobs().map(|job| job.answered.clone()).collect(), facts: Arc::default() }
    }

    /// More facts were answered.
    pub(in crate::commands) fn answered(&self, facts: u64) {
        let facts = self.facts.fetch_add(facts, Ordering::Relaxed) + facts;
        if self.bar.is_hidden() {
            return;
        }
        let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
        self.bar.set_position(self.files.iter().map(Progress::bytes).sum());
        self.bar.set_message(format!("{facts} facts, {:.0}/s", facts as f64 / seconds));
    }

    pub(in crate::commands) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
