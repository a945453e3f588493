//! Cases computed by hand from semantics §1 and §2.

mod aggregates;
mod facts;
mod fixture;
mod windows;
