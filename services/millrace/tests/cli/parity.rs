//! `millrace parity` against a server whose two answers differ by a bit.

use crate::process::run_at;
use crate::server::{Played, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_value_that_is_off_by_a_bit_is_found_and_named() {
    let (address, _) = start(Played::default()).await;
    let ran = run_at(address, &["-o", "json", "parity", "user_activity"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&told["checked"], &told["mismatches"]), (&2.into(), &1.into()), "{told}");
    assert_eq!(told["parity_mismatch_ratio"], 0.5);
    let found = &told["differences"][0];
    assert_eq!(
        (&found["key"], found["feature"].as_str()),
        (&13.into(), Some("spend_24h")),
        "{told}"
    );
    assert_eq!(found["online"], 12.5);
    assert_eq!(found["offline"], f64::from_bits(12.5f64.to_bits() + 1));
    let table = run_at(address, &["-o", "table", "parity", "user_activity"]).await;
    assert!(table.stdout.contains("12.500000000000002"), "{}", table.stdout);
}
