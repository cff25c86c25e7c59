//! What a crash may have left half written in Redis's append-only file.
//!
//! What a script writes is one transaction there. A server that was cut off in the middle of one drops it when
//! it starts, but Redis 7.0 (and Valkey until valkey-io/valkey#4342 of August 2026) may leave its beginning in
//! the file: the transactions that follow are appended to it, and the next start takes all of that for one, which
//! happens although nobody was told of it, and in front of what people were told. So before anything is written to
//! a server that began with such a file, the file is made anew from what the server has in memory.

use std::time::Duration;

use redis::{ConnectionLike, cmd};

use super::recovery::Closed;
use super::server::{field, was_promoted};
use crate::clock;
use crate::limits;

/// Makes sure that nothing half written is left in the file of a server. Costs one question where it has been
/// made anew since the server was started, or where the server keeps none; otherwise one rewrite of it, which
/// is waited for a little.
///
/// # Errors
/// [`Closed::Rewriting`]: it is under way, ask again. Others as the server refuses.
pub fn heal(connection: &mut dyn ConnectionLike) -> Result<(), Closed> {
    let until = clock::instant() + Duration::from_millis(limits::REDIS_REWRITE_MS);
    let mut asked = false;
    loop {
        match file(&cmd("INFO").query::<String>(connection)?) {
            File::Whole => return Ok(()),
            File::Torn if asked => return Err(unfit("BGREWRITEAOF fails: Redis's log says why")),
            File::Torn => {
                rewrite(connection)?;
                asked = true;
            }
            File::Rewriting => {}
        }
        if clock::instant() >= until {
            return Err(Closed::Rewriting);
        }
        clock::sleep(Duration::from_millis(limits::REDIS_REWRITE_LOOK_MS));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum File {
    Whole,
    /// It may be torn.
    Torn,
    Rewriting,
}

fn file(info: &str) -> File {
    let is = |name, value| field(info, name).is_some_and(|found| found == value);
    // A server that has followed another made its file from what it was sent.
    if !is("aof_enabled", "1") || was_promoted(info) {
        return File::Whole;
    }
    if is("aof_rewrite_in_progress", "1") || is("aof_rewrite_scheduled", "1") {
        return File::Rewriting;
    }
    let never = field(info, "aof_rewrites").is_none_or(|count| count == "0");
    if never || !is("aof_last_bgrewrite_status", "ok") { File::Torn } else { File::Whole }
}

fn rewrite(connection: &mut dyn ConnectionLike) -> Result<(), Closed> {
    match cmd("BGREWRITEAOF").exec(connection) {
        Err(refused) if refused.code() == Some("NOPERM") => {
            Err(unfit("BGREWRITEAOF is not allowed: allow it"))
        }
        // Another asked for it a moment ago.
        Err(refused) if refused.to_string().contains("already in progress") => Ok(()),
        done => Ok(done?),
    }
}

fn unfit(why: &str) -> Closed {
    Closed::Unfit(format!(
        "{why}. Once after each start its append-only file has to be made anew, or what a crash left half \
         written there could come back"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a file is made anew once, and only where it may be torn.
    #[test]
    fn files() {
        let info = |rest: &str| format!("aof_enabled:1\r\naof_last_bgrewrite_status:ok\r\n{rest}");
        let zeros = "master_replid2:0000000000000000000000000000000000000000\r\n";
        assert_eq!(file("aof_enabled:0\r\n"), File::Whole);
        assert_eq!(file(&info("aof_rewrites:0\r\n")), File::Torn);
        assert_eq!(file(&info(&format!("{zeros}aof_rewrites:0\r\n"))), File::Torn);
        assert_eq!(file(&info("aof_rewrites:1\r\n")), File::Whole);
        assert_eq!(file(&info("aof_rewrites:1\r\naof_rewrite_in_progress:1\r\n")), File::Rewriting);
        assert_eq!(file(&info("aof_rewrites:0\r\naof_rewrite_scheduled:1\r\n")), File::Rewriting);
        assert_eq!(file(&info("master_replid2:0d07\r\naof_rewrites:0\r\n")), File::Whole);
        let failed = "aof_enabled:1\r\naof_rewrites:1\r\naof_last_bgrewrite_status:err\r\n";
        assert_eq!(file(failed), File::Torn);
    }
}
