//! Smaller cases that still fail.

use super::Case;

/// Drops records, features and views as long as `fails` holds, and gives the smallest case found.
/// `fails` must hold for `case` itself; it is called a few hundred times.
#[must_use]
pub fn shrink(case: Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut smallest = case;
    loop {
        let size = weight(&smallest);
        smallest = drop_records(smallest, &mut fails);
        smallest = drop_features(smallest, &mut fails);
        if weight(&smallest) == size {
            return smallest;
        }
    }
}

fn weight(case: &Case) -> usize {
    let features = case.catalog.views.iter().map(|view| 1 + view.features.len());
    case.arrivals.len() + features.sum::<usize>()
}

/// Tries runs of records from half of all down to single ones.
fn drop_records(mut case: Case, fails: &mut impl FnMut(&Case) -> bool) -> Case {
    let mut run = case.arrivals.len().div_ceil(2);
    while run > 0 {
        let mut start = 0;
        while start < case.arrivals.len() {
            let mut smaller = case.clone();
            let end = (start + run).min(smaller.arrivals.len());
            smaller.arrivals.drain(start..end);
            if fails(&smaller) {
                case = smaller;
            } else {
                start += run;
            }
        }
        run /= 2;
    }
    case
}

fn drop_features(mut case: Case, fails: &mut impl FnMut(&Case) -> bool) -> Case {
    for view in (0..case.catalog.views.len()).rev() {
        let mut smaller = case.clone();
        smaller.catalog.views.remove(view);
        if fails(&smaller) {
            case = smaller;
            continue;
        }
        for feature in (0..case.catalog.views[view].features.len()).rev() {
            let mut smaller = case.clone();
            smaller.catalog.views[view].features.remove(feature);
            if fails(&smaller) {
                case = smaller;
            }
        }
    }
    case
}
