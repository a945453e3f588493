//! Training sets whose rows are the view's own events: slot by slot, entity by entity, in time order.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use futures::StreamExt as _;
use millrace_kernel::training::{GatheredSlot, Swept};
use millrace_proto::convert::id_text;
use millrace_types::{KeyPart, KeyType, Micros, OrderKey, SlotId};

use super::assemble;
use super::batches::{BATCH_ROWS, encode};
use super::columns::{Part, ViewRows};
use super::cursor::{EventCursor, EventPlace};
use super::kept::check_read;
use super::slot::{ALL, Gathered, Slots, blocking, sweeper};
use super::{Making, arrow};
use crate::error::ReadError;

/// The rows of some entities of a slot, as they are sent.
struct Events {
    messages: Vec<Message>,
    swept: Swept,
}

struct Message {
    rows: usize,
    arrow_ipc: Bytes,
    /// Behind its rows.
    cursor: EventCursor,
}

/// What of a slot is wanted: events whose `at` lies in a range, of these only those behind a row.
#[derive(Clone)]
struct Wanted {
    slot: SlotId,
    range: (Micros, Micros),
    after: Option<Arc<EventPlace>>,
}

impl Making {
    /// Answers with the events whose `at` lies in a range, from the start included to the end excluded;
    /// only those behind the cursor, where the set was begun by another call.
    pub(super) async fn events(
        &mut self,
        asked: (Micros, Micros),
        cursor: Option<EventCursor>,
    ) -> Result<(), ReadError> {
        let slots = Arc::clone(&self.slots);
        let (from, first, after) = match cursor {
            // What has been forgotten meanwhile may not be left out of the rest alone.
            Some(EventCursor { from, slot, row }) => {
                slots.kept.check_events(&slots.resolved, from, slot)?;
                (from, slot, Some(Arc::new(row)))
            }
            // The same instant for every slot, though some could answer earlier ones.
            None => (slots.kept.events_from(&slots.resolved)?, 0, None),
        };
        self.summary.rows_from = (from > asked.0).then_some(from);
        let range = (asked.0.max(from), asked.1);
        let ahead = (first..slots.ends.len() as u32).map(|slot| {
            let slots = Arc::clone(&slots);
            let after = after.clone().filter(|_| slot == first);
            let wanted = Wanted { slot: SlotId(slot), range, after };
            async move { of_slot(&slots, wanted).await }
        });
        let mut ahead = futures::stream::iter(ahead).buffered(self.at_once);
        while let Some(parts) = ahead.next().await {
            for Events { messages, swept } in parts? {
                self.count(swept);
                for Message { rows, arrow_ipc, cursor } in messages {
                    self.tell_rows(rows, arrow_ipc, Some(cursor)).await?;
                }
            }
        }
        Ok(())
    }
}

/// The rows of a slot.
async fn of_slot(slots: &Arc<Slots>, wanted: Wanted) -> Result<Vec<Events>, ReadError> {
    let kind_name = slots.kind_name();
    let first = wanted.after.as_ref().map_or(*ALL.start(), |row| row.entity(&kind_name).0);
    let mut pending: Vec<RangeInclusive<u64>> = vec![first..=*ALL.end()];
    let mut out = Vec::new();
    while let Some(hashes) = pending.pop() {
        let facts = slots.facts_of(&slots.resolved.kinds[0])?.within(hashes.clone());
        match slots.gather(wanted.slot, facts, None).await? {
            Gathered::Whole(facts) => {
                let (slots, wanted) = (Arc::clone(slots), wanted.clone());
                out.push(blocking(move || sweep(&slots, &wanted, &facts)).await??);
            }
            Gathered::DivideAt(middle) => {
                pending.extend([middle + 1..=*hashes.end(), *hashes.start()..=middle]);
            }
        }
    }
    Ok(out)
}

fn sweep(slots: &Slots, wanted: &Wanted, facts: &GatheredSlot<Bytes>) -> Result<Events, ReadError> {
    let asked = &slots.resolved.views[0];
    let Wanted { slot, range, after } = wanted;
    check_read(&slots.resolved, asked, *slot, Some(range.0), facts.boundaries())?;
    let sweeper = sweeper(facts, &asked.name, &asked.features)?;
    let kind_name = slots.kind_name();
    let after = after.as_ref().map(|row| (row.entity(&kind_name), row.event()));
    let mut rows = ViewRows::new(&asked.types, 1_024);
    let mut named = Named::new(slots);
    let mut swept = Swept::default();
    let mut instants = Vec::new();
    for number in facts.in_order() {
        let place = facts.place(number);
        if after.is_some_and(|(last, _)| place < last) {
            continue;
        }
        let behind = after.filter(|(last, _)| place == *last).map(|(_, event)| event);
        instants.clear();
        let entity = facts.entity(number);
        named.begin(number);
        sweeper.events(&entity, *range, |event| {
            if behind.is_none_or(|last| event > last) {
                instants.push(event.at);
                named.push(event);
            }
        });
        let key: Vec<KeyPart<'_>> = place.1.parts().collect();
        named.keys(&key, instants.len());
        let found = sweeper.sweep(&entity, &instants, &mut rows);
        swept.rows += found.rows;
        swept.missing += found.missing;
        swept.unknown += found.unknown;
    }
    let messages = messages(slots, wanted, facts, &rows.finish(), named)?;
    Ok(Events { messages, swept })
}

/// Rows as they are sent, each message with the cursor behind it.
fn messages(
    slots: &Slots,
    wanted: &Wanted,
    facts: &GatheredSlot<Bytes>,
    parts: &[Part],
    named: Named<'_>,
) -> Result<Vec<Message>, ReadError> {
    let (columns, order) = named.finish();
    let mut messages = Vec::new();
    let mut start = 0;
    for part in parts {
        for from in (0..part.rows).step_by(BATCH_ROWS) {
            let count = BATCH_ROWS.min(part.rows - from);
            let places: Vec<(u32, u32)> =
                (from..from + count).map(|place| (0, place as u32)).collect();
            let features = assemble::columns(std::slice::from_ref(part), &places).map_err(arrow)?;
            let names = columns.iter().map(|column| column.slice(start, count));
            let schema = Arc::clone(&slots.resolved.schema);
            let batch = RecordBatch::try_new(schema, names.chain(features).collect());
            for (rows, arrow_ipc) in encode(&batch.map_err(arrow)?).map_err(arrow)? {
                start += rows;
                let (number, event) = order.last_of(start);
                let row = EventPlace::new(facts.key(number), event);
                let cursor = EventCursor { from: wanted.range.0, slot: wanted.slot.0, row };
                messages.push(Message { rows, arrow_ipc, cursor });
            }
        }
    }
    Ok(messages)
}

/// Which rows there are, in their order.
#[derive(Default)]
struct RowOrder<'a> {
    events: Vec<OrderKey<'a>>,
    /// Entities by number, each with how many rows come before it.
    entities: Vec<(usize, u32)>,
}

impl<'a> RowOrder<'a> {
    /// The entity and the event of the last of so many rows, at least one.
    fn last_of(&self, rows: usize) -> (u32, OrderKey<'a>) {
        let entity = self.entities.partition_point(|(before, _)| *before < rows) - 1;
        (self.entities[entity].1, self.events[rows - 1])
    }
}

/// The columns that name the rows.
struct Named<'a> {
    keys: Vec<KeyBuilder>,
    ats: TimestampMicrosecondBuilder,
    ids: StringBuilder,
    order: RowOrder<'a>,
}

enum KeyBuilder {
    Int64(Int64Builder),
    Text(StringBuilder),
}

impl<'a> Named<'a> {
    fn new(slots: &Slots) -> Self {
        let types = slots.resolved.spine_kinds.first().into_iter().flat_map(|k| k.columns());
        let keys = types.map(|(_, ty)| match ty {
            KeyType::Int64 => KeyBuilder::Int64(Int64Builder::new()),
            KeyType::String => KeyBuilder::Text(StringBuilder::new()),
        });
        let ats = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self { keys: keys.collect(), ats, ids: StringBuilder::new(), order: RowOrder::default() }
    }

    /// The rows of this entity come next.
    fn begin(&mut self, number: u32) {
        self.order.entities.push((self.order.events.len(), number));
    }

    fn push(&mut self, event: OrderKey<'a>) {
        self.ats.append_value(event.at.0);
        self.ids.append_value(id_text(event.id));
        self.order.events.push(event);
    }

    /// The key of the rows pushed last.
    fn keys(&mut self, key: &[KeyPart<'_>], rows: usize) {
        for (to, part) in self.keys.iter_mut().zip(key) {
            match (to, part) {
                (KeyBuilder::Int64(to), KeyPart::Int64(value)) => to.append_value_n(*value, rows),
                (KeyBuilder::Text(to), KeyPart::String(value)) => {
                    (0..rows).for_each(|_| to.append_value(value));
                }
                // Entities of a kind have keys of its types.
                (KeyBuilder::Int64(to), KeyPart::String(_)) => to.append_value_n(0, rows),
                (KeyBuilder::Text(to), KeyPart::Int64(_)) => {
                    (0..rows).for_each(|_| to.append_value(""));
                }
            }
        }
    }

    fn finish(mut self) -> (Vec<ArrayRef>, RowOrder<'a>) {
        let mut columns: Vec<ArrayRef> = Vec::new();
        for key in &mut self.keys {
            columns.push(match key {
                KeyBuilder::Int64(from) => Arc::new(from.finish()),
                KeyBuilder::Text(from) => Arc::new(from.finish()),
            });
        }
        columns.push(Arc::new(self.ats.finish()));
        columns.push(Arc::new(self.ids.finish()));
        (columns, self.order)
    }
}
