//! A connection to a server, made by whoever reaches it.

use redis::{ConnectionLike, RedisResult, Value};

/// A connection: over a socket, but in a simulation.
pub enum Connection {
    /// The crate's own.
    Socket(redis::Connection),
    /// A simulation's.
    #[cfg(test)]
    Given(Box<dyn ConnectionLike + Send>),
}

/// Makes connections in a simulation.
#[cfg(test)]
pub(crate) trait Dial: Send + Sync {
    fn dial(&self, lane: crate::sale::LaneId) -> RedisResult<Box<dyn ConnectionLike + Send>>;
}

impl Connection {
    fn inner(&mut self) -> &mut dyn ConnectionLike {
        match self {
            Self::Socket(connection) => connection,
            #[cfg(test)]
            Self::Given(connection) => connection.as_mut(),
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, cmd: &[u8]) -> RedisResult<Value> {
        self.inner().req_packed_command(cmd)
    }

    fn req_packed_commands(
        &mut self,
        cmd: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.inner().req_packed_commands(cmd, offset, count)
    }

    fn req_command(&mut self, cmd: &redis::Cmd) -> RedisResult<Value> {
        self.inner().req_command(cmd)
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Socket(connection) => connection.get_db(),
            #[cfg(test)]
            Self::Given(connection) => connection.get_db(),
        }
    }

    fn check_connection(&mut self) -> bool {
        self.inner().check_connection()
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Socket(connection) => connection.is_open(),
            #[cfg(test)]
            Self::Given(connection) => connection.is_open(),
        }
    }
}
