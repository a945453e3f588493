//! Random catalogs and histories through real processes over gRPC, `millrace dev` and the four
//! services apart, against the oracle.
//!
//! The property tests of the kernel run thousands of such cases in memory; these few take the whole
//! way: catalog service, typed rows, imports among what is published, verdicts, log, kill -9 and restart,
//! online and past reads, tails, and the audit of all answers, those in the middle of it too. `MILLRACE_CASES` makes them more (one for every 200 cases of the kernel's, for every 800
//! where services run apart, and for every 1,600 where they do so on Cassandra and Redis, one of each service or two), `MILLRACE_SEED` says where to start; a failure prints its seed and
//! history.

mod audit;
mod changes;
mod server;
mod training;
mod wire;

use std::time::Duration;

use millrace_catalog::Catalog;
use millrace_e2e_tests::{hours_from_now, wait_until};
use millrace_proto::v1;
use millrace_test_support::generate::{Case, Options, Read, Rng, reads};
use millrace_test_support::record::requests;
use millrace_test_support::{Oracle, RawRecord, ingest};
use millrace_types::{KnownAt, Micros};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use server::{Place, Server};
use training::Known;

/// How many cases a place gets.
struct Cases {
    /// Unless `MILLRACE_CASES` says otherwise.
    default: u64,
    /// So many of the kernel's count for one here.
    of_the_kernels: u64,
}

const IN_ONE_PROCESS: Cases = Cases { default: 16, of_the_kernels: 200 };
/// Four processes take longer to start than one, and stored heads follow within a second.
const APART: Cases = Cases { default: 4, of_the_kernels: 800 };

/// And a database takes longer than a folder.
const DISTRIBUTED: Cases = Cases { default: 2, of_the_kernels: 1_600 };

/// Eight processes share the machine: one restart in which two of a kind meet, about.
const SEVERAL: Cases = Cases { default: 2, of_the_kernels: 1_600 };

/// Reads of each view and entity.
const READS_EACH: usize = 4;

#[test]
fn random_histories_over_grpc_equal_the_oracle() {
    run_cases(Place::OneProcess, &IN_ONE_PROCESS);
}

#[test]
fn random_histories_over_grpc_equal_the_oracle_where_services_run_apart() {
    run_cases(Place::Apart, &APART);
}

#[test]
fn random_histories_over_grpc_equal_the_oracle_on_cassandra_and_redis() {
    run_cases(Place::Distributed, &DISTRIBUTED);
}

#[test]
fn random_histories_over_grpc_equal_the_oracle_on_two_of_each_service() {
    run_cases(Place::Several, &SEVERAL);
}

fn run_cases(place: Place, cases: &Cases) {
    let number = |name: &str| std::env::var(name).ok()?.replace('_', "").parse::<u64>().ok();
    let first = number("MILLRACE_SEED").unwrap_or(1);
    let asked = number("MILLRACE_CASES").map(|asked| asked.div_ceil(cases.of_the_kernels));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for seed in first..first + asked.unwrap_or(cases.default) {
        let case = Case::generate(seed, &Options::default());
        let mut run = Run::start(&case, place, &runtime);
        if let Err(difference) = run.all() {
            panic!("seed {seed}, {}: {difference}\n{case}", run.server);
        }
    }
}

/// One case on servers of its own.
struct Run<'a> {
    case: &'a Case,
    runtime: &'a Runtime,
    rng: Rng,
    catalog: Catalog,
    oracle: Oracle,
    /// Instants just after each batch, while the server's clock is the machine's.
    known_ats: Vec<KnownAt>,
    /// When it began: what imports state lies before.
    began: i64,
    /// What imports stated.
    stated: Vec<KnownAt>,
    /// Answers about an entity of each feature-serving, since any service was started last.
    answers: Vec<u64>,
    server: Server,
    /// Every one of them; requests go to each in turn.
    ingest: Vec<Channel>,
    serving: Vec<Channel>,
    turn: usize,
    folder: TempDir,
}

impl<'a> Run<'a> {
    fn start(case: &'a Case, place: Place, runtime: &'a Runtime) -> Self {
        let mut rng = Rng::new(case.seed ^ 0x6d69_6c6c_7261_6365);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("catalog.yaml");
        std::fs::write(&file, case.catalog.to_yaml()).expect("a file can be written");
        let catalog = case.compile().expect("the generator makes good catalogs");
        let slots = *rng.pick(&[1, 4, 64]);
        let at_hand_bytes = *rng.pick(&[None, Some(64 * 1024), Some(4096), Some(0)]);
        let data = folder.path().join("data");
        let server = Server::start(place, &data, slots, at_hand_bytes, &file);
        let [ingest, serving] = connect(runtime, &server);
        let oracle = case.oracle(&catalog);
        let known_ats = Vec::new();
        Self {
            case,
            runtime,
            rng,
            catalog,
            oracle,
            known_ats,
            began: hours_from_now(0),
            stated: Vec::new(),
            answers: vec![0; serving.len()],
            server,
            ingest,
            serving,
            turn: 0,
            folder,
        }
    }

    fn all(&mut self) -> Result<(), String> {
        let batches = self.case.batches();
        // Of two of a kind one always goes: what the other does then is what these are for.
        let restarts = self.rng.percent(50) || self.server.is_shared();
        let restart = restarts.then(|| self.rng.below(batches.len()));
        for (number, batch) in batches.iter().enumerate() {
            if restart == Some(number) {
                self.crash_and_restart();
            }
            let before = KnownAt(self.next_instant());
            let records: Vec<RawRecord> = batch.iter().map(|record| (*record).clone()).collect();
            for request in requests(&records) {
                for known_at in self.sendings(request.len()) {
                    let sent = self.publish(request, before, known_at);
                    sent.map_err(|d| format!("batch {number}: {d}"))?;
                }
            }
            self.read_now();
            self.known_ats.push(KnownAt(hours_from_now(0)));
        }
        // After a takeover chunks may be stamped ahead of this machine's clock, so only what
        // everybody knows can be asked for.
        if restart.is_some() {
            self.known_ats.clear();
        }
        // Before all that was published.
        self.known_ats.append(&mut self.stated);
        self.server.settle();
        self.read()?;
        self.audit()?;
        self.compare_training()?;
        self.compare_changes()
    }

    /// Every view as training sets, of rows that a read could ask for: latest, as known at an instant that
    /// reads are asked for too, and as known at each row. Such rows lie before all that was published, whose
    /// chunks are stamped by the clock of whoever wrote them: there only what imports stated is known.
    fn compare_training(&mut self) -> Result<(), String> {
        let cli = self.server.cli();
        let now = Micros(hours_from_now(0));
        let all = reads(&self.oracle, &[], READS_EACH, &mut self.rng);
        for view in self.catalog.views.iter().filter(|view| !view.features.is_empty()) {
            let asked = all.iter().filter(|read| read.view == view.name && read.at <= now);
            let rows: Vec<Read> =
                asked.filter(|read| wire::read_request(read).is_some()).cloned().collect();
            let stated = self.known_ats.iter().copied().filter(|instant| instant.0 < self.began);
            let stated: Vec<KnownAt> = stated.collect();
            let mut at_event = rows_at(&stated, &rows, &mut self.rng);
            at_event.retain(|row| row.at.0 < self.began);
            let (rows, at_event) = (rows.as_slice(), at_event.as_slice());
            let mut sets = vec![(rows, Known::Latest), (at_event, Known::AtEvent)];
            if !self.known_ats.is_empty() {
                sets.push((rows, Known::At(*self.rng.pick(&self.known_ats))));
            }
            for set in sets.into_iter().filter(|(rows, _)| !rows.is_empty()) {
                training::compare(&cli, &self.oracle, view, set, self.folder.path())?;
            }
        }
        Ok(())
    }

    /// An instant after the last batch's, so that instants tell batches apart.
    fn next_instant(&self) -> i64 {
        let last = self.known_ats.last().map_or(0, |last| last.0);
        wait_until("the clock", Duration::from_secs(5), || {
            Some(hours_from_now(0)).filter(|now| *now > last)
        })
    }

    /// How a request is sent, once or twice: published, which states nothing, or imported, with an
    /// instant for each fact that never goes back.
    fn sendings(&mut self, facts: usize) -> Vec<Vec<i64>> {
        let import = |run: &mut Self| -> Vec<i64> {
            let before = |rng: &mut Rng| *rng.pick(&[i64::MAX, 86_400, 3_600, 60, 1]);
            let mut stated: Vec<i64> = (0..facts)
                .map(|_| run.began.saturating_sub(before(&mut run.rng).saturating_mul(1_000_000)))
                .map(|instant| instant.max(0))
                .collect();
            stated.sort_unstable();
            run.stated.extend(stated.iter().map(|instant| KnownAt(*instant)));
            stated
        };
        match self.rng.below(10) {
            0..=5 => vec![Vec::new()],
            6 | 7 => vec![import(self)],
            8 => vec![Vec::new(), import(self)],
            _ => vec![import(self), Vec::new(), import(self)],
        }
    }

    /// Sends one request and holds its verdicts against the naive mapping of records.
    fn publish(
        &mut self,
        records: &[RawRecord],
        before: KnownAt,
        stated: Vec<i64>,
    ) -> Result<(), String> {
        let request = wire::publish_request(records, &stated);
        self.turn += 1;
        let channel = self.ingest[self.turn % self.ingest.len()].clone();
        let mut client = v1::ingest_service_client::IngestServiceClient::new(channel);
        let answer = self.runtime.block_on(client.publish_batch(request));
        let answer = answer.map_err(|status| format!("PublishBatch: {status:?}"))?.into_inner();
        let result = answer.result.ok_or("an answer without a result")?;
        let counts = result.counts.ok_or("a result without counts")?;

        let latest = Micros(before.0).plus(Duration::from_secs(300).as_micros() as i64);
        let mut rejected = Vec::new();
        for (index, record) in records.iter().enumerate() {
            match ingest::facts(&self.catalog, record, Some(latest)) {
                Ok(facts) => {
                    for mut fact in facts {
                        fact.body.known_at = stated.get(index).copied().map(KnownAt);
                        self.oracle.insert(before, fact);
                    }
                }
                Err(_) => rejected.push(index as u32),
            }
        }
        let refused = |e: &&v1::FactException| e.verdict == v1::Verdict::Rejected as i32;
        let told: Vec<u32> = result.exceptions.iter().filter(refused).map(|e| e.index).collect();
        if told != rejected {
            return Err(format!("REJECTED {told:?} instead of {rejected:?}: {result:?}"));
        }
        let sum = counts.accepted + counts.repaired + counts.duplicate + counts.late;
        if sum + counts.rejected != records.len() as u64 || counts.late != 0 {
            return Err(format!("verdicts do not add up to {}: {counts:?}", records.len()));
        }
        Ok(())
    }

    fn crash_and_restart(&mut self) {
        self.server.crash_and_restart(&mut self.rng);
        self.answers.fill(0);
        [self.ingest, self.serving] = connect(self.runtime, &self.server);
    }

    fn read(&mut self) -> Result<(), String> {
        for read in reads(&self.oracle, &self.known_ats, READS_EACH, &mut self.rng) {
            let Some(request) = wire::read_request(&read) else { continue };
            let answer = self.ask(request).map_err(|status| format!("{read:?}: {status:?}"))?;
            let entity = answer.entities.first().ok_or("an answer without entities")?;
            let expected = self.oracle.read(&read.view, &read.entity, read.at, read.known_at);
            for (index, (value, status)) in expected.iter().enumerate() {
                let name = answer.features.get(index).map(|feature| feature.name.as_str());
                let told = entity.values.get(index).map(wire::feature_value);
                let told_status = entity.statuses.get(index).copied();
                if told.as_ref() != Some(value) || told_status != Some(wire::status(*status)) {
                    return Err(format!(
                        "{name:?} by {read:?} is {told:?} with status {told_status:?} instead of \
                         {} {value:?}",
                        status.name()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Asks the next feature-serving.
    fn ask(
        &mut self,
        request: v1::GetFeaturesRequest,
    ) -> Result<v1::GetFeaturesResponse, tonic::Status> {
        self.turn += 1;
        let at = self.turn % self.serving.len();
        let channel = self.serving[at].clone();
        let mut client = v1::feature_service_client::FeatureServiceClient::new(channel);
        let answer = self.runtime.block_on(client.get_features(request))?;
        self.answers[at] += 1;
        Ok(answer.into_inner())
    }

    fn compare_changes(&self) -> Result<(), String> {
        let cli = self.server.cli();
        self.catalog.views.iter().try_for_each(|view| changes::compare(&cli, &self.oracle, view))
    }
}

/// These rows, many of them put at one of these instants or just before: facts of a history mostly lie long
/// before what imports state, so that hardly any would be known at other rows.
fn rows_at(instants: &[KnownAt], rows: &[Read], rng: &mut Rng) -> Vec<Read> {
    let mut moved = rows.to_vec();
    for row in &mut moved {
        if !instants.is_empty() && rng.percent(50) {
            row.at = Micros(rng.pick(instants).0 - i64::from(rng.percent(30)));
        }
    }
    moved
}

/// Channels to every ingest and every feature-serving.
fn connect(runtime: &Runtime, server: &Server) -> [Vec<Channel>; 2] {
    let channel = |endpoint: String| {
        let endpoint = Channel::from_shared(endpoint).expect("an endpoint");
        runtime.block_on(endpoint.connect()).expect("it is ready")
    };
    ["ingest", "feature-serving"]
        .map(|kind| server.endpoints(kind).into_iter().map(channel).collect())
}
