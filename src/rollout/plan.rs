//! Which worker replaces which (pure).

use std::collections::BTreeSet;

/// A worker that runs, or tries to, when the reload begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Old {
    pub slot: String,
    /// By the router's word; `None`: it serves nobody now.
    pub index: Option<u32>,
}

/// A new worker, and the one that goes when it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub index: u32,
    /// Slot; `None`: nobody has this index now.
    pub old: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In their order: what serves nobody is replaced first.
    pub moves: Vec<Move>,
    /// Slots of old workers that nobody replaces, the highest index first.
    pub surplus: Vec<String>,
}

/// Every index below `wanted` gets a new worker, every old worker goes; each index is passed on where its owner has an
/// heir.
pub fn plan(old: &[Old], wanted: u32) -> Plan {
    let mut left: Vec<&Old> = old.iter().collect();
    left.sort_by_key(|old| (old.index.is_some(), old.index));
    let mut moves: Vec<(bool, Move)> = (0..wanted)
        .map(|index| {
            let at = left.iter().position(|old| old.index == Some(index));
            let owner = at.map(|at| left.remove(at).slot.clone());
            (owner.is_some(), Move { index, old: owner })
        })
        .collect();
    for (_, heir) in moves.iter_mut().filter(|(_, heir)| heir.old.is_none()) {
        if left.is_empty() {
            break;
        }
        heir.old = Some(left.remove(0).slot.clone());
    }
    moves.sort_by_key(|(serves, heir)| (*serves, heir.index));
    let surplus = left.into_iter().rev().map(|old| old.slot.clone()).collect();
    Plan { moves: moves.into_iter().map(|(_, heir)| heir).collect(), surplus }
}

/// The lowest slot that is free.
pub fn spare(taken: &BTreeSet<String>) -> u32 {
    (1..).find(|slot: &u32| !taken.contains(&slot.to_string())).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn old(list: &[(&str, Option<u32>)]) -> Vec<Old> {
        list.iter().map(|(slot, index)| Old { slot: (*slot).to_owned(), index: *index }).collect()
    }

    fn moves(plan: &Plan) -> Vec<(u32, Option<&str>)> {
        plan.moves.iter().map(|it| (it.index, it.old.as_deref())).collect()
    }

    #[test]
    fn each_index_has_an_heir() {
        let plan = plan(&old(&[("2", Some(1)), ("3", Some(2)), ("4", Some(0))]), 3);
        assert_eq!(moves(&plan), [(0, Some("4")), (1, Some("2")), (2, Some("3"))]);
        assert!(plan.surplus.is_empty());
    }

    #[test]
    fn a_crash_loop_is_replaced_first() {
        let plan = plan(&old(&[("1", Some(0)), ("2", None), ("3", Some(2))]), 3);
        assert_eq!(moves(&plan), [(1, Some("2")), (0, Some("1")), (2, Some("3"))]);
    }

    #[test]
    fn more_and_fewer() {
        let now = old(&[("1", Some(0)), ("2", Some(1)), ("3", Some(2))]);
        assert_eq!(moves(&plan(&now, 4)), [(3, None), (0, Some("1")), (1, Some("2")), (2, Some("3"))]);
        let fewer = plan(&now, 1);
        assert_eq!(moves(&fewer), [(0, Some("1"))]);
        assert_eq!(fewer.surplus, ["3", "2"]);
        assert_eq!(moves(&plan(&[], 2)), [(0, None), (1, None)]);
    }

    #[test]
    fn the_lowest_free_slot() {
        let taken = ["1", "3", "blue"].map(str::to_owned).into();
        assert_eq!(spare(&taken), 2);
    }

    proptest! {
        #[test]
        fn all_old_ones_go_and_all_indices_are_filled(
            indices in prop::collection::vec(prop::option::of(0..9_u32), 0..9),
            wanted in 1..9_u32,
        ) {
            let old: Vec<Old> =
                indices.iter().enumerate().map(|(at, index)| Old { slot: at.to_string(), index: *index }).collect();
            let plan = plan(&old, wanted);
            let mut filled: Vec<u32> = plan.moves.iter().map(|it| it.index).collect();
            filled.sort_unstable();
            prop_assert_eq!(filled, (0..wanted).collect::<Vec<_>>());
            let mut gone: Vec<&String> = plan.moves.iter().filter_map(|it| it.old.as_ref()).chain(&plan.surplus).collect();
            gone.sort();
            prop_assert!(gone.iter().copied().eq(old.iter().map(|it| &it.slot)));
            // Nobody is without an heir while somebody replaces nobody.
            prop_assert!(plan.surplus.is_empty() || plan.moves.iter().all(|it| it.old.is_some()));
        }
    }
}
