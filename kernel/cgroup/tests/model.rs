//! The tree against models that work everything out anew: what is in effect, who is populated, what
//! counts.

use cgroup::{Change, Controller, Id, Kind, ROOT, Tree, Watched, Which};
use numa::{CpuId, CpuMask, NodeMask};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Default, Clone)]
struct Told(Rc<Cell<u32>>);

impl Watched for Told {
    fn events_changed(&self) {
        self.0.set(self.0.get() + 1);
    }
}

fn tree() -> Tree<Told> {
    Tree::new(CpuMask::first_n(8), NodeMask::first_n(4), NodeMask::first_n(4), Told::default())
}

fn cpus(bits: u64) -> CpuMask {
    CpuMask::from_words(&[bits & 0xff])
}

#[derive(Clone, Debug)]
enum Op {
    Make(usize),
    Remove(usize),
    Cpus(usize, u64),
    Control(usize, bool),
    Freeze(usize, bool),
    Still(usize, bool),
    Enter(usize),
    Leave(usize),
    End(usize),
    Reap(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0usize..12;
    prop_oneof![
        4 => at.clone().prop_map(Op::Make),
        2 => at.clone().prop_map(Op::Remove),
        4 => (at.clone(), any::<u64>()).prop_map(|(at, bits)| Op::Cpus(at, bits)),
        4 => (at.clone(), any::<bool>()).prop_map(|(at, on)| Op::Control(at, on)),
        2 => (at.clone(), any::<bool>()).prop_map(|(at, on)| Op::Freeze(at, on)),
        4 => (at.clone(), any::<bool>()).prop_map(|(at, on)| Op::Still(at, on)),
        3 => at.clone().prop_map(Op::Enter),
        2 => at.clone().prop_map(Op::Leave),
        2 => at.clone().prop_map(Op::End),
        2 => at.prop_map(Op::Reap),
    ]
}

/// What a group was told, and what is in it.
#[derive(Clone, Debug, Default)]
struct Own {
    parent: Id,
    cpus: u64,
    tasks: u64,
    zombies: u64,
    freeze: bool,
    still: u64,
    removed: bool,
}

struct Model {
    groups: BTreeMap<Id, Own>,
    given: BTreeMap<Id, bool>,
}

impl Model {
    fn within(&self, mut id: Id, top: Id) -> bool {
        while id != top && id != ROOT {
            id = self.groups[&id].parent;
        }
        id == top
    }

    fn has_cpuset(&self, id: Id) -> bool {
        id == ROOT || self.given.get(&self.groups[&id].parent).copied().unwrap_or(false)
    }

    fn effective(&self, id: Id) -> u64 {
        if id == ROOT {
            return 0xff;
        }
        let above = self.effective(self.groups[&id].parent);
        let own = if self.has_cpuset(id) { self.groups[&id].cpus & above } else { 0 };
        if own == 0 { above } else { own }
    }

    fn freezing(&self, id: Id) -> bool {
        id != ROOT && (self.groups[&id].freeze || self.freezing(self.groups[&id].parent))
    }

    /// Everybody in it and below stands still, as was asked.
    fn frozen(&self, id: Id) -> bool {
        let moving = self.sum(id, |own| own.tasks - own.still);
        self.freezing(id) && moving == 0
    }

    fn sum(&self, top: Id, of: impl Fn(&Own) -> u64) -> u64 {
        let below = self.groups.iter().filter(|(id, _)| self.within(**id, top));
        below.map(|(_, own)| of(own)).sum()
    }

    fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        let alive = move |(_, own): &(&Id, &Own)| own.parent == id && !own.removed;
        self.groups.iter().filter(alive).map(|(id, _)| *id)
    }
}

proptest! {
    #[test]
    fn everything_is_as_if_worked_out_anew(ops in proptest::collection::vec(op(), 1..120)) {
        let mut tree = tree();
        let mut model = Model { groups: BTreeMap::new(), given: BTreeMap::new() };
        let mut ids = vec![ROOT];
        for (n, op) in ops.into_iter().enumerate() {
            let at = |at: usize, ids: &[Id]| ids[at % ids.len()];
            match op {
                Op::Make(where_) => {
                    let parent = at(where_, &ids);
                    let made = tree.make(parent, format!("g{n}").as_bytes(), Told::default());
                    let id = made.expect("room for a group");
                    model.groups.insert(id, Own { parent, ..Own::default() });
                    ids.push(id);
                }
                Op::Remove(which) => {
                    let id = at(which, &ids);
                    let busy = id == ROOT
                        || model.children(id).next().is_some()
                        || model.sum(id, |own| own.tasks) > 0;
                    prop_assert_eq!(tree.remove(id).is_err(), busy);
                    if !busy {
                        ids.retain(|own| *own != id);
                        model.groups.get_mut(&id).expect("it was made").removed = true;
                    }
                }
                Op::Cpus(which, bits) => {
                    let id = at(which, &ids);
                    if id == ROOT || !model.has_cpuset(id) {
                        continue;
                    }
                    let own = model.groups[&id].cpus;
                    let kept = bits & 0xff == 0 && own != 0 && model.sum(id, |own| own.tasks) > 0;
                    prop_assert_eq!(tree.set_cpuset(id, Which::Cpus(cpus(bits))).is_err(), kept);
                    if !kept {
                        model.groups.get_mut(&id).expect("it was made").cpus = bits & 0xff;
                    }
                }
                Op::Control(which, on) => {
                    let id = at(which, &ids);
                    let text = if on { "+cpuset" } else { "-cpuset" };
                    let asked = Change::parse(text).expect("a change");
                    let Ok(change) = tree.vet_change(id, asked) else { continue };
                    tree.change(id, change).expect("the group is there");
                    if change.enable.has(Controller::Cpuset) || change.disable.has(Controller::Cpuset)
                    {
                        model.given.insert(id, on);
                        let children: Vec<Id> = model.children(id).collect();
                        for child in children {
                            model.groups.get_mut(&child).expect("it was made").cpus = 0;
                        }
                    }
                }
                Op::Freeze(which, on) => {
                    let id = at(which, &ids);
                    if id != ROOT {
                        tree.set_freeze(id, on).expect("the group is there");
                        model.groups.get_mut(&id).expect("it was made").freeze = on;
                    }
                }
                Op::Still(which, more) => {
                    let id = at(which, &ids);
                    let Some(own) = model.groups.get_mut(&id) else { continue };
                    if more && own.still < own.tasks || !more && own.still > 0 {
                        own.still = if more { own.still + 1 } else { own.still - 1 };
                        tree.count_frozen(id, more);
                    }
                }
                Op::Enter(which) => {
                    let id = at(which, &ids);
                    tree.enter(id);
                    tree.count_pid(id);
                    if id != ROOT {
                        model.groups.get_mut(&id).expect("it was made").tasks += 1;
                    }
                }
                Op::Leave(which) | Op::End(which) => {
                    let id = at(which, &ids);
                    let Some(own) = model.groups.get_mut(&id).filter(|own| own.tasks > 0) else {
                        continue;
                    };
                    if own.still == own.tasks {
                        own.still -= 1;
                        tree.count_frozen(id, false);
                    }
                    own.tasks -= 1;
                    tree.leave(id);
                    if matches!(op, Op::End(_)) {
                        own.zombies += 1;
                        tree.hold(id);
                    } else {
                        tree.uncount_pid(id);
                    }
                }
                Op::Reap(which) => {
                    let mut holding = model.groups.iter_mut().filter(|(_, own)| own.zombies > 0);
                    let Some((id, own)) = holding.nth(which % 3) else { continue };
                    own.zombies -= 1;
                    tree.uncount_pid(*id);
                    tree.release(*id);
                }
            }
            for id in &ids {
                let group = tree.group(*id).expect("it was not removed");
                prop_assert_eq!(tree.cpuset_of(*id).effective_cpus, cpus(model.effective(*id)));
                let below = model.sum(*id, |own| u64::from(!own.removed));
                let own = u64::from(*id != ROOT);
                prop_assert_eq!(u64::from(group.descendants()), below - own);
                if *id != ROOT {
                    let tasks = model.sum(*id, |own| own.tasks);
                    prop_assert_eq!(group.is_populated(), tasks > 0);
                    prop_assert_eq!(group.freezer().is_frozen(), model.frozen(*id));
                    let all = model.sum(*id, |own| own.tasks + own.zombies);
                    prop_assert_eq!(group.pids.current(), all);
                }
                let walked = core::iter::successors(Some(*id), |at| tree.next(*at, *id, false));
                prop_assert_eq!(walked.count() as u64, below + 1 - own);
            }
            // What nobody names any more is gone: only removed groups with zombies in or below.
            let dying = model.groups.iter().filter(|(id, own)| {
                own.removed && model.sum(**id, |own| own.zombies) > 0
            });
            let root = tree.group(ROOT).expect("the root is there");
            prop_assert_eq!(root.dying() as usize, dying.count());
        }
    }
}

#[test]
fn events_are_told_once_for_each_change() {
    let mut tree = tree();
    let told = Told::default();
    let a = tree.make(ROOT, b"a", told.clone()).unwrap();
    let b = tree.make(a, b"b", Told::default()).unwrap();
    for (enter, expected) in [(true, 1), (true, 1), (false, 1), (false, 2)] {
        if enter {
            tree.enter(b)
        } else {
            tree.leave(b)
        }
        assert_eq!(told.0.get(), expected);
    }
}

#[test]
fn threaded_groups_make_their_domain_a_thread_root() {
    let mut tree = tree();
    let a = tree.make(ROOT, b"a", Told::default()).unwrap();
    let b = tree.make(a, b"b", Told::default()).unwrap();
    let c = tree.make(b, b"c", Told::default()).unwrap();
    tree.make_threaded(b).unwrap();
    let kinds = [a, b, c].map(|id| tree.kind(id).unwrap());
    assert_eq!(kinds, [Kind::ThreadRoot, Kind::Threaded, Kind::Invalid]);
    assert_eq!(tree.domain_of(b), a);
    assert!(tree.vet_move(ROOT, c, true).is_err());
    assert!(tree.vet_move(a, b, false).is_ok() && tree.vet_move(ROOT, b, false).is_err());
    tree.remove(c).unwrap();
    tree.remove(b).unwrap();
    assert_eq!(tree.kind(a).unwrap(), Kind::Domain);
}

#[test]
fn a_change_is_read_word_by_word() {
    for bad in ["cpuset", "+", "+none", "x +cpuset", "+cpuset,+pids", "ä"] {
        assert!(Change::parse(bad).is_err(), "{bad}");
    }
    let change = Change::parse(" +cpuset  -pids +pids ").unwrap();
    assert!(change.enable.has(Controller::Pids) && change.disable.is_empty());
}

#[test]
fn a_deep_tree_needs_no_stack() {
    let mut tree = tree();
    let mut path = vec![ROOT];
    for _ in 0..2_000 {
        path.push(tree.make(path[path.len() - 1], b"d", Told::default()).unwrap());
    }
    let last = path[path.len() - 1];
    tree.enter(last);
    assert!(tree.group(path[1]).unwrap().is_populated());
    assert_eq!(tree.path(last).unwrap().0.len(), 4_000);
    assert_eq!(tree.common_ancestor(last, path[1]), path[1]);
    tree.set_cpuset(path[1], Which::Cpus(CpuMask::single(CpuId::new(1)))).unwrap();
    tree.leave(last);
    tree.hold(last);
    for id in path[1..].iter().rev() {
        tree.remove(*id).unwrap();
    }
    assert_eq!(tree.group(ROOT).unwrap().dying(), 2_000);
    tree.release(last);
    assert_eq!(tree.group(ROOT).unwrap().dying(), 0);
}
