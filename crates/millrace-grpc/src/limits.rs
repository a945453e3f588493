//! Every limit of a server, in one place.

use std::time::Duration;

/// What one server takes from its clients. The defaults fit `millrace dev` and small clusters; the
/// HTTP/2 ones answer the attacks that tonic's own defaults leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections open at once. More wait to be accepted.
    pub connections_max: usize,
    /// Streams open at once on a connection, announced to the client. tonic's default is no limit.
    pub streams_per_connection_max: u32,
    /// Calls of one connection that wait for their response at once; beyond it OVERLOADED.
    pub calls_per_connection_max: usize,
    /// Calls of all connections that wait for their response at once; beyond it OVERLOADED.
    pub calls_max: usize,
    /// Streams that the server had to reset before a connection is closed. tonic switches this
    /// defence off by default.
    pub local_error_resets_max: usize,
    /// Streams that a client opened and reset before they were accepted, before it is closed.
    pub pending_accept_resets_max: usize,
    /// Bytes of a request's headers.
    pub header_list_bytes_max: u32,
    /// Bytes in flight towards the server on one stream.
    pub stream_window_bytes: u32,
    /// Bytes in flight towards the server on one connection.
    pub connection_window_bytes: u32,
    /// A connection on which nothing was received for this long is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// A connection that gave none for this long is closed.
    pub keepalive_timeout: Duration,
    /// A connection older than this is asked to go; its open calls may end first. Without a period
    /// of grace, since tonic then leaves the request to go away out.
    pub connection_age_max: Duration,
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

/// How long each step of going down may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainLimits {
    /// Calls are still taken this long after health says NOT_SERVING, so that load balancers
    /// notice first. Zero where there are none.
    pub notice: Duration,
    /// How long streams have to end by themselves; then they are ended with SERVER_DRAINING.
    pub streams: Duration,
    /// When everything is over, whatever a client does. Counted from the signal.
    pub bound: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            streams_per_connection_max: 256,
            calls_per_connection_max: 256,
            calls_max: 4_096,
            local_error_resets_max: 64,
            pending_accept_resets_max: 20,
            header_list_bytes_max: 8 * 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(3_600),
            handler_timeout: Duration::from_secs(60),
            publish_message_bytes_max: 4 * 1024 * 1024,
            internal_message_bytes_max: 4 * 1024 * 1024,
            request_message_bytes_max: 1024 * 1024,
            response_message_bytes_max: 16 * 1024 * 1024,
            drain: DrainLimits::default(),
        }
    }
}

impl Default for DrainLimits {
    fn default() -> Self {
        Self {
            notice: Duration::ZERO,
            streams: Duration::from_secs(2),
            bound: Duration::from_secs(10),
        }
    }
}
