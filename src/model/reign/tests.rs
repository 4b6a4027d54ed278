use proptest::prelude::*;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LEASE: Duration = Duration::from_secs(2);
const HEADS: Duration = Duration::from_secs(600);
const NOW: Duration = Duration::from_secs(1000);

fn life() -> Life {
    Life {
        store: 7,
        also: Vec::new(),
        incarnation: 3,
        seal: Seal(33),
        restored: 0,
        reign: Reign(1),
        whole: true,
        doubt: None,
        found: Served(0),
        dated: Timestamp::default(),
        members: 2,
        waived: Vec::new(),
        lease: LEASE,
        since: Timestamp::default(),
    }
}

fn row(pushed: u64) -> Row {
    let seen = Timestamp::from_seconds(1_795_374_805);
    Row { pushed: Seal(pushed), added: 1, knows: 2, name: "n".into(), version: "1".into(), seen, followed: 0 }
}

fn memory() -> Memory {
    Memory {
        store: 7,
        incarnation: 3,
        seal: Seal(33),
        restored: 0,
        served: Served(1_000_000),
        members: 2,
        nodes: vec![(A, "n".into()), (B, "n".into())],
    }
}

fn ask(memory: Option<&Memory>, reign: Option<Reign>, life: Option<&Life>, rows: &[(NodeId, Row)]) -> Duty {
    let me = Me {
        node: A,
        name: "n",
        version: "1",
        memory,
        first_saw: Some((Seal(33), NOW)),
        heads: HEADS,
        random: (99, Seal(99)),
        lease: LEASE,
    };
    let now = Timestamp::from_seconds(1_795_374_806);
    duty(&me, reign, &Seen { life, rows, served: Served(1_000_000), raised: now, now }, NOW)
}

fn both() -> [(NodeId, Row); 2] {
    [(A, row(33)), (B, row(33))]
}

fn changed(duty: Duty) -> Change {
    match duty {
        Duty::Change(change) => *change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_store_is_served() {
    let duty = ask(Some(&memory()), Some(Reign(1)), Some(&life()), &both());
    assert_eq!(duty, Duty::Serve(Standing::Whole));
}

#[test]
fn nobody_serves_what_nobody_vouches_for() {
    assert_eq!(ask(Some(&memory()), None, Some(&life()), &both()), Duty::Wait(Wait::Vouched));
}

#[test]
fn other_servers_are_another_life() {
    let change = changed(ask(Some(&memory()), Some(Reign(2)), Some(&life()), &both()));
    assert_eq!((change.why, change.life.incarnation, change.life.reign), (Why::TakenOver, 4, Reign(2)));
    assert_eq!((change.life.seal, change.life.whole, change.life.doubt), (Seal(99), false, None));
}

#[test]
fn a_number_that_was_given_before_is_not_given_again() {
    // The heir has never heard of incarnations 4 and 5.
    let later = Memory { incarnation: 5, seal: Seal(55), ..memory() };
    let change = changed(ask(Some(&later), Some(Reign(1)), Some(&life()), &both()));
    assert_eq!(change.life.incarnation, 6);
    let other = Memory { seal: Seal(34), ..memory() };
    assert_eq!(changed(ask(Some(&other), Some(Reign(1)), Some(&life()), &both())).life.incarnation, 4);
}

#[test]
fn what_is_older_than_the_heads_that_are_remembered_is_in_doubt() {
    let at = |served: u64| Memory { served: Served(1_000_000 + served), ..memory() };
    let taken = |memory| changed(ask(Some(&memory), Some(Reign(2)), Some(&life()), &both())).life.doubt;
    assert_eq!(taken(at(600_000)), None);
    assert_eq!(taken(at(600_001)), Some(Doubt::Older));
}

fn who_remembers(memory: &Memory, heads: Duration, next: Seal) -> Me<'_> {
    let (name, version, memory) = ("n", "1", Some(memory));
    Me { node: A, name, version, memory, first_saw: None, heads, random: (99, next), lease: LEASE }
}

fn after(parts: Parts, heads: Duration) -> Option<Life> {
    let memory = memory();
    let taken_over = Life { whole: false, found: Served(1_000_000), dated: Timestamp::from_seconds(2000), ..life() };
    let now = Timestamp::from_seconds(3000);
    let me = who_remembers(&memory, heads, Seal(99));
    let seen = Seen { life: Some(&taken_over), rows: &both(), served: Served(1_000_000), raised: now, now };
    lost_a_part(&me, parts, &seen).map(|change| change.life)
}

#[test]
fn a_part_that_is_older_than_the_rest_is_another_life_and_whoever_does_not_remember_enough_is_in_doubt() {
    let behind = |millis| Parts { emptied: false, reached: Some((Served(millis), Timestamp::from_seconds(1000))) };
    assert_eq!(after(Parts::default(), HEADS), None);
    assert_eq!(after(behind(998_000), HEADS), None, "no more than the last moments");
    let life = after(behind(400_000), HEADS).unwrap();
    assert_eq!((life.incarnation, life.seal, life.whole, life.doubt), (4, Seal(99), false, None));
    assert_eq!((life.found, life.dated), (Served(400_000), Timestamp::from_seconds(1000)));
    assert_eq!(after(behind(399_999), HEADS).unwrap().doubt, Some(Doubt::Older));
    // Another node has seen it first: each judges for itself.
    let change = |heads| {
        let (memory, rows) = (memory(), [(A, row(33)), (B, row(33))]);
        let me = who_remembers(&memory, heads, Seal(98));
        let now = Timestamp::from_seconds(3000);
        let seen = Seen { life: Some(&life), rows: &rows, served: Served(1_000_000), raised: now, now };
        duty(&me, Some(life.reign), &seen, NOW)
    };
    assert!(matches!(change(HEADS), Duty::Adopt(_)));
    assert_eq!(changed(change(HEADS - Duration::from_secs(1))).life.doubt, Some(Doubt::Older));
}

#[test]
fn of_a_part_that_is_empty_nobody_can_say_what_it_held() {
    let emptied = Parts { emptied: true, reached: None };
    let life = after(emptied, HEADS).unwrap();
    assert_eq!((life.incarnation, life.doubt, life.dated), (4, Some(Doubt::Wiped), Timestamp::default()));
    let and_old = Parts { reached: Some((Served(0), Timestamp::from_seconds(1000))), ..emptied };
    assert_eq!(after(and_old, HEADS).unwrap().doubt, Some(Doubt::Older), "and another is old");
}

#[test]
fn an_empty_store_is_made_anew_only_by_who_has_known_none() {
    let change = changed(ask(None, Some(Reign(1)), None, &[]));
    assert_eq!((change.why, change.life.store, change.life.doubt), (Why::Created, 99, None));
    let change = changed(ask(Some(&memory()), Some(Reign(1)), None, &[]));
    assert_eq!((change.why, change.life.store, change.life.doubt), (Why::TakenOver, 7, Some(Doubt::Wiped)));
    assert_eq!(change.life.incarnation, 4);
    assert!(change.rows.iter().any(|(id, row)| *id == B && row.pushed == Seal::default()), "the other is waited for");
}

#[test]
fn another_store_is_contested_and_once_it_is_accepted_is_not() {
    let other = Memory { store: 8, seal: Seal(88), ..memory() };
    let change = changed(ask(Some(&other), Some(Reign(1)), Some(&life()), &both()));
    assert_eq!((change.life.doubt, change.life.store, &change.life.also[..]), (Some(Doubt::Contested), 7, &[8][..]));
    let accepted = Life { also: vec![8], ..life() };
    assert!(
        matches!(ask(Some(&other), Some(Reign(1)), Some(&accepted), &both()), Duty::Change(_)),
        "the number is taken"
    );
    let accepted = Life { incarnation: 4, ..accepted };
    assert!(matches!(ask(Some(&other), Some(Reign(1)), Some(&accepted), &both()), Duty::Adopt(m) if m.store == 7));
}

#[test]
fn a_node_whose_row_was_lost_is_added_by_who_remembers_it() {
    let unsettled = Life { whole: false, ..life() };
    let change = changed(ask(Some(&memory()), Some(Reign(1)), Some(&unsettled), &[(A, row(0))]));
    assert_eq!((change.why, change.rows.len(), change.rows[0].0), (Why::Added, 1, B));
    let waived = Life { waived: vec![B], ..unsettled };
    let without = Memory { nodes: vec![(A, "n".into())], ..memory() };
    assert_eq!(ask(Some(&memory()), Some(Reign(1)), Some(&waived), &[(A, row(0))]), Duty::Adopt(without));
}

#[test]
fn who_is_gone_can_be_waived_and_who_serves_cannot() {
    let (life, rows) = (life(), [(A, row(33)), (B, row(32))]);
    let now = Timestamp::from_seconds(1_795_374_806);
    let seen = Seen { life: Some(&life), rows: &rows, served: Served(0), raised: now, now };
    let minute = Duration::from_secs(60);
    assert_eq!(waive(A, life.reign, &seen, minute).unwrap_err(), Refused::Alive);
    assert_eq!(waive(B, life.reign, &seen, minute).unwrap().gone, [B]);
    assert_eq!(waive(NodeId(9), life.reign, &seen, minute).unwrap_err(), Refused::NoSuchNode);
    let later = Seen { now: now.plus(minute), ..seen };
    assert_eq!(waive(A, life.reign, &later, minute).unwrap().gone, [A]);
}

#[test]
fn nobody_is_waived_while_a_lease_of_before_may_be_held() {
    let now = Timestamp::from_seconds(1_795_374_806);
    let begun = Life { whole: false, since: now, ..life() };
    let rows = [(A, row(33)), (B, row(32))];
    let tried = |life: &Life, after: Duration| {
        let now = now.plus(after);
        let seen = Seen { life: Some(life), rows: &rows, served: Served(0), raised: now, now };
        waive(B, begun.reign, &seen, Duration::ZERO)
    };
    let over = begun.lease + begun.lease / 8;
    assert_eq!(tried(&begun, over - Duration::from_millis(1)).unwrap_err(), Refused::Early);
    assert_eq!(tried(&begun, over).unwrap().gone, [B]);
    // Nobody has taken it over yet: it looks whole and is of other servers.
    let old = Life { whole: true, reign: Reign(99), ..begun.clone() };
    assert_eq!(tried(&old, over).unwrap_err(), Refused::Early);
}

#[test]
fn a_node_leaves_to_one_that_has_followed() {
    let followed = |position| [(A, row(33)), (B, Row { followed: position, ..row(33) })];
    let life = life();
    let now = Timestamp::from_seconds(1_795_374_806);
    let seen = |rows: &[(NodeId, Row)]| {
        let seen = Seen { life: Some(&life), rows, served: Served(0), raised: now, now };
        leave(A, 10, &seen).is_some()
    };
    assert!(seen(&followed(10)) && !seen(&followed(9)) && !seen(&followed(10)[..1]));
}

#[test]
fn a_lease_is_of_one_life_one_way_and_one_time() {
    let lease = Lease::granted(&life(), 5, NOW);
    let began = lease.term;
    assert!(lease.covers(began, 5, NOW + LEASE - Duration::from_millis(1)));
    assert!(!lease.covers(began, 5, NOW + LEASE));
    assert!(!lease.covers(began, 6, NOW));
    assert!(!lease.covers(Term { way: 4, ..began }, 5, NOW));
    assert!(!lease.covers(Term { seal: Seal(32), ..began }, 5, NOW));
}

prop_compose! {
    fn any_life()(
        incarnation in 0..4_u32, seal in 0..4_u64, reign in 0..2_u128, whole: bool, store in 7..9_u128,
        doubt in prop::option::of(prop_oneof![
            Just(Doubt::Wiped), Just(Doubt::Older), Just(Doubt::Contested), Just(Doubt::Declared(Ends::Sessions))
        ]),
        found in 0..2000_u64, members in 0..4_u32, waived in prop::collection::vec((1..4_u128).prop_map(NodeId), 0..2),
    ) -> Life {
        let (seal, reign, found) = (Seal(seal), Reign(reign), Served(found * 1000));
        Life { incarnation, seal, reign, whole, store, doubt, found, members, waived, ..life() }
    }
}

prop_compose! {
    fn any_memory()(
        incarnation in 0..4_u32, seal in 0..4_u64, store in 7..9_u128, served in 0..2000_u64, members in 0..4_u32,
        nodes in prop::collection::btree_set(1..4_u128, 0..3),
    ) -> Memory {
        let nodes = nodes.into_iter().map(|id| (NodeId(id), "n".into())).collect();
        Memory { incarnation, seal: Seal(seal), store, served: Served(served * 1000), members, nodes, ..memory() }
    }
}

fn any_rows() -> impl Strategy<Value = Vec<(NodeId, Row)>> {
    let row = |(pushed, knows)| Row { knows, ..row(pushed) };
    prop::collection::btree_map((1..4_u128).prop_map(NodeId), (0..4_u64, 0..4_u32).prop_map(row), 0..4)
        .prop_map(|rows| rows.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_served_only_if_all_that_is_promised_holds(
        memory in prop::option::of(any_memory()), reign in prop::option::of((0..2_u128).prop_map(Reign)),
        life in prop::option::of(any_life()), rows in any_rows(),
    ) {
        let duty = ask(memory.as_ref(), reign, life.as_ref(), &rows);
        if let Duty::Serve(_) = duty {
            let (life, memory) = (life.unwrap(), memory.unwrap());
            prop_assert!(life.whole && Some(life.reign) == reign && matches!(life.doubt, None | Some(Doubt::Wiped)));
            prop_assert!(memory.seal == life.seal && memory.incarnation == life.incarnation && memory.store == life.store);
            let mine = rows.iter().find(|(id, _)| *id == A).map(|(_, row)| row).unwrap();
            prop_assert!(mine.pushed == life.seal);
            prop_assert!(rows.iter().all(|(_, row)| row.knows >= mine.added), "nobody would remember it");
        }
    }

    #[test]
    fn a_life_is_confirmed_only_once_all_have_pushed(
        memory in any_memory(), life in any_life(), rows in any_rows(),
    ) {
        let duty = ask(Some(&memory), Some(life.reign), Some(&life), &rows);
        if let Duty::Change(change) = duty && change.why == Why::Confirmed {
            prop_assert!(rows.iter().all(|(_, row)| row.pushed == life.seal));
            prop_assert!(memory.nodes.iter().all(|(id, _)| rows.iter().any(|(other, _)| other == id) || life.waived.contains(id)));
        }
    }

    #[test]
    fn a_change_never_goes_back(memory in prop::option::of(any_memory()), reign in 0..2_u128, life in any_life(), rows in any_rows()) {
        let duty = ask(memory.as_ref(), Some(Reign(reign)), Some(&life), &rows);
        if let Duty::Change(change) | Duty::CutOff(_, change) = duty {
            let next = change.life;
            prop_assert!(next.incarnation >= life.incarnation && next.restored >= life.restored);
            prop_assert!(next.seal == life.seal || next.incarnation > life.incarnation);
            prop_assert!(next.seal == life.seal || !next.whole, "a new life begins unconfirmed");
            prop_assert!(next.members >= life.members);
        }
    }
}
