//! Training sets whose rows are the view's own events: slot by slot, entity by entity, in time order.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::StreamExt as _;
use millrace_kernel::training::{GatheredSlot, Swept};
use millrace_proto::convert::id_text;
use millrace_types::{KeyPart, KeyType, Micros, SlotId};

use super::assemble;
use super::batches::{BATCH_ROWS, encode};
use super::columns::ViewRows;
use super::kept::check_read;
use super::slot::{ALL, Gathered, Slots, blocking, sweeper};
use super::version::EventCursor;
use super::{Making, arrow};
use crate::error::ReadError;

/// The rows of some entities of a slot.
struct Events {
    batches: Vec<RecordBatch>,
    swept: Swept,
}

impl Making {
    /// Answers with the events whose `at` lies in a range, from the start included to the end excluded.
    pub(super) async fn events(
        &mut self,
        range: (Micros, Micros),
        cursor: EventCursor,
    ) -> Result<(), ReadError> {
        let slots = Arc::clone(&self.slots);
        let schema = self.schema();
        // The same instant for every slot, though some could answer earlier ones.
        let from = slots.kept.events_from(&slots.resolved)?;
        self.summary.rows_from = (from > range.0).then_some(from);
        let range = (range.0.max(from), range.1);
        let ahead = (cursor.slot..slots.ends.len() as u32).map(|slot| {
            let (slots, schema) = (Arc::clone(&slots), schema.clone());
            async move {
                Ok::<_, ReadError>((slot, of_slot(&slots, SlotId(slot), schema, range).await?))
            }
        });
        let mut ahead = futures::stream::iter(ahead).buffered(self.at_once);
        let mut sent = 0;
        while let Some(found) = ahead.next().await {
            let (slot, parts) = found?;
            // What the client has of the slot where it goes on.
            let mut skip = if slot == cursor.slot { cursor.rows as usize } else { 0 };
            let mut done = 0;
            for part in parts {
                self.count(part.swept);
                for batch in part.batches {
                    let rows = batch.num_rows();
                    let gone = skip.min(rows);
                    skip -= gone;
                    done += gone as u64;
                    if gone < rows {
                        let batch = batch.slice(gone, rows - gone);
                        let before = done;
                        let cursor = |behind| Some(EventCursor { slot, rows: before + behind });
                        let messages = encode(&batch).map_err(arrow)?;
                        sent = self.tell_rows(sent, messages, cursor).await?;
                        done += (rows - gone) as u64;
                    }
                }
            }
        }
        self.summary.swept.rows = sent;
        Ok(())
    }
}

/// The rows of a slot.
async fn of_slot(
    slots: &Arc<Slots>,
    slot: SlotId,
    schema: SchemaRef,
    range: (Micros, Micros),
) -> Result<Vec<Events>, ReadError> {
    let mut pending: Vec<RangeInclusive<u64>> = vec![ALL];
    let mut out = Vec::new();
    while let Some(hashes) = pending.pop() {
        let facts = slots.facts_of(&slots.resolved.kinds[0])?.within(hashes.clone());
        match slots.gather(slot, facts, None).await? {
            Gathered::Whole(facts) => {
                let (slots, schema) = (Arc::clone(slots), schema.clone());
                out.push(blocking(move || sweep(&slots, slot, &facts, &schema, range)).await??);
            }
            Gathered::DivideAt(middle) => {
                pending.extend([middle + 1..=*hashes.end(), *hashes.start()..=middle]);
            }
        }
    }
    Ok(out)
}

fn sweep(
    slots: &Slots,
    slot: SlotId,
    facts: &GatheredSlot<Bytes>,
    schema: &SchemaRef,
    range: (Micros, Micros),
) -> Result<Events, ReadError> {
    let asked = &slots.resolved.views[0];
    check_read(&slots.resolved, asked, slot, Some(range.0), facts.boundaries())?;
    let sweeper = sweeper(facts, &asked.name, &asked.features)?;
    let mut rows = ViewRows::new(&asked.types, 1_024);
    let mut named = Named::new(slots);
    let mut swept = Swept::default();
    let mut instants = Vec::new();
    for number in facts.in_order() {
        instants.clear();
        let entity = facts.entity(number);
        let before = named.rows;
        sweeper.events(&entity, range, |event| {
            instants.push(event.at);
            named.push(event.at, event.id);
        });
        let key: Vec<KeyPart<'_>> = facts.key(number).parts().collect();
        named.keys(&key, named.rows - before);
        let found = sweeper.sweep(&entity, &instants, &mut rows);
        swept.missing += found.missing;
        swept.unknown += found.unknown;
    }
    let named = named.finish();
    let mut batches = Vec::new();
    let mut start = 0;
    for part in rows.finish() {
        let part = [part];
        for from in (0..part[0].rows).step_by(BATCH_ROWS) {
            let count = BATCH_ROWS.min(part[0].rows - from);
            let places: Vec<(u32, u32)> =
                (from..from + count).map(|place| (0, place as u32)).collect();
            let columns = assemble::columns(&part, &places).map_err(arrow)?;
            let names = named.iter().map(|column| column.slice(start, count));
            let batch = RecordBatch::try_new(schema.clone(), names.chain(columns).collect());
            batches.push(batch.map_err(arrow)?);
            start += count;
        }
    }
    Ok(Events { batches, swept })
}

/// The columns that name the rows.
struct Named {
    keys: Vec<KeyBuilder>,
    ats: TimestampMicrosecondBuilder,
    ids: StringBuilder,
    rows: usize,
}

enum KeyBuilder {
    Int64(Int64Builder),
    Text(StringBuilder),
}

impl Named {
    fn new(slots: &Slots) -> Self {
        let types = slots.resolved.spine_kinds.first().into_iter().flat_map(|k| k.columns());
        let keys = types.map(|(_, ty)| match ty {
            KeyType::Int64 => KeyBuilder::Int64(Int64Builder::new()),
            KeyType::String => KeyBuilder::Text(StringBuilder::new()),
        });
        let ats = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self { keys: keys.collect(), ats, ids: StringBuilder::new(), rows: 0 }
    }

    fn push(&mut self, at: Micros, id: &[u8]) {
        self.ats.append_value(at.0);
        self.ids.append_value(id_text(id));
        self.rows += 1;
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

    fn finish(mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        for key in &mut self.keys {
            columns.push(match key {
                KeyBuilder::Int64(from) => Arc::new(from.finish()),
                KeyBuilder::Text(from) => Arc::new(from.finish()),
            });
        }
        columns.push(Arc::new(self.ats.finish()));
        columns.push(Arc::new(self.ids.finish()));
        columns
    }
}
