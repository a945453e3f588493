//! Subscriptions: following a view's joined rows from the log alone (design §7).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_catalog::Catalog;
use millrace_client::port::{Change, JoinError, StorePort, SubscribeFrom};
use millrace_kernel::{Plan, RowChange, ViewFollower};
use millrace_types::{Entity, Micros, Position, SlotId};
use tokio::sync::mpsc;

use crate::service::Confirmed;
use crate::worker::decode;

/// Messages a slow reader may leave waiting before the follower waits for it.
const CHANNEL: usize = 16;
/// Changes in one message.
const MESSAGE_CHANGES: usize = 1_024;
/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 1 << 20;

type Sender = mpsc::Sender<Result<Vec<Change>, JoinError>>;

/// A view being followed over all slots.
pub(crate) struct Subscription {
    store: Arc<dyn StorePort>,
    confirmed: Vec<Confirmed>,
    followers: Vec<ViewFollower>,
    /// Up to where each slot is followed silently.
    silent: Vec<Position>,
    facts_max: u64,
    view: String,
    watermark: Option<Micros>,
    sender: Sender,
}

impl Subscription {
    /// Starts following.
    pub(crate) fn start(
        store: Arc<dyn StorePort>,
        catalog: Arc<Catalog>,
        confirmed: Vec<Confirmed>,
        facts_max: u64,
        view: String,
        from: SubscribeFrom,
    ) -> Result<mpsc::Receiver<Result<Vec<Change>, JoinError>>, JoinError> {
        let plan = Plan::new(catalog);
        let followers = (0..confirmed.len())
            .map(|_| ViewFollower::new(&plan, &view))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| JoinError::UnknownView(view.clone()))?;
        let silent = match from {
            SubscribeFrom::Start => vec![Position::START; confirmed.len()],
            SubscribeFrom::Now => confirmed.iter().map(|c| c.borrow().0).collect(),
            SubscribeFrom::Cursor(cursor) => parse_cursor(&cursor, &view, confirmed.len())?,
        };
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let subscription =
            Self { store, confirmed, followers, silent, facts_max, view, watermark: None, sender };
        tokio::spawn(subscription.run());
        Ok(receiver)
    }

    async fn run(mut self) {
        let outcome = self.follow().await;
        if let Err(Some(error)) = outcome {
            // A reader that is gone does not want to know.
            let _ = self.sender.send(Err(error)).await;
        }
    }

    /// Follows until the reader goes (`Err(None)`) or an error ends it.
    async fn follow(&mut self) -> Result<(), Option<JoinError>> {
        loop {
            let targets: Vec<Position> =
                self.confirmed.iter_mut().map(|c| c.borrow_and_update().0).collect();
            for (slot, target) in targets.iter().enumerate() {
                self.catch_up(slot, *target).await?;
            }
            self.tell_watermark().await?;
            let cursor = self.cursor();
            self.send(vec![Change::CaughtUp { cursor }]).await?;
            self.wait().await?;
        }
    }

    /// Waits until a slot confirms something more, or the reader goes.
    async fn wait(&mut self) -> Result<(), Option<JoinError>> {
        let changes = self.confirmed.iter_mut().map(|c| Box::pin(c.changed()));
        tokio::select! {
            () = self.sender.closed() => Err(None),
            (changed, _, _) = futures::future::select_all(changes) => {
                changed.map_err(|_| None)
            }
        }
    }

    async fn catch_up(&mut self, slot: usize, target: Position) -> Result<(), Option<JoinError>> {
        let id = SlotId(slot as u32);
        while self.followers[slot].position() < target {
            let after = self.followers[slot].position();
            let page = self
                .store
                .read_log(id, after, target, SCAN_BYTES)
                .await
                .map_err(|e| Some(JoinError::Store(e)))?;
            let mut out = Vec::new();
            for (position, bytes) in &page.chunks {
                let chunk =
                    decode(id, *position, bytes.as_ref()).map_err(|e| Some(JoinError::Store(e)))?;
                let changes = self.followers[slot].chunk(*position, &chunk).map_err(|e| {
                    Some(JoinError::Store(millrace_store::StoreError::Damaged {
                        what: format!("chunk {position} of slot {slot}"),
                        reason: e.to_string(),
                    }))
                })?;
                if *position > self.silent[slot] && !changes.is_empty() {
                    let cursor = self.cursor();
                    let watermark = self.followers[slot].watermark();
                    out.extend(changes.into_iter().map(|c| record(c, watermark, &cursor)));
                }
                if out.len() >= MESSAGE_CHANGES {
                    self.send(std::mem::take(&mut out)).await?;
                }
            }
            self.send(out).await?;
            self.check_budget()?;
            if page.complete || page.chunks.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn check_budget(&self) -> Result<(), Option<JoinError>> {
        let facts: u64 = self.followers.iter().map(ViewFollower::facts).sum();
        if facts <= self.facts_max {
            return Ok(());
        }
        let reason = format!("a subscription may hold {} facts", self.facts_max);
        Err(Some(JoinError::BudgetSpent { facts, reason }))
    }

    /// Tells the view's watermark, the least over the slots that have one, when it moved.
    async fn tell_watermark(&mut self) -> Result<(), Option<JoinError>> {
        let least = self.followers.iter().filter_map(ViewFollower::watermark).min();
        if let Some(watermark) = least.filter(|w| self.watermark.is_none_or(|told| told < *w)) {
            self.watermark = Some(watermark);
            let cursor = self.cursor();
            self.send(vec![Change::Watermark { watermark, cursor }]).await?;
        }
        Ok(())
    }

    async fn send(&self, changes: Vec<Change>) -> Result<(), Option<JoinError>> {
        if changes.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(changes)).await.map_err(|_| None)
    }

    /// The positions of all slots: `view@slot:epoch.sequence,…`, slots at the start left out.
    fn cursor(&self) -> Arc<str> {
        let places: Vec<String> = self
            .followers
            .iter()
            .enumerate()
            .map(|(slot, f)| (slot, f.position().max(self.silent[slot])))
            .filter(|(_, position)| *position > Position::START)
            .map(|(slot, position)| format!("{slot}:{position}"))
            .collect();
        format!("{}/{}@{}", self.view, self.followers.len(), places.join(",")).into()
    }
}

fn record(
    (entity, change): (Entity, RowChange),
    watermark: Option<Micros>,
    cursor: &Arc<str>,
) -> Change {
    let bytes = |row: &millrace_types::Row| Bytes::copy_from_slice(row.as_bytes());
    Change::Row {
        plus: change.plus,
        id: change.id,
        entity,
        at: change.row.at,
        row: bytes(&change.row.event),
        joined: change.row.versions.iter().map(|v| v.as_ref().map(bytes)).collect(),
        is_final: watermark.is_some_and(|w| change.row.at < w),
        cursor: cursor.clone(),
    }
}

fn parse_cursor(cursor: &str, view: &str, slots: usize) -> Result<Vec<Position>, JoinError> {
    let bad = |why: &str| JoinError::BadCursor(why.to_owned());
    let (head, places) = cursor.split_once('@').ok_or_else(|| bad("it has no '@'"))?;
    let (name, count) = head.rsplit_once('/').ok_or_else(|| bad("it has no '/'"))?;
    if name != view {
        return Err(JoinError::BadCursor(format!("it is one of view {name:?}")));
    }
    if count.parse() != Ok(slots) {
        return Err(JoinError::BadCursor(format!("it is one of {count} slots, here are {slots}")));
    }
    let mut positions: BTreeMap<usize, Position> = BTreeMap::new();
    for place in places.split(',').filter(|p| !p.is_empty()) {
        let (slot, position) = place.split_once(':').ok_or_else(|| bad("a place has no ':'"))?;
        let slot: usize = slot.parse().map_err(|_| bad("a slot is no number"))?;
        let position = position.parse().map_err(|_| bad("a position is not epoch.sequence"))?;
        if slot >= slots {
            return Err(bad("a slot is out of range"));
        }
        positions.insert(slot, position);
    }
    Ok((0..slots).map(|s| positions.get(&s).copied().unwrap_or(Position::START)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_bad_ones_say_why() {
        let at = |epoch, sequence| Position { epoch, sequence };
        let parsed = parse_cursor("v/3@0:1.5,2:2.1", "v", 3);
        assert_eq!(parsed, Ok(vec![at(1, 5), Position::START, at(2, 1)]));
        for bad in ["", "v", "w/3@", "v/4@", "v/3@3:1.1", "v/3@0:x", "v/3@0"] {
            assert!(matches!(parse_cursor(bad, "v", 3), Err(JoinError::BadCursor(_))), "{bad}");
        }
    }
}
