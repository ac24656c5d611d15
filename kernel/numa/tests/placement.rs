//! Placement against an independent model: on every machine of three nodes, and by properties on
//! machines of up to 64 with memoryless nodes and asymmetric distances.
//!
//! The model works on plain vectors of numbers and says what each mode means in one sentence; it
//! shares no code with the crate but the fallback order, which has its own tests.

use numa::policy::{
    FarNodes, Interleaver, Mode, ModeWord, Placement, Policy, Position, Reason, Request, Site,
    Weights, migrate, place, remap,
};
use numa::{Distances, MAX_NODES, Machine, NodeId, NodeMask};
use proptest::prelude::*;

fn node(n: usize) -> NodeId {
    NodeId::new(n as u16)
}

fn mask(bits: u64) -> NodeMask {
    NodeMask::from_words(&[bits])
}

fn members(mask: NodeMask) -> Vec<usize> {
    (0..MAX_NODES).filter(|n| mask.contains(node(*n))).collect()
}

/// A machine of `nodes` nodes with memory on those of `memory`, its distances out of `seed`.
fn machine(nodes: usize, memory: NodeMask, seed: u64) -> Machine {
    let mut distances = Distances::flat();
    let mut state = seed | 1;
    for from in 0..nodes {
        for to in (0..nodes).filter(|to| *to != from) {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            distances.set(node(from), node(to), 20 + (state >> 60) as u8 / 4);
        }
    }
    Machine::new(memory, [], NodeMask::first_n(nodes), &distances).unwrap()
}

/// What a policy asks for, in the model's terms.
struct Case<'a> {
    machine: &'a Machine,
    weights: &'a Weights,
    mode: Mode,
    nodes: Vec<usize>,
    allowed: Vec<usize>,
    local: usize,
    home: Option<usize>,
    position: u64,
}

impl Case<'_> {
    /// The fallback order of `start`, without the nodes that are not allowed.
    fn order(&self, start: usize) -> Vec<usize> {
        let order = self.machine.fallback(node(start)).iter().map(NodeId::index);
        order.filter(|n| self.allowed.contains(n)).collect()
    }

    /// The order in which nodes are to be tried.
    fn model(&self) -> Vec<usize> {
        let near = self.order(self.home.unwrap_or(self.local));
        let named = |n: &usize| self.nodes.contains(n);
        match self.mode {
            Mode::Default | Mode::Local => self.order(self.local),
            Mode::Preferred => self.order(self.nodes[0]),
            Mode::Bind if !self.allowed.iter().any(named) => near,
            Mode::Bind => near.into_iter().filter(named).collect(),
            Mode::PreferredMany => {
                let (first, then): (Vec<_>, Vec<_>) = near.into_iter().partition(named);
                [first, then].concat()
            }
            Mode::Interleave => self.order(self.nodes[self.position as usize % self.nodes.len()]),
            Mode::WeightedInterleave => {
                let turns = |n: &usize| vec![*n; usize::from(self.weights.get(node(*n)))];
                let round: Vec<_> = self.nodes.iter().flat_map(turns).collect();
                self.order(round[self.position as usize % round.len()])
            }
        }
    }

    fn check(&self, policy: Option<Policy>) {
        let allowed = self.allowed.iter().map(|n| node(*n)).collect();
        let policy = match (policy, self.home) {
            (Some(policy), Some(home)) => Some(policy.with_home(node(home)).unwrap_or(policy)),
            (policy, _) => policy,
        };
        let local = node(self.local);
        let site = Site { machine: self.machine, weights: self.weights, allowed, local };
        let placement = place(policy.as_ref(), &site, Position::At(self.position));
        let ours: Vec<_> = placement.nodes().map(NodeId::index).collect();
        let model = self.model();
        assert_eq!(ours, model, "{:?} {:?} of {:?}", self.mode, self.nodes, self.allowed);
        assert_eq!(placement.first().map(NodeId::index), model.first().copied());
        self.check_reasons(&placement, &model);
        self.check_huge(&placement, &model);
    }

    /// A huge page is had near or not at all where nothing but nearness decides.
    fn check_huge(&self, placement: &Placement<'_>, model: &[usize]) {
        let start = self.home.unwrap_or(self.local);
        let bound = self.nodes.iter().any(|n| self.allowed.contains(n));
        let near = match self.mode {
            Mode::Default | Mode::Local => Some(self.local),
            Mode::Preferred => Some(self.nodes[0]),
            Mode::Bind if bound => Some(start).filter(|start| model.contains(start)),
            Mode::Bind => Some(start),
            Mode::PreferredMany | Mode::Interleave | Mode::WeightedInterleave => None,
        };
        let found = |waits| placement.nodes_for_huge(waits).map(NodeId::index).collect::<Vec<_>>();
        let alone = |near: usize| model.iter().copied().filter(|n| *n == near).collect();
        assert_eq!(found(false), near.map_or(model.to_vec(), alone), "{:?}", self.mode);
        assert_eq!(found(true), model, "{:?}", self.mode);
    }

    fn check_reasons(&self, placement: &Placement<'_>, model: &[usize]) {
        let bound = self.nodes.iter().any(|n| self.allowed.contains(n));
        assert_eq!(placement.is_strict(), self.mode == Mode::Bind && bound);
        for (rank, n) in model.iter().enumerate() {
            let first = |reason| if rank == 0 { reason } else { Reason::Fallback };
            let expected = match self.mode {
                Mode::Bind if bound => Reason::Bind,
                Mode::Default | Mode::Local | Mode::Bind => first(Reason::Local),
                Mode::Preferred => first(Reason::Preferred),
                Mode::PreferredMany if self.nodes.contains(n) => Reason::PreferredMany,
                Mode::PreferredMany => Reason::Fallback,
                Mode::Interleave => first(Reason::Interleave),
                Mode::WeightedInterleave => first(Reason::WeightedInterleave),
            };
            assert_eq!(placement.reason_on(node(*n)), expected, "{:?}", self.mode);
        }
    }
}

fn policy(mode: Mode, user: NodeMask, allowed: NodeMask, memory: NodeMask) -> Option<Policy> {
    let word = ModeWord::parse(mode as i32).unwrap();
    Request::new(word, user).unwrap().resolve(allowed, memory).unwrap()
}

const NAMING: [Mode; 5] =
    [Mode::Preferred, Mode::Bind, Mode::Interleave, Mode::PreferredMany, Mode::WeightedInterleave];

#[test]
fn every_placement_on_three_nodes_is_the_models() {
    let weights = Weights::new();
    weights.set(node(0), 2);
    weights.set(node(2), 3);
    let mut checked = 0;
    for (memory, seed) in (1..8).flat_map(|memory| (0..4).map(move |seed| (memory, seed))) {
        let machine = machine(3, mask(memory), seed);
        for made_for in (1..8).map(mask).filter(|made_for| made_for.intersects(&mask(memory))) {
            for user in (1..8).map(mask).filter(|user| user.intersects(&(made_for & mask(memory))))
            {
                for mode in NAMING {
                    let policy = policy(mode, user, made_for, mask(memory));
                    let nodes = members(policy.unwrap().nodes());
                    // The nodes allowed at the time of the fault need not be those of before.
                    for allowed in (1..8).map(|bits| mask(bits & memory)) {
                        for (local, position) in (0..3).flat_map(|l| (0..7).map(move |p| (l, p))) {
                            let home = [None, Some(0), Some(1), Some(2)][position as usize % 4];
                            let home =
                                home.filter(|_| matches!(mode, Mode::Bind | Mode::PreferredMany));
                            let case = Case {
                                machine: &machine,
                                weights: &weights,
                                mode,
                                nodes: nodes.clone(),
                                allowed: members(allowed),
                                local,
                                home,
                                position,
                            };
                            case.check(policy);
                            checked += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(checked > 300_000, "{checked}");
}

#[test]
fn without_a_policy_memory_is_local() {
    let weights = Weights::new();
    let machine = machine(3, mask(0b101), 1);
    for (mode, policy) in [
        (Mode::Default, None),
        (Mode::Local, policy(Mode::Local, NodeMask::EMPTY, mask(7), mask(5))),
    ] {
        for local in 0..3 {
            let (nodes, allowed) = (vec![], vec![0, 2]);
            let (home, position, weights, machine) = (None, 5, &weights, &machine);
            Case { machine, weights, mode, nodes, allowed, local, home, position }.check(policy);
        }
    }
}

#[test]
fn an_exact_placement_has_no_other_node() {
    let machine = machine(3, mask(0b011), 1);
    let on = |n| Placement::exactly(&machine, node(n)).nodes().collect::<Vec<_>>();
    assert_eq!(on(1), [node(1)]);
    assert!(on(2).is_empty(), "a node without memory");
    assert!(Placement::exactly(&machine, node(1)).is_strict());
}

/// A machine of up to 64 nodes, a mask of allowed nodes with memory, and one of named nodes that
/// meets it.
fn large() -> impl Strategy<Value = (usize, NodeMask, NodeMask, NodeMask, u64)> {
    (1usize..=MAX_NODES, any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(nodes, memory, allowed, named, seed)| {
            let all = NodeMask::first_n(nodes);
            let lone = node(seed as usize % nodes);
            let memory = (mask(memory) & all).with(lone);
            let allowed = (mask(allowed) & memory).with(lone);
            (nodes, memory, allowed, mask(named).with(lone), seed)
        },
    )
}

proptest! {
    #[test]
    fn large_machines_agree_with_the_model(
        (nodes, memory, allowed, named, seed) in large(),
        position in any::<u64>(),
    ) {
        let machine = machine(nodes, memory, seed);
        let weights = Weights::new();
        for n in 0..nodes {
            weights.set(node(n), (seed >> (n % 48)) as u8);
        }
        for mode in NAMING {
            let policy = policy(mode, named, allowed, memory);
            let many = matches!(mode, Mode::Bind | Mode::PreferredMany);
            let case = Case {
                machine: &machine,
                weights: &weights,
                mode,
                nodes: members(policy.unwrap().nodes()),
                allowed: members(allowed),
                local: position as usize % nodes,
                home: (many && seed % 3 == 0).then_some(seed as usize / 3 % nodes),
                position,
            };
            case.check(policy);
        }
    }

    #[test]
    fn turns_are_as_fair_as_the_weights(named in 1u64.., seed in any::<u64>()) {
        let nodes = mask(named);
        let weights = Weights::new();
        for n in nodes {
            weights.set(n, (seed >> (n.index() % 56)) as u8 % 9);
        }
        let round: usize = nodes.iter().map(|n| usize::from(weights.get(n))).sum();
        let mut turn = Interleaver::new();
        let mut got = [0usize; MAX_NODES];
        for _ in 0..3 * round {
            let peeked = turn.peek_weighted(nodes);
            let next = turn.next_weighted(nodes, &weights);
            prop_assert_eq!(peeked, next);
            got[next.unwrap().index()] += 1;
        }
        for n in nodes {
            prop_assert_eq!(got[n.index()], 3 * usize::from(weights.get(n)));
        }
        let mut turn = Interleaver::new();
        for expected in nodes.iter().chain(nodes) {
            prop_assert_eq!(turn.peek(nodes), Some(expected));
            prop_assert_eq!(turn.next(nodes), Some(expected));
        }
    }

    #[test]
    fn remapping_keeps_ranks(user in any::<u64>(), old in 1u64.., new in 1u64..) {
        let (old, new) = (members(mask(old)), members(mask(new)));
        let as_mask = |nodes: &[usize]| nodes.iter().map(|n| node(*n)).collect::<NodeMask>();
        let follow = |n: usize| match old.iter().position(|o| *o == n) {
            Some(rank) => new[rank % new.len()],
            None => n,
        };
        let model: Vec<_> = members(mask(user)).into_iter().map(follow).collect();
        prop_assert_eq!(remap::remap(mask(user), as_mask(&old), as_mask(&new)), as_mask(&model));
        let count_in = |n: usize| new[n % new.len()];
        let model: Vec<_> = members(mask(user)).into_iter().map(count_in).collect();
        prop_assert_eq!(remap::relative(mask(user), as_mask(&new)), as_mask(&model));
    }

    #[test]
    fn a_migration_ends_and_leaves_no_page_that_should_have_moved(
        from in any::<u64>(),
        to in 1u64..,
    ) {
        let (from, to) = (mask(from), mask(to));
        let moves: Vec<_> = migrate::moves(from, FarNodes::default(), to).collect();
        let mut left = NodeMask::EMPTY;
        for (source, target) in &moves {
            prop_assert!(left.insert(*source), "a node is left once");
            prop_assert!(from.contains(*source) && to.contains(*target));
            prop_assert_ne!(source, target);
        }
        let stays = |n: NodeId| match from.count() == to.count() {
            true => remap::remap_node(n, from, to) == n,
            false => to.contains(n) || remap::remap_node(n, from, to) == n,
        };
        for n in from {
            prop_assert_eq!(left.contains(n), !stays(n));
        }
        // Where targets are not themselves sources, nothing is moved twice.
        if !from.intersects(&to) {
            let mut arrived = NodeMask::EMPTY;
            for (source, target) in moves {
                prop_assert!(!arrived.contains(source));
                arrived.insert(target);
            }
        }
    }

    #[test]
    fn a_rebound_policy_stays_within_what_is_allowed(
        word in prop_oneof![Just(2), Just(3), Just(6), Just(0x8002), Just(0x4003), Just(0x2002)],
        user in 1u64..,
        steps in proptest::collection::vec(1u64.., 1..6),
    ) {
        let all = NodeMask::full();
        let request = Request::new(ModeWord::parse(word).unwrap(), mask(user)).unwrap();
        let mut policy = request.resolve(all, all).unwrap().unwrap();
        for allowed in steps.into_iter().map(mask) {
            policy.rebind(allowed);
            prop_assert!(policy.nodes().is_subset(&allowed) && !policy.nodes().is_empty());
            if word == 0x8002 {
                let named = mask(user) & allowed;
                prop_assert_eq!(policy.nodes(), if named.is_empty() { allowed } else { named });
            }
        }
    }
}

#[test]
fn migrate_targets_need_permission() {
    use migrate::{MigrateError, permitted_targets};
    let (a, ab, c) = (mask(1), mask(3), mask(4));
    assert_eq!(permitted_targets(ab, ab, a, false), Ok(a));
    assert_eq!(permitted_targets(ab, a, ab, false), Err(MigrateError::NotAllowed));
    assert_eq!(permitted_targets(ab, a, ab, true), Ok(ab));
    assert_eq!(permitted_targets(c, c, ab, false), Err(MigrateError::NoUsableNodes));
}

#[test]
fn a_policy_may_be_merged_with_its_like_only() {
    let made = |word, user| {
        let request = Request::new(ModeWord::parse(word).unwrap(), mask(user)).unwrap();
        request.resolve(mask(0xf), mask(0xf)).unwrap().unwrap()
    };
    assert_eq!(made(2, 0x13), made(2, 3), "the rest of the mask is forgotten");
    assert_ne!(made(0x8002, 0x13), made(0x8002, 3), "the rest of the mask is kept");
    assert_ne!(made(2, 3), made(3, 3));
    assert_ne!(made(2, 3), made(2, 3).with_home(node(1)).unwrap());
    assert!(made(1, 1).with_home(node(1)).is_err());
    assert!(made(3, 1).with_home(node(1)).is_err());
}
