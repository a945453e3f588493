//! Other services, as far as one depends on them.

use async_trait::async_trait;

/// A process of another service, and whether it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name among the nodes of its kind, where it has one.
    pub node: Option<String>,
    /// Where it takes calls.
    pub endpoint: String,
    /// Why it does not serve, if it does not.
    pub silence: Option<Silence>,
}

/// Why somebody does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// What it says, or that it does not answer in time, or is not trusted.
    pub reason: String,
    /// What to do about it; empty where the reason says so.
    pub next: String,
}

/// Another service, as far as one depends on it.
#[async_trait]
pub trait PeerPort: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Whether it says that it serves.
    ///
    /// # Errors
    /// Why it does not: what it says, or that it does not answer in time, or is not trusted.
    async fn serves(&self) -> Result<(), String>;

    /// Each process that it consists of, where these are known.
    async fn places(&self) -> Vec<Place> {
        Vec::new()
    }
}
