//! Following the chains of the audit log.

use std::fmt;

use serde::Serialize;

use super::findings::{Findings, Promise};
use super::rule;
use crate::store::chain::{Hash, LogRow, Tip};
use crate::store::snapshot::{Snapshot, SnapshotError};

/// Where the audit log of a lane ends.
#[derive(Debug, Serialize)]
pub struct LogEnd {
    /// The lane; -1 is what was done to the books themselves.
    pub lane: i64,
    /// Links of its chain.
    pub links: i64,
    /// The hash of the last; a [`LogMark`] that shows later whether it is still there.
    pub hash: String,
}

/// A link that somebody has seen, which must still be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// The lane.
    pub lane: i64,
    /// The link.
    pub link: i64,
    /// Its hash.
    pub hash: Hash,
}

impl LogMark {
    /// Reads `LANE:LINK:HASH`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut part = || parts.next();
        let (lane, link) = (part()?.parse().ok()?, part()?.parse().ok()?);
        let hash = Hash::parse(part()?)?;
        part().is_none().then_some(Self { lane, link, hash })
    }
}

impl fmt::Display for LogMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.lane, self.link, self.hash)
    }
}

/// Follows every chain, and looks for the marks; says where each ends.
pub(super) fn follow(
    books: &Snapshot,
    marks: &[LogMark],
    findings: &mut Findings,
) -> Result<Vec<LogEnd>, SnapshotError> {
    let mut ends: Vec<(i64, Tip)> = Vec::new();
    let mut missing = marks.to_vec();
    books.audit_log(|row| {
        if ends.last().is_none_or(|(lane, _)| *lane != row.lane) {
            ends.push((row.lane, Tip::default()));
        }
        let Some((_, tip)) = ends.last_mut() else { return };
        findings.look_at_all(Promise::Log, follows(&row, tip));
        let seen = row.link.map(|link| LogMark { lane: row.lane, link, hash: row.hash });
        missing.retain(|mark| Some(*mark) != seen);
    })?;
    for mark in missing {
        let gone = format!("{mark} is not there: the log was cut off, or written anew");
        findings.look_at_all(Promise::Log, Err(gone));
    }
    let end =
        |(lane, tip): (i64, Tip)| LogEnd { lane, links: tip.link, hash: tip.hash.to_string() };
    Ok(ends.into_iter().map(end).collect())
}

/// Whether an entry follows. What comes after it is measured by its own word: one that is wrong is named once.
fn follows(row: &LogRow, tip: &mut Tip) -> Result<(), String> {
    let entry = row.entry();
    let Some(link) = row.link else {
        tip.found(&entry);
        return Ok(());
    };
    let before = std::mem::replace(tip, Tip { link, hash: row.hash });
    let name = || format!("lane {} link {link} (event {})", row.lane, row.seq);
    rule(link == before.link.saturating_add(1), || {
        format!("{} comes after link {}: what stood there was removed", name(), before.link)
    })?;
    rule(entry.hash(link, row.previous) == row.hash, || format!("{} was changed", name()))?;
    rule(row.previous == before.hash, || {
        format!("{} does not follow from what stands before it, which was changed", name())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use floodgate_loadtest::postgres_server::PostgresServer;
    use rusqlite::Connection;

    use super::*;
    use crate::store::contract::{self, Books};
    use crate::store::postgres::{self, PostgresStore};
    use crate::store::sqlite::{self, Archives, SqliteStore};
    use crate::store::{Store, StoreAt};

    /// What is done to the books behind everybody's back, and what the audit says of it; nothing: that nobody
    /// can tell without a mark.
    const TAMPERED: [(&str, &str); 12] = [
        ("UPDATE audit_log SET actor = 'nobody' WHERE lane = 0 AND link = 2", "lane 0 link 2 (event 3) was changed"),
        ("UPDATE audit_log SET reason = NULL WHERE lane = 0 AND link = 2", "lane 0 link 2 (event 3) was changed"),
        ("UPDATE audit_log SET after = '{}' WHERE lane = 0 AND link = 1", "lane 0 link 1 (event 1) was changed"),
        ("UPDATE audit_log SET actor = 'nobody' WHERE lane = -1", "lane -1 link 1 (event 1) was changed"),
        ("UPDATE audit_log SET hash = previous_hash WHERE lane = 0 AND link = 2", "lane 0 link 2 (event 3) was changed"),
        ("DELETE FROM audit_log WHERE lane = 0 AND link = 2", "lane 0 link 3 (event 5) comes after link 1"),
        ("DELETE FROM audit_log WHERE lane = 0 AND link = 1", "lane 0 link 2 (event 3) comes after link 0"),
        ("UPDATE audit_log SET link = NULL WHERE lane = 0 AND link = 2", "lane 0 link 1 (event 1) does not follow"),
        (
            "INSERT INTO audit_log (lane, seq, at, actor, action, sale_id)
             SELECT lane, 99, at, actor, action, sale_id FROM audit_log WHERE lane = 0 AND link = 1",
            "lane 0 link 1 (event 1) does not follow",
        ),
        (
            "INSERT INTO audit_log (lane, seq, at, actor, action, sale_id, link, previous_hash, hash)
             SELECT lane, 99, at, actor, action, sale_id, 4, hash, previous_hash FROM audit_log
             WHERE lane = 0 AND link = 3",
            "lane 0 link 4 (event 99) was changed",
        ),
        ("DELETE FROM audit_log WHERE lane = 0 AND link = 3", ""),
        ("DELETE FROM audit_log", ""),
    ];

    /// A snapshot blocks, and ends a runtime of its own: not within the test's.
    fn apart<T: Send>(look: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(look).join().unwrap())
    }

    /// What the audit says of the log, and where its chains end.
    fn look(at: &StoreAt, marks: &[LogMark]) -> (Vec<String>, Vec<LogEnd>) {
        let mut findings = Findings::new(None);
        let ends = apart(|| follow(&Snapshot::open(at).unwrap(), marks, &mut findings).unwrap());
        let checks = findings.into_checks();
        let check = checks.into_iter().find(|check| check.name.contains("audit log"));
        (check.unwrap().offenders, ends)
    }

    const RESTORE: &str = "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept";

    async fn tampering_shows(store: Arc<dyn Store>, at: StoreAt, sql: impl AsyncFn(String)) {
        let books = contract::a_log(Books::open(store).await).await;
        let (offenders, ends) = look(&at, &[]);
        assert_eq!(offenders, [""; 0]);
        let mark = |end: &LogEnd| {
            LogMark::parse(&format!("{}:{}:{}", end.lane, end.links, end.hash)).unwrap()
        };
        let marks: Vec<_> = ends.iter().map(mark).collect();
        let seen: Vec<_> = marks.iter().map(|mark| (mark.lane, mark.link)).collect();
        assert_eq!(seen, [(-1, 1), (0, 3)]);
        assert_eq!(look(&at, &marks).0, [""; 0]);
        sql("CREATE TABLE kept AS SELECT * FROM audit_log".to_owned()).await;
        for (tamper, says) in TAMPERED {
            sql(tamper.to_owned()).await;
            let (offenders, _) = look(&at, &[]);
            match says {
                "" => assert_eq!(offenders, [""; 0], "{tamper}"),
                says => assert!(offenders[0].starts_with(says), "{tamper}: {offenders:?}"),
            }
            let (offenders, _) = look(&at, &marks);
            assert!(!offenders.is_empty(), "{tamper}: the marks show it");
            sql(RESTORE.to_owned()).await;
        }
        a_row_written_anew_shows(&at, &sql).await;
        old_entries_are_guarded(books, &at, &sql).await;
    }

    /// Whoever writes a row anew, hash and all, has to do so with every row behind it, to the end that is marked.
    async fn a_row_written_anew_shows(at: &StoreAt, sql: &impl AsyncFn(String)) {
        let mut rows = Vec::new();
        apart(|| Snapshot::open(at).unwrap().audit_log(|row| rows.push(row)).unwrap());
        let second = rows.iter().find(|row| (row.lane, row.link) == (0, Some(2))).unwrap();
        let forged = LogRow { actor: "nobody".to_owned(), ..second.clone() };
        let forged = forged.entry().hash(2, forged.previous);
        let set = "UPDATE audit_log SET actor = 'nobody', hash =";
        let literal = match at {
            StoreAt::File(_) => format!("x'{forged}'"),
            StoreAt::Postgres(_) => format!("'\\x{forged}'"),
        };
        sql(format!("{set} {literal} WHERE lane = 0 AND link = 2")).await;
        let (offenders, _) = look(at, &[]);
        assert_eq!(offenders.len(), 1, "{offenders:?}");
        assert!(offenders[0].starts_with("lane 0 link 3 (event 5) does not follow"));
        sql(RESTORE.to_owned()).await;
    }

    /// Entries from before the chain stand in front of it, and the first link is over them.
    async fn old_entries_are_guarded(books: Books, at: &StoreAt, sql: &impl AsyncFn(String)) {
        let unchain = "UPDATE audit_log SET link = NULL, hash = NULL, previous_hash = NULL
                       WHERE lane = 0";
        sql("DELETE FROM audit_log WHERE lane = 0 AND link > 1".to_owned()).await;
        sql(unchain.to_owned()).await;
        assert_eq!(look(at, &[]).0, [""; 0]);
        contract::log_once_more(books).await;
        let (offenders, ends) = look(at, &[]);
        assert_eq!((offenders, ends[1].links), (Vec::new(), 1));
        let tamper = "UPDATE audit_log SET actor = 'nobody' WHERE lane = 0 AND link IS NULL";
        sql(tamper.to_owned()).await;
        assert!(look(at, &[]).0[0].starts_with("lane 0 link 1 (event 6) does not follow"));
    }

    /// Proves that a row that is changed, removed or slipped in is named, with books in SQLite.
    #[tokio::test]
    async fn tampering_shows_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = sqlite::path(dir.path());
        let store = SqliteStore::open(&path, Archives::No).unwrap();
        let sql = async |sql: String| Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        tampering_shows(Arc::new(store), StoreAt::File(path.clone()), sql).await;
    }

    /// Proves the same with books in PostgreSQL.
    #[tokio::test]
    async fn tampering_shows_in_a_database() {
        let server = PostgresServer::start_with(&["fsync=off"]).unwrap();
        let url = server.url();
        let settings = postgres::Settings {
            url: &url,
            migrate_url: None,
            connections: 2,
            shared: false,
            stores_promises: false,
        };
        let store = PostgresStore::open(&settings).await.unwrap();
        let sql = async |sql: String| {
            let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
            let (client, connection) = connected.unwrap();
            let connection = tokio::spawn(connection);
            client.batch_execute(&sql).await.unwrap();
            connection.abort();
        };
        tampering_shows(Arc::new(store), StoreAt::Postgres(url.clone()), sql).await;
    }

    /// Proves that a mark is read as it is written, and nothing else is.
    #[test]
    fn marks_are_read() {
        let mark = LogMark { lane: -1, link: 7, hash: Hash::read(&[9; 32]) };
        assert_eq!(LogMark::parse(&mark.to_string()), Some(mark));
        let hash = mark.hash.to_string();
        for wrong in [
            String::new(),
            hash.clone(),
            format!("0:{hash}"),
            format!("0:1:{hash}:2"),
            format!("x:1:{hash}"),
        ] {
            assert_eq!(LogMark::parse(&wrong), None, "{wrong}");
        }
    }
}
