//! After a power failure: leaving out the last, torn batches of a journal.
//!
//! A commit that was under way when the power failed was not answered, so nobody was promised it.
//! Its pages may have reached the disk in any order; those that did not read as zeros. fjall leaves
//! out a batch without its end marker, but refuses to open when the end marker is there and a page
//! before it is not. Here the journal is cut before that batch, on two conditions: every batch
//! before it is whole, and it has a sector of zeros as a page that was never written leaves it. A
//! batch that is wrong in another way is damage, and is left for a person to look at.
//!
//! This reads fjall's journal format 3: `1 · items u32 · seqno u64`, the items, `3 · xxh3 of the
//! items u64 · "FJL" 3`; an item is `2 · kind u8 · compression u8 · keyspace u64 · key length u16 ·
//! value length u32 · stored length u32 · key · value`; integers are little-endian.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const SECTOR: usize = 512;
const MAGIC: &[u8] = b"FJL\x03";
const ITEM_HEADER: usize = 21;

/// Cuts torn batches off the newest journal in `database`. True when there were any; false leaves
/// everything as it is.
pub(crate) fn cut_torn_batches(database: &Path) -> io::Result<bool> {
    let Some(path) = newest_journal(database)? else { return Ok(false) };
    let bytes = fs::read(&path)?;
    let Some(length) = torn_from(&bytes) else { return Ok(false) };
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(length as u64)?;
    file.sync_all()?;
    Ok(true)
}

fn newest_journal(database: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = match (path.extension(), path.file_stem().and_then(|stem| stem.to_str())) {
            (Some(extension), Some(stem)) if extension == "jnl" => stem.parse::<u64>().ok(),
            _ => None,
        };
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(greatest, _)| *greatest < number)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the first torn batch begins, if the journal is whole up to it.
fn torn_from(journal: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        match batch(&journal[start..]) {
            Batch::Whole(length) => start += length,
            Batch::Wrong(length) => {
                let first = start.next_multiple_of(SECTOR);
                let sectors = journal.get(first..start + length)?.chunks_exact(SECTOR);
                let torn = sectors.into_iter().any(|sector| sector.iter().all(|b| *b == 0));
                return torn.then_some(start);
            }
            Batch::None => return None,
        }
    }
}

enum Batch {
    /// A batch of this length with the right sum.
    Whole(usize),
    /// A batch of this length, end marker included, with a wrong sum or a wrong number of items.
    Wrong(usize),
    /// No batch with an end marker: the end of the journal, which fjall finds as well.
    None,
}

fn batch(bytes: &[u8]) -> Batch {
    read_batch(bytes).unwrap_or(Batch::None)
}

fn read_batch(bytes: &[u8]) -> Option<Batch> {
    const START: usize = 13;
    const END: usize = 13;
    if *bytes.first()? != 1 {
        return None;
    }
    let promised = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?);
    let mut at = START;
    let mut items = 0;
    while *bytes.get(at)? == 2 {
        let header = bytes.get(at..at + ITEM_HEADER)?;
        let key = u16::from_le_bytes(*header[11..].first_chunk()?);
        let value = u32::from_le_bytes(*header[17..].first_chunk()?);
        at += ITEM_HEADER + usize::from(key) + usize::try_from(value).ok()?;
        items += 1;
    }
    let end = bytes.get(at..at + END)?;
    if end[0] != 3 || &end[9..] != MAGIC {
        return None;
    }
    let sum = u64::from_le_bytes(*end[1..].first_chunk()?);
    let whole = items == promised && sum == xxh3_64(&bytes[START..at]);
    Some(if whole { Batch::Whole(at + END) } else { Batch::Wrong(at + END) })
}
