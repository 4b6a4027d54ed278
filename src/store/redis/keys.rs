//! The keys that nodes share, as the hub keeps them: one string, which is opaque here. `docs/redis.md` says what is in it.

use super::{
    RedisStore,
    commit::{Commit, Look, Outcome, maybe},
};
use crate::store::StoreError;

impl RedisStore {
    /// The sealed keys, and whether it was certain, once they had been read, that this was the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn shared_keys(&self) -> Result<(Option<Vec<u8>>, bool), StoreError> {
        let began = self.core.begin().await;
        let seen = Look::default().get(self.core.layout.hub("keys")).ask(&self.core.link).await?;
        let sealed = maybe(seen.parts.first().ok_or(super::commit::UNREADABLE)?)?.map(<[u8]>::to_vec);
        // Before anyone goes by them, so that they are given back if they were lost.
        if let Some(sealed) = &sealed {
            self.core.learn_keys(sealed).await?;
        }
        let current = began.is_ok_and(|began| self.core.life.current(&began).is_ok());
        Ok((sealed, current))
    }

    /// Puts other sealed keys there if those that are there are `seen`; false if they are not. What is given `again` to a
    /// store that has lost it needs nobody's leave; everything else is done only while this certainly is the store.
    ///
    /// # Errors
    /// [`StoreError`]: they may be there.
    pub async fn replace_shared_keys(
        &self,
        seen: Option<&[u8]>,
        sealed: &[u8],
        again: bool,
    ) -> Result<bool, StoreError> {
        let began = if again { None } else { Some(self.core.begin().await?) };
        let key = self.core.layout.hub("keys");
        let commit = Commit::new(self.core.clock.now()).value_is(key.clone(), seen).set(key, sealed);
        let done = match commit.make(&self.core.link).await? {
            Outcome::Done(_) => true,
            Outcome::Moved | Outcome::NotTheSame => return Ok(false),
        };
        self.core.learn_keys(sealed).await?;
        began.map_or(Ok(()), |began| self.core.life.current(&began))?;
        Ok(done)
    }
}
