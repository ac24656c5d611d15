//! Memory policies and page migration.

use super::Ctx;
use crate::access::{self, Mode};
use crate::creds;
use crate::task::{Current, TaskRef, table};
use abi::{Errno, Result};
use alloc::sync::Arc;
use hal::VirtAddr;
use hal::user;
use numa::policy::migrate::{MigrateError, permitted_targets};
use numa::policy::{FarNodes, Interleaver, ModeWord, Policy, Request, next_node, read_back};
use numa::{NodeId, NodeMask};
use vm::mempolicy::MoveFlags;
use vm::movepages::{Queue, Queued};
use vm::{Mm, PAGE};

crate::syscalls! {
    237 mbind(start: u64, len: u64, mode: i32, mask: VirtAddr, maxnode: u64, flags: u32) => mbind;
    238 set_mempolicy(mode: i32, mask: VirtAddr, maxnode: u64) => set_mempolicy;
    239 get_mempolicy(policy: VirtAddr, mask: VirtAddr, maxnode: u64, addr: u64, flags: u64) => get_mempolicy;
    256 migrate_pages(pid: i32, maxnode: u64, from: VirtAddr, to: VirtAddr) => migrate_pages;
    279 move_pages(pid: i32, count: u64, pages: VirtAddr, nodes: VirtAddr, status: VirtAddr, flags: i32) => move_pages;
    450 set_mempolicy_home_node(start: u64, len: u64, node: u64, flags: u64) => set_home_node;
}

/// Nodes that Linux's masks have room for (Debian's CONFIG_NODES_SHIFT is 10): bits from there on
/// must be zero, bits below that name no node are dropped later.
const LINUX_NODES: u64 = 1024;
const MPOL_MF_STRICT: u32 = 1;
const MPOL_MF_MOVE: u32 = 2;
const MPOL_MF_MOVE_ALL: u32 = 4;

fn machine_nodes() -> usize {
    crate::machine().node_ids()
}

/// Copies a node mask in. `maxnode` counts one more than the bits that are read. EINVAL for bits
/// beyond Linux's masks, EFAULT.
///
/// The second value is what this kernel has no nodes for.
fn read_nodes(mask: VirtAddr, maxnode: u64) -> Result<(NodeMask, FarNodes)> {
    let bits = maxnode.wrapping_sub(1);
    if bits == 0 || mask.raw() == 0 {
        return Ok((NodeMask::EMPTY, FarNodes::default()));
    }
    if bits > PAGE * 8 {
        return Err(Errno::EINVAL);
    }
    let words = bits.div_ceil(64);
    let mut known = [0u64; 1];
    let mut far = FarNodes::default();
    // From the end, as Linux does: a word too many is found before an unreadable one.
    for i in (0..words).rev() {
        let mut word: u64 = user::read(mask + i * 8)?;
        let used = (bits - i * 64).min(64);
        if used < 64 {
            word &= (1 << used) - 1;
        }
        if i * 64 >= LINUX_NODES {
            if word != 0 {
                return Err(Errno::EINVAL);
            }
        } else if i as usize >= known.len() {
            far.0[i as usize - known.len()] = word;
        } else {
            known[i as usize] = word;
        }
    }
    Ok((NodeMask::from_words(&known), far))
}

/// Copies a node mask out: whole words up to what the machine has, zeroes behind. EINVAL for a
/// mask of more than a page; of as many nodes as do not fit into whole words, none, as on Linux.
fn write_nodes(mask: VirtAddr, maxnode: u64, nodes: &NodeMask) -> Result<()> {
    let copy = maxnode.wrapping_sub(1).checked_next_multiple_of(64).unwrap_or(0) / 8;
    let have = (machine_nodes().div_ceil(64) * 8) as u64;
    if copy > have {
        if copy > PAGE {
            return Err(Errno::EINVAL);
        }
        hal::usercopy::clear(mask + have, (copy - have) as usize)?;
    }
    let bytes = user::slice_bytes(nodes.words());
    user::copy_to(mask, &bytes[..copy.min(have) as usize])
}

/// The request in a mode word and a mask; EINVAL as Linux answers.
fn request(mode: i32, mask: VirtAddr, maxnode: u64) -> Result<Request> {
    let word = ModeWord::parse(mode).map_err(|_| Errno::EINVAL)?;
    let (nodes, far) = read_nodes(mask, maxnode)?;
    Request::with_far(word, nodes, far).map_err(|_| Errno::EINVAL)
}

fn resolve(c: &Ctx<'_>, request: &Request) -> Result<Option<Policy>> {
    let allowed = c.task.numa.lock().allowed;
    request.resolve(allowed, crate::machine().memory_nodes()).map_err(|_| Errno::EINVAL)
}

fn set_mempolicy(c: &mut Ctx<'_>, mode: i32, mask: VirtAddr, maxnode: u64) -> Result<()> {
    let request = request(mode, mask, maxnode)?;
    let policy = resolve(c, &request)?;
    let mut numa = c.task.numa.lock();
    if policy.is_some_and(|p| p.mode().interleaves()) {
        numa.turn = Interleaver::new();
    }
    numa.policy = policy;
    Ok(())
}

fn get_mempolicy(
    c: &mut Ctx<'_>,
    policy: VirtAddr,
    mask: VirtAddr,
    maxnode: u64,
    addr: u64,
    flags: u64,
) -> Result<()> {
    tell_policy(c.task, policy, mask, maxnode, addr, flags)
}

/// get_mempolicy(2) for the running task.
pub fn tell_policy(
    task: Current,
    policy: VirtAddr,
    mask: VirtAddr,
    maxnode: u64,
    addr: u64,
    flags: u64,
) -> Result<()> {
    const NODE: u64 = 1;
    const ADDR: u64 = 2;
    const MEMS_ALLOWED: u64 = 4;
    if mask.raw() != 0 && maxnode < machine_nodes() as u64 {
        return Err(Errno::EINVAL);
    }
    if flags & !(NODE | ADDR | MEMS_ALLOWED) != 0 {
        return Err(Errno::EINVAL);
    }
    let (mode, nodes) = if flags & MEMS_ALLOWED != 0 {
        if flags & (NODE | ADDR) != 0 {
            return Err(Errno::EINVAL);
        }
        (0, task.numa.lock().allowed)
    } else if flags & ADDR != 0 {
        let mm = task.mm().map(|mm| mm.clone()).ok_or(Errno::EFAULT)?;
        let found = mm.policy_at(addr)?;
        let (mode, nodes) = read_back(found.as_deref());
        if flags & NODE != 0 { (mm.node_at(addr)?.index() as i32, nodes) } else { (mode, nodes) }
    } else {
        if addr != 0 {
            return Err(Errno::EINVAL);
        }
        let numa = task.numa.lock();
        let (mode, nodes) = read_back(numa.policy.as_ref());
        if flags & NODE != 0 {
            let next = next_node(numa.policy.as_ref(), &numa.turn).ok_or(Errno::EINVAL)?;
            (next.index() as i32, nodes)
        } else {
            (mode, nodes)
        }
    };
    if policy.raw() != 0 {
        user::write(policy, &mode)?;
    }
    if mask.raw() != 0 {
        write_nodes(mask, maxnode, &nodes)?;
    }
    Ok(())
}

/// A range as mbind takes it: aligned start, length rounded up; None when it is empty.
fn range(start: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let len = len.wrapping_add(PAGE - 1) & !(PAGE - 1);
    let end = start.wrapping_add(len);
    if end < start {
        return Err(Errno::EINVAL);
    }
    Ok((end > start).then_some((start, end)))
}

fn mbind(
    c: &mut Ctx<'_>,
    start: u64,
    len: u64,
    mode: i32,
    mask: VirtAddr,
    maxnode: u64,
    flags: u32,
) -> Result<()> {
    let word = ModeWord::parse(mode).map_err(|_| Errno::EINVAL)?;
    let (nodes, far) = read_nodes(mask, maxnode)?;
    if flags & !(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MPOL_MF_MOVE_ALL != 0 && !creds::has(creds::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let Some((start, end)) = range(start, len)? else { return Ok(()) };
    let request = Request::with_far(word, nodes, far).map_err(|_| Errno::EINVAL)?;
    let policy = resolve(c, &request)?;
    let flags = MoveFlags {
        strict: flags & MPOL_MF_STRICT != 0,
        moves: flags & MPOL_MF_MOVE != 0,
        all: flags & MPOL_MF_MOVE_ALL != 0,
    };
    c.mm().bind(start, end, &request, policy, flags)
}

fn set_home_node(c: &mut Ctx<'_>, start: u64, len: u64, node: u64, flags: u64) -> Result<()> {
    if !start.is_multiple_of(PAGE) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let home = NodeId::try_new(node as usize)
        .filter(|n| node < u64::MAX && crate::machine().nodes().contains(*n))
        .ok_or(Errno::EINVAL)?;
    let Some((start, end)) = range(start, len)? else { return Ok(()) };
    c.mm().set_home_node(start, end, home)
}

/// The task of a call that may be about another one, if the caller may look into it as ptrace(2)
/// would (EPERM); ESRCH.
fn target(c: &Ctx<'_>, pid: i32) -> Result<TaskRef> {
    if pid == 0 {
        return Ok(c.task.handle());
    }
    let task = table::task(pid).ok_or(Errno::ESRCH)?;
    access::check_task(&task, Mode::ReadReal)?;
    Ok(task)
}

/// The address space of a task; EINVAL for one of the kernel or one that has ended.
fn memory_of(task: &TaskRef) -> Result<Arc<Mm>> {
    task.process.mm.lock().clone().ok_or(Errno::EINVAL)
}

fn migrate_pages(
    c: &mut Ctx<'_>,
    pid: i32,
    maxnode: u64,
    from: VirtAddr,
    to: VirtAddr,
) -> Result<u64> {
    let (from, far_from) = read_nodes(from, maxnode)?;
    let (to, far) = read_nodes(to, maxnode)?;
    let task = target(c, pid)?;
    let privileged = creds::has(creds::SYS_NICE);
    if !far.is_empty() && !privileged {
        return Err(Errno::EPERM);
    }
    let theirs = task.numa.lock().allowed;
    let ours = c.task.numa.lock().allowed;
    let to = permitted_targets(to, theirs, ours, privileged).map_err(|e| match e {
        MigrateError::NotAllowed => Errno::EPERM,
        MigrateError::NoUsableNodes => Errno::EINVAL,
    })?;
    Ok(memory_of(&task)?.migrate_nodes(from, far_from, to, privileged))
}

fn move_pages(
    c: &mut Ctx<'_>,
    pid: i32,
    count: u64,
    pages: VirtAddr,
    nodes: VirtAddr,
    status: VirtAddr,
    flags: i32,
) -> Result<u64> {
    let flags = flags as u32;
    if flags & !(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let all = flags & MPOL_MF_MOVE_ALL != 0;
    if all && !creds::has(creds::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let task = target(c, pid)?;
    let mm = memory_of(&task)?;
    let call = Call { mm, count, pages, nodes, status };
    if nodes.raw() == 0 {
        return call.query().map(|()| 0);
    }
    let allowed = task.numa.lock().allowed;
    call.run(allowed, all)
}

/// The arguments of one move_pages(2).
struct Call {
    mm: Arc<Mm>,
    count: u64,
    pages: VirtAddr,
    nodes: VirtAddr,
    status: VirtAddr,
}

/// Items read at once: 64 pages = 512 bytes of addresses.
const CHUNK: usize = 64;

impl Call {
    fn read_addresses(&self, at: u64, buf: &mut [u64]) -> Result<()> {
        let bytes = user::read_vec::<u64>(self.pages + at * 8, buf.len())?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }

    /// Writes one item's status.
    fn store(&self, item: u64, value: i32) -> Result<()> {
        user::write(self.status + item * 4, &value)
    }

    fn store_run(&self, start: u64, end: u64, node: NodeId) -> Result<()> {
        (start..end).try_for_each(|item| self.store(item, node.index() as i32))
    }

    /// Where each page is.
    fn query(&self) -> Result<()> {
        let mut at = 0;
        while at < self.count {
            let n = (self.count - at).min(CHUNK as u64) as usize;
            let mut addresses = [0u64; CHUNK];
            self.read_addresses(at, &mut addresses[..n])?;
            let mut answers = [0i32; CHUNK];
            for (answer, addr) in answers.iter_mut().zip(&addresses[..n]) {
                *answer = match self.mm.page_node(*addr) {
                    Ok(node) => node.index() as i32,
                    Err(error) => -i32::from(error.code()),
                };
            }
            user::copy_to(self.status + at * 4, user::slice_bytes(&answers[..n]))?;
            at += n as u64;
        }
        Ok(())
    }

    /// Moves runs of items with one target; the number of pages that were not moved or not tried
    /// when a move fails, as Linux counts them.
    fn run(&self, allowed: NodeMask, all: bool) -> Result<u64> {
        let mut queue = Queue::default();
        let mut run: Option<(u64, NodeId)> = None;
        let mut addresses = [0u64; CHUNK];
        let mut nodes = [0i32; CHUNK];
        for item in 0..self.count {
            let slot = (item % CHUNK as u64) as usize;
            if slot == 0 {
                let n = (self.count - item).min(CHUNK as u64) as usize;
                let read = self.read_addresses(item, &mut addresses[..n]).and_then(|()| {
                    let bytes = user::read_vec::<i32>(self.nodes + item * 4, n)?;
                    nodes[..n].copy_from_slice(&bytes);
                    Ok(())
                });
                if let Err(error) = read {
                    return self.give_up(&mut queue, run, item, error);
                }
            }
            let node = match check_node(nodes[slot], allowed) {
                Ok(node) => node,
                Err(error) => return self.give_up(&mut queue, run, item, error),
            };
            match run {
                Some((_, current)) if current == node => {}
                Some(_) => {
                    if let Some(left) = self.flush(&mut queue, run, item)? {
                        return Ok(left);
                    }
                    run = Some((item, node));
                }
                None => run = Some((item, node)),
            }
            let answer = match self.mm.queue_page(&mut queue, addresses[slot], node, all) {
                Ok(Queued::Waiting) => continue,
                Ok(Queued::There) => node.index() as i32,
                Err(error) => -i32::from(error.code()),
            };
            if let Err(error) = self.store(item, answer) {
                return self.give_up(&mut queue, run, item, error);
            }
            if let Some(left) = self.flush(&mut queue, run, item)? {
                return Ok(left);
            }
            run = None;
        }
        Ok(self.flush(&mut queue, run, self.count)?.unwrap_or(0))
    }

    /// Ends the call with its first error; what is queued moves all the same.
    fn give_up(
        &self,
        queue: &mut Queue,
        run: Option<(u64, NodeId)>,
        item: u64,
        error: Errno,
    ) -> Result<u64> {
        let _ = self.flush(queue, run, item);
        Err(error)
    }

    /// Moves what is queued and stores the run's status up to `item`; Some(pages not moved) when
    /// some could not be.
    fn flush(
        &self,
        queue: &mut Queue,
        run: Option<(u64, NodeId)>,
        item: u64,
    ) -> Result<Option<u64>> {
        let Some((start, node)) = run.filter(|_| !queue.is_empty()) else { return Ok(None) };
        let failed = self.mm.move_queued(queue, node) as u64;
        if failed > 0 {
            return Ok(Some(failed + (self.count - item)));
        }
        self.store_run(start, item, node).map(|()| None)
    }
}

fn check_node(node: i32, allowed: NodeMask) -> Result<NodeId> {
    let id = usize::try_from(node).ok().and_then(NodeId::try_new).ok_or(Errno::ENODEV)?;
    if !crate::machine().memory_nodes().contains(id) {
        Err(Errno::ENODEV)
    } else if !allowed.contains(id) {
        Err(Errno::EACCES)
    } else {
        Ok(id)
    }
}
