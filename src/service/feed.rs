//! What followers get. Anyone may follow: it takes no permission.

use std::future::Future;

use super::{Error, Service};
use crate::{
    feed::{Answer, Arrival, Ask},
    model::feed::Epoch,
};

impl Service {
    /// A follower asks for the end of the denylist's log; see [`crate::feed::Feed::receive`].
    ///
    /// # Errors
    /// 503.
    pub async fn feed_asked(&self, ask: Ask) -> Result<Arrival, Error> {
        Ok(self.feed.receive(ask).await?)
    }

    /// That end, signed, once there is news; see [`crate::feed::Feed::tail`].
    ///
    /// # Errors
    /// 503.
    pub async fn feed_tail(
        &self,
        arrival: Arrival,
        cap: usize,
        stop: impl Future<Output = ()>,
    ) -> Result<Answer, Error> {
        let answer = self.feed.answer(arrival, cap, stop).await?;
        self.metrics.feed_answer(if answer.full { "full" } else { "tail" }, answer.entries);
        Ok(answer)
    }

    /// A page of its history, signed.
    ///
    /// # Errors
    /// 503.
    pub async fn feed_page(&self, epoch: Epoch, number: u64) -> Result<Option<Answer>, Error> {
        let answer = self.feed.page(epoch, number).await?;
        if let Some(answer) = &answer {
            self.metrics.feed_answer("page", answer.entries);
        }
        Ok(answer)
    }

    /// Tells those who wait of what is new, for as long as it is polled.
    pub async fn herald(&self) {
        self.feed.herald().await;
    }
}
