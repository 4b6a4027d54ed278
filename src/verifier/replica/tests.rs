//! Each kind of entry denies what it names, for as long as it must, and no other entry makes it weaker.

use super::*;
use crate::model::{ClientId, Kid, SessionId, TokenId};

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// Opened at 1000 s, minted at 2000 s.
fn bearer() -> Bearer {
    Bearer {
        token: TokenId::new(at(2000), &[1; 10]),
        session: Some(SessionId::new(at(1000), &[2; 10])),
        subject: SubjectRef([3; 16]),
        client: "app".parse::<ClientId>().unwrap(),
        key: "key".parse::<Kid>().unwrap(),
    }
}

fn item(target: Target, ends: Ends, before: Timestamp, until: Timestamp) -> Item {
    Item { position: 1, target, ends, before, until }
}

fn cut_offs() -> [Target; 3] {
    let b = bearer();
    [Target::Subject(b.subject), Target::Client(b.client), Target::All]
}

fn denies(items: &[Item]) -> bool {
    let replica = Replica::new(100);
    items.iter().for_each(|item| replica.merge(std::slice::from_ref(item), at(0)).unwrap());
    replica.denies(&bearer())
}

#[test]
fn what_is_named_is_denied_and_nothing_else() {
    let b = bearer();
    let one = |target| item(target, Ends::default(), at(0), at(9000));
    assert!(denies(&[one(Target::Token(b.token))]) && !denies(&[one(Target::Token(TokenId::new(at(2000), &[9; 10])))]));
    assert!(denies(&[one(Target::Session(b.session.unwrap()))]));
    assert!(!denies(&[one(Target::Session(SessionId::new(at(1000), &[9; 10])))]));
    assert!(denies(&[one(Target::Key(b.key))]) && !denies(&[one(Target::Key("other".parse().unwrap()))]));
}

#[test]
fn a_cut_off_ends_what_is_stamped_before_it_to_the_millisecond() {
    for target in cut_offs() {
        for (ends, stamp) in [(Ends::Sessions, 1_000_000), (Ends::Tokens, 2_000_000)] {
            let cut = |millis| [item(target.clone(), ends, Timestamp::from_millis(millis), at(9000))];
            assert!(denies(&cut(stamp + 1)), "{target:?} {ends:?}");
            assert!(!denies(&cut(stamp)), "{target:?} {ends:?}: what is stamped at it is not hit");
        }
    }
    let other = item(Target::Client("other".parse().unwrap()), Ends::Tokens, at(5000), at(9000));
    assert!(!denies(&[other, item(Target::Subject(SubjectRef([4; 16])), Ends::Tokens, at(5000), at(9000))]));
}

#[test]
fn an_earlier_cut_off_that_comes_later_weakens_none() {
    for target in cut_offs() {
        for ends in [Ends::Sessions, Ends::Tokens] {
            let cut = |before, until| item(target.clone(), ends, at(before), at(until));
            let both = [cut(5000, 9000), cut(10, 8000)];
            assert!(denies(&both), "{target:?}");
            let replica = Replica::new(100);
            replica.merge(&both, at(0)).unwrap();
            replica.sweep(at(8999));
            assert!(replica.denies(&bearer()), "{target:?}: its end was brought forward");
        }
    }
}

#[test]
fn an_entry_leaves_when_it_has_expired_and_takes_no_other_along() {
    let b = bearer();
    let ids = [Target::Token(b.token), Target::Session(b.session.unwrap()), Target::Key(b.key.clone())];
    for target in ids.into_iter().chain(cut_offs()) {
        let replica = Replica::new(100);
        // To the millisecond above a whole second: that second must not take it away.
        let until = Timestamp::from_millis(5_000_001);
        let ends = Ends::Tokens;
        let other = [Target::Key("other".parse().unwrap()), Target::Client("other".parse().unwrap()), Target::All];
        let due = other.map(|target| item(target, Ends::Sessions, at(1), at(4000)));
        replica.merge(&due, at(0)).unwrap();
        replica.merge(&[item(target.clone(), ends, at(3000), until)], at(4999)).unwrap();
        replica.sweep(at(5000));
        assert!(replica.denies(&bearer()), "{target:?}: too early, or with what was due");
        replica.sweep(at(5001));
        assert!(!replica.denies(&bearer()) && replica.len() == 0, "{target:?}: it is kept for ever");
    }
}

#[test]
fn what_ends_a_client_two_ways_ends_it_as_long_as_each_lasts() {
    let replica = Replica::new(100);
    let cut = |ends, until| item(Target::Client("app".parse().unwrap()), ends, at(3000), at(until));
    replica.merge(&[cut(Ends::Sessions, 4000), cut(Ends::Tokens, 6000)], at(0)).unwrap();
    replica.sweep(at(4000));
    assert!(replica.denies(&bearer()));
    replica.sweep(at(6000));
    assert!(!replica.denies(&bearer()));
}

#[test]
fn at_the_cap_what_is_known_is_extended_and_the_strongest_find_room() {
    let b = bearer();
    let known = [Target::Token(b.token), Target::Session(b.session.unwrap()), Target::Subject(b.subject)];
    let replica = Replica::new(known.len());
    let with = |target: &Target, until| item(target.clone(), Ends::Tokens, at(3000), at(until));
    replica.merge(&known.each_ref().map(|target| with(target, 4000)), at(0)).unwrap();
    let stranger = Target::Token(TokenId::new(at(2000), &[9; 10]));
    assert_eq!(replica.merge(&[with(&stranger, 9000)], at(0)), Err(Full));
    replica.merge(&known.each_ref().map(|target| with(target, 9000)), at(0)).unwrap();
    replica.sweep(at(4000));
    assert_eq!(replica.len(), known.len(), "extended");
    let strong = [Target::Key("other".parse().unwrap()), Target::All];
    replica.merge(&strong.each_ref().map(|target| with(target, 9000)), at(0)).unwrap();
    assert_eq!(replica.len(), known.len() + 2);
}

#[test]
fn clients_count_like_everything_else_and_each_once() {
    let replica = Replica::new(2);
    let cut = |id: &str, until| item(Target::Client(id.parse().unwrap()), Ends::Tokens, at(3000), at(until));
    replica.merge(&[cut("app", 4000), cut("web", 4000)], at(0)).unwrap();
    // As when the log is read once more.
    assert_eq!(replica.merge(&[cut("app", 9000), cut("web", 9000)], at(0)), Ok(()), "known, and takes no more room");
    replica.sweep(at(4000));
    assert!(replica.denies(&bearer()), "for longer, as it was said later");
    let crowd = ["a", "b", "c"].map(|id| cut(id, 4000));
    assert_eq!(Replica::new(2).merge(&crowd, at(0)), Err(Full), "three in one answer");
}

#[test]
fn a_token_that_was_clear_is_asked_about_again_after_each_change() {
    let b = bearer();
    for target in
        cut_offs().into_iter().chain([Target::Token(b.token), Target::Session(b.session.unwrap()), Target::Key(b.key)])
    {
        let (replica, clear) = (Replica::new(100), Clear::default());
        let other = item(Target::Token(TokenId::new(at(2000), &[9; 10])), Ends::default(), at(0), at(9000));
        assert!(!replica.denies_now(&bearer(), &clear) && !replica.denies_now(&bearer(), &clear));
        replica.merge(&[other], at(0)).unwrap();
        assert!(!replica.denies_now(&bearer(), &clear));
        replica.merge(&[item(target.clone(), Ends::Tokens, at(3000), at(9000))], at(0)).unwrap();
        assert!((0..3).all(|_| replica.denies_now(&bearer(), &clear)), "{target:?}");
    }
}

#[test]
fn what_was_clear_under_the_cap_is_denied_when_the_cap_is_reached() {
    let (replica, clear) = (Replica::new(1), Clear::default());
    let one = |target| item(target, Ends::default(), at(0), at(9000));
    assert!(!replica.denies_now(&bearer(), &clear));
    let both = [one(Target::Token(bearer().token)), one(Target::Token(TokenId::new(at(2000), &[9; 10])))];
    assert_eq!(replica.merge(&both, at(0)), Err(Full));
    assert!(replica.denies_now(&bearer(), &clear), "what came in counts, whatever did not");
}

/// A reader that sees the end of a merge sees what was merged, however the two interleave.
#[test]
fn no_reader_keeps_a_token_clear_after_the_merge_that_denies_it() {
    use std::{sync::atomic::AtomicU64, thread};
    const ROUNDS: u64 = 20_000;
    let id = |n: u64| {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        TokenId::new(at(2000), &random)
    };
    let (replica, done, checked) = (Replica::new(1_000_000), AtomicU64::new(0), AtomicU64::new(0));
    let bearers: Vec<_> = (0..=ROUNDS).map(|n| (Bearer { token: id(n), ..bearer() }, Clear::default())).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=ROUNDS {
                replica.merge(&[item(Target::Token(id(n)), Ends::default(), at(0), at(9000))], at(0)).unwrap();
                done.store(n, Ordering::Release);
                // The next merge would have the reader ask again.
                while checked.load(Ordering::Acquire) < n {
                    thread::yield_now();
                }
            }
        });
        let mut clear_still = Vec::new();
        for n in 1..=ROUNDS {
            let (next, clear) = &bearers[n as usize];
            // Asked about while it is on its way in.
            while done.load(Ordering::Acquire) < n {
                let _ = replica.denies_now(next, clear);
            }
            if !replica.denies_now(next, clear) {
                clear_still.push(n);
            }
            checked.store(n, Ordering::Release);
        }
        assert!(clear_still.is_empty(), "acknowledged, and yet clear: {clear_still:?}");
    });
}
