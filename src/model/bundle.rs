//! What the bundle begins with in which nodes share their keys: what is in it, nobody sees who keeps it.

/// What every bundle begins with.
pub(crate) const BEGINS: &[u8; 15] = b"rescind-keys-1\n";

/// Which state of the keys a bundle holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version {
    /// Each change has the next one.
    pub(crate) number: u64,
    /// Which change it was: two may have been made from the same state.
    pub(crate) tag: [u8; 16],
}

impl Version {
    /// Of these bytes, if they are a bundle.
    pub(crate) fn of(sealed: &[u8]) -> Option<Self> {
        let (number, rest) = sealed.strip_prefix(BEGINS)?.split_first_chunk()?;
        Some(Self { number: u64::from_be_bytes(*number), tag: *rest.first_chunk()? })
    }
}
