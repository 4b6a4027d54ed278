//! Where everything lies. `docs/redis.md` says the same in words.

use crate::model::{SessionId, SubjectRef, TokenId};

/// How many buckets: a bucket is the last three hexadecimal digits of a session's or a token's id.
pub(super) const BUCKETS: u16 = 4096;

/// What lies in one slot of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Bucket(pub(super) u16);

impl Bucket {
    pub(super) fn of_session(id: SessionId) -> Self {
        Self::of(id.as_bytes())
    }

    pub(super) fn of_token(id: TokenId) -> Self {
        Self::of(id.as_bytes())
    }

    pub(super) fn of_subject(subject: SubjectRef) -> Self {
        Self::of(&subject.0)
    }

    fn of(id: &[u8; 16]) -> Self {
        Self(u16::from_be_bytes([id[14], id[15]]) % BUCKETS)
    }

    /// `None`: there is no such bucket.
    pub(super) fn numbered(number: u16) -> Option<Self> {
        (number < BUCKETS).then_some(Self(number))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }

    /// The random part of a session's id, so that the session lies with its subject.
    pub(super) fn take_in(self, random: &mut [u8; 10]) {
        random[8] = (random[8] & 0xf0) | (self.0 >> 8) as u8;
        random[9] = self.0 as u8;
    }

    /// The id that a session of a subject of this bucket has here, if it had another elsewhere: of the same instant, and
    /// alike but for the digits that name the bucket.
    pub(super) fn adopt(self, id: SessionId) -> SessionId {
        let [_, _, _, _, _, _, mut random @ ..] = *id.as_bytes();
        self.take_in(&mut random);
        SessionId::new(id.stamp(), &random)
    }
}

/// The names of keys, all beginning alike.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: Box<str>,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    fn bucket(&self, bucket: Bucket, name: &str) -> Vec<u8> {
        format!("{}{{{:03x}}}:{name}", self.prefix, bucket.0).into_bytes()
    }

    pub(super) fn hub(&self, name: &str) -> Vec<u8> {
        format!("{}{{hub}}:{name}", self.prefix).into_bytes()
    }

    /// Hash: `life` (which store this is), `stamped` (the latest instant stamped), `owed` (how much has ever been owed); in
    /// one bucket of each server `served` and `raised` (how far this one had come, and when).
    pub(super) fn meta(&self, bucket: Bucket) -> Vec<u8> {
        self.bucket(bucket, "meta")
    }

    /// Hash: session id, 16 bytes, to its record.
    pub(super) fn families(&self, bucket: Bucket) -> Vec<u8> {
        self.bucket(bucket, "families")
    }

    /// Hash: subject reference, 16 bytes, to its sessions.
    pub(super) fn subjects(&self, bucket: Bucket) -> Vec<u8> {
        self.bucket(bucket, "subjects")
    }

    /// Sorted set: the sessions of a subject that has many, 16 bytes each, in the order of their opening.
    pub(super) fn sessions(&self, subject: SubjectRef) -> Vec<u8> {
        self.bucket(Bucket::of_subject(subject), &format!("sessions:{subject}"))
    }

    /// Sorted set: those of them that nobody has ended.
    pub(super) fn open_sessions(&self, subject: SubjectRef) -> Vec<u8> {
        self.bucket(Bucket::of_subject(subject), &format!("open:{subject}"))
    }

    /// Hash: subject reference and what is ended, 17 bytes, to the cut-off.
    pub(super) fn cuts(&self, bucket: Bucket) -> Vec<u8> {
        self.bucket(bucket, "cuts")
    }

    /// List: what changes of this bucket owe to the hub, each with its number before it.
    pub(super) fn owed(&self, bucket: Bucket) -> Vec<u8> {
        self.bucket(bucket, "owed")
    }

    /// Hash: the id that a session had in the store from which it came, 16 bytes, to where it went.
    pub(super) fn moved(&self, bucket: Bucket) -> Vec<u8> {
        self.bucket(bucket, "moved")
    }

    /// String until it is of no more use: a denied session.
    pub(super) fn denied_session(&self, id: SessionId) -> Vec<u8> {
        self.bucket(Bucket::of_session(id), &format!("denied:{id}"))
    }

    /// The same for a token.
    pub(super) fn denied_token(&self, id: TokenId) -> Vec<u8> {
        self.bucket(Bucket::of_token(id), &format!("denied:{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_session_lies_with_its_subject_and_its_name_says_where() {
        let subject = SubjectRef([0x5a; 16]);
        let mut random = [0xff; 10];
        Bucket::of_subject(subject).take_in(&mut random);
        let id = SessionId::new(Timestamp::from_seconds(1_795_374_805), &random);
        assert_eq!(Bucket::of_session(id), Bucket::of_subject(subject));
        let key = String::from_utf8(Layout::new("rescind:").denied_session(id)).unwrap();
        let text = id.to_string();
        assert_eq!(key, format!("rescind:{{{}}}:denied:{text}", &text[text.len() - 3..]));
    }

    #[test]
    fn a_session_that_is_adopted_differs_in_its_bucket_alone() {
        let id = SessionId::new(Timestamp::from_seconds(1_795_374_805), &[0xff, 1, 2, 3, 4, 5, 6, 7, 0xee, 0xee]);
        let adopted = Bucket(0x123).adopt(id);
        assert_eq!((Bucket::of_session(adopted), adopted.stamp()), (Bucket(0x123), id.stamp()));
        let (old, new) = (id.to_string(), adopted.to_string());
        assert_eq!((&new[..33], &new[33..]), (&old[..33], "123"));
        assert_eq!(Bucket::of_session(id).adopt(adopted), id);
    }
}
