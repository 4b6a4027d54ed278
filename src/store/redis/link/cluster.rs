//! A cluster as each of its masters sees it, and what most of them agree on.

use std::{collections::HashMap, sync::Arc};

use super::{
    acl,
    answers::{at, int, list, text},
    map::{NOBODY, SLOTS, Table},
    wire::{Lost, Value, Wire, told},
};
use crate::store::redis::url::Place;

/// Who serves what, as one node sees it. Masters are in the order of their ids, so that equal views are equal.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct View {
    pub(super) me: Box<str>,
    pub(super) masters: Vec<(Box<str>, Place)>,
    pub(super) table: Table,
}

impl View {
    fn agrees_with(&self, other: &Self) -> bool {
        self.table == other.table && self.masters.iter().map(|m| &m.0).eq(other.masters.iter().map(|m| &m.0))
    }
}

/// Asks a node.
pub(super) async fn view(wire: &Wire, asked: &Place) -> Result<View, Lost> {
    let mut pipe = redis::pipe();
    pipe.cmd("CLUSTER").arg("MYID");
    pipe.cmd("CLUSTER").arg("SLOTS");
    let answers = wire.ask_surely(pipe).await?;
    for (name, answer) in ["myid", "slots"].iter().zip(&answers) {
        if let Value::ServerError(error) = answer {
            let said = told(error);
            let said = if acl::forbids(&said) { format!("{said} (cluster|{name})") } else { said };
            return Err(Lost(said));
        }
    }
    let unreadable = || Lost("CLUSTER SLOTS is not answered as it should be".into());
    let me = answers.first().and_then(text).ok_or_else(unreadable)?;
    answers.get(1).and_then(|slots| read(me, slots, asked)).ok_or_else(unreadable)
}

fn read(me: &str, slots: &Value, asked: &Place) -> Option<View> {
    let mut ranges = Vec::new();
    let mut masters: Vec<(Box<str>, Place)> = Vec::new();
    for range in list(slots)? {
        let [first, last, master, ..] = list(range)? else { return None };
        let [host, port, id, ..] = list(master)? else { return None };
        let (first, last) = (usize::try_from(int(first)?).ok()?, usize::try_from(int(last)?).ok()?);
        if first > last || last >= SLOTS {
            return None;
        }
        let id: Box<str> = text(id)?.into();
        let place = at(text(host).unwrap_or_default(), u16::try_from(int(port)?).ok()?, asked);
        if !masters.iter().any(|(known, _)| *known == id) {
            masters.push((id.clone(), place));
        }
        ranges.push((first, last, id));
    }
    masters.sort();
    let mut table = vec![NOBODY; SLOTS];
    for (first, last, id) in ranges {
        let place = masters.iter().position(|(known, _)| *known == id)?;
        table[first..=last].fill(u16::try_from(place).ok()?);
    }
    Some(View { me: me.into(), masters, table: table.into() })
}

/// What most of the masters that it names see alike, if there is such a view: and how many of how many.
pub(super) fn agreed(views: &[Arc<View>]) -> Option<(Arc<View>, usize)> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for (n, view) in views.iter().enumerate() {
        let group = views[..n].iter().position(|earlier| earlier.agrees_with(view)).unwrap_or(n);
        // Only masters have a say, each once, and a view is only as good as the masters that it names.
        let named = views[group].masters.iter().any(|(id, _)| *id == view.me);
        let again = views[..n].iter().any(|earlier| earlier.me == view.me);
        *counts.entry(group).or_default() += usize::from(named && !again);
    }
    let (group, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count * 2 > views[group].masters.len()).then(|| (views[group].clone(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_by(me: &str, masters: &[&str]) -> Arc<View> {
        let masters: Vec<_> = masters.iter().map(|id| ((*id).into(), Place::Tcp((*id).into(), 1))).collect();
        let table = (0..SLOTS).map(|slot| (slot % masters.len()) as u16).collect();
        Arc::new(View { me: me.into(), masters, table })
    }

    #[test]
    fn most_of_the_masters_that_a_view_names_must_see_it() {
        let whole: Vec<_> = ["a", "b", "c"].map(|me| seen_by(me, &["a", "b", "c"])).into();
        assert_eq!(agreed(&whole).unwrap().1, 3);
        assert_eq!(agreed(&whole[..2]).unwrap().1, 2);
        assert!(agreed(&whole[..1]).is_none(), "one of three is no majority");
        assert!(agreed(&[whole[0].clone(), whole[0].clone()]).is_none(), "nobody is heard twice");
        // A master that was deposed sees itself; the others see its heir.
        let after = [seen_by("a", &["a", "b", "c"]), seen_by("b", &["b", "c", "d"]), seen_by("c", &["b", "c", "d"])];
        let (view, count) = agreed(&after).unwrap();
        assert_eq!((&*view.masters[2].0, count), ("d", 2));
        // Replicas have no say.
        assert!(agreed(&[whole[0].clone(), seen_by("x", &["a", "b", "c"]), seen_by("y", &["a", "b", "c"])]).is_none());
        assert!(agreed(&[]).is_none());
    }
}
