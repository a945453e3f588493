//! Rows as known at their own instant: what slides equals what is applied, and nothing leaks from later.

use super::*;

/// Facts with ids of their own or not, some of them retractions, each stated to be known at some time, in time
/// or not.
fn any_stated_log() -> impl Strategy<Value = Vec<Vec<Fact>>> {
    let stated = prop_oneof![
        Just(None),
        (0..400i64).prop_map(Some),
        (0..30i64).prop_map(|late| Some(-late))
    ];
    let facts =
        prop::collection::vec((prop_oneof![3 => any_click(), 1 => any_tier()], stated), 0..60);
    let on_time = prop::sample::select(vec![0, 1, 4, u8::MAX]);
    let ids = prop::sample::select(vec![u8::MAX, 12, 3]);
    (facts, on_time, ids).prop_map(|(facts, on_time, ids)| {
        let fact = |(number, (mut fact, stated)): (usize, (Fact, Option<i64>))| {
            fact.body.id = [number as u8 % ids].into();
            let at = fact.body.at.0;
            // Below zero: so many seconds after it happened.
            let known_at = match stated {
                Some(second) if number % 5 < usize::from(on_time) => match second {
                    ..=0 => Some(at - second * 1_000_000),
                    _ => Some(second * 1_000_000),
                },
                Some(_) | None => Some(at),
            };
            fact.body.known_at = known_at.map(KnownAt);
            fact
        };
        let facts: Vec<Fact> = facts.into_iter().enumerate().map(fact).collect();
        facts.chunks(20).map(<[Fact]>::to_vec).collect()
    })
}

/// The chunks of these facts, imported long after: what is stated beyond its chunk would count from the chunk.
fn imported(log: &[Vec<Fact>]) -> Vec<Vec<u8>> {
    with_headers(&encoded(log), |header| header.known_at = KnownAt(i64::MAX / 2))
}

/// The cells of all users at these instants, and how many of the users have windows that slide.
fn as_known(
    plan: &Plan,
    chunks: &[Vec<u8>],
    features: &[usize],
    (instants, slides): (&[Micros], bool),
) -> (Cells, Vec<Swept>, usize) {
    let facts = SlotFacts::new(plan, KindId(0), &[CLICKS, TIERS], AsKnown::AtEvent, false);
    let mut facts = facts.unwrap();
    let named: Vec<u32> = (0..4).map(|user| facts.name(key(user).as_bytes())).collect();
    chunks.iter().for_each(|chunk| facts.chunk(chunk.as_slice()).unwrap());
    let slot = facts.finish();
    let sweeper = Sweeper::new(&slot, "activity", features).unwrap();
    let (mut cells, mut swept, mut slide) = (Collect(Vec::new()), Vec::new(), 0);
    for number in named {
        let entity = slot.entity(number);
        let live: Vec<_> = [0, 1].map(|stream| entity.live(stream)).into();
        slide += usize::from(sweeper.known(&live, instants).is_some());
        swept.push(match slides {
            true => sweeper.sweep(&entity, instants, &mut cells),
            false => {
                let ats =
                    live.iter().filter_map(|facts| facts.still_live().next()).map(|(_, at)| at);
                sweeper.sweep_as_known(&entity, ats.min().map(Micros), instants, &mut cells)
            }
        });
    }
    (cells.0, swept, slide)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Windows that slide over what was known give what a state gives to which facts are applied as they
    /// became known.
    #[test]
    fn what_was_known_slides_as_it_is_applied(
        log in any_stated_log(),
        instants in prop::collection::btree_set(0..450i64, 1..40),
        joins: bool,
    ) {
        let (plan, chunks) = (plan(false), imported(&log));
        let second = |s: &i64| Micros(s * 1_000_000);
        let mut instants: Vec<Micros> = instants.iter().map(second).collect();
        // Edges of what happened.
        instants.extend(log.iter().flatten().take(5).flat_map(|fact| {
            let at = fact.body.at.0;
            [Micros(at), Micros(at + 1)]
        }));
        instants.sort_unstable();
        let reads_join = |index: &usize| matches!(plan.catalog.views[0].features[*index].name.as_str(), "gold" | "tier_sum");
        let features: Vec<usize> = all(&plan).into_iter().filter(|f| joins || !reads_join(f)).collect();
        let (slid, counts, slide) = as_known(&plan, &chunks, &features, (&instants, true));
        let (applied, expected, _) = as_known(&plan, &chunks, &features, (&instants, false));
        prop_assert_eq!(slid, applied);
        prop_assert_eq!(counts, expected);
        prop_assert!(joins || slide == 4, "{} of 4 slide", slide);
    }
}

/// The cells of all users at one instant.
fn row_at(plan: &Plan, log: &[Vec<Fact>], at: Micros) -> Cells {
    as_known(plan, &imported(log), &all(plan), (&[at], true)).0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// A fact that became known after a row is no part of it, however early it happened; known by then, it
    /// does not matter since when.
    #[test]
    fn nothing_leaks_from_what_became_known_later(
        log in any_stated_log(),
        nth in any::<prop::sample::Index>(),
        row in 0..450i64,
        (before, behind) in (0..9_000_000i64, 1..9_000_000i64),
    ) {
        let (plan, row) = (plan(false), Micros(row * 1_000_000));
        let facts = log.iter().map(Vec::len).sum::<usize>();
        prop_assume!(facts > 0);
        let nth = nth.index(facts);
        let with = |change: &dyn Fn(&mut Fact)| {
            let mut log = log.clone();
            log.iter_mut().flatten().nth(nth).into_iter().for_each(change);
            row_at(&plan, &log, row)
        };
        let known = |at: i64| move |fact: &mut Fact| fact.body.known_at = Some(KnownAt(at));
        let without = {
            let mut log = log.clone();
            let mut left = nth;
            for chunk in &mut log {
                if left < chunk.len() {
                    chunk.remove(left);
                    break;
                }
                left -= chunk.len();
            }
            row_at(&plan, &log, row)
        };
        prop_assert_eq!(&with(&known(row.0 + behind)), &without, "known later");
        prop_assert_eq!(with(&known(row.0)), with(&known(row.0 - before)), "known by then");
    }
}

/// A fact is there at its very instant, though it is taken back right after it and no window has it.
#[test]
fn a_fact_that_is_taken_back_right_after_its_instant_was_there() {
    let plan = plan(false);
    let row = |user| vec![Value::Int64(user), Value::Null, Value::Null, Value::Null];
    let known = |op, known_at| {
        let mut fact = fact(CLICKS, 0, (1, 0, 100), op, row(0));
        fact.body.known_at = Some(KnownAt(known_at));
        fact
    };
    let at = 100_000_000;
    let chunks = imported(&[vec![known(Op::Assert, at), known(Op::Retract, at + 1)]]);
    for (instant, missing) in [(at - 1, 1), (at, 0), (at + 1, 1)] {
        let [slid, applied] = [true, false]
            .map(|slides| as_known(&plan, &chunks, &all(&plan), (&[Micros(instant)], slides)));
        assert_eq!((&slid.0, &slid.1), (&applied.0, &applied.1), "{instant}");
        assert_eq!(slid.1[0].missing, missing, "{instant}");
    }
}
