//! Pauses before something is tried again: they double, and each has a jitter of up to itself, so that those
//! who lost the same server do not come back to it all at once ("Exponential Backoff And Jitter", AWS
//! Architecture Blog, 2015).

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Endless pauses from `shortest` on that double up to `longest`, jitter aside.
pub(crate) fn pauses(shortest: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHORTEST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    #[test]
    fn they_grow_to_the_longest_and_no_two_who_wait_come_back_together() {
        let mut all: Vec<ExponentialBackoff> =
            (0..1_000).map(|_| pauses(SHORTEST, LONGEST)).collect();
        for doubled in 0..10 {
            let plain = (SHORTEST * (1 << doubled)).min(LONGEST);
            let each: Vec<Duration> =
                all.iter_mut().map(|own| own.next().expect("they do not end")).collect();
            assert!(each.iter().all(|pause| (plain..plain * 2).contains(pause)), "{each:?}");
            let different: BTreeSet<&Duration> = each.iter().collect();
            assert!(different.len() > 990, "{} of 1,000 pauses differ", different.len());
            // No tenth of the time is left out, and none has more than twice its share.
            let mut tenths = [0; 10];
            for pause in &each {
                tenths[((*pause - plain).as_secs_f64() / plain.as_secs_f64() * 10.0) as usize] += 1;
            }
            assert!(tenths.iter().all(|some| (50..200).contains(some)), "{tenths:?}");
        }
    }
}
