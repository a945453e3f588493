//! Every limit of a server, in one place.

use std::time::Duration;

/// What one server takes from its clients. The defaults fit `millrace dev` and small clusters; the
/// HTTP/2 ones answer the attacks that tonic's own defaults leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections open at once. More are closed at once: a client hears so, and one that holds its
    /// place without a call loses it to [`Self::first_call_within`].
    pub connections_max: usize,
    /// Connections open at once from one address (an IPv6 network of 64 bits counts as one), so
    /// that nobody takes all of them.
    pub connections_per_peer_max: usize,
    /// Streams open at once on a connection, announced to the client. tonic's default is no limit.
    pub streams_per_connection_max: u32,
    /// Calls of one connection that wait for their response at once; beyond it OVERLOADED.
    pub calls_per_connection_max: usize,
    /// Calls of one address that wait for their response at once; beyond it OVERLOADED.
    pub calls_per_peer_max: usize,
    /// Calls of all connections that wait for their response at once; beyond it OVERLOADED.
    pub calls_max: usize,
    /// Long calls, such as `Publish`, `StreamFeatures` and `Subscribe`, open at once; beyond it
    /// OVERLOADED. Each may have [`Self::stream_window_bytes`] received that its handler does not take
    /// yet. Calls between services are not counted.
    pub streams_max: usize,
    /// Such calls of one address.
    pub streams_per_peer_max: usize,
    /// Bytes received of messages that are not whole yet, over all calls; a call that would exceed it
    /// ends with OVERLOADED. Once half of it is taken each address has an equal share of seven eighths
    /// of it; the rest is for addresses that have a 64th part of it or less.
    pub receiving_bytes_max: usize,
    /// Streams that the server had to reset before a connection is closed. tonic switches this
    /// defence off by default.
    pub local_error_resets_max: usize,
    /// Streams that a client opened and reset before they were accepted, before it is closed.
    pub pending_accept_resets_max: usize,
    /// Bytes of a request's headers.
    pub header_list_bytes_max: u32,
    /// Bytes in flight towards the server on one stream. They stand beyond every bound on what a service has
    /// in hand: under an overload all that waits here is late, so no more than a fast network needs. On one of
    /// 50 ms it allows 2.5 MB/s a stream.
    pub stream_window_bytes: u32,
    /// Bytes in flight towards the server on one connection.
    pub connection_window_bytes: u32,
    /// A connection on which nothing was received for this long is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// A connection that gave none for this long is closed.
    pub keepalive_timeout: Duration,
    /// A connection on which no call began after this long is closed, whatever else it said.
    pub first_call_within: Duration,
    /// A connection older than this is asked to go; its open calls may end first.
    pub connection_age_max: Duration,
    /// A connection that was asked to go and is still there after this long is closed. Longer than
    /// [`Self::stream_age_max`], so that only a client that does not listen meets it. Not tonic's
    /// period of grace, with which it leaves the request to go away out.
    pub connection_age_grace: Duration,
    /// A stream older than this is ended with STREAM_AGED; its client begins another one where it
    /// was. Up to an eighth less, so that streams that began together do not end together.
    pub stream_age_max: Duration,
    /// A connection is closed when its client makes no room for a response, or for what is left of
    /// a message of it, for this long: all of that is kept in memory meanwhile.
    pub response_stall_max: Duration,
    /// Control frames taken from one connection.
    pub frames: FrameLimits,
    /// How long a handler may take to begin its answer when the client set no deadline.
    pub handler_timeout: Duration,
    /// Bytes of one message of a batch to publish.
    pub publish_message_bytes_max: usize,
    /// Bytes of one message received from another service of Millrace.
    pub internal_message_bytes_max: usize,
    /// Bytes of any other message received.
    pub request_message_bytes_max: usize,
    /// Bytes of a message sent.
    pub response_message_bytes_max: usize,
    /// How the server goes down.
    pub drain: DrainLimits,
}

/// Control frames a connection may send a second, above what its calls explain: neither `h2` nor
/// tonic bounds those that open no stream, and `h2` bounds small DATA only while nobody takes it. Ten
/// seconds' worth may come at once, and every response frame sent allows for one PING and two
/// WINDOW_UPDATEs more, as clients that measure the way and take what they read send them. A connection
/// that sends more is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// PING, answers to ours included.
    pub pings: u32,
    /// SETTINGS, answers to ours included.
    pub settings: u32,
    /// WINDOW_UPDATE.
    pub window_updates: u32,
    /// RST_STREAM: calls that the client gave up.
    pub resets: u32,
    /// DATA of fewer than 16 bytes that does not end its stream. Every call and every response frame
    /// allows for two more, and every larger DATA for one: small messages that are answered are as many
    /// as they are.
    pub small_data: u32,
    /// Every other frame without a part of a call: PRIORITY, GOAWAY, types nobody knows.
    pub others: u32,
}

/// How long each step of going down may take. The server has its part of the time and no more, so that
/// what is saved after its last call has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainLimits {
    /// Calls are still taken this long after health says NOT_SERVING, so that load balancers
    /// notice first. Zero where there are none.
    pub notice: Duration,
    /// How long streams have to end by themselves; then they are ended with SERVER_DRAINING.
    pub streams: Duration,
    /// When connections that are still open are cut, whatever their clients do; the server is over a
    /// second later. Counted from the signal.
    pub connections: Duration,
    /// When everything is over, what the services save included. Counted from the signal; the process
    /// keeps it, since it knows what there is to save.
    pub bound: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            connections_per_peer_max: 512,
            streams_per_connection_max: 256,
            calls_per_connection_max: 256,
            calls_per_peer_max: 2_048,
            calls_max: 4_096,
            streams_max: 512,
            streams_per_peer_max: 384,
            receiving_bytes_max: 256 * 1024 * 1024,
            local_error_resets_max: 64,
            pending_accept_resets_max: 20,
            header_list_bytes_max: 8 * 1024,
            stream_window_bytes: 128 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            first_call_within: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(3_600),
            connection_age_grace: Duration::from_secs(3_900),
            stream_age_max: Duration::from_secs(3_600),
            response_stall_max: Duration::from_secs(60),
            frames: FrameLimits::default(),
            handler_timeout: Duration::from_secs(60),
            publish_message_bytes_max: 4 * 1024 * 1024,
            internal_message_bytes_max: 4 * 1024 * 1024,
            request_message_bytes_max: 1024 * 1024,
            response_message_bytes_max: 16 * 1024 * 1024,
            drain: DrainLimits::default(),
        }
    }
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            pings: 100,
            settings: 20,
            window_updates: 1_000,
            resets: 500,
            small_data: 2_000,
            others: 100,
        }
    }
}

impl Default for DrainLimits {
    fn default() -> Self {
        Self {
            notice: Duration::ZERO,
            streams: Duration::from_secs(2),
            // Time for the ends of streams to get through, and most of the bound is left for heads.
            connections: Duration::from_secs(4),
            bound: Duration::from_secs(10),
        }
    }
}
