use serde_json::json;

use crate::process::{millrace, run, run_at};
use crate::server::{Played, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn get_prints_what_scripts_hold_on_to() {
    let (address, _) = start(Played::default()).await;
    let at = "2026-03-01T12:00:00Z";
    let ran = run_at(address, &["-o", "json", "get", "user_activity", "42", "--at", at]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        "{\"view\":\"user_activity\",\"at\":\"2026-03-01T12:00:00Z\",\
         \"known_at\":\"2026-03-01T12:00:00Z\",\"rows\":[{\"key\":42,\"features\":{\
         \"clicks_1h\":{\"value\":2,\"status\":\"PRESENT\"},\
         \"spend_24h\":{\"value\":12.5,\"status\":\"PRESENT\"}},\
         \"watermark\":\"2026-03-01T12:00:00Z\",\"final\":true,\"rebuilding\":false,\
         \"version\":\"3/1.22\",\"known_at\":\"2026-03-01T12:00:00Z\",\"versions\":{}}],\
         \"windows\":{\"clicks_1h\":{\"start\":\"2026-03-01T11:00:00Z\",\
         \"end\":\"2026-03-01T12:00:00Z\"},\"spend_24h\":{\"start\":\"2026-02-28T12:00:00Z\",\
         \"end\":\"2026-03-01T12:00:00Z\"}},\"catalog_version\":3}\n"
    );
    let ran = run_at(address, &["get", "pair_visits", "--at", "-1000000", "--", "-7,a,b"]).await;
    assert_eq!(ran.json()["rows"][0]["key"], json!([-7, "a,b"]));
    assert_eq!(ran.json()["at"], "1969-12-31T23:59:59Z");
    let csv = run_at(address, &["get", "user_activity", "1", "2", "--at", at, "-o", "csv"]).await;
    assert_eq!(
        csv.stdout,
        "key,feature,value,status,watermark,final,rebuilding,version\n\
         1,clicks_1h,2,PRESENT,2026-03-01T12:00:00Z,true,false,3/1.22\n\
         1,spend_24h,12.5,PRESENT,2026-03-01T12:00:00Z,true,false,3/1.22\n\
         2,clicks_1h,2,PRESENT,2026-03-01T12:00:00Z,true,false,3/1.22\n\
         2,spend_24h,12.5,PRESENT,2026-03-01T12:00:00Z,true,false,3/1.22\n"
    );
    let lines = run_at(address, &["get", "user_activity", "1", "2", "-o", "ndjson"]).await;
    assert_eq!(lines.stdout.lines().count(), 2);
    assert!(lines.stdout.starts_with("{\"view\":\"user_activity\",\"at\":"));
    let table = run_at(address, &["get", "user_activity", "1", "--at", at, "-o", "table"]).await;
    assert_eq!(
        table.stdout,
        "\
user_activity 1 at 2026-03-01T12:00:00Z
┌─────────────────────────────┐
│ feature     value   status  │
╞═════════════════════════════╡
│ clicks_1h   2       PRESENT │
│ spend_24h   12.5    PRESENT │
└─────────────────────────────┘
final, known at 2026-03-01T12:00:00Z, watermark 2026-03-01T12:00:00Z, version 3/1.22

"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn empty_windows_at_now_come_with_a_hint() {
    let (address, _) = start(Played::default()).await;
    let now = run_at(address, &["get", "user_activity", "42"]).await;
    assert_eq!(now.code, 0);
    assert!(now.stderr.starts_with("hint: every window is empty at now; "), "{}", now.stderr);
    assert_eq!(now.json()["rows"][0]["features"]["spend_24h"]["value"], json!(null));
    let latest = run_at(address, &["get", "user_activity", "42", "--at", "latest"]).await;
    assert_eq!(latest.stderr, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reads_that_cannot_be_answered_say_what_to_do() {
    let (address, _) = start(Played::default()).await;
    for (arguments, code, stderr) in [
        (
            vec!["get", "activity", "42"],
            1,
            "error: the catalog has no view called \"activity\"; it has user_activity, \
             pair_visits\n  next: use one of these, or add it to the catalog and apply that\n",
        ),
        (
            vec!["get", "user_activity", "alice"],
            2,
            "error: \"alice\" in the key \"alice\" is no int64, which user wants there\n",
        ),
        (
            vec!["get", "user_activity", "1", "--known-at", "2030-01-01T00:00:00Z"],
            1,
            "error: known_at lies ahead of now\n  next: ask for an instant that has passed, or \
             leave --known-at out\n",
        ),
        (
            vec!["tail", "activity"],
            1,
            "error: no view is called activity\n  next: the catalog in force names the views and \
             features; `millrace apply` changes it\n",
        ),
        (
            vec!["tail", "user_activity", "-o", "csv"],
            2,
            "error: tail prints one JSON object a line and nothing else\n  next: leave -o out, or \
             shape the lines with jq\n",
        ),
        (
            vec!["status", "--endpoint", "https://127.0.0.1:1"],
            2,
            "error: endpoint \"https://127.0.0.1:1\": needs the certificate of who signed the server's: give it with ca\n  \
             next: give an address such as --endpoint http://127.0.0.1:7400\n",
        ),
    ] {
        let ran = run_at(address, &arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (code, stderr), "{arguments:?}");
        assert_eq!(ran.stdout, "");
    }
}

/// A call that ends is begun again right after the last record, and nothing is told twice; what
/// cannot go on says where to.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tail_prints_lines_and_goes_on_after_the_end_of_a_call() {
    let (address, _) = start(Played::default()).await;
    let row = |id: &str, cursor: &str| {
        format!(
            "{{\"op\":\"+\",\"id\":\"{id}\",\"key\":42,\"at\":\"2026-03-01T12:00:00Z\",\"row\":\
             {{\"event_id\":\"{id}\",\"user_id\":42}},\"joined\":{{}},\"final\":false,\
             \"cursor\":\"{cursor}\"}}\n"
        )
    };
    let watermark = "{\"op\":\"w\",\"watermark\":\"2026-03-01T12:00:00Z\",\"cursor\":\"c2\"}\n";
    let lines = row("e1", "c1#1") + watermark;
    let ran = run_at(address, &["tail", "user_activity", "--until-idle"]).await;
    assert_eq!((ran.code, &ran.stdout, ran.stderr.as_str()), (0, &lines, ""));
    let ran = run_at(address, &["tail", "user_activity"]).await;
    assert_eq!((ran.code, ran.stdout), (1, lines + &row("e2", "c9#1")));
    assert_eq!(
        ran.stderr,
        "error: the changelog ended: come back tomorrow\n  \
         next: go on with --from c9#1: nothing is missed or comes twice\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn explanations_list_what_counts_and_what_does_not() {
    let (address, _) = start(Played::default()).await;
    let arguments = ["explain", "user_activity", "42", "spend_24h", "-o", "json"];
    let ran = run_at(address, &arguments).await;
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, "hint: not every fact is listed; list more with --limit N\n")
    );
    let fact = |id: &str, reason: &str, value: &str, versions: &str| {
        format!(
            "{{\"stream\":\"clicks\",\"id\":\"{id}\",\"at\":\"2026-03-01T11:59:00Z\",\
             \"known_at\":\"2026-03-01T12:00:00Z\",\"revision\":1,\"op\":\"ASSERT\",\
             \"position\":\"1.7\",\"reason\":{reason},\"tile\":\"2026-03-01T11:59:00Z\",\
             \"value\":{value},\"versions\":{versions},\"late_for_good\":{}}}",
            reason == "\"LATE\""
        )
    };
    let met = "{\"profiles\":{\"valid_from\":\"2026-03-01T11:58:00Z\",\"id\":\"p1\",\
               \"revision\":0,\"end\":false},\"plans\":null}";
    let (used, late) = (fact("e1", "null", "12.5", met), fact("e2", "\"LATE\"", "null", "{}"));
    let noon = "\"2026-03-01T12:00:00Z\"";
    assert_eq!(
        ran.stdout,
        format!(
            "{{\"view\":\"user_activity\",\"key\":42,\"feature\":\"spend_24h\",\"at\":{noon},\
             \"known_at\":{noon},\"window\":{{\"start\":null,\"end\":{noon}}},\"value\":12.5,\
             \"status\":\"PRESENT\",\"version\":\"3:0:1.22\",\"used\":[{used}],\"used_total\":1,\
             \"left_out\":[{late}],\"left_out_totals\":{{\"LATE\":2}}}}\n"
        )
    );
    let table =
        run_at(address, &["explain", "user_activity", "42", "spend_24h", "-o", "table"]).await;
    assert!(table.stdout.starts_with("spend_24h = 12.5 (PRESENT)\n"), "{}", table.stdout);
    assert!(table.stdout.contains("\nleft out: 2 LATE\n"), "{}", table.stdout);
    assert!(table.stdout.contains("LATE for good"), "{}", table.stdout);
    let bad = run_at(address, &["explain", "user_activity", "alice", "spend_24h"]).await;
    assert_eq!(bad.code, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn late_facts_are_listed_and_replayed_page_by_page() {
    let (address, _) = start(Played::default()).await;
    let ran = run_at(address, &["late", "list", "clicks", "-o", "json"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let fact = |id: &str, since: &str| {
        format!(
            "{{\"entity\":\"user\",\"key\":42,\"id\":\"{id}\",\"at\":\"2026-02-28T11:00:00Z\",\
             \"revision\":0,\"op\":\"ASSERT\",\"row\":{{\"event_id\":\"e\\\"1\",\"user_id\":42,\
             \"ts\":null}},\"known_at\":\"2026-03-01T12:00:00Z\",\"slot\":3,\"position\":\"1.7\",\
             \"in_effect_since\":{since},\"late_for_good\":false}}"
        )
    };
    let facts = [fact("e1", "null"), fact("e2", "\"2026-03-01T12:00:00Z\"")].join(",");
    let expected = format!("{{\"stream\":\"clicks\",\"facts\":[{facts}],\"next_cursor\":null}}\n");
    assert_eq!(ran.stdout, expected);
    let one = run_at(address, &["late", "list", "clicks", "--limit", "1"]).await;
    assert_eq!(one.json()["next_cursor"], "clicks@3:1.7/0");
    assert_eq!(one.stderr, "hint: there may be more; go on with --cursor clicks@3:1.7/0\n");
    let pending = run_at(address, &["late", "list", "clicks", "--pending", "-o", "ndjson"]).await;
    assert_eq!(pending.stdout, format!("{}\n", fact("e1", "null")));
    let table = run_at(address, &["late", "list", "clicks", "-o", "table"]).await;
    let next = "1 pending; apply them with: millrace late replay clicks\n";
    assert!(table.stdout.ends_with(next), "{}", table.stdout);
    let ran = run_at(address, &["late", "replay", "clicks", "-o", "json"]).await;
    assert_eq!(
        ran.stdout,
        "{\"stream\":\"clicks\",\"replayed\":3,\"accepted\":2,\"repaired\":1,\"queued\":1,\
         \"duplicate\":0,\"rejected\":0,\"rows_repaired\":0,\"late\":0}\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn status_ends_with_0_only_when_serving() {
    let (address, _) = start(Played::default()).await;
    let ran = run_at(address, &["status", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let status = ran.json();
    assert_eq!(status["serving"], true);
    assert_eq!(status["rebuild_queue"], 5);
    assert_eq!(status["watermarks"], json!({"clicks": "2026-03-01T12:00:00Z", "visits": null}));
    assert_eq!(status["slots"][0]["position"], "1.7");
    let table = run_at(address, &["status", "-o", "table"]).await;
    assert!(table.stdout.starts_with("serving\n"), "{}", table.stdout);
    assert!(table.stdout.contains("│ clicks   2026-03-01T12:00:00Z"), "{}", table.stdout);
    assert_eq!(
        (&status["join_nodes"][0]["slots"], &status["not_serving"]),
        (&json!(1), &json!({}))
    );
    assert!(
        table.stdout.contains("│ join-0      http://127.0.0.1:7402       1"),
        "{}",
        table.stdout
    );

    let node = &status["join_nodes"][0];
    let lease = json!({
        "state": "held", "until": "2026-03-01T12:00:02.5Z", "seconds_left": 2.5,
        "incarnation": "00000000000000ab", "renewals": 9
    });
    assert_eq!((&node["lease"], &node["epochs"]), (&lease, &json!([1, 3])));
    assert_eq!((&node["unmarked_seconds"], &node["answers"]), (&json!(1.5), &json!(true)));
    assert_eq!((&status["unreachable"], &status["unowned"]), (&json!([]), &json!([])));
    assert_eq!(status["slots"][0]["node"], "join-0");
    let row = "1.5 s   00000000000000ab      1-3   held, 2.5 s left";
    assert!(table.stdout.contains(row), "{}", table.stdout);

    let (address, _) = start(Played { is_down: true, ..Played::default() }).await;
    let ran = run_at(address, &["status", "-o", "json"]).await;
    let unreachable = json!([{
        "service": "join", "node": "join-0", "endpoint": "http://127.0.0.1:7402",
        "reason": "refused", "next": "start it"
    }]);
    assert_eq!(ran.json()["unreachable"], unreachable);
    let unowned =
        json!([{"slot": 0, "reason": "silent", "node": "join-0", "next_node": null, "epoch": 1}]);
    assert_eq!((&ran.json()["unowned"], &ran.json()["unowned_slots"]), (&unowned, &json!(1)));
    assert_eq!((ran.code, &ran.json()["serving"]), (1, &json!(false)));
    assert_eq!((&status["unknown_slots"], &ran.json()["unknown_slots"]), (&json!(0), &json!(1)));
    assert_eq!(ran.json()["not_serving"], json!({"join": "slot 0 has no owner yet"}));
    let table = run_at(address, &["status", "-o", "table"]).await;
    assert!(table.stdout.contains("\n  join: slot 0 has no owner yet\n"), "{}", table.stdout);
    for told in [
        "unreachable        join join-0 at http://127.0.0.1:7402: refused\n  next: start it\n",
        "without owner      slot 0: join-0 does not answer",
        "unknown            1 of the slots: the store does not answer\n",
        "does not answer │",
    ] {
        assert!(table.stdout.contains(told), "{told}: {}", table.stdout);
    }
    assert!(ran.stderr.starts_with("error: millrace does not serve\n"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_not_there_is_not_reachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut command = millrace(&["status"]);
    command.env("MILLRACE_SERVING_ENDPOINT", format!("http://{address}"));
    let started = std::time::Instant::now();
    let ran = run(command).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("cannot be reached after 15s"), "{}", ran.stderr);
    assert!(ran.stderr.contains("start it with `millrace dev`"), "{}", ran.stderr);
    assert!(started.elapsed().as_secs() >= 10, "it is tried for a while");
}
