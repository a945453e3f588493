//! The kernel against the oracle: random catalogs and histories, any order of arrival, any batching,
//! restarts at any point, any budget at hand. Every read must equal the oracle's bit for bit.

mod check;
mod sim;

pub use check::{Failure, run};
pub use sim::{Beside, Sim};
