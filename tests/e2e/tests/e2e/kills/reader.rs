//! A reader that asks for every user all the time, and what its answers must be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use prost_types::Timestamp;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use super::history::USERS;

/// A call to a service that is gone is given up after this long.
const CALL: Duration = Duration::from_secs(10);
/// 2030-01-01T00:00:00Z.
const AT: i64 = 1_893_456_000;

/// What names the facts of an answer: the log of a slot up to a chunk, for one user.
type Place = (u64, Position, usize);

/// Epoch and sequence.
type Position = (u64, u64);

/// Count and sum.
type Values = (i64, Option<f64>);

/// A change of a user's rows: its chunk, how many rows more, and how much more they sum up to.
type RowChange = (Position, i64, f64);

/// Every answer, once for each version.
pub(crate) type Answers = BTreeMap<Place, Values>;

#[derive(Debug, Default)]
struct Seen {
    answers: Answers,
    calls: u64,
    /// By user: the greatest watermark and the last version.
    watermarks: BTreeMap<usize, (i64, i32)>,
    positions: BTreeMap<usize, Position>,
    wrong: Option<String>,
}

/// Reads until stopped.
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
    calls_checked: u64,
}

impl Reader {
    pub(crate) fn start(endpoint: &str) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let endpoint = Channel::from_shared(endpoint.to_owned()).expect("an endpoint");
        let thread = {
            let (stop, seen) = (stop.clone(), seen.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(read(&endpoint, &stop, &seen));
            })
        };
        Self { stop, seen, thread, calls_checked: 0 }
    }

    /// Nothing it was answered was wrong, and it was answered.
    pub(crate) fn check(&mut self, place: &str) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(seen.wrong, None, "{place}");
        assert!(seen.calls > self.calls_checked, "{place}: no read was answered");
        self.calls_checked = seen.calls;
    }

    pub(crate) fn stop(mut self, place: &str) -> Answers {
        self.check(place);
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut seen.answers)
    }
}

async fn read(endpoint: &Endpoint, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let mut client = FeatureServiceClient::new(endpoint.connect_lazy());
    let part = |user: usize| v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(user as i64)) };
    let entities = (0..USERS).map(|user| v1::EntityKey { parts: vec![part(user)] }).collect();
    let at = Timestamp { seconds: AT, nanos: 0 };
    let message = v1::GetFeaturesRequest {
        view: "user_activity".to_owned(),
        entities,
        features: vec!["clicks".to_owned(), "spend".to_owned()],
        instant: Some(v1::get_features_request::Instant::At(at)),
        known_at: None,
    };
    while !stop.load(Ordering::Relaxed) {
        let mut request = tonic::Request::new(message.clone());
        request.set_timeout(CALL);
        // A service that was just killed does not answer; nobody is promised that.
        let answer = client.get_features(request).await;
        if let Ok(answer) = answer {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(wrong) = seen.take(&answer.into_inner()) {
                seen.wrong.get_or_insert(wrong);
            }
        }
        // It only leaves the processor to others: nothing relies on how long it takes.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Seen {
    fn take(&mut self, answer: &v1::GetFeaturesResponse) -> Result<(), String> {
        self.calls += 1;
        for (user, entity) in answer.entities.iter().enumerate() {
            let (slot, position) = place_of(&entity.version)?;
            let values = values_of(entity)?;
            let before = *self.answers.entry((slot, position, user)).or_insert(values);
            if before != values {
                let version = &entity.version;
                return Err(format!("user {user} at {version} is {before:?} and {values:?}"));
            }
            let watermark = entity.watermark.map(|at| (at.seconds, at.nanos));
            if let Some(watermark) = watermark {
                let last = self.watermarks.entry(user).or_insert(watermark);
                if watermark < *last {
                    return Err(format!("user {user}: watermark {last:?}, then {watermark:?}"));
                }
                *last = watermark;
            }
            let last = self.positions.entry(user).or_insert(position);
            if position < *last {
                return Err(format!("user {user}: version {last:?}, then {position:?}"));
            }
            *last = position;
        }
        Ok(())
    }
}

fn values_of(entity: &v1::EntityFeatures) -> Result<Values, String> {
    use v1::feature_value::Kind;
    match entity.values.iter().map(|value| &value.kind).collect::<Vec<_>>()[..] {
        [Some(Kind::Int64(count)), Some(Kind::Double(sum))] => Ok((*count, Some(*sum))),
        [Some(Kind::Int64(count)), None] => Ok((*count, None)),
        _ => Err(format!("no count and sum: {entity:?}")),
    }
}

/// Slot and position of `catalog:slot:epoch.sequence`.
fn place_of(version: &str) -> Result<(u64, Position), String> {
    let place = || {
        let (slot, position) = version.split_once(':')?.1.split_once(':')?;
        Some((slot.parse().ok()?, position_of(position)?))
    };
    place().ok_or_else(|| format!("version {version:?}"))
}

fn position_of(text: &str) -> Option<Position> {
    let (epoch, sequence) = text.split_once('.')?;
    Some((epoch.parse().ok()?, sequence.parse().ok()?))
}

/// Holds every answer against the changelog: the rows that it had up to the answer's version are
/// what the answer counts and sums up. Gives the number of answers.
pub(crate) fn compare(answers: &Answers, changelog: &str) -> Result<usize, String> {
    let mut changes: BTreeMap<(usize, u64), Vec<RowChange>> = BTreeMap::new();
    for line in changelog.lines() {
        let record: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let sign = match record["op"].as_str() {
            Some("+") => 1,
            Some("-") => -1,
            _ => continue,
        };
        let chunk = || {
            let (whole, _) = record["cursor"].as_str()?.split_once('#')?;
            let (slot, position) = whole.rsplit([',', '@']).next()?.split_once(':')?;
            Some((slot.parse::<u64>().ok()?, position_of(position)?))
        };
        let (slot, position) = chunk().ok_or_else(|| format!("no chunk: {record}"))?;
        let user = record["key"].as_u64().ok_or("a key that is no number")? as usize;
        let price = record["row"]["price"].as_f64().unwrap_or_default();
        changes.entry((user, slot)).or_default().push((position, sign, sign as f64 * price));
    }
    for ((slot, position, user), told) in answers {
        let all = changes.get(&(*user, *slot)).map_or(&[][..], Vec::as_slice);
        let had = all.iter().filter(|(at, ..)| at <= position);
        // Quarters: the sum is exact in any order.
        let (count, sum) = had.fold((0, 0.0), |sums, (_, n, price)| (sums.0 + n, sums.1 + price));
        let expected = (count, (count > 0).then_some(sum));
        if *told != expected {
            let version = format!("{slot}:{}.{}", position.0, position.1);
            return Err(format!("user {user} at {version} is {told:?} instead of {expected:?}"));
        }
    }
    Ok(answers.len())
}
