//! The way to Redis: which server is asked, how long that is waited for, and whether its answer is the one to what was
//! asked.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use redis::{Value, aio::MultiplexedConnection};

use crate::store::StoreError;

/// Our scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Look,
    Commit,
}

impl Script {
    const fn text(self) -> &'static str {
        match self {
            Self::Look => include_str!("../look.lua"),
            Self::Commit => include_str!("../commit.lua"),
        }
    }
}

/// The way to Redis.
pub(super) struct Link {
    connection: MultiplexedConnection,
    asked: AtomicU64,
    skew: Duration,
}

impl Link {
    /// PROVISIONAL: one server, one connection.
    pub(super) async fn open(url: &str, skew: Duration) -> Result<Self, StoreError> {
        let client = redis::Client::open(url).map_err(failed)?;
        let connection = client.get_multiplexed_async_connection().await.map_err(failed)?;
        Ok(Self { connection, asked: AtomicU64::new(0), skew })
    }

    /// By how much a node's clock may differ from the store's; zero if nobody looks.
    pub(super) const fn permitted_skew(&self) -> Duration {
        self.skew
    }

    /// Runs a script on keys of one slot. Gives its answer without the echo: the server's time, then the rest. An error
    /// means that it may have run; it is never run twice.
    pub(super) async fn run(
        &self,
        script: Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
    ) -> Result<Vec<Value>, StoreError> {
        let echo = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
        let mut command = redis::cmd("EVAL");
        command.arg(script.text()).arg(keys.len()).arg(keys).arg(&echo).arg(args);
        let answer = command.query_async(&mut self.connection.clone()).await.map_err(failed)?;
        let Value::Array(mut answer) = answer else { return Err(super::commit::UNREADABLE) };
        if answer.len() < 2 || super::commit::bytes(&answer.remove(0))? != echo.as_bytes() {
            return Err(StoreError::Failed("the answer is not the one to what was asked".into()));
        }
        Ok(answer)
    }
}

fn failed(error: redis::RedisError) -> StoreError {
    StoreError::Failed(error.to_string())
}
