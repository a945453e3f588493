//! What the admin port takes from its clients.

use std::time::Duration;

/// Limits of the admin port. It has no credentials, so whoever reaches it costs little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminLimits {
    /// Connections served at once; more wait for their turn.
    pub connections: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's head, at least 8 KiB.
    pub header_bytes: usize,
    /// How long a client may take to send its request's head.
    pub header_within: Duration,
    /// How long a connection lives at most, whatever its client does.
    pub connection_within: Duration,
}

impl Default for AdminLimits {
    fn default() -> Self {
        Self {
            connections: 32,
            headers: 64,
            header_bytes: 8 << 10,
            header_within: Duration::from_secs(2),
            connection_within: Duration::from_secs(10),
        }
    }
}
