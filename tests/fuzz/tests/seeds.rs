//! The targets without libFuzzer: on their seeds, and on damaged copies of them.

use millrace_fuzz_tests::TARGETS;
use millrace_store::window::ProducerWindow;
use millrace_test_support::generate::Rng;
use millrace_types::EntityKey;
use millrace_types::codec::put_varint;
use millrace_types::row::RowView;

/// Damaged copies of each seed.
const COPIES: usize = 150;

/// A corpus that is refused at the door would fuzz nothing.
#[test]
fn every_seed_decodes() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            assert!((target.run)(seed), "{} refuses its seed {number}", target.name);
        }
    }
}

#[test]
fn damaged_seeds_do_no_harm() {
    for target in TARGETS {
        let mut rng = Rng::new(1);
        for seed in (target.seeds)().iter().take(20) {
            for _ in 0..COPIES {
                (target.run)(&damaged(seed, &mut rng));
            }
        }
    }
}

/// A copy with a few bytes changed, cut short or made longer.
fn damaged(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut copy = seed.to_vec();
    for _ in 0..rng.between(1, 4) {
        if copy.is_empty() {
            return copy;
        }
        let at = rng.below(copy.len());
        match rng.below(5) {
            0 => copy[at] ^= 1 << rng.below(8),
            1 => copy[at] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => copy.truncate(at),
            3 => copy.insert(at, rng.below(256) as u8),
            _ => {
                copy.remove(at);
            }
        }
    }
    copy
}

/// What fuzzing found, each once.
#[test]
fn what_was_found_stays_refused() {
    // A key whose text is empty is no key, though it has the form of one.
    assert!(EntityKey::from_bytes(&[2, 0]).is_err());
    // A length in more bytes than it needs would be a second form of the same key.
    assert!(EntityKey::from_bytes(&[2, 0x81, 0, b'a']).is_err());
    assert!(EntityKey::from_bytes(&[2, 1, b'a']).is_ok());
    // A window in which the greatest number of all is marked: its end would be beyond.
    let mut window = vec![1];
    put_varint(&mut window, u64::MAX);
    window.extend([0, 1]);
    window.extend([0xff; 8]);
    assert!(ProducerWindow::decode(&window).is_err());
    // A row with bytes behind its last value is no row.
    assert!(RowView::check(&[1, 0, 9]).is_err());
    assert!(RowView::check(&[1, 0]).is_ok());
}
