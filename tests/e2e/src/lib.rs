//! The harness of the end-to-end tests: the real `millrace` binary as a process, its command line,
//! other people's clients, and a README followed word by word.
//!
//! Nothing here links Millrace. What the tests see is what a user sees: exit codes, output, gRPC.

mod apart;
mod cli;
mod environment;
mod error;
mod forwarder;
mod instant;
mod order;
mod process;
mod publish_report;
mod scrape;
mod server;
mod table;
mod tail;
mod walkthrough;

pub use apart::{Apart, ApartOptions, SERVICES};
pub use cli::{Cli, client_command, millrace};
pub use environment::{binary, grpcurl, python, repository_root};
pub use error::HarnessError;
pub use forwarder::Forwarder;
pub use instant::{hours_from_now, wait_until};
pub use order::{Order, shuffled};
pub use process::{Finished, run_bounded};
pub use publish_report::PublishReport;
pub use scrape::{Scrape, http_get};
pub use server::{Dev, DevOptions};
pub use table::Table;
pub use tail::{JoinedRows, TailError};
pub use walkthrough::{Block, BlockKind, Command, Walk, blocks, mentions, prepare};
