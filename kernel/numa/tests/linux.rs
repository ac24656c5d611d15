//! Policies against the answers of Linux 6.12.
//!
//! The files in `linux-6.12/` are what a test program printed on a booted Linux (Debian's 6.12.107
//! in QEMU, one CPU a node): mode words and masks are hexadecimal, a negative number is an errno.
//! Each test says what the lines of its file are.

use numa::policy::{
    self, FarNodes, Interleaver, ModeWord, Policy, PolicyError, Position, Request, Site, Weights,
    migrate, place, read_back, show,
};
use numa::{CpuId, Distances, Machine, NodeId, NodeMask};

const NODES: usize = 4;

/// Four nodes in a ring, each with a CPU and memory.
fn ring() -> Machine {
    machine(&[[10, 20, 30, 20], [20, 10, 20, 30], [30, 20, 10, 20], [20, 30, 20, 10]], NODES)
}

/// Four nodes of which the last has no memory.
fn asymmetric() -> Machine {
    machine(&[[10, 25, 20, 30], [20, 10, 30, 25], [30, 20, 10, 20], [20, 40, 30, 10]], 3)
}

fn machine(rows: &[[u8; NODES]; NODES], with_memory: usize) -> Machine {
    let mut distances = Distances::flat();
    for (from, row) in rows.iter().enumerate() {
        for (to, distance) in row.iter().enumerate() {
            distances.set(node(from), node(to), *distance);
        }
    }
    let cpus = (0..NODES).map(|n| (CpuId::new(n as u16), node(n)));
    Machine::new(NodeMask::first_n(with_memory), cpus, NodeMask::EMPTY, &distances).unwrap()
}

fn node(n: usize) -> NodeId {
    NodeId::new(n as u16)
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

fn mask(text: &str) -> NodeMask {
    NodeMask::from_words(&[hex(text)])
}

fn word(text: &str) -> i32 {
    hex(text) as u32 as i32
}

fn build(word: i32, user: NodeMask, allowed: NodeMask) -> Result<Option<Policy>, PolicyError> {
    Request::new(ModeWord::parse(word)?, user)?.resolve(allowed, NodeMask::first_n(NODES))
}

/// The two halves of a line "question = answer".
fn halves(line: &str) -> (Vec<&str>, &str) {
    let (question, answer) = line.split_once(" = ").unwrap();
    (question.split(' ').collect(), answer)
}

/// A state as the files print it: mode word and mask of get_mempolicy, text of numa_maps.
fn state(policy: Option<&Policy>) -> String {
    let (word, nodes) = read_back(policy);
    format!("{word:x} {:x} {}", nodes.words()[0], show(policy))
}

fn nodes_of(text: &str) -> Vec<usize> {
    text.bytes().filter(u8::is_ascii_digit).map(|b| usize::from(b - b'0')).collect()
}

/// "word mask = errno" or "word mask = what it reads back as".
#[test]
fn every_mode_flag_and_mask_is_accepted_or_refused_and_reads_back() {
    let mut lines = 0;
    for line in include_str!("linux-6.12/policies.txt").lines() {
        let (ask, answer) = halves(line);
        let ours = match build(word(ask[0]), mask(ask[1]), NodeMask::first_n(NODES)) {
            Ok(policy) => state(policy.as_ref()),
            Err(_) => "-22".into(),
        };
        assert_eq!(ours, answer, "{line}");
        lines += 1;
    }
    assert_eq!(lines, 876);
}

/// "word mask | allowed = state | allowed = state ...": the cpuset's nodes change under a policy.
#[test]
fn policies_follow_the_allowed_nodes() {
    for line in include_str!("linux-6.12/rebinding.txt").lines() {
        let mut steps = line.split(" | ");
        let ask: Vec<_> = steps.next().unwrap().split(' ').collect();
        let mut now: Option<Policy> = None;
        let mut was = NodeMask::EMPTY;
        for (step, text) in steps.enumerate() {
            let (allowed, answer) = text.split_once(" = ").unwrap();
            if step == 0 {
                match build(word(ask[0]), mask(ask[1]), mask(allowed)) {
                    Ok(policy) => now = policy,
                    Err(_) => {
                        assert_eq!(answer, "-22", "{line}");
                        continue;
                    }
                }
            } else if let Some(policy) = now.as_mut().filter(|_| mask(allowed) != was) {
                policy.rebind(mask(allowed));
            }
            was = mask(allowed);
            assert_eq!(state(now.as_ref()), answer, "step {step} of {line}");
        }
    }
}

/// "from to = n n n n": where the pages of nodes 0 to 3 are after migrate_pages.
#[test]
fn migrate_pages_moves_by_rank() {
    for line in include_str!("linux-6.12/migrate_pages.txt").lines() {
        let (ask, answer) = halves(line);
        let mut pages: Vec<_> = (0..NODES).map(node).collect();
        for (from, to) in migrate::moves(mask(ask[0]), FarNodes::default(), mask(ask[1])) {
            pages.iter_mut().filter(|page| **page == from).for_each(|page| *page = to);
        }
        let ours: Vec<_> = pages.iter().map(|node| node.index()).collect();
        assert_eq!(ours, nodes_of(answer), "{line}");
    }
}

fn weights() -> Weights {
    let weights = Weights::new();
    for (n, weight) in [(0, 3), (2, 2), (3, 5)] {
        weights.set(node(n), weight);
    }
    weights
}

/// "task|vma cpu word mask page = nodes": where 24 pages in a row lie, of which the first has
/// that offset; "home cpu word mask home = node": where a page lies under a home node.
fn placements(machine: &Machine, text: &str) {
    let weights = weights();
    for line in text.lines() {
        let (ask, answer) = halves(line);
        let allowed = machine.memory_nodes();
        let local = machine.node_of(CpuId::new(ask[1].parse().unwrap()));
        let site = Site { machine, weights: &weights, allowed, local };
        let mut policy = build(word(ask[2]), mask(ask[3]), allowed).unwrap();
        let mut first_page = hex(ask[4]);
        if ask[0] == "home" {
            let home = node(first_page as usize);
            policy = policy.map(|policy| policy.with_home(home).unwrap());
            first_page = 0;
        }
        for (page, lies_on) in nodes_of(answer).into_iter().enumerate() {
            let position = Position::At(first_page + page as u64);
            let placement = place(policy.as_ref(), &site, position);
            assert_eq!(placement.first(), Some(node(lies_on)), "page {page} of {line}");
        }
    }
}

#[test]
fn pages_lie_where_linux_puts_them_on_a_ring() {
    placements(&ring(), include_str!("linux-6.12/placement-ring.txt"));
}

#[test]
fn pages_lie_where_linux_puts_them_among_asymmetric_distances() {
    placements(&asymmetric(), include_str!("linux-6.12/placement-asymmetric.txt"));
}

/// "cpu word mask page = strict move nodes": eight pages, two on each node, the first with that
/// offset; what mbind gave with STRICT alone and with MOVE alone, and where the pages were then.
#[test]
fn mbind_moves_what_is_misplaced() {
    let machine = ring();
    let weights = weights();
    for line in include_str!("linux-6.12/mbind.txt").lines() {
        let (ask, answer) = halves(line);
        let allowed = machine.memory_nodes();
        let request = ModeWord::parse(word(ask[1])).and_then(|w| Request::new(w, mask(ask[2])));
        let resolved = request.and_then(|r| Ok((r, r.resolve(allowed, allowed)?)));
        let Ok((request, policy)) = resolved else {
            assert_eq!(answer, "-22", "{line}");
            continue;
        };
        let answers: Vec<_> = answer.split(' ').collect();
        let local = machine.node_of(CpuId::new(ask[0].parse().unwrap()));
        let site = Site { machine: &machine, weights: &weights, allowed, local };
        let before: Vec<_> = (0..8).map(|page| node(page * 5 % 8 / 2)).collect();
        let misplaced = |on: &NodeId| request.is_misplaced(*on);
        let strict = !request.is_default() && before.iter().any(misplaced);
        assert_eq!(if strict { "-5" } else { "0" }, answers[0], "{line}");
        assert_eq!("0", answers[1], "{line}");
        for (page, on) in before.iter().enumerate() {
            let position = Position::At(hex(ask[3]) + page as u64);
            let after = match misplaced(on) {
                true => place(policy.as_ref(), &site, position).first().unwrap(),
                false => *on,
            };
            assert_eq!(after.index().to_string(), answers[2 + page], "page {page} of {line}");
        }
    }
}

/// "word mask = errno node": get_mempolicy with MPOL_F_NODE just after set_mempolicy.
#[test]
fn only_interleaving_has_a_next_node() {
    for line in include_str!("linux-6.12/next.txt").lines() {
        let (ask, answer) = halves(line);
        let policy = build(word(ask[0]), mask(ask[1]), NodeMask::first_n(NODES)).unwrap();
        let ours = match policy::next_node(policy.as_ref(), &Interleaver::new()) {
            Some(node) => format!("0 {node}"),
            None => "-22 -9".into(),
        };
        assert_eq!(ours, answer, "{line}");
    }
}
