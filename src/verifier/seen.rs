//! Tokens whose signatures have been checked before, recognised by every byte of theirs.
//!
//! Nothing here waits. A tag and what it announces are written one after the other, and two writers may leave one's tag
//! with the other's entry: whoever comes by the tag compares the whole token, and takes such a pair for a miss.

use std::{
    array, fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwapOption, Guard};

/// Longer tokens are not remembered: with the values made from them, that bounds the memory.
const LONGEST: usize = 4096;
/// Where a token may lie: anywhere in one set. So many, with their tags, fill a line of the processor's cache.
const WAYS: usize = 6;
/// The tag of a place that nobody has taken yet.
const EMPTY: u16 = 0;

/// What was made of a token. The token lies with it, so that whoever has found the one has the other at hand.
pub(super) trait OfToken {
    /// The token, every byte of it.
    fn token(&self) -> &str;
    /// When it expires, in whatever unit: it is only compared.
    fn expires(&self) -> u64;
}

/// A cache of bounded size that forgets what it has no room for.
pub(super) struct Seen<V> {
    sets: Box<[Set<V>]>,
    /// For this process only.
    seeds: [u64; 2],
    /// Chooses who gives way.
    turn: AtomicUsize,
}

#[repr(align(64))]
struct Set<V> {
    tags: [AtomicU16; WAYS],
    values: [ArcSwapOption<V>; WAYS],
}

impl<V: OfToken> Seen<V> {
    /// With room for so many tokens, rounded up to whole sets; with zero it remembers none.
    pub(super) fn new(capacity: usize) -> Self {
        let set = |_| Set { tags: Default::default(), values: array::from_fn(|_| ArcSwapOption::empty()) };
        let random = RandomState::new();
        Self {
            sets: (0..capacity.div_ceil(WAYS)).map(set).collect(),
            seeds: [random.hash_one(0_u8), random.hash_one(1_u8)],
            turn: AtomicUsize::new(0),
        }
    }

    /// What was made of this token, if it is remembered.
    pub(super) fn get(&self, token: &str) -> Option<Arc<V>> {
        let (tag, set) = self.place(token)?;
        // Not in constant time: who gets as far as to be compared knows most of S, for the tag is made of that.
        let ways = set.tags.iter().zip(&set.values).filter(|(found, _)| found.load(Relaxed) == tag);
        ways.map(|(_, value)| value.load())
            .find(|value| value.as_ref().is_some_and(|value| value.token() == token))
            .and_then(Guard::into_inner)
    }

    /// Remembers what was made of a token.
    pub(super) fn put(&self, value: Arc<V>) {
        if let Some((tag, set)) = self.place(value.token()) {
            let way = set.way_of(tag).or_else(|| set.way_of(EMPTY)).unwrap_or_else(|| self.victim(set));
            set.values[way].store(Some(value));
            set.tags[way].store(tag, Relaxed);
        }
    }

    /// The tag of a token and the set where it would be. None if it is not for us.
    fn place(&self, token: &str) -> Option<(u16, &Set<V>)> {
        if token.len() > LONGEST || self.sets.is_empty() {
            return None;
        }
        // Sixteen characters from the middle of S, as random as a hash of the whole: nobody but the issuer can make
        // another good token with the same. The last ones are spared, in which the topmost bits of S hardly vary.
        let [.., a, b, _] = token.as_bytes().as_rchunks::<8>().1 else { return None };
        let [a, b] = [*a, *b].map(u64::from_le_bytes);
        let product = u128::from(a ^ self.seeds[0]) * u128::from(b ^ self.seeds[1]);
        let hash = (product >> 64) as u64 ^ product as u64;
        let set = (u128::from(hash) * self.sets.len() as u128) >> 64;
        // Other bits than those that chose the set.
        Some((hash as u16 | 1, &self.sets[set as usize]))
    }

    /// Of two ways, each time two others, the one whose token expires sooner.
    fn victim(&self, set: &Set<V>) -> usize {
        let turn = self.turn.fetch_add(1, Relaxed);
        let one = turn % WAYS;
        let other = (one + 1 + turn / WAYS % (WAYS - 1)) % WAYS;
        if set.expires(one) <= set.expires(other) { one } else { other }
    }
}

impl<V: OfToken> Set<V> {
    fn way_of(&self, tag: u16) -> Option<usize> {
        self.tags.iter().position(|found| found.load(Relaxed) == tag)
    }
    fn expires(&self, way: usize) -> u64 {
        self.values[way].load().as_ref().map_or(0, |value| value.expires())
    }
}

impl<V> fmt::Debug for Seen<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("capacity", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    };

    use super::*;

    struct Made<T> {
        token: String,
        value: T,
        expires: u64,
    }

    impl<T> OfToken for Made<T> {
        fn token(&self) -> &str {
            &self.token
        }
        fn expires(&self) -> u64 {
            self.expires
        }
    }

    fn put<T>(seen: &Seen<Made<T>>, token: &str, value: T, expires: u64) {
        seen.put(Arc::new(Made { token: token.into(), value, expires }));
    }

    /// As long as a token of ours, and different at both ends.
    fn token(n: u64) -> String {
        format!("{n:016x}{}{:016x}the end.", ".".repeat(550), n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn tokens_by_the_million_are_kept_apart_in_bounded_room() {
        const CAPACITY: usize = 16_386;
        let tokens = if std::env::var_os("LONG_TESTS").is_some() { 2_000_000 } else { 200_000 };
        let (seen, alive) = (Seen::new(CAPACITY), Arc::new(()));
        for n in 0..tokens {
            assert!(seen.get(&token(n)).is_none());
            put(&seen, &token(n), (n, Arc::clone(&alive)), n / 1000);
            assert_eq!(seen.get(&token(n)).unwrap().value.0, n);
            assert!(Arc::strong_count(&alive) <= CAPACITY + 1);
            if let Some(older) = seen.get(&token(n / 2)) {
                assert_eq!((&older.token, older.value.0), (&token(n / 2), n / 2));
            }
        }
        assert!(Arc::strong_count(&alive) > CAPACITY * 9 / 10, "most of the room is used");
    }

    #[test]
    fn tokens_with_one_tag_are_never_taken_for_each_other() {
        let token = |n: u64| format!("{n}.{:24}", "the end is the same");
        let (seen, stop, hits) = (Seen::new(WAYS), AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..4 {
                let (seen, stop, hits) = (&seen, &stop, &hits);
                scope.spawn(move || {
                    for n in (0..50_000_u64).map(|n| (n * 7 + thread) % 5) {
                        put(seen, &token(n), n, n);
                        for other in 0..5 {
                            if let Some(entry) = seen.get(&token(other)) {
                                assert_eq!((entry.value, &entry.token), (other, &token(other)));
                                hits.fetch_add(1, SeqCst);
                            }
                        }
                        if stop.load(SeqCst) {
                            return;
                        }
                    }
                    stop.store(true, SeqCst);
                });
            }
        });
        assert!(hits.into_inner() > 1000);
    }

    #[test]
    fn what_has_expired_gives_way() {
        let seen = Seen::new(WAYS);
        for n in 0..6 {
            put(&seen, &token(n), n, if n == 3 { 100 } else { 200 });
        }
        for n in 6..12 {
            put(&seen, &token(n), n, 200);
        }
        assert!(seen.get(&token(3)).is_none());
    }

    #[test]
    fn a_token_that_comes_again_takes_no_further_room() {
        let seen = Seen::new(WAYS);
        for n in 0..60 {
            put(&seen, &token(n % 6), n, n);
        }
        assert!((0..6).all(|n| seen.get(&token(n)).is_some_and(|entry| entry.value == 54 + n)));
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let seen = Seen::new(0);
        put(&seen, &token(1), 1, 1);
        assert!(seen.get(&token(1)).is_none());
    }

    #[test]
    fn tokens_that_are_too_long_or_no_tokens_are_not_remembered() {
        let seen = Seen::new(64);
        for text in ["x".repeat(LONGEST + 1), "x".repeat(23), String::new()] {
            put(&seen, &text, 1, 1);
            assert!(seen.get(&text).is_none(), "{} bytes", text.len());
        }
        let longest = "x".repeat(LONGEST);
        put(&seen, &longest, 1, 1);
        assert!(seen.get(&longest).is_some());
    }

    #[test]
    fn debug_shows_no_token() {
        let seen = Seen::new(WAYS);
        put(&seen, &token(1), 1, 1);
        assert_eq!(format!("{seen:?}"), "Seen { capacity: 6, .. }");
    }
}
