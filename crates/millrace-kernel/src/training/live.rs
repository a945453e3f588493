//! The facts of one stream of a slot, as columns: in the order of the log while they are gathered, then
//! by entity, and of each entity the live ones in the order `(at, seq, id)`.

use std::ops::Range;

use hashbrown::HashTable;
use millrace_types::{FactView, KnownAt, Op, StreamId, ValueRef};

use super::cells::Cells;
use super::chunks::{Chunks, Place};
use super::fields::Fields;
use crate::facts::live_among;
use crate::page::id_hash;
use crate::retention::Cuts;

/// Facts of a stream in the order of the log.
#[derive(Debug)]
pub(super) struct Collected {
    fields: Fields,
    entities: Vec<u32>,
    ats: Vec<i64>,
    /// Halves of the hashes of their ids.
    ids: Vec<u32>,
    marks: Vec<Mark>,
    places: Vec<Place>,
    cells: Vec<Cells>,
    /// Which facts were known after their instants, in order, and when: where rows see what was known.
    late: Vec<(u32, i64)>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    op: Op,
    /// Whether the fact was known by its own instant, or rows see it whenever it was known.
    in_time: bool,
}

/// Bytes of a fact beside its values.
const FACT_BYTES: usize = 4 + 8 + 4 + size_of::<Mark>() + size_of::<Place>();

impl Collected {
    /// Facts of which these fields are read.
    pub(super) fn new(fields: Fields) -> Self {
        let cells = fields.types().iter().map(|ty| Cells::new(*ty)).collect();
        let (entities, ats, ids) = (Vec::new(), Vec::new(), Vec::new());
        let (marks, places, late) = (Vec::new(), Vec::new(), Vec::new());
        Self { fields, entities, ats, ids, marks, places, cells, late }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Takes in a fact of an entity that stands at a place. `late` is when it was known, where that was after
    /// its instant and rows see what was known.
    #[inline]
    pub(super) fn push(
        &mut self,
        entity: u32,
        fact: &FactView<'_>,
        late: Option<KnownAt>,
        place: Place,
    ) {
        self.late.extend(late.map(|known_at| (self.places.len() as u32, known_at.0)));
        let in_time = late.is_none();
        self.entities.push(entity);
        self.ats.push(fact.at.0);
        self.ids.push(id_hash(fact.id) as u32);
        self.marks.push(Mark { op: fact.op, in_time });
        self.places.push(place);
        let cells = &mut self.cells;
        fact.row.project(self.fields.wanted(), |column, value| cells[column].push(value));
    }

    /// The places of the facts from one on.
    pub(super) fn places_from(&mut self, first: usize) -> &mut [Place] {
        &mut self.places[first..]
    }

    /// Memory held, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let cells: usize = self.cells.iter().map(Cells::heap_bytes).sum();
        self.len() * FACT_BYTES + self.late.len() * size_of::<(u32, i64)>() + cells
    }

    /// Brings the facts of each of so many entities together; the stream is this one, and base chunks forgot
    /// this. Where rows see what was known, facts stay that were live for a while.
    pub(super) fn finish<B: AsRef<[u8]>>(
        self,
        entities: usize,
        chunks: &Chunks<B>,
        cuts: (StreamId, &Cuts),
        as_known: bool,
    ) -> Live {
        let (starts, order) = grouped(&self.entities, entities);
        let places = order.iter().map(|fact| self.places[*fact as usize]).collect();
        let mut sorting = Sorting {
            collected: &self,
            order: &order,
            chunks,
            cuts,
            // What a base chunk forgets depends on what was known.
            as_known: as_known && cuts.1.is_empty(),
            live: Vec::with_capacity(order.len()),
            superseded: Vec::new(),
            ids: Vec::new(),
            ats: Vec::new(),
        };
        let mut live_starts = Vec::with_capacity(starts.len());
        live_starts.push(0);
        let mut are = Vec::with_capacity(entities);
        for of_entity in starts.windows(2) {
            are.push(sorting.entity(of_entity[0]..of_entity[1]));
            live_starts.push(sorting.live.len() as u32);
        }
        let (live, superseded) = (sorting.live, sorting.superseded);
        let found = || live.iter().map(|fact| order[*fact as usize] as usize);
        let is_end = |fact: usize| self.marks[fact].op == Op::End;
        let ends = match found().any(is_end) {
            true => found().map(is_end).collect(),
            false => Vec::new(),
        };
        let ats = found().map(|fact| self.ats[fact]).collect();
        let late = self.late_among(found());
        let cells = self.cells.into_iter().map(|cells| cells.picked(found())).collect();
        let fields = self.fields;
        Live { fields, starts, places, live_starts, live, ats, ends, cells, late, superseded, are }
    }
}

impl Collected {
    /// Which of these facts were late, by their places among them, and when they were known.
    fn late_among(&self, facts: impl Iterator<Item = usize>) -> Vec<(u32, i64)> {
        if self.late.is_empty() {
            return Vec::new();
        }
        let known = |fact: usize| {
            let at = self.late.binary_search_by_key(&(fact as u32), |(late, _)| *late).ok()?;
            Some(self.late[at].1)
        };
        let is_late = |(_, fact): &(u32, usize)| !self.marks[*fact].in_time;
        let late = (0..).zip(facts).filter(is_late);
        late.filter_map(|(place, fact)| Some((place, known(fact)?))).collect()
    }
}

/// The facts by entity, each entity's in the order of the log: where each entity's begin, and the end.
fn grouped(of_fact: &[u32], entities: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; entities + 1];
    for entity in of_fact {
        starts[*entity as usize + 1] += 1;
    }
    for entity in 1..starts.len() {
        starts[entity] += starts[entity - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0u32; of_fact.len()];
    for (fact, entity) in of_fact.iter().enumerate() {
        let place = &mut next[*entity as usize];
        order[*place as usize] = fact as u32;
        *place += 1;
    }
    (starts, order)
}

/// Finds the live facts of one entity after another.
struct Sorting<'c, B> {
    collected: &'c Collected,
    /// The facts by entity.
    order: &'c [u32],
    chunks: &'c Chunks<B>,
    cuts: (StreamId, &'c Cuts),
    /// Facts stay that were live for a while.
    as_known: bool,
    /// The live facts, by their place in `order`.
    live: Vec<u32>,
    /// Which of them are live no more, by their places among them, and since when.
    superseded: Vec<(u32, i64)>,
    /// Of the entity that is looked at.
    ids: Vec<u32>,
    ats: Vec<(i64, u32)>,
}

impl<'c, B: AsRef<[u8]>> Sorting<'c, B> {
    /// Appends the live facts of the entity whose facts stand in this range of `order`.
    fn entity(&mut self, range: Range<u32>) -> Are {
        let before = self.live.len();
        let (mut all_in_time, mut retracts) = (true, false);
        self.ids.clear();
        for fact in &self.order[range.start as usize..range.end as usize] {
            let Mark { op, in_time } = self.collected.marks[*fact as usize];
            all_in_time &= in_time;
            retracts |= op == Op::Retract;
            self.ids.push(self.collected.ids[*fact as usize]);
        }
        self.ids.sort_unstable();
        let may_repeat = self.ids.windows(2).any(|two| two[0] == two[1]);
        let (mut single, mut until) = (true, Vec::new());
        if retracts || may_repeat {
            let facts: Vec<FactView<'c>> = range.clone().map(|place| self.fact(place)).collect();
            let same = same_ids(&facts);
            single = !retracts && same.is_empty();
            match self.as_known {
                true => until = self.ever_live(range, &facts, same),
                false => self.live.extend(self.live_of(range, &facts, same)),
            }
        } else {
            self.live.extend(range);
        }
        self.sort(before);
        if !until.is_empty() {
            self.supersede(before, &until);
        }
        Are { in_time: all_in_time, single, timed: single || self.as_known }
    }

    /// Appends the facts of a range that were live for a while, given those that share their id with others;
    /// gives which of them are live no more, by their places in order, and since when.
    ///
    /// What of an id is live follows from what of it is known, in whatever order: the greatest, if its
    /// revision exceeds those of all retractions. So each fact is live once at most, from when it is known.
    fn ever_live(
        &mut self,
        range: Range<u32>,
        facts: &[FactView<'_>],
        same: Vec<Vec<u32>>,
    ) -> Vec<(u32, i64)> {
        const NEVER: i64 = i64::MIN;
        let says = |fact: &FactView<'_>| fact.op != Op::Retract;
        let live = |fact| if says(fact) { i64::MAX } else { NEVER };
        let mut until: Vec<i64> = facts.iter().map(live).collect();
        for mut group in same {
            let known_at = |fact: u32| self.chunks.known_at(self.place(range.start + fact)).0;
            group.sort_by_key(|fact| known_at(*fact));
            let (mut greatest, mut retracted, mut is) = (None::<u32>, None, None::<u32>);
            for known in group.chunk_by(|a, b| known_at(*a) == known_at(*b)) {
                for next in known {
                    let fact = &facts[*next as usize];
                    until[*next as usize] = NEVER;
                    if !says(fact) {
                        retracted = retracted.max(Some(fact.revision));
                    } else if greatest.is_none_or(|g| fact.live_cmp(&facts[g as usize]).is_gt()) {
                        greatest = Some(*next);
                    }
                }
                let holds = |g: &u32| retracted.is_none_or(|r| facts[*g as usize].revision > r);
                let now = greatest.filter(holds);
                if now != is {
                    is.into_iter().for_each(|was| until[was as usize] = known_at(known[0]));
                    now.into_iter().for_each(|new| until[new as usize] = i64::MAX);
                    is = now;
                }
            }
        }
        let mut superseded = Vec::new();
        for (place, (fact, until)) in range.zip(facts.iter().zip(until)) {
            // A row at its very instant sees that it is there, later ones see it in windows.
            if until <= fact.at.0 {
                continue;
            }
            self.live.push(place);
            if until < i64::MAX {
                superseded.push((place, until));
            }
        }
        superseded
    }

    /// Notes which of the live facts from `first` on are live no more, given those by their places in order.
    fn supersede(&mut self, first: usize, until: &[(u32, i64)]) {
        for (place, of) in self.live.iter().enumerate().skip(first) {
            if let Ok(found) = until.binary_search_by_key(of, |(place, _)| *place) {
                self.superseded.push((place as u32, until[found].1));
            }
        }
    }

    /// Facts mostly come in order, and few share an instant: only those are decoded once more.
    fn sort(&mut self, first: usize) {
        let at = |place: &u32| self.collected.ats[self.order[*place as usize] as usize];
        self.ats.clear();
        self.ats.extend(self.live[first..].iter().map(|place| (at(place), *place)));
        if !self.ats.is_sorted() {
            self.ats.sort_unstable();
            for (to, (_, place)) in self.live[first..].iter_mut().zip(&self.ats) {
                *to = *place;
            }
        }
        let mut start = 0;
        for at_once in self.ats.chunk_by(|a, b| a.0 == b.0) {
            if at_once.len() > 1 {
                let mut sorted: Vec<u32> = at_once.iter().map(|(_, place)| *place).collect();
                sorted.sort_by(|a, b| self.fact(*a).order_key().cmp(&self.fact(*b).order_key()));
                let place = first + start;
                self.live[place..place + sorted.len()].copy_from_slice(&sorted);
            }
            start += at_once.len();
        }
    }

    /// The live ones among facts that stand in a range, given those that share their id with others.
    fn live_of(&self, range: Range<u32>, facts: &[FactView<'_>], same: Vec<Vec<u32>>) -> Vec<u32> {
        let mut keep: Vec<bool> = facts.iter().map(|fact| fact.op != Op::Retract).collect();
        let (stream, cuts) = self.cuts;
        for group in same {
            let in_chunk =
                |fact: &u32| (self.place(range.start + *fact).chunk, facts[*fact as usize]);
            let group_facts: Vec<_> = group.iter().map(in_chunk).collect();
            // What a base chunk forgot says nothing of facts of the same id that came after it.
            let left = cuts.left(stream, &group_facts);
            let live = live_among(left.iter().map(|index| group_facts[*index].1));
            let live = live.map(|index| left[index]);
            for (index, fact) in group.into_iter().enumerate() {
                keep[fact as usize] = Some(index) == live;
            }
        }
        range.zip(keep).filter_map(|(place, keep)| keep.then_some(place)).collect()
    }

    fn place(&self, place: u32) -> Place {
        self.collected.places[self.order[place as usize] as usize]
    }

    fn fact(&self, place: u32) -> FactView<'c> {
        self.chunks.fact(self.place(place))
    }
}

/// What holds for all facts of a stream of one entity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Are {
    /// Every one was known by its instant, or rows see it whenever it was known.
    pub(super) in_time: bool,
    /// No two have one id, and none is a RETRACT: each is live from when it is known.
    pub(super) single: bool,
    /// From when to when each was live is told.
    pub(super) timed: bool,
}

/// The facts of a stream by entity.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) fields: Fields,
    /// Where each entity's facts begin among all, and the end.
    starts: Vec<u32>,
    /// All facts, each entity's in the order of the log.
    places: Vec<Place>,
    /// The same of the live ones.
    live_starts: Vec<u32>,
    /// By live fact: its place among all.
    live: Vec<u32>,
    ats: Vec<i64>,
    /// By live fact, whether it is an END; empty where none is.
    ends: Vec<bool>,
    cells: Vec<Cells>,
    /// Of live facts that were known after their instants, in order: their places, and when that was.
    late: Vec<(u32, i64)>,
    /// Of facts that are live no more, where rows see what was known, likewise: since when.
    superseded: Vec<(u32, i64)>,
    /// By entity.
    are: Vec<Are>,
}

/// The live facts of a stream of one entity, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveFacts<'a> {
    pub(super) stream: &'a Live,
    pub(super) ats: &'a [i64],
    /// The place of the first in the stream's columns.
    pub(super) first: usize,
    pub(super) are: Are,
}

impl Live {
    /// All facts of an entity, in the order of the log.
    pub(super) fn places(&self, entity: u32) -> &[Place] {
        let entity = entity as usize;
        &self.places[self.starts[entity] as usize..self.starts[entity + 1] as usize]
    }

    /// The live ones of an entity.
    pub(super) fn facts(&self, entity: u32) -> LiveFacts<'_> {
        let entity = entity as usize;
        let first = self.live_starts[entity] as usize;
        let ats = &self.ats[first..self.live_starts[entity + 1] as usize];
        LiveFacts { stream: self, ats, first, are: self.are[entity] }
    }
}

impl<'a> LiveFacts<'a> {
    /// Where a live fact stands.
    pub(super) fn place(&self, fact: usize) -> Place {
        self.stream.places[self.stream.live[self.first + fact] as usize]
    }

    /// When each live fact was known; that of one that was known by its instant is its instant.
    pub(super) fn known(&self) -> Vec<i64> {
        let mut known = self.ats.to_vec();
        for (fact, known_at) in self.of_own(&self.stream.late) {
            known[fact] = known_at;
        }
        known
    }

    /// Until when each is live; nothing where every one still is.
    pub(super) fn until(&self) -> Vec<i64> {
        let mut until = Vec::new();
        for (fact, since) in self.of_own(&self.stream.superseded) {
            until.resize(self.ats.len(), i64::MAX);
            until[fact] = since;
        }
        until
    }

    /// The instants of those that are still live, and their numbers.
    pub(super) fn still_live(&self) -> impl Iterator<Item = (usize, i64)> {
        let mut gone = self.of_own(&self.stream.superseded).map(|(fact, _)| fact).peekable();
        let facts = self.ats.iter().copied().enumerate();
        facts.filter(move |(fact, _)| gone.next_if_eq(fact).is_none())
    }

    /// What is told of its own facts, in order.
    fn of_own(&self, told: &'a [(u32, i64)]) -> impl Iterator<Item = (usize, i64)> + use<'a> {
        let (first, behind) = (self.first as u32, (self.first + self.ats.len()) as u32);
        let from = told.partition_point(|(place, _)| *place < first);
        let own = told[from..].iter().take_while(move |(place, _)| *place < behind);
        own.map(move |(place, when)| ((place - first) as usize, *when))
    }

    #[inline]
    pub(super) fn is_end(&self, fact: usize) -> bool {
        self.stream.ends.get(self.first + fact).is_some_and(|end| *end)
    }

    /// Whether any is an END.
    pub(super) fn any_end(&self) -> bool {
        let range = self.first..self.first + self.ats.len();
        self.stream.ends.get(range).is_some_and(|ends| ends.contains(&true))
    }

    /// The column of a field that is read.
    #[inline]
    pub(super) fn cells(&self, field: usize) -> Option<&'a Cells> {
        Some(&self.stream.cells[self.stream.fields.column(field)?])
    }

    /// The value of a field that is read.
    #[inline]
    pub(super) fn value(&self, fact: usize, field: usize) -> ValueRef<'a> {
        let cells = self.cells(field);
        debug_assert!(cells.is_some(), "field {field} was not decoded");
        cells.map_or(ValueRef::Null, |cells| cells.get(self.first + fact))
    }
}

/// The ids that several facts have: for each the indexes of its facts.
fn same_ids(facts: &[FactView<'_>]) -> Vec<Vec<u32>> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    // By the first fact of each id, and the place of its group once there is one.
    let mut table: HashTable<(u32, u32)> = HashTable::with_capacity(facts.len());
    let id = |fact: u32| facts[fact as usize].id;
    for next in 0..facts.len() as u32 {
        let hash = id_hash(id(next));
        match table.find_mut(hash, |(first, _)| id(*first) == id(next)) {
            Some((first, place)) => {
                if *place == u32::MAX {
                    *place = groups.len() as u32;
                    groups.push(vec![*first]);
                }
                groups[*place as usize].push(next);
            }
            None => {
                table.insert_unique(hash, (next, u32::MAX), |(fact, _)| id_hash(id(*fact)));
            }
        }
    }
    groups
}
