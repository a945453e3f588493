//! Maps kept as sorted vectors: half the memory of a tree, and a tile mostly holds few keys.

use std::cmp::Ordering;

/// What is known of each key; folding rows adds to it.
pub(super) trait Weight: Copy {
    /// Adds what another partial knows of the same key.
    fn add(&mut self, other: Self);
}

impl Weight for () {
    fn add(&mut self, (): Self) {}
}

impl Weight for u64 {
    fn add(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }
}

/// Merges `other` into `entries`, both ascending by `order`. `blank` is any key; it is not kept.
///
/// Keys that both have, the rule once a window has seen most of its values, cost a look-up and move
/// nothing; new ones move the entries behind them once, whatever their number.
pub(super) fn merge<K: Clone, W: Weight>(
    entries: &mut Vec<(K, W)>,
    other: &[(K, W)],
    blank: &K,
    order: impl Fn(&K, &K) -> Ordering,
) {
    let mut missing = Vec::new();
    let mut place = 0;
    for entry in other {
        place += gallop(&entries[place..], |own| order(&own.0, &entry.0).is_lt());
        match entries.get_mut(place) {
            Some(own) if order(&own.0, &entry.0).is_eq() => own.1.add(entry.1),
            Some(_) | None => missing.push(entry),
        }
    }
    let mut own = entries.len();
    let mut free = own + missing.len();
    // Any weight will do: every new place is written below.
    entries.extend(missing.iter().map(|entry| (blank.clone(), entry.1)));
    while let Some(entry) = missing.last() {
        free -= 1;
        if own > 0 && order(&entries[own - 1].0, &entry.0).is_gt() {
            own -= 1;
            entries.swap(own, free);
        } else {
            entries[free] = (*entry).clone();
            missing.pop();
        }
    }
}

/// The number of entries at the front that are `less`: near the front in a few steps, far from it
/// in logarithmically many.
fn gallop<T>(entries: &[T], less: impl Fn(&T) -> bool) -> usize {
    let mut start = 0;
    let mut step = 1;
    while start + step <= entries.len() && less(&entries[start + step - 1]) {
        start += step;
        step *= 2;
    }
    let end = entries.len().min(start + step);
    start + entries[start..end].partition_point(less)
}
