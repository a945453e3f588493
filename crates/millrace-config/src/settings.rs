//! The settings of a process that runs services.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use crate::rule::{ConfigError, lasts, within};
use crate::share::Share;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY: Duration = Duration::from_secs(86_400);
/// One answer in a thousand.
const PARITY_SAMPLE: Share = Share::per_million(1_000);

/// What an operator may set. The defaults are those of `millrace dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `listen`: where gRPC is served. Default 127.0.0.1:7400; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `data`: the folder of the embedded store. Default `.millrace`.
    pub data: PathBuf,
    /// `slots`: how many slots entities are spread over, fixed when a data folder is made. A power
    /// of two from 1 to 65,536. Default 64.
    pub slots: u32,
    /// `at_hand_bytes`: a slot's budget of facts at hand, in bytes, up to 1 TiB. Small values make
    /// rebuilds common. Default 64 MiB.
    pub at_hand_bytes: u64,
    /// `resident_bytes`: memory for the state of entities, over all slots, in bytes, from 1 MiB to
    /// 1 TiB. What does not fit is read from the store. Default 1 GiB.
    pub resident_bytes: u64,
    /// `subscribe_bytes`: memory for the facts that subscriptions hold, of all together, in bytes, from 1
    /// MiB to 1 TiB. One that needs more is cut off. Default 1 GiB.
    pub subscribe_bytes: u64,
    /// `backfill_bytes_per_second`: how much of the log a thread of join reads a second to fill in new
    /// features, from 1 KiB to 1 TiB. Default 32 MiB.
    pub backfill_bytes_per_second: u64,
    /// `page_cache_bytes`: memory of feature-serving for pages of large entities that are read again
    /// and again, in bytes, up to 1 TiB; 0 for none. Default 64 MiB.
    pub page_cache_bytes: u64,
    /// `hot_heads_for`: how long feature-serving answers from a head it has loaded while its slot's mark
    /// stands, up to 1 s; 0 for not at all. Default 50 ms.
    pub hot_heads_for: Duration,
    /// `training_bytes`: memory of feature-serving for one training set, in bytes, about. Default 512 MiB.
    pub training_bytes: u64,
    /// `parity_sample`: the share of its answers about entities that feature-serving compares with the log;
    /// 0 for none. Default 0.001.
    pub parity_sample: Share,
    /// `parity_ring`: answers that wait in the store to be compared, from 16 to 65,536; the oldest are
    /// overwritten. Default 1,024.
    pub parity_ring: u32,
    /// `hedge_after`: how long feature-serving waits for what it loads from the store before it asks once
    /// more, from 1 ms to 10 s; `None` to never ask twice, the default.
    pub hedge_after: Option<Duration>,
    /// `max_future`: how far ahead of the service's clock an event time may lie, up to 365 days.
    /// Default 5 minutes.
    pub max_future: Duration,
    /// `idle_after`: how long after its connection is lost a producer holds the watermark back,
    /// from 100 ms to a day. Default 30 s.
    pub idle_after: Duration,
    /// `linger`: how long a slot under load may wait for more facts before it writes a chunk, up to
    /// 1 s. Default 5 ms.
    pub linger: Duration,
    /// `mark_interval`: how often a slot states how far its heads cover its log, and so a bound of
    /// what a restart replays; from 10 ms to a minute. Default 1 s.
    pub mark_interval: Duration,
    /// `credit_facts`: facts a producer's call may have in flight, from 1,000 to 10 million.
    /// Default 262,144.
    pub credit_facts: u64,
    /// `credit_bytes`: bytes a producer's call may have in flight, from 64 KiB to 1 GiB. Default
    /// 16 MiB.
    pub credit_bytes: u64,
    /// `read_facts`: facts that one read from the log may look at, from 1 to 10 billion. Default
    /// 5 million.
    pub read_facts: u64,
    /// `read_time`: how long one read from the log may take, from 10 ms to an hour. Default 30 s.
    pub read_time: Duration,
    /// `connections`: connections served at once, from 1 to 100,000. Default 1,024.
    pub connections: usize,
    /// `publish_message_bytes`: bytes of one message of facts, from 64 KiB to 64 MiB. Default
    /// 4 MiB.
    pub publish_message_bytes: usize,
    /// `stream_age`: how old a stream of a call may be before it is ended with STREAM_AGED and its
    /// client begins another one, from 100 ms to an hour. Default an hour.
    pub stream_age: Duration,
    /// `response_stall`: how long a client may take nothing of what it is sent before its connection
    /// is closed, from 100 ms to 10 minutes. Default a minute.
    pub response_stall: Duration,
    /// `drain`: how long going down may take, up to 10 minutes. Default 10 s.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            data: PathBuf::from(".millrace"),
            slots: 64,
            at_hand_bytes: 64 * MIB,
            resident_bytes: 1_024 * MIB,
            subscribe_bytes: 1_024 * MIB,
            backfill_bytes_per_second: 32 * MIB,
            page_cache_bytes: 64 * MIB,
            hot_heads_for: Duration::from_millis(50),
            training_bytes: 512 * MIB,
            parity_sample: PARITY_SAMPLE,
            parity_ring: 1_024,
            hedge_after: None,
            max_future: Duration::from_secs(300),
            idle_after: Duration::from_secs(30),
            linger: Duration::from_millis(5),
            mark_interval: Duration::from_secs(1),
            credit_facts: 262_144,
            credit_bytes: 16 * MIB,
            read_facts: 5_000_000,
            read_time: Duration::from_secs(30),
            connections: 1_024,
            publish_message_bytes: 4 * 1024 * 1024,
            stream_age: Duration::from_secs(3_600),
            response_stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Settings that keep every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks settings.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting, in the order of the fields, that breaks its rule.
    pub fn try_new(settings: Settings) -> Result<Self, ConfigError> {
        let s = &settings;
        if s.data.as_os_str().is_empty() {
            return Err(ConfigError::new("data", "\"\"", "must name a folder"));
        }
        if !s.slots.is_power_of_two() || s.slots > 65_536 {
            let rule = "must be a power of two from 1 to 65536";
            return Err(ConfigError::new("slots", s.slots, rule));
        }
        within("at_hand_bytes", s.at_hand_bytes, 0..=1024 * GIB)?;
        within("resident_bytes", s.resident_bytes, MIB..=1024 * GIB)?;
        within("subscribe_bytes", s.subscribe_bytes, MIB..=1024 * GIB)?;
        within("backfill_bytes_per_second", s.backfill_bytes_per_second, 1024..=1024 * GIB)?;
        within("page_cache_bytes", s.page_cache_bytes, 0..=1024 * GIB)?;
        lasts("hot_heads_for", s.hot_heads_for, Duration::ZERO..=Duration::from_secs(1))?;
        within("training_bytes", s.training_bytes, 16 * MIB..=1024 * GIB)?;
        within("parity_ring", s.parity_ring, 16..=65_536)?;
        if let Some(after) = s.hedge_after {
            lasts("hedge_after", after, Duration::from_millis(1)..=Duration::from_secs(10))?;
        }
        lasts("max_future", s.max_future, Duration::ZERO..=365 * DAY)?;
        lasts("idle_after", s.idle_after, Duration::from_millis(100)..=DAY)?;
        lasts("linger", s.linger, Duration::ZERO..=Duration::from_secs(1))?;
        let minute = Duration::from_secs(60);
        lasts("mark_interval", s.mark_interval, Duration::from_millis(10)..=minute)?;
        within("credit_facts", s.credit_facts, 1_000..=10_000_000)?;
        within("credit_bytes", s.credit_bytes, 64 * KIB..=GIB)?;
        within("read_facts", s.read_facts, 1..=10_000_000_000)?;
        lasts("read_time", s.read_time, Duration::from_millis(10)..=60 * minute)?;
        within("connections", s.connections, 1..=100_000)?;
        let largest = 64 * 1024 * 1024;
        within("publish_message_bytes", s.publish_message_bytes, 64 * 1024..=largest)?;
        lasts("stream_age", s.stream_age, Duration::from_millis(100)..=60 * minute)?;
        lasts("response_stall", s.response_stall, Duration::from_millis(100)..=10 * minute)?;
        lasts("drain", s.drain, Duration::ZERO..=10 * minute)?;
        Ok(Self(settings))
    }
}

impl Deref for Config {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl Default for Config {
    /// The defaults, which keep every rule.
    fn default() -> Self {
        Self(Settings::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_the_rules() {
        assert_eq!(Config::try_new(Settings::default()), Ok(Config::default()));
    }

    #[test]
    fn a_broken_rule_names_key_value_and_rule() {
        let check = |change: fn(&mut Settings), expected: &str| {
            let mut settings = Settings::default();
            change(&mut settings);
            assert_eq!(Config::try_new(settings).unwrap_err().to_string(), expected);
        };
        check(|s| s.slots = 48, "slots = 48: must be a power of two from 1 to 65536");
        check(|s| s.slots = 0, "slots = 0: must be a power of two from 1 to 65536");
        check(|s| s.data = PathBuf::new(), "data = \"\": must name a folder");
        check(
            |s| s.resident_bytes = 5,
            "resident_bytes = 5: must be between 1048576 and 1099511627776",
        );
        check(|s| s.linger = Duration::from_secs(2), "linger = 2s: must be between 0ns and 1s");
    }
}
