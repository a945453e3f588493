//! Looking through the journals of a database before fjall does.
//!
//! fjall ends its replay at the first entry that it cannot read, cuts the journal there and says
//! nothing: right for a commit that was under way when the process died, and silent loss when a bit
//! flipped in the middle. Here every batch is summed first. What follows the last whole batch is
//! left out only when it is a commit that nobody was promised:
//!
//! - the process was killed: the batch breaks off, and nothing but zeros follows;
//! - the power failed: pages of the batch never reached the disk and read as a sector of zeros.
//!
//! Anything else is damage, and is left as it is for a person to look at. A journal that was cut
//! off at rest looks like a killed process; its slots then end before their marks, which is told
//! when they are taken over.
//!
//! This reads fjall's journal format 3: `1 · items u32 · seqno u64`, the items, `3 · xxh3 of the
//! items u64 · "FJL" 3`; an item is `2 · kind u8 · compression u8 · keyspace u64 · key length u16 ·
//! value length u32 · stored length u32 · key · value`; integers are little-endian.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

const SECTOR: usize = 512;
pub(crate) const MAGIC: &[u8] = b"FJL\x03";
pub(crate) const START: usize = 13;
pub(crate) const ITEM_HEADER: usize = 21;
pub(crate) const END: usize = 13;
/// Bytes read at a time.
const BLOCK: usize = 256 << 10;
/// How often the bytes behind the whole batches are read over, at most, to find another one.
const PASSES: usize = 16;

/// Why a journal is not used.
#[derive(Debug, Error)]
pub(crate) enum JournalError {
    /// Its bytes are not what was written.
    #[error("journal {file} is damaged at byte {at}: a commit there does not match its checksum")]
    Damaged { file: String, at: u64 },
    /// It is not there.
    #[error("journal {0} is missing")]
    Missing(String),
    /// The operating system refused to read it.
    #[error("journal {file}")]
    Io { file: String, source: io::Error },
}

/// A commit cut short at the end of a journal.
#[derive(Debug)]
pub(crate) struct Torn {
    path: PathBuf,
    length: u64,
}

impl Torn {
    /// Cuts it off.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.length)?;
        file.sync_all()
    }
}

/// Checks all journals of a database: the commit cut short at the end of the newest, if any.
pub(crate) fn check(database: &Path) -> Result<Option<Torn>, JournalError> {
    let named = |number: u64| format!("{number}.jnl");
    let numbers = numbers(database)
        .map_err(|source| JournalError::Io { file: "folder".to_owned(), source })?;
    let Some(newest) = numbers.last() else { return Err(JournalError::Missing(named(0))) };
    for pair in numbers.windows(2) {
        // fjall numbers them upwards and deletes the oldest first.
        if pair[1] != pair[0] + 1 {
            return Err(JournalError::Missing(named(pair[0] + 1)));
        }
    }
    let mut last = None;
    for number in &numbers {
        let (file, path) = (named(*number), database.join(named(*number)));
        let ending = File::open(&path)
            .and_then(|journal| ending(journal, BLOCK, &mut last))
            .map_err(|source| JournalError::Io { file: file.clone(), source })?;
        match ending {
            Ending::Clean => {}
            Ending::Torn(length) if number == newest => return Ok(Some(Torn { path, length })),
            Ending::Torn(at) | Ending::Damaged(at) => {
                return Err(JournalError::Damaged { file, at });
            }
        }
    }
    Ok(None)
}

fn numbers(database: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(database)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jnl"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What follows the last whole batch of a journal, and where that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Zeros or nothing.
    Clean,
    /// A commit cut short.
    Torn(u64),
    /// Something else.
    Damaged(u64),
}

/// Reads a journal, so many bytes at a time; `last` is the sequence number of the last batch before
/// it and of it.
pub(crate) fn ending(
    mut file: impl Read + Seek,
    block: usize,
    last: &mut Option<u64>,
) -> io::Result<Ending> {
    let mut reader = BufReader::with_capacity(block, &mut file);
    let mut at = 0;
    while let Some(batch) = whole_batch(&mut reader)? {
        // The checksum does not cover the number, by which fjall orders what was written.
        if last.is_some_and(|last| batch.seqno <= last) {
            return Ok(Ending::Damaged(at));
        }
        *last = Some(batch.seqno);
        at += batch.length;
    }
    let used = used(&mut file, at)?;
    file.seek(SeekFrom::Start(at))?;
    let mut rest = Vec::new();
    file.take(used - at).read_to_end(&mut rest)?;
    Ok(if rest.is_empty() {
        Ending::Clean
    } else if is_torn(&rest, at) {
        Ending::Torn(at)
    } else {
        Ending::Damaged(at)
    })
}

/// A batch with its checksum.
struct Batch {
    length: u64,
    seqno: u64,
}

/// The batch that begins here, if it is whole.
fn whole_batch(reader: &mut impl BufRead) -> io::Result<Option<Batch>> {
    match read_batch(reader) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        read => read,
    }
}

fn read_batch(reader: &mut impl BufRead) -> io::Result<Option<Batch>> {
    let mut start = [0; START];
    reader.read_exact(&mut start)?;
    let [1, a, b, c, d, seqno @ ..] = start else { return Ok(None) };
    let (promised, seqno) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(seqno));
    let (mut sum, mut items, mut length) = (Xxh3::new(), 0, START as u64);
    loop {
        let mut header = [0; ITEM_HEADER];
        reader.read_exact(&mut header[..1])?;
        match header[0] {
            2 => {
                reader.read_exact(&mut header[1..])?;
                sum.update(&header);
                let body = body_bytes(&header);
                skip(reader, body, &mut sum)?;
                items += 1;
                length += ITEM_HEADER as u64 + body;
            }
            3 => {
                let mut end = [0; END - 1];
                reader.read_exact(&mut end)?;
                let whole = items == promised
                    && end[..8] == sum.digest().to_le_bytes()
                    && &end[8..] == MAGIC;
                let length = length + END as u64;
                return Ok(whole.then_some(Batch { length, seqno }));
            }
            _ => return Ok(None),
        }
    }
}

/// The bytes of an item's key and value.
pub(crate) fn body_bytes(header: &[u8; ITEM_HEADER]) -> u64 {
    let key = u16::from_le_bytes([header[11], header[12]]);
    let stored = u32::from_le_bytes([header[17], header[18], header[19], header[20]]);
    u64::from(key) + u64::from(stored)
}

fn skip(reader: &mut impl BufRead, mut bytes: u64, sum: &mut Xxh3) -> io::Result<()> {
    while bytes > 0 {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let taken = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        sum.update(&buffer[..taken]);
        reader.consume(taken);
        bytes -= taken as u64;
    }
    Ok(())
}

/// Where the last byte that is not zero ends: a journal is given its length beforehand.
pub(crate) fn used(file: &mut (impl Read + Seek), from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let (mut at, mut used) = (from, from);
    let (mut block, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(used);
        }
        // Blocks are compared as a whole first: most of a journal is zeros.
        if block[..read] != zeros[..read]
            && let Some(last) = block[..read].iter().rposition(|byte| *byte != 0)
        {
            used = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

/// True when what stands behind the whole batches is a commit that nobody was promised. `at` is
/// its place in the journal: pages are sectors of the file.
fn is_torn(rest: &[u8], at: u64) -> bool {
    let later = next_whole(rest);
    let first = (at.next_multiple_of(SECTOR as u64) - at) as usize; // less than a sector
    let sectors = rest.get(first..later.unwrap_or(rest.len())).unwrap_or_default();
    if sectors.chunks_exact(SECTOR).any(|sector| sector.iter().all(|byte| *byte == 0)) {
        return true;
    }
    let complete = rest.len() >= END && rest.ends_with(MAGIC) && rest[rest.len() - END] == 3;
    later.is_none() && !complete && breaks_off(rest)
}

/// Where a whole batch begins behind the first one.
///
/// Values are what clients publish: they may be full of what begins like a batch and reaches as far as
/// the journal. The place at which [`PASSES`] are used up counts as such a batch, as nobody can say that
/// there is none: then what stands before it is left for a person to look at, not cut off.
fn next_whole(rest: &[u8]) -> Option<usize> {
    let mut left = rest.len().saturating_mul(PASSES);
    let ends = rest.windows(MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == MAGIC);
    ends.map(|(place, _)| place + MAGIC.len()).find(|next| {
        let mut reader = &rest[*next..];
        let before = reader.len();
        let is_whole = matches!(whole_batch(&mut reader), Ok(Some(_)));
        left = left.saturating_sub(before - reader.len());
        is_whole || left == 0
    })
}

/// True when the bytes begin a batch and end inside it.
fn breaks_off(rest: &[u8]) -> bool {
    if rest.first() != Some(&1) {
        return false;
    }
    let mut at = START as u64;
    loop {
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        match rest.get(place) {
            None => return true,
            Some(2) => match rest[place..].first_chunk() {
                None => return true,
                Some(header) => at += ITEM_HEADER as u64 + body_bytes(header),
            },
            Some(3) => return rest.len() - place < END,
            Some(_) => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A batch of one item, as fjall writes it.
    fn batch(seqno: u64) -> Vec<u8> {
        let mut item = vec![2];
        item.resize(ITEM_HEADER, 0);
        (item[11], item[17]) = (3, 4);
        item.extend(b"keydata");
        let mut sum = Xxh3::new();
        sum.update(&item);
        let end = [&[3][..], &sum.digest().to_le_bytes(), MAGIC].concat();
        [&[1, 1, 0, 0, 0][..], &seqno.to_le_bytes(), &item, &end].concat()
    }

    /// Bytes that begin like a batch, with an item that is as long as an item can be.
    fn lure() -> Vec<u8> {
        let mut lure = [MAGIC, &batch(9)[..START + ITEM_HEADER]].concat();
        lure[MAGIC.len() + START + 17..].fill(0xff);
        lure
    }

    /// Each of them would have all that follows read once more.
    #[test]
    fn lures_in_a_value_are_not_all_followed() {
        let few = [batch(8)[..30].to_vec(), lure().repeat(PASSES)].concat();
        assert_eq!(next_whole(&few), None);
        assert!(is_torn(&few, 0), "the commit breaks off");
        let found = [few, MAGIC.to_vec(), batch(10)].concat();
        assert_eq!(next_whole(&found), Some(found.len() - batch(10).len()));
        let many = [batch(8)[..30].to_vec(), lure().repeat(100_000)].concat();
        let given_up = next_whole(&many).unwrap();
        assert!(given_up < 30 + lure().len() * (PASSES + 2), "at {given_up}");
        assert!(!is_torn(&many, 0), "what was not looked through is not cut off");
    }

    /// The checksum of a batch covers its items alone: a bit that flips in the number before them
    /// would let an older value win.
    #[test]
    fn a_flipped_sequence_number_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let batches = [7, 8, 9].map(batch);
        let journal = folder.path().join("0.jnl");
        fs::write(&journal, batches.concat()).unwrap();
        assert!(matches!(check(folder.path()), Ok(None)));
        let length = batches[0].len();
        for (number, bit, told) in [(0, 8, 1), (1, 1, 2), (1, 8, 1), (2, 1, 2)] {
            let mut bytes = batches.concat();
            bytes[number * length + 5] ^= bit;
            fs::write(&journal, &bytes).unwrap();
            let found = check(folder.path());
            let at = (told * length) as u64;
            let is_told =
                matches!(found, Err(JournalError::Damaged { at: told, .. }) if told == at);
            assert!(is_told, "batch {number}, bit {bit}: {found:?}");
        }
    }
}
