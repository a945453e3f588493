//! What a head says of a page: enough to know which reads need it, and which of its facts are live.
//!
//! Layout (persisted): `first at, from the last at of the page before · last at, from the first · facts
//! · dead facts`, and where some facts are live and others are not: `at of the first live fact, from the
//! first · dead facts`, as ascending indexes or as bits, whichever is sure to be short.

use millrace_types::codec::{Reader, put_signed, put_varint};
use millrace_types::{DecodeError, Micros};

use super::{MissingPage, PAGE_FACTS_MAX, Page, PageName};

/// A page that is not in memory.
#[derive(Debug, Clone)]
pub(super) struct Absent {
    name: PageName,
    pub(super) len: usize,
    /// The `at` of the first live fact, if any is live.
    pub(super) first_live: i64,
    dead: Dead,
}

/// The facts of a page that are not the live one of their id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Dead {
    All,
    /// Ascending indexes.
    Some(Box<[u16]>),
}

/// What a head says of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageSummary {
    len: usize,
    bounds: (i64, i64),
    first_live: i64,
    dead: Dead,
}

impl PageSummary {
    /// Of a page in memory with at least one fact.
    pub(crate) fn of(page: &Page) -> Self {
        let dead = match page.live {
            0 => Dead::All,
            _ if page.live as usize == page.refs.len() => Dead::Some(Box::default()),
            _ => {
                let dead = page.refs.iter().enumerate().filter(|(_, r)| !r.live);
                Dead::Some(dead.map(|(index, _)| index as u16).collect())
            }
        };
        Self {
            len: page.len(),
            bounds: page.bounds,
            first_live: page.first_live_at().unwrap_or(page.bounds.0),
            dead,
        }
    }

    fn dead_len(&self) -> usize {
        match &self.dead {
            Dead::All => self.len,
            Dead::Some(indexes) => indexes.len(),
        }
    }

    /// Appends it; `after` is the last `at` of the page before, if there is one.
    pub(crate) fn encode(&self, after: &mut Option<i64>, out: &mut Vec<u8>) {
        put_signed(out, self.bounds.0.wrapping_sub(after.unwrap_or(0)));
        put_varint(out, self.bounds.1.wrapping_sub(self.bounds.0) as u64);
        *after = Some(self.bounds.1);
        put_varint(out, self.len as u64);
        put_varint(out, self.dead_len() as u64);
        let Dead::Some(dead) = &self.dead else { return };
        if dead.is_empty() {
            return;
        }
        put_varint(out, self.first_live.wrapping_sub(self.bounds.0) as u64);
        if is_sparse(dead.len(), self.len) {
            dead.iter().for_each(|index| put_varint(out, u64::from(*index)));
        } else {
            let mut bits = vec![0_u8; self.len.div_ceil(8)];
            dead.iter().for_each(|i| bits[usize::from(*i) / 8] |= 1 << (i % 8));
            out.extend_from_slice(&bits);
        }
    }

    /// Reads it as [`PageSummary::encode`] wrote it.
    pub(crate) fn decode(
        after: &mut Option<i64>,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let first = after.unwrap_or(0).wrapping_add(reader.signed("first at of a page")?);
        let last = first.wrapping_add(reader.varint("last at of a page")? as i64);
        if after.is_some_and(|after| first < after) || last < first {
            return Err(DecodeError::Invalid { what: "order of pages", found: 0 });
        }
        *after = Some(last);
        let len = bounded(reader, "facts of a page", 1, PAGE_FACTS_MAX)?;
        let count = bounded(reader, "dead facts of a page", 0, len)?;
        let mut summary = Self {
            len,
            bounds: (first, last),
            first_live: first,
            dead: Dead::Some(Box::default()),
        };
        if count == len {
            summary.dead = Dead::All;
        } else if count > 0 {
            let first_live = first.wrapping_add(reader.varint("first live at of a page")? as i64);
            if !(first..=last).contains(&first_live) {
                return Err(DecodeError::Invalid { what: "first live at of a page", found: 0 });
            }
            summary.first_live = first_live;
            summary.dead = Dead::Some(read_dead(reader, count, len)?);
        }
        Ok(summary)
    }

    /// The page it tells of, without its facts.
    pub(crate) fn absent(&self, name: PageName) -> Page {
        let absent =
            Absent { name, len: self.len, first_live: self.first_live, dead: self.dead.clone() };
        Page {
            live: (self.len - self.dead_len()) as u32,
            bounds: self.bounds,
            absent: Some(Box::new(absent)),
            stored: Some(name),
            ..Page::default()
        }
    }

    /// Looks whether this is the page it tells of.
    ///
    /// # Errors
    /// [`DecodeError`] when it is not.
    pub(crate) fn check(&self, page: &Page) -> Result<(), DecodeError> {
        match page.len() == self.len && page.bounds == self.bounds {
            true => Ok(()),
            false => Err(other_page(page)),
        }
    }
}

impl Page {
    /// Looks whether the facts of the page are in memory.
    ///
    /// # Errors
    /// [`MissingPage`] when they are not.
    #[inline]
    pub(crate) fn present(&self) -> Result<(), MissingPage> {
        match &self.absent {
            None => Ok(()),
            Some(absent) => Err(MissingPage(absent.name)),
        }
    }

    /// True when its facts are not in memory and none that is live has `at ≤ at`.
    #[inline]
    pub(crate) fn begins_after(&self, at: Micros) -> bool {
        self.absent.as_ref().is_some_and(|absent| absent.first_live > at.0)
    }

    /// Takes in the facts of an absent page: `read` is the page of its name, as decoded.
    ///
    /// # Errors
    /// [`DecodeError`] when it is not the page of which the head tells.
    pub(crate) fn arrive(&mut self, read: &Self) -> Result<(), DecodeError> {
        let Some(absent) = &self.absent else { return Ok(()) };
        if read.len() != absent.len || read.bounds != self.bounds {
            return Err(other_page(read));
        }
        self.refs.clone_from(&read.refs);
        self.bytes.clone_from(&read.bytes);
        if let Some(absent) = self.absent.take() {
            settle(self, &absent.dead);
        }
        Ok(())
    }
}

fn other_page(page: &Page) -> DecodeError {
    DecodeError::Invalid {
        what: "a page of which its head tells otherwise",
        found: page.len() as u64,
    }
}

fn settle(page: &mut Page, dead: &Dead) {
    let Dead::Some(dead) = dead else {
        page.refs.iter_mut().for_each(|r| r.live = false);
        page.live = 0;
        return;
    };
    page.refs.iter_mut().for_each(|r| r.live = true);
    dead.iter().for_each(|index| page.refs[usize::from(*index)].live = false);
    page.live = (page.refs.len() - dead.len()) as u32;
}

/// Whether dead facts are written as indexes: each takes two bytes at most.
fn is_sparse(dead: usize, len: usize) -> bool {
    dead * 2 <= len.div_ceil(8)
}

fn read_dead(reader: &mut Reader<'_>, count: usize, len: usize) -> Result<Box<[u16]>, DecodeError> {
    let what = "dead fact of a page";
    let mut dead = Vec::with_capacity(count);
    if is_sparse(count, len) {
        for _ in 0..count {
            let least = dead.last().map_or(0, |last: &u16| usize::from(*last) + 1);
            dead.push(bounded(reader, what, least, len - 1)? as u16);
        }
    } else {
        let bits = reader.take(len.div_ceil(8), what)?;
        let set = |i: &u16| bits[usize::from(*i) / 8] & 1 << (i % 8) != 0;
        dead.extend((0..len as u16).filter(set));
        if dead.len() != count {
            return Err(DecodeError::Invalid { what, found: dead.len() as u64 });
        }
    }
    Ok(dead.into())
}

fn bounded(
    reader: &mut Reader<'_>,
    what: &'static str,
    least: usize,
    most: usize,
) -> Result<usize, DecodeError> {
    let found = reader.varint(what)?;
    match usize::try_from(found) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(DecodeError::Invalid { what, found }),
    }
}
