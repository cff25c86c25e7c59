//! What journals and books have in common as SQLite files.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long a connection waits for another's lock before it gives up.
pub const BUSY: Duration = Duration::from_secs(5);

/// Opens a file for reading beside its writer, or without one.
///
/// # Errors
/// In SQLite's words.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    // WAL readers share memory with the writer, so even they need to write beside the file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// SQLite's integers are signed. None of ours comes near the sign.
pub fn as_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// See [`as_sql`].
pub fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
