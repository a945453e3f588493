//! Every state that can be reached, the nearest first.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::state::State;
use super::{Bounds, Without};

/// States, numbered as they were met.
type Seen = HashMap<State, u32, BuildHasherDefault<DefaultHasher>>;

/// What a search came to.
#[derive(Debug)]
pub struct Found {
    /// States visited.
    pub states: usize,
    /// The promise that was broken first, and the shortest way there.
    pub broken: Option<(String, Vec<String>)>,
    /// How often a state was met in which a chunk was acknowledged, an epoch was taken over from an
    /// owner that was not dead, a chunk lay beyond its epoch's end, an epoch was released.
    pub met: [usize; 4],
}

/// Visits every state within the bounds, until one breaks a promise.
#[must_use]
pub fn search(bounds: &Bounds, without: Without) -> Found {
    let mut seen: Seen = Seen::default();
    // From which state each was reached first.
    let mut from = vec![0];
    let mut waiting = VecDeque::from([(State::new(), 0)]);
    seen.insert(State::new(), 0);
    let mut met = [0; 4];
    while let Some((state, index)) = waiting.pop_front() {
        for (number, is_met) in state.meets(bounds).into_iter().enumerate() {
            met[number] += usize::from(is_met);
        }
        for (_, next) in state.steps(bounds, without, false) {
            let number = from.len() as u32;
            let Entry::Vacant(place) = seen.entry(next) else { continue };
            let next = place.key().clone();
            place.insert(number);
            from.push(index);
            if let Some(promise) = next.broken_promise(bounds) {
                let way = way(&seen, &from, number, |state| state.steps(bounds, without, true));
                return Found { states: seen.len(), broken: Some((promise, way)), met };
            }
            waiting.push_back((next, number));
        }
    }
    Found { states: seen.len(), broken: None, met }
}

/// The steps on the way to a state, taken once more to name them.
fn way(
    seen: &Seen,
    from: &[u32],
    to: u32,
    steps: impl Fn(&State) -> Vec<(String, State)>,
) -> Vec<String> {
    let before = |number: &u32| (*number != 0).then(|| from[*number as usize]);
    let mut numbers: Vec<u32> = std::iter::successors(Some(to), before).collect();
    numbers.reverse();
    let mut state = State::new();
    let mut names = Vec::new();
    for number in numbers.into_iter().skip(1) {
        let next = steps(&state).into_iter().find(|(_, next)| seen.get(next) == Some(&number));
        let Some((name, next)) = next else { break };
        names.push(name);
        state = next;
    }
    names
}
