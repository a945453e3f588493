//! The real servers that tests need, each a process of the test that started it: its own folder,
//! its own port on the loopback address, ended when the handle is dropped.
//!
//! Nothing here waits for a time to pass: a server is ready when it answers.

mod cassandra;
mod jaeger;
mod kept;
mod process;
mod redis;
mod ring;

pub use cassandra::{Cassandra, CassandraOptions};
pub use jaeger::{Jaeger, SLOW_TRACE};
pub use process::{ServerError, free_port};
pub use redis::{Redis, RedisOptions};
pub use ring::Ring;
