//! What this crate needs of its surroundings: the machine, the task that asks, a way to flush.

use core::sync::atomic::{AtomicU32, Ordering};
use numa::policy::{Interleaver, Policy, Weights};
use numa::{Machine, NodeId, NodeMask};
use sync::Once;

/// A task's memory policy and the nodes it may use. Inherited by fork and clone, kept by exec.
#[derive(Clone)]
pub struct TaskNuma {
    /// The task's own policy; None is local allocation.
    pub policy: Option<Policy>,
    /// Whose turn it is under an interleaving policy.
    pub turn: Interleaver,
    /// The nodes that the task may use.
    pub allowed: NodeMask,
}

/// The kernel above.
pub trait Environment: Sync {
    /// The running task's policy.
    fn with_numa(&self, f: &mut dyn FnMut(&mut TaskNuma));
    /// Whether the running task may lock memory beyond its limit (CAP_IPC_LOCK).
    fn may_lock(&self) -> bool;
    /// Whether the running task administers the machine (CAP_SYS_ADMIN).
    fn may_administer(&self) -> bool;
    /// Pages of all areas of the running task's address space; 0 without one.
    fn mapped_pages(&self) -> u64;
    /// Whether the running task has been killed: what takes long ends early then.
    fn killed(&self) -> bool;
    /// The running task mapped, lost or moved a page, and most of an address space's private memory
    /// lies on another node now. Called under spinning locks.
    fn home_changed(&self) {}
    /// Something happened to a page; only called while [`PAGE_EVENTS`] is not 0.
    fn page_event(&self, _event: PageEvent) {}
}

/// What may happen to a page of user data.
#[derive(Clone, Copy, Debug)]
pub enum PageEvent {
    /// A frame was taken on `node`; `wanted` was the first choice.
    Allocated { node: NodeId, wanted: NodeId },
    /// The page at `addr` moved.
    Migrated { addr: u64, from: NodeId, to: NodeId },
    /// A task touched `addr` while its page (on `node`) was moving.
    Waited { addr: u64, node: NodeId },
}

/// How many want to know of page events.
pub static PAGE_EVENTS: AtomicU32 = AtomicU32::new(0);

/// Tells the kernel above that an address space has another home.
#[cold]
pub fn home_changed() {
    if let Some(environment) = ENVIRONMENT.get() {
        environment.home_changed();
    }
}

/// Tells the kernel above, if somebody wants to know.
#[inline(always)]
pub fn page_event(event: impl FnOnce() -> PageEvent) {
    if PAGE_EVENTS.load(Ordering::Relaxed) != 0 {
        tell(event());
    }
}

#[cold]
fn tell(event: PageEvent) {
    if let Some(environment) = ENVIRONMENT.get() {
        environment.page_event(event);
    }
}

static MACHINE: Once<Machine> = Once::new();
static ENVIRONMENT: Once<&'static dyn Environment> = Once::new();
static WEIGHTS: Weights = Weights::new();

/// Registers the machine, once, at boot.
pub fn set_machine(machine: Machine) {
    MACHINE.get_or_init(|| machine);
}

/// Registers the kernel above, once, before the first user page.
pub fn set_environment(environment: &'static dyn Environment) {
    ENVIRONMENT.get_or_init(|| environment);
}

/// The machine.
#[inline]
pub fn machine() -> &'static Machine {
    MACHINE.get().expect("the machine is set at boot")
}

/// The weights of weighted interleaving (/sys/kernel/mm/mempolicy/weighted_interleave).
pub fn weights() -> &'static Weights {
    &WEIGHTS
}

/// The running task's policy.
#[inline(always)]
pub fn with_numa<R>(f: impl FnOnce(&mut TaskNuma) -> R) -> R {
    let mut f = Some(f);
    let mut out = None;
    let mut once = |numa: &mut TaskNuma| {
        if let Some(f) = f.take() {
            out = Some(f(numa));
        }
    };
    match ENVIRONMENT.get() {
        Some(environment) => environment.with_numa(&mut once),
        None => once(&mut TaskNuma {
            policy: None,
            turn: Interleaver::new(),
            allowed: machine().memory_nodes(),
        }),
    }
    out.expect("with_numa calls its argument once")
}

/// Whether the running task may lock memory beyond its limit.
pub fn may_lock() -> bool {
    ENVIRONMENT.get().is_none_or(|environment| environment.may_lock())
}

/// Whether the running task administers the machine.
pub fn may_administer() -> bool {
    ENVIRONMENT.get().is_none_or(|environment| environment.may_administer())
}

/// Pages of all areas of the running task's address space.
pub fn mapped_pages() -> u64 {
    ENVIRONMENT.get().map_or(0, |environment| environment.mapped_pages())
}

/// Whether the running task has been killed.
pub fn killed() -> bool {
    ENVIRONMENT.get().is_some_and(|environment| environment.killed())
}

/// The node of the running CPU.
#[inline]
pub fn local_node() -> NodeId {
    #[cfg(target_os = "none")]
    return hal::percpu::node();
    #[cfg(not(target_os = "none"))]
    return NodeId::new(0);
}
