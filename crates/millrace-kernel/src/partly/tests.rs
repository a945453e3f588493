//! Reads from a head and the pages they need, against the whole state, over the histories of the tests of
//! folding: thousands of facts and versions that come, change and go, saved and loaded meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_types::{FieldType, KnownAt, Micros};
use proptest::prelude::*;

use super::*;
use crate::fold::tests::{CLICKS, END_S, Harness, Step, step};
use crate::folds::{Block, GROUP_PAGES};
use crate::plan::Series;
use crate::snapshot::Head;

/// What a store holds of one entity.
#[derive(Default)]
struct Stored {
    ver: i64,
    head: Vec<u8>,
    pages: BTreeMap<PageName, Vec<u8>>,
    ids: BTreeMap<PageName, Vec<u8>>,
}

impl Stored {
    fn save(&mut self, state: &mut EntityState) {
        self.ver += 1;
        let ver = KnownAt(self.ver);
        let parts = state.snapshot(ver);
        self.pages.extend(parts.pages.into_iter().map(|(n, bytes)| ((ver, n), bytes)));
        self.ids.extend(parts.ids.into_iter().map(|(n, bytes)| ((ver, n), bytes)));
        let (pages, ids) = state.stored_parts();
        self.pages.retain(|name, _| pages.contains(name));
        self.ids.retain(|name, _| ids.contains(name));
        self.head = parts.head;
    }

    fn head(&self, state: &EntityState) -> Head {
        Head::decode(&state.plan, &self.head).unwrap()
    }

    /// All of it.
    fn load(&self, of: &EntityState) -> EntityState {
        let head = self.head(of);
        let (pages, ids) = head.part_names();
        let pages: Vec<_> = pages.iter().map(|name| &self.pages[name]).collect();
        let ids: Vec<_> = ids.iter().map(|name| &self.ids[name]).collect();
        head.assemble(of.plan.clone(), &pages, &ids).unwrap()
    }

    /// The head, and of the pages that a read needs all but one.
    fn open(&self, of: &Harness, at: Micros, but: Option<PageName>) -> PartlyLoaded {
        let plan = of.state.plan.clone();
        let mut opened = self.head(&of.state).open(plan, 0, &of.features).unwrap();
        for name in opened.needed(at).unwrap() {
            if Some(name) != but {
                let page = StoredPage::decode(&self.pages[&name]).unwrap();
                opened.insert(name, &page).unwrap();
            }
        }
        opened
    }

    /// Compares a read with that of the whole state; gives how many pages of events it needed.
    fn compare(&self, harness: &Harness, at: Micros) -> Result<usize, TestCaseError> {
        let whole = self.load(&harness.state).evaluate(0, &harness.features, at);
        let plan = harness.state.plan.clone();
        let mut opened = self.head(&harness.state).open(plan, 0, &harness.features).unwrap();
        let needed = opened.needed(at).unwrap();
        let found = self.open(harness, at, None).evaluate(at);
        prop_assert_eq!(found.as_ref(), Ok(&whole), "read at {} with {:?}", at, needed);
        for page in &needed {
            // Without one of them it says so, or did not need it.
            match self.open(harness, at, Some(*page)).evaluate(at) {
                Ok(found) => prop_assert_eq!(&found, &whole, "without {:?}", page),
                Err(missing) => prop_assert_eq!(missing, MissingPage(*page)),
            }
        }
        let pages = harness.state.streams[CLICKS].pages();
        Ok(needed.iter().filter(|name| pages.iter().any(|p| p.stored == Some(**name))).count())
    }

    /// The most pages of events that a read may need. Each of three instants cuts a page: that of the
    /// read, and the start of each of the two widths. Where a column had to be that of groups, a cut
    /// group is needed whole; where one was given up, every page may be.
    fn needed_at_most(&self, of: &Harness) -> usize {
        let opened = self.open(of, Micros(i64::MIN), None);
        let events = &opened.state.streams[CLICKS];
        let pages = events.pages().len();
        if !events.is_large() {
            return pages;
        }
        let groups = pages / GROUP_PAGES;
        let rest = (groups * GROUP_PAGES..pages).map(Block::Page);
        let coarse: Vec<Block> = (0..groups).map(Block::Group).chain(rest).collect();
        let of_series = |series: &&Series| {
            let kept = |block| events.fold_of(block, series.fold).is_some();
            if (0..pages).map(Block::Page).all(kept) {
                return 3;
            }
            if coarse.iter().copied().all(kept) { 3 * GROUP_PAGES } else { pages }
        };
        let folds = of.state.plan.folds_of(CLICKS);
        folds.iter().flat_map(|(_, folds)| folds).map(of_series).max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_read_of_a_head_and_the_pages_it_needs_equals_one_of_all(
        note in prop_oneof![Just(0usize), Just(40), Just(900)],
        steps in prop::collection::vec(
            prop_oneof![6 => step().prop_map(Some), 3 => Just(None)], 1..24
        ),
        ats in prop::collection::vec(0..END_S * 1_000_000, 1..4),
    ) {
        let mut harness = Harness::new(note);
        let mut stored = Stored::default();
        for step in &steps {
            match step {
                Some(step) => harness.step(step)?,
                None => {
                    // What follows builds on partials that were stored.
                    stored.save(&mut harness.state);
                    harness.state = stored.load(&harness.state);
                }
            }
        }
        stored.save(&mut harness.state);
        let edges = [END_S * 500_000 + 1, END_S * 1_000_000, END_S * 3_000_000];
        let firsts = harness.state.streams[CLICKS].pages().iter().map(|p| p.first_at());
        let ats: Vec<i64> = ats.into_iter().chain(edges).chain(firsts.take(2)).collect();
        for at in ats {
            let pages = stored.compare(&harness, Micros(at))?;
            let most = stored.needed_at_most(&harness);
            prop_assert!(pages <= most, "{} pages for a read at {}, not {}", pages, at, most);
            harness.read(at)?;
        }
    }
}

fn full(note: usize, facts: i64) -> (Harness, Stored) {
    let mut harness = Harness::new(note);
    (0..facts).for_each(|n| harness.add(n * 1_000_000_000 / facts));
    (harness, Stored::default())
}

#[test]
fn a_page_that_is_needed_is_missed() {
    let (mut harness, mut stored) = full(900, 4_000);
    stored.save(&mut harness.state);
    let at = Micros(800_000_123);
    let opened = harness.state.plan.clone();
    let mut opened = stored.head(&harness.state).open(opened, 0, &harness.features).unwrap();
    let needed = opened.needed(at).unwrap();
    assert_eq!(needed.len(), 3, "two windows' starts and the instant: {needed:?}");
    for name in needed {
        let found = stored.open(&harness, at, Some(name)).evaluate(at);
        assert_eq!(found, Err(MissingPage(name)));
    }
}

#[test]
fn a_few_facts_stand_in_the_head() {
    let (mut harness, mut stored) = full(0, 40);
    harness.tier(5, 2);
    stored.save(&mut harness.state);
    assert!(stored.pages.is_empty());
    assert_eq!(stored.compare(&harness, Micros(900_000_000)).unwrap(), 0);
    // More than the head takes: now they have a page, and the head lists it.
    (0..400).for_each(|n| harness.add(n));
    stored.save(&mut harness.state);
    assert_eq!(stored.pages.len(), 1);
    assert_eq!(stored.compare(&harness, Micros(900_000_000)).unwrap(), 1);
}

#[test]
fn a_page_in_the_head_is_decoded_where_a_read_needs_it() {
    let (mut harness, mut stored) = full(0, 40);
    stored.save(&mut harness.state);
    let decoded = |features: &[usize], at| {
        let plan = harness.state.plan.clone();
        let mut opened = stored.head(&harness.state).open(plan, 0, features).unwrap();
        assert_eq!(opened.needed(Micros(at)), Ok(Vec::new()));
        assert!(opened.evaluate(Micros(at)).is_ok());
        opened.inline.0.iter().filter(|page| page.is_none()).count()
    };
    const WINDOWS: [usize; 3] = [1, 2, 3];
    assert_eq!(decoded(&WINDOWS, 500_000_000), 1, "the instant cuts it");
    assert_eq!(decoded(&WINDOWS, 999_000_000), 1, "a window's start cuts it");
    assert_eq!(decoded(&WINDOWS, i64::MAX), 0, "every window is beyond it");
    // A page that small has no partial beside it.
    assert_eq!(decoded(&[0], i64::MAX), 1, "all of it counts");
}

/// Folding takes for granted that values are of the type of their field: damaged parts, and those of
/// another catalog, are refused before.
#[test]
fn values_of_another_type_than_their_field_are_refused() {
    const AMOUNT: usize = 4;
    let refused =
        DecodeError::Invalid { what: "type of the values of field", found: AMOUNT as u64 };
    let other = |harness: &Harness| {
        let mut plan = (*harness.state.plan).clone();
        plan.streams[CLICKS].types[AMOUNT] = FieldType::Timestamp;
        Arc::new(plan)
    };
    let (mut harness, mut stored) = full(0, 40);
    stored.save(&mut harness.state);
    assert!(stored.pages.is_empty(), "they stand in the head");
    let (head, plan) = (stored.head(&harness.state), other(&harness));
    let found = head.clone().assemble::<&[u8]>(plan.clone(), &[], &[]);
    assert_eq!(found.err(), Some(refused.clone()));
    let mut opened = head.open(plan, 0, &harness.features).unwrap();
    assert_eq!(opened.needed(Micros(800_000_123)), Err(refused.clone()));

    let (mut harness, mut stored) = full(900, 400);
    stored.save(&mut harness.state);
    let (head, plan) = (stored.head(&harness.state), other(&harness));
    let pages: Vec<_> = head.part_names().0.iter().map(|name| &stored.pages[name]).collect();
    let found = head.clone().assemble(plan.clone(), &pages, &[]);
    assert_eq!(found.err(), Some(refused.clone()));
    let mut opened = head.open(plan, 0, &harness.features).unwrap();
    let name = opened.needed(Micros(800_000_123)).unwrap()[0];
    let page = StoredPage::decode(&stored.pages[&name]).unwrap();
    assert_eq!(opened.insert(name, &page), Err(refused));
}

/// A save of a large entity folds the pages that changed and no others.
#[test]
fn a_page_that_did_not_change_is_not_folded_again() {
    let (mut harness, mut stored) = full(900, 4_000);
    stored.save(&mut harness.state);
    let kept = |harness: &Harness| {
        let pages = harness.state.streams[CLICKS].pages();
        pages.iter().filter(|p| p.fold_of(None, 0).is_some()).count()
    };
    let pages = harness.state.streams[CLICKS].pages().len();
    assert!(pages > 40);
    assert_eq!(kept(&harness), pages);
    harness.add(999_999_999);
    harness.add(500_000_001);
    assert!(kept(&harness) >= pages - 2);
    // A state that was loaded has them all from the head.
    stored.save(&mut harness.state);
    harness.state = stored.load(&harness.state);
    assert_eq!(kept(&harness), harness.state.streams[CLICKS].pages().len());
}

/// What last_n keeps of each page is too much for one head, so that it is told of by groups of pages.
#[test]
fn partials_that_do_not_fit_are_those_of_groups() {
    let (mut harness, mut stored) = full(900, 16_000);
    stored.save(&mut harness.state);
    let pages = harness.state.streams[CLICKS].pages().len();
    assert!(stored.head.len() < 96 * 1024, "{} bytes", stored.head.len());
    let at = Micros(800_000_123);
    let mut whole = stored.load(&harness.state);
    let mut opened = stored.open(&harness, at, None);
    assert_eq!(opened.evaluate(at), Ok(whole.evaluate(0, &harness.features, at)));
    let plan = harness.state.plan.clone();
    let mut opened = stored.head(&harness.state).open(plan.clone(), 0, &harness.features).unwrap();
    let needed = opened.needed(at).unwrap().len();
    // Of last_n, up to a group at each end of a window; of all others, the pages that are cut.
    assert!((4..pages / 3).contains(&needed), "{needed} of {pages}");
    let mut opened = stored.head(&harness.state).open(plan, 0, &harness.features[..6]).unwrap();
    assert_eq!(opened.needed(at).unwrap().len(), 3);
}

/// Facts in clusters, so that all three cuts of a read fall into groups of which one fold is kept whole.
#[test]
fn a_read_of_partials_of_groups_needs_the_groups_that_it_cuts() {
    let mut harness = Harness::new(900);
    let append = |from, count| Step::Append { from, count };
    for step in [
        Step::Scatter { ats: [vec![0; 23], vec![549_537_760]].concat() },
        append(0, 754),
        append(712_000, 1_072),
        append(452_513_315, 741),
        append(1_755_000, 971),
        append(2_687_000, 1_481),
    ] {
        harness.step(&step).unwrap();
    }
    let mut stored = Stored::default();
    stored.save(&mut harness.state);
    assert_eq!(stored.needed_at_most(&harness), 3 * GROUP_PAGES);
    let pages = stored.compare(&harness, Micros(END_S * 500_000 + 1)).unwrap();
    assert!((4..=3 * GROUP_PAGES).contains(&pages), "{pages}");
}

#[test]
fn heads_of_the_first_version_are_read() {
    let (mut harness, mut stored) = full(900, 400);
    stored.save(&mut harness.state);
    let whole = stored.load(&harness.state);
    let facts = &whole.streams[CLICKS];
    // As the first version wrote it: names alone, no columns.
    let mut head = vec![1, 1, 1, 1];
    let put = millrace_types::codec::put_signed;
    put(&mut head, 1);
    put(&mut head, i64::MIN);
    head.push(2);
    for (id, pages) in [(0, facts.pages()), (1, &[][..])] {
        head.extend([id, 0]);
        millrace_types::codec::put_varint(&mut head, pages.len() as u64);
        for page in pages {
            let (ver, number) = page.stored.unwrap();
            put(&mut head, ver.0);
            millrace_types::codec::put_varint(&mut head, u64::from(number));
        }
        head.extend([0, 0]);
    }
    head.push(0);
    stored.head = head;
    let pages = stored.compare(&harness, Micros(900_000_000)).unwrap();
    assert_eq!(pages, facts.pages().len(), "all of them are needed");
}

/// Facts in order, saved after every few of them: each is put a few times, and pages stay few.
#[test]
fn facts_that_come_in_order_are_put_a_few_times() {
    let mut harness = Harness::new(40);
    let mut stored = Stored::default();
    let (mut put, mut put_last) = (0, 0);
    let facts = 6_000;
    for n in 0..facts {
        harness.add(n * 1_000_000_000 / facts);
        if n % 10 < 9 {
            continue;
        }
        stored.save(&mut harness.state);
        let ver = KnownAt(stored.ver);
        put_last = stored.pages.iter().filter(|(name, _)| name.0 == ver).map(|p| p.1.len()).sum();
        put += put_last;
        if n % 1_000 == 999 {
            let at = Micros(n * 1_000_000_000 / facts + 1);
            stored.compare(&harness, at).unwrap();
            harness.state = stored.load(&harness.state);
        }
    }
    let pages = harness.state.streams[CLICKS].pages();
    let bytes: usize = pages.iter().map(|p| p.fact_bytes()).sum();
    assert!(put < 3 * bytes, "{put} of {bytes}, the last time {put_last}");
    // Up to three of each of two sizes, beside those that are at least two thirds full.
    assert!(pages.len() <= bytes / (42 * 1024) + 6, "{} pages of {bytes}", pages.len());
}

/// An entity whose head would be too large with what stands in it.
#[test]
fn where_a_head_tells_names_alone_nothing_stands_in_it() {
    let (mut harness, _) = full(40, 3_000);
    let mut parts = crate::snapshot::SnapshotParts::default();
    harness.state.name_pages(4_096, KnownAt(1), &mut parts);
    harness.add(1_000_000_000);
    harness.state.name_pages(4_096, KnownAt(2), &mut parts);
    let in_head =
        |harness: &Harness| harness.state.streams[CLICKS].pages().last().unwrap().stored.is_none();
    assert!(in_head(&harness));
    harness.state.name_pages(0, KnownAt(3), &mut parts);
    assert!(!in_head(&harness));
}
