//! Cursors: how far a reader has the changelog of a view.
//!
//! `view/SLOTS@slot:epoch.sequence,…` names the last chunk of each slot that the reader has, slots
//! of which it has none left out. With `#n` behind it, the reader has only the first n rows of the
//! chunk named last. The log alone decides the rows of a chunk and their order, so a cursor holds
//! for every owner of the slots, now and later.

use std::collections::BTreeMap;

use millrace_client::port::{JoinError, StorePort};
use millrace_types::{Position, SlotId};

/// Where a reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The last chunk of each slot.
    pub(crate) positions: Vec<Position>,
    /// The one chunk of them that the reader does not have whole.
    pub(super) partial: Option<Partial>,
}

/// A chunk of which a reader has the first rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partial {
    /// Its slot.
    pub(super) slot: usize,
    /// How many rows.
    pub(super) rows: usize,
}

impl Cursor {
    /// A reader that has all chunks up to these.
    pub(super) fn at(positions: Vec<Position>) -> Self {
        Self { positions, partial: None }
    }

    /// Reads a cursor of a view.
    ///
    /// # Errors
    /// [`JoinError::BadCursor`] with the rule it breaks.
    pub(crate) fn parse(text: &str, view: &str, slots: usize) -> Result<Self, JoinError> {
        let bad = |why: &str| JoinError::BadCursor(why.to_owned());
        let (head, places) = text.split_once('@').ok_or_else(|| bad("it has no '@'"))?;
        let (name, count) = head.rsplit_once('/').ok_or_else(|| bad("it has no '/'"))?;
        if name != view {
            return Err(JoinError::BadCursor(format!("it is one of view {name:?}")));
        }
        if count.parse() != Ok(slots) {
            let why = format!("it is one of {count} slots, here are {slots}");
            return Err(JoinError::BadCursor(why));
        }
        let (places, rows) = match places.split_once('#') {
            Some((places, rows)) => {
                (places, Some(rows.parse().map_err(|_| bad("its rows are no number"))?))
            }
            None => (places, None),
        };
        let mut positions: BTreeMap<usize, Position> = BTreeMap::new();
        let mut last = None;
        for place in places.split(',').filter(|place| !place.is_empty()) {
            let (slot, position) =
                place.split_once(':').ok_or_else(|| bad("a place has no ':'"))?;
            let slot: usize = slot.parse().map_err(|_| bad("a slot is no number"))?;
            let position = position.parse().map_err(|_| bad("a position is not epoch.sequence"))?;
            if slot >= slots {
                return Err(bad("a slot is out of range"));
            }
            positions.insert(slot, position);
            last = Some(slot);
        }
        let partial = match (rows, last) {
            (Some(rows), Some(slot)) => Some(Partial { slot, rows }),
            (Some(_), None) => return Err(bad("it has rows of no chunk")),
            (None, _) => None,
        };
        let position = |slot| positions.get(&slot).copied().unwrap_or(Position::START);
        Ok(Self { positions: (0..slots).map(position).collect(), partial })
    }

    /// The first slot of which the reader has more than is confirmed here.
    pub(super) fn ahead(&self, confirmed: impl Iterator<Item = Position>) -> Option<Ahead> {
        let slots = self.positions.iter().zip(confirmed).enumerate();
        let mut ahead = slots.filter(|(_, (has, is))| is_ahead(**has, *is));
        ahead.next().map(|(slot, (has, is))| Ahead { slot: SlotId(slot as u32), has: *has, is })
    }
}

/// True when a reader has more than is confirmed. The place before an epoch's first chunk stands for all
/// chunks of the epochs before; nobody has to know that epoch to follow a log from there.
pub(crate) fn is_ahead(has: Position, is: Position) -> bool {
    has > is && has.sequence > 0
}

/// A slot of which a reader has more than is known here: either it followed another log, or this node
/// has yet to learn how far the slot is, or that it is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    slot: SlotId,
    has: Position,
    is: Position,
}

impl Ahead {
    /// What the log says: a chunk that is there was confirmed by an owner this node does not know of.
    pub(super) async fn ask(self, store: &dyn StorePort) -> JoinError {
        let Self { slot, has, is } = self;
        let before = Position { sequence: has.sequence.saturating_sub(1), ..has };
        match store.read_log(slot, before, has, 1).await {
            Ok(page) if page.chunks.is_empty() => {
                JoinError::BadCursor(format!("slot {} ends at {is} here, before its {has}", slot.0))
            }
            Ok(_) => JoinError::NotServing { slot },
            Err(error) => JoinError::Store(error),
        }
    }
}

/// The cursor of a reader that has all chunks up to these; `last` names the slot whose chunk stands
/// last, so that a number of its rows can be told behind it.
pub(super) fn text(
    view: &str,
    positions: impl ExactSizeIterator<Item = Position>,
    last: Option<usize>,
) -> String {
    let mut text = format!("{view}/{}@", positions.len());
    let (mut at_end, mut comma) = (String::new(), "");
    for (slot, position) in positions.enumerate().filter(|(_, at)| *at > Position::START) {
        if last == Some(slot) {
            at_end = format!("{slot}:{position}");
        } else {
            text.push_str(&format!("{comma}{slot}:{position}"));
            comma = ",";
        }
    }
    if !at_end.is_empty() {
        text.push_str(comma);
        text.push_str(&at_end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    #[test]
    fn cursors_read_back_and_bad_ones_say_why() {
        let positions = vec![at(1, 5), Position::START, at(2, 1)];
        let parsed = Cursor::parse("v/3@0:1.5,2:2.1", "v", 3);
        assert_eq!(parsed, Ok(Cursor::at(positions.clone())));
        for (last, rows) in [(0, 7), (2, 0)] {
            let text = format!("{}#{rows}", text("v", positions.iter().copied(), Some(last)));
            let partial = Some(Partial { slot: last, rows });
            let expected = Cursor { positions: positions.clone(), partial };
            assert_eq!(Cursor::parse(&text, "v", 3), Ok(expected), "{text}");
        }
        let whole = text("v", positions.iter().copied(), None);
        assert_eq!(Cursor::parse(&whole, "v", 3), Ok(Cursor::at(positions)), "{whole}");
        for bad in [
            "",
            "v",
            "w/3@",
            "v/4@",
            "v/3@3:1.1",
            "v/3@0:x",
            "v/3@0",
            "v/3@#1",
            "v/3@0:1.1#",
            "v/3@0:1.1#x",
        ] {
            let parsed = Cursor::parse(bad, "v", 3);
            assert!(matches!(parsed, Err(JoinError::BadCursor(_))), "{bad}");
        }
    }

    #[test]
    fn a_cursor_may_be_ahead_of_what_is_confirmed() {
        let cursor = Cursor::at(vec![at(1, 5), at(2, 2)]);
        assert_eq!(cursor.ahead([at(1, 5), at(3, 1)].into_iter()), None);
        let ahead = Ahead { slot: SlotId(1), has: at(2, 2), is: at(2, 1) };
        assert_eq!(cursor.ahead([at(1, 5), at(2, 1)].into_iter()), Some(ahead));
        assert!(!is_ahead(at(3, 0), at(2, 1)), "an epoch without a chunk");
    }
}
