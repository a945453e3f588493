//! What the services do in a while, and how long a reader waits for them meanwhile.

use std::fmt;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_e2e_tests::Apart;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use tokio::time::timeout;

use super::{Scene, connect, counts, read};

/// What the services did in a while.
pub(super) struct Done {
    /// Facts acknowledged a second.
    pub(super) rate: f64,
    /// CPU seconds of all services a second.
    cores: f64,
    /// CPU seconds of each service for a million facts.
    each: Vec<(&'static str, f64)>,
    /// How long each read took, the shortest first.
    pub(super) reads: Vec<Duration>,
}

impl Done {
    pub(super) fn with(self, reads: JoinHandle<Vec<Duration>>) -> Self {
        Self { reads: reads.join().expect("the reader is served"), ..self }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, cores, each, reads } = self;
        let read_in = |share: usize| reads.get(reads.len().saturating_sub(1) * share / 100);
        write!(
            f,
            "{rate:.0} facts/s on {cores:.2} cores, of a million facts each {each:.2?} CPU seconds; "
        )?;
        let (half, most) = (read_in(50), read_in(99));
        write!(f, "{} reads, half of them in {half:.1?}, 99 of 100 in {most:.1?}", reads.len())
    }
}

/// What is done while a load runs for so long.
pub(super) async fn measure(services: &Apart, scene: &Scene, lasts: Duration) -> Done {
    let ticks = || services.cpu_ticks().expect("they still run");
    let (before, worked, began) = (scene.acknowledged(), ticks(), Instant::now());
    // How long the load lasts is what is asked for: nothing is waited for.
    tokio::time::sleep(lasts).await;
    let seconds = began.elapsed().as_secs_f64();
    let facts = (scene.acknowledged() - before) as f64;
    let each = ticks()
        .into_iter()
        .zip(worked)
        .map(|((name, now), (_, then))| (name, (now - then) as f64 / 100.0));
    let each: Vec<_> = each.collect();
    Done {
        rate: facts / seconds,
        cores: each.iter().map(|(_, cpu)| cpu).sum::<f64>() / seconds,
        each: each.iter().map(|(name, cpu)| (*name, cpu * 1e6 / facts.max(1.0))).collect(),
        reads: Vec::new(),
    }
}

/// The load keeps to the last core and the services to the others, as on machines of their own: neither takes
/// the other's time. Where that cannot be set they go on as they are, and the rates tell less.
pub(super) fn keep_to_the_first_cores(services: &Apart) {
    for pid in services.pids() {
        keep(&["-a"], &pid.to_string(), |last| format!("0-{}", last.saturating_sub(1)));
    }
}

/// The same for a thread of the load, by itself.
pub(super) fn keep_to_the_last_core() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return };
    if let Some(thread) = thread.file_name() {
        keep(&[], &thread.to_string_lossy(), |last| last.to_string());
    }
}

fn keep(which: &[&str], task: &str, cores: impl FnOnce(usize) -> String) {
    let last = std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
    let _ = Command::new("taskset").args(which).args(["-c", "-p", &cores(last), task]).output();
}

/// Reads all the time, and is answered every time; a count never goes back.
async fn reader(scene: Scene) -> Vec<Duration> {
    let mut client = FeatureServiceClient::new(connect(&scene.serving).await);
    let (mut first, mut last) = (0, vec![0; 8]);
    let mut took = Vec::new();
    while scene.goes_on() {
        if first != scene.first_active() {
            (first, last) = (scene.first_active(), vec![0; 8]);
        }
        let began = Instant::now();
        let answer = timeout(Duration::from_secs(120), client.get_features(read(first..first + 8)));
        let answer = answer.await.expect("an answer in time").expect("an answer");
        took.push(began.elapsed());
        let now = counts(answer.get_ref());
        assert!(now.iter().zip(&last).all(|(now, last)| now >= last), "{last:?} became {now:?}");
        last = now;
        // Pacing, not waiting: a reader is no attacker.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took.sort();
    took
}

/// Begins to read on a thread of its own, beside the load: what it waits for is the services.
pub(super) fn read_aside(scene: Scene) -> JoinHandle<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    std::thread::spawn(move || runtime.block_on(reader(scene)))
}
