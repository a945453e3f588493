//! Statements that time out, are refused, find nothing prepared or lose their connection, done or not,
//! while facts are published and the slots change hands: whatever the database says of a statement, each
//! fact counts once.

use std::time::Duration;

use millrace_e2e_tests::wait_until;
use millrace_test_servers::Cassandra;

use super::proxied::{Answer, Done, Fault, Proxied, Statement};
use super::{Run, number};

/// A statement that is not answered is given up after 12 s; a machine that builds beside the tests is slow.
const MET_WITHIN: Duration = Duration::from_secs(120);

/// What one process does to the log while it runs, and whoever takes a slot over.
const WRITES: [Statement; 7] = [
    Statement::CHUNK,
    Statement::PART,
    Statement::MARK,
    Statement::MEMBER,
    Statement::RENEW,
    Statement::FENCE,
    Statement::EPOCH,
];

const READS: [Statement; 4] =
    [Statement::CONFIRM, Statement::LOAD, Statement::LOAD_MARK, Statement::CHUNKS];

/// What the database says of statements of a round, and whether what it says that of is done.
const SAID: [&[(Answer, Done)]; 4] = [
    &[(Answer::TimedOut, Done::Never), (Answer::Overloaded, Done::Never)],
    &[(Answer::TimedOut, Done::AtOnce), (Answer::Unprepared, Done::Never)],
    &[(Answer::TimedOut, Done::Later), (Answer::Cut, Done::Never)],
    &[(Answer::Cut, Done::AtOnce)],
];

/// `MILLRACE_SEED` says when they happen.
#[test]
fn whatever_the_database_says_of_a_statement_every_fact_counts_once() {
    let keyspace = "statements_said";
    let mut proxied = Proxied::start(Cassandra::shared(), keyspace);
    let mut run = Run::start(number("MILLRACE_SEED").unwrap_or(1), |options| {
        options.env.extend(crate::cql::env(Cassandra::shared(), keyspace));
        options.env.retain(|(name, _)| *name != "MILLRACE_CQL");
        options.env.push(("MILLRACE_CQL", proxied.address()));
        options.more = vec!["store-writer-1"];
    });
    proxied.learn();
    for (round, said) in (0..).zip(SAID) {
        let faults = faults(&mut run, said);
        proxied.arm(&faults);
        run.under_fire(round, &format!("{said:?}"), |run| {
            run.services.kill("join").expect("it can be killed");
            run.services.start_again("join").expect("it starts again");
            wait_for_all(&proxied, &faults);
            proxied.disarm();
            proxied.land();
            let done = faults.iter().filter(|fault| fault.done != Done::Never).count();
            assert!(proxied.landed() >= done, "{said:?}: {} done", proxied.landed());
        });
    }
    run.no_answer(SAID.len() as u64, &mut proxied);
    run.lands_after_its_epoch(SAID.len() as u64 + 1, &mut proxied);
    run.end();
}

/// All of these of every sort of statement, once to three times.
fn faults(run: &mut Run, said: &[(Answer, Done)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, (answer, done)) in said.iter().enumerate() {
        // What changes nothing is as if it were not done.
        let reads = if *done == Done::Never { &READS[..] } else { &[] };
        for statement in WRITES.iter().chain(reads) {
            let (is_renewal, is_fence) =
                (*statement == Statement::RENEW, *statement == Statement::FENCE);
            // Once a fence stands nobody sets it again.
            if is_fence && number > 0 {
                continue;
            }
            // A lease that is not renewed is tried again after a second.
            let times = if is_renewal || is_fence { 1 } else { 1 + run.rng.below(3) };
            faults.push(Fault { statement: *statement, times, answer: *answer, done: *done });
        }
    }
    faults
}

/// Waits until each of them happened.
fn wait_for_all(proxied: &Proxied, faults: &[Fault]) {
    for (number, fault) in faults.iter().enumerate() {
        wait_until(&format!("{fault:?}"), MET_WITHIN, || (proxied.met()[number] > 0).then_some(()));
    }
}

impl Run {
    /// An append that is lost, and one whose answer is, of the same flush or the one after it.
    fn no_answer(&mut self, round: u64, proxied: &mut Proxied) {
        let of =
            |done| Fault { statement: Statement::CHUNK, times: 1, answer: Answer::Nothing, done };
        proxied.arm(&[of(Done::Never), of(Done::AtOnce)]);
        self.under_fire(round, "no answer", |_| {
            wait_until("an append that is lost, and an answer", MET_WITHIN, || {
                (proxied.all_met() && proxied.landed() == 1).then_some(())
            });
        });
        proxied.disarm();
    }

    /// Appends that are said to have timed out; their writer dies, and they land when others have its slots.
    fn lands_after_its_epoch(&mut self, round: u64, proxied: &mut Proxied) {
        let (statement, answer) = (Statement::CHUNK, Answer::TimedOut);
        let faults = [Fault { statement, times: usize::MAX, answer, done: Done::Later }];
        proxied.arm(&faults);
        self.under_fire(round, "appends that land after their epoch", |run| {
            wait_for_all(proxied, &faults);
            run.services.kill("join").expect("it can be killed");
            proxied.disarm();
            run.services.start_again("join").expect("it starts again");
            proxied.land();
            assert!(proxied.landed() > 0);
        });
    }
}
