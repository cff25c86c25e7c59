//! The log of what operators did is a chain.

use serde_json::json;

use super::super::chain::{Entry, Hash};
use super::super::{DeadMark, Note, Retried};
use super::{Books, LANE, batch, held, restocked};
use crate::clock::Millis;
use crate::engine::Event;
use crate::outbox::Record;
use crate::sqlite::as_sql;

/// A log of three links in lane 0, and of one about the books themselves. Always the same, but for the instant
/// of the last.
pub(crate) async fn a_log(mut books: Books) -> Books {
    books.digest(&[Event::Held(held(1, &[3])), restocked(2, 3, "a")]).await;
    let dead = books.digest(&[Event::Held(held(2, &[3]))]).await;
    assert_eq!(dead.dead_letters.len(), 1);
    let mark = DeadMark { lane: LANE, position: books.cursor };
    assert!(books.store.drop_dead_letter(mark, "ops".into()).await.unwrap());
    books.digest(&[restocked(-1, 5, "b")]).await;
    books
}

/// One more entry behind [`a_log`], whatever has become of that.
pub(crate) async fn log_once_more(mut books: Books) {
    books.digest(&[restocked(1, 4, "z")]).await;
}

/// The log is one chain a lane, in the order in which its entries were written, and the same whatever the store.
pub(crate) async fn the_log_is_chained(books: Books) {
    let mut books = a_log(books).await;
    let log = books.store.audit_log(0, 10).await.unwrap();
    let of = |lane: i64| {
        let mut links: Vec<_> = log.iter().filter(|entry| entry["lane"] == lane).collect();
        links.sort_by_key(|entry| entry["link"].as_i64());
        links
    };
    let (lane, own) = (of(0), of(-1));
    assert_eq!((lane.len(), own.len()), (3, 1), "{log:#?}");
    for chain in [&lane, &own] {
        let mut before = Hash::default().to_string();
        for (number, entry) in (1..).zip(chain) {
            assert_eq!(
                (entry["link"].as_i64(), &entry["previous_hash"]),
                (Some(number), &before.into())
            );
            before = entry["hash"].as_str().unwrap().to_owned();
        }
    }
    assert_eq!(lane[2]["hash"], HASH_OF_THE_LOG, "every store makes this chain");
    let before = own[0]["before"].to_string();
    let entry = Entry {
        lane: -1,
        seq: 1,
        at: as_sql(Millis::parse_rfc3339(own[0]["at"].as_str().unwrap()).unwrap().0),
        actor: "ops",
        action: "drop dead letter",
        sale: "",
        subject: own[0]["subject"].as_str(),
        before: Some(&before),
        after: None,
        reason: None,
    };
    assert_eq!(own[0]["hash"], entry.hash(1, Hash::default()).to_string());
    // What was changed about a gateway is the next link of the chain that is nobody's lane.
    let note = Note {
        actor: "ops".into(),
        action: "switch",
        subject: "read-only".to_owned(),
        before: json!({ "on": false }),
        after: json!({ "on": true }),
        reason: Some("a test".to_owned()),
    };
    books.store.note(note).await.unwrap();
    let noted = &books.store.audit_log(0, 1).await.unwrap()[0];
    assert_eq!((&noted["lane"], &noted["link"]), (&json!(-1), &json!(2)));
    assert_eq!(noted["previous_hash"], own[0]["hash"]);
    let told = (&noted["actor"], &noted["action"], &noted["subject"], &noted["reason"]);
    assert_eq!(told, (&json!("ops"), &json!("switch"), &json!("read-only"), &json!("a test")));
    let was = (&noted["before"]["on"], &noted["after"]["on"]);
    assert_eq!(was, (&json!(false), &json!(true)));
    // What comes again is logged once.
    let again = Record::of(books.cursor, Millis(9_000), &[restocked(-1, 5, "b")]);
    let digested = books.store.digest(batch(books.cursor, vec![again.into()])).await.unwrap();
    assert_eq!(digested.logged, None);
    // A letter that is settled late is the next link, though its event was an earlier one.
    let late = books.digest(&[restocked(-9, 4, "c")]).await;
    assert_eq!((late.dead_letters.len(), late.logged), (1, None));
    let mark = DeadMark { lane: LANE, position: books.cursor };
    let tip = books.digest(&[restocked(9, 4, "d")]).await.logged.unwrap();
    assert_eq!(tip.link, 4);
    let retried = books.store.retry_dead_letter(mark, "ops".into()).await.unwrap();
    assert_eq!(retried, Some(Retried::Digested(Vec::new())));
    let log = books.store.audit_log(0, 10).await.unwrap();
    let late = log.iter().find(|entry| entry["seq"] == mark.position.seq && entry["lane"] == 0);
    let late = late.unwrap();
    assert_eq!((&late["link"], &late["previous_hash"]), (&5.into(), &tip.hash.to_string().into()));
}

/// What [`a_log`] ends with in lane 0.
const HASH_OF_THE_LOG: &str = "b2249bf726ae2274179af0aba95ab6b69bb03438eb06183998446c1c11623a54";
