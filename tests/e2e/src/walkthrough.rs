//! A document followed word by word: its files are written, its commands typed, its output compared.
//!
//! - A ```` ```console ```` block holds commands behind `$ ` (continued by a trailing `\`, an open
//!   quote, lines behind `> `, or as a here-document) and, below each, lines of what it prints. Every line shown
//!   must be printed, in order; `…` or `...` in it stands for anything, and spaces do not count.
//! - `<!-- file: NAME -->` above any block makes it a file of that name.
//! - `<!-- walk: exit N -->` above a console block: its commands end with N instead of 0.
//! - `<!-- walk: output varies -->`: what is shown is an example and not compared.
//! - `<!-- walk: skip, REASON -->`: the block is not followed, for the reason given.

mod document;
mod shell;

pub use document::{Block, BlockKind, Command, blocks, mentions};
pub use shell::{Walk, prepare};
