//! Slots in messages.

/// Runs of slots that a message names.
const RUNS: usize = 12;

/// Ascending numbers of slots, neighbours together: `slots 0-3, 7`.
pub(super) fn slot_runs(slots: &[u32]) -> String {
    let mut all: Vec<(u32, u32)> = Vec::new();
    for slot in slots {
        match all.last_mut() {
            Some((_, last)) if *last + 1 == *slot => *last = *slot,
            Some(_) | None => all.push((*slot, *slot)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let shown = all.iter().take(RUNS).map(text).collect::<Vec<_>>().join(", ");
    let left: u32 = all.iter().skip(RUNS).map(|(first, last)| last - first + 1).sum();
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    let word = if slots.len() == 1 { "slot" } else { "slots" };
    format!("{word} {shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_slots_stay_on_one_line() {
        assert_eq!(slot_runs(&[5]), "slot 5");
        assert_eq!(slot_runs(&[0, 1, 2, 5, 8, 9]), "slots 0-2, 5, 8-9");
        let odd: Vec<u32> = (0..4_000).map(|n| 2 * n + 1).collect();
        let text = slot_runs(&odd);
        assert!(text.ends_with("21, 23 and 3988 more"), "{text}");
    }
}
