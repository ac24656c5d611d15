//! Ports: who has which, and who may have one beside whom (bind(2), connect(2)).
//!
//! A table for each protocol, in buckets with locks of their own. A claim of a connection that has
//! ended stays for a while as nobody's (TIME_WAIT); it ends when somebody next looks at its port.

use crate::address::{Endpoint, Scope};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use frames::fallible::TryMap;
use sync::SpinLock;

/// Ports that the kernel chooses from (net.ipv4.ip_local_port_range).
pub const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// How long a connection that has ended keeps its port, ns (TCP_TIMEWAIT_LEN).
pub const TIME_WAIT: u64 = 60_000_000_000;
/// After this, ns, another connection may take such a port (net.ipv4.tcp_tw_reuse, on a loopback).
const TAKEN_OVER: u64 = 1_000_000_000;
/// Claims of nobody at most (net.ipv4.tcp_max_tw_buckets).
const MOST_WAITING: usize = 8192;

const BUCKETS: usize = 256;

/// What a socket says of the port that it has or wants.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub scope: Scope,
    /// SO_REUSEADDR and SO_REUSEPORT.
    pub reuse: bool,
    pub reuse_port: bool,
    /// Who bound it.
    pub uid: u32,
    /// It takes connections.
    pub listening: bool,
    /// The other end of its connection.
    pub remote: Option<Endpoint>,
    /// The kernel chose the port for a connection.
    pub by_connect: bool,
}

/// A port that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub port: u16,
    id: u64,
}

/// An entry of the table.
pub struct Held<S> {
    pub claim: Claim,
    /// When it ends, if it is nobody's.
    pub until: Option<u64>,
    pub owner: S,
}

impl<S> Held<S> {
    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Which rules hold: a stream that listens shares its port only by SO_REUSEPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    Streams,
    Datagrams,
}

impl Rules {
    /// True when `new` may not have a port that `old` has.
    fn conflict(self, new: &Claim, old: &Claim, waiting: bool) -> bool {
        if !new.scope.overlaps(old.scope) {
            return false;
        }
        let listens = self == Self::Streams && old.listening;
        if new.reuse && old.reuse && !listens {
            return false;
        }
        !(new.reuse_port && old.reuse_port && (new.uid == old.uid || waiting))
    }
}

type Bucket<S> = BTreeMap<(u16, u64), Held<S>>;

/// The ports of one protocol.
pub struct Table<S> {
    rules: Rules,
    buckets: [SpinLock<Bucket<S>>; BUCKETS],
    next: AtomicU64,
    waiting: AtomicUsize,
    swept: AtomicU64,
}

fn of_port(port: u16) -> RangeInclusive<(u16, u64)> {
    (port, 0)..=(port, u64::MAX)
}

impl<S: Clone> Table<S> {
    /// An empty table.
    #[allow(clippy::new_without_default, reason = "a table has rules")]
    pub const fn new(rules: Rules) -> Self {
        Self {
            rules,
            buckets: [const { SpinLock::new(BTreeMap::new()) }; BUCKETS],
            next: AtomicU64::new(1),
            waiting: AtomicUsize::new(0),
            swept: AtomicU64::new(0),
        }
    }

    fn bucket(&self, port: u16) -> &SpinLock<Bucket<S>> {
        &self.buckets[usize::from(port) % BUCKETS]
    }

    /// Removes what is over of a port's entries.
    fn prune(&self, bucket: &mut Bucket<S>, port: u16, now: u64) {
        while let Some((&key, _)) = bucket.range(of_port(port)).find(|(_, held)| held.is_over(now))
        {
            bucket.remove(&key);
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    fn enter(&self, bucket: &mut Bucket<S>, port: u16, claim: Claim, owner: S) -> Result<Ticket> {
        let id = self.next.fetch_add(1, Relaxed);
        bucket.try_insert_in((port, id), Held { claim, until: None, owner })?;
        Ok(Ticket { port, id })
    }

    fn is_taken_in(&self, bucket: &mut Bucket<S>, port: u16, claim: &Claim, now: u64) -> bool {
        self.prune(bucket, port, now);
        bucket
            .range(of_port(port))
            .any(|(_, held)| self.rules.conflict(claim, &held.claim, held.until.is_some()))
    }

    /// Whether somebody has the port who does not share it with `claim`.
    pub fn is_taken(&self, port: u16, claim: &Claim, now: u64) -> bool {
        self.is_taken_in(&mut self.bucket(port).lock(), port, claim, now)
    }

    /// Takes a port that the user named. EADDRINUSE, ENOMEM.
    pub fn claim(&self, port: u16, claim: Claim, owner: S, now: u64) -> Result<Ticket> {
        let mut bucket = self.bucket(port).lock();
        if self.is_taken_in(&mut bucket, port, &claim, now) {
            return Err(Errno::EADDRINUSE);
        }
        self.enter(&mut bucket, port, claim, owner)
    }

    /// Takes a port without asking: an accepted connection has its listener's.
    pub fn share(&self, port: u16, claim: Claim, owner: S) -> Result<Ticket> {
        self.enter(&mut self.bucket(port).lock(), port, claim, owner)
    }

    /// Chooses a free port, beginning at the `seed`th. For a connection, one whose other users are
    /// connected elsewhere will do. EADDRINUSE for bind, EADDRNOTAVAIL for connect, ENOMEM.
    pub fn choose(&self, seed: u32, claim: Claim, owner: S, now: u64) -> Result<Ticket> {
        let (first, last) = (u32::from(*EPHEMERAL.start()), u32::from(*EPHEMERAL.end()));
        let count = last - first + 1;
        for step in 0..count {
            let port = (first + (seed % count + step) % count) as u16;
            let mut bucket = self.bucket(port).lock();
            self.prune(&mut bucket, port, now);
            let taken = bucket.range(of_port(port)).any(|(_, held)| {
                if claim.by_connect && held.claim.by_connect {
                    let young = held.until.is_none_or(|until| until + TAKEN_OVER > now + TIME_WAIT);
                    return held.claim.remote == claim.remote && young;
                }
                claim.by_connect || self.rules.conflict(&claim, &held.claim, held.until.is_some())
            });
            if !taken {
                return self.enter(&mut bucket, port, claim, owner);
            }
        }
        Err(if claim.by_connect { Errno::EADDRNOTAVAIL } else { Errno::EADDRINUSE })
    }

    /// Notes with whom the owner of a port is connected now. EADDRNOTAVAIL when the same connection
    /// is there already.
    pub fn connect(&self, ticket: Ticket, scope: Scope, remote: Endpoint, now: u64) -> Result<()> {
        let mut bucket = self.bucket(ticket.port).lock();
        self.prune(&mut bucket, ticket.port, now);
        let same = |(key, held): (&(u16, u64), &Held<S>)| {
            key.1 != ticket.id
                && held.claim.remote == Some(remote)
                && held.claim.scope == scope
                && held.until.is_none_or(|until| until + TAKEN_OVER > now + TIME_WAIT)
        };
        if self.rules == Rules::Streams && bucket.range(of_port(ticket.port)).any(same) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if let Some(held) = bucket.get_mut(&(ticket.port, ticket.id)) {
            held.claim.remote = Some(remote);
            held.claim.scope = scope;
        }
        Ok(())
    }

    /// The owner of a port is connected with nobody (any more), and answers to `scope`.
    pub fn disconnect(&self, ticket: Ticket, scope: Scope) {
        if let Some(held) = self.bucket(ticket.port).lock().get_mut(&(ticket.port, ticket.id)) {
            held.claim.remote = None;
            held.claim.scope = scope;
        }
    }

    /// Makes a port one that takes connections, or no longer. EADDRINUSE when another one listens.
    pub fn listen(&self, ticket: Ticket, on: bool) -> Result<()> {
        let mut bucket = self.bucket(ticket.port).lock();
        let Some(own) = bucket.get(&(ticket.port, ticket.id)) else { return Err(Errno::EINVAL) };
        let claim = Claim { listening: on, ..own.claim };
        let taken = |(key, held): (&(u16, u64), &Held<S>)| {
            key.1 != ticket.id && self.rules.conflict(&claim, &held.claim, held.until.is_some())
        };
        if on && bucket.range(of_port(ticket.port)).any(taken) {
            return Err(Errno::EADDRINUSE);
        }
        if let Some(own) = bucket.get_mut(&(ticket.port, ticket.id)) {
            own.claim.listening = on;
        }
        Ok(())
    }

    /// Changes what was said when the port was taken (SO_REUSEADDR, SO_REUSEPORT).
    pub fn update(&self, ticket: Ticket, change: impl FnOnce(&mut Claim)) {
        if let Some(held) = self.bucket(ticket.port).lock().get_mut(&(ticket.port, ticket.id)) {
            change(&mut held.claim);
        }
    }

    /// Gives a port back.
    pub fn release(&self, ticket: Ticket) {
        let gone = self.bucket(ticket.port).lock().remove(&(ticket.port, ticket.id));
        if gone.is_some_and(|held| held.until.is_some()) {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    /// Keeps the port of a connection that has ended until `TIME_WAIT` from now; its owner is
    /// nobody. With too many of those the port is free at once.
    pub fn retire(&self, ticket: Ticket, nobody: S, now: u64) {
        if self.waiting.load(Relaxed) >= MOST_WAITING {
            self.sweep(now);
        }
        let full = self.waiting.load(Relaxed) >= MOST_WAITING;
        let mut bucket = self.bucket(ticket.port).lock();
        let Some(held) = bucket.get_mut(&(ticket.port, ticket.id)) else { return };
        let fresh = held.until.is_none();
        if fresh && full {
            bucket.remove(&(ticket.port, ticket.id));
            return;
        }
        held.owner = nobody;
        held.until = Some(now + TIME_WAIT);
        held.claim.listening = false;
        if fresh {
            self.waiting.fetch_add(1, Relaxed);
        }
    }

    /// Removes what is over everywhere, once a second at most.
    fn sweep(&self, now: u64) {
        let last = self.swept.load(Relaxed);
        if now < last + TAKEN_OVER
            || self.swept.compare_exchange(last, now, Relaxed, Relaxed).is_err()
        {
            return;
        }
        for bucket in &self.buckets {
            bucket.lock().retain(|_, held| {
                let over = held.is_over(now);
                if over {
                    self.waiting.fetch_sub(1, Relaxed);
                }
                !over
            });
        }
    }

    /// The owner of a port that `score` gives the highest mark; of equals the `pick`th.
    pub fn find(&self, port: u16, pick: u32, score: impl Fn(&Held<S>) -> Option<u32>) -> Option<S> {
        let bucket = self.bucket(port).lock();
        let marks = || {
            let live = bucket.range(of_port(port)).filter(|(_, held)| held.until.is_none());
            live.filter_map(|(_, held)| score(held).map(|mark| (mark, held)))
        };
        let best = marks().map(|(mark, _)| mark).max()?;
        let equals = marks().filter(|(mark, _)| *mark == best).count();
        let mut equal = marks().filter(|(mark, _)| *mark == best);
        equal.nth(pick as usize % equals).map(|(_, held)| held.owner.clone())
    }

    /// All owners of a port that `wanted` names, for a datagram to several: from `from` on, with
    /// where to go on.
    pub fn next(
        &self,
        port: u16,
        from: u64,
        wanted: impl Fn(&Held<S>) -> bool,
    ) -> Option<(u64, S)> {
        let bucket = self.bucket(port).lock();
        let mut found = bucket.range((port, from)..=(port, u64::MAX));
        let (key, held) = found.find(|(_, held)| held.until.is_none() && wanted(held))?;
        Some((key.1 + 1, held.owner.clone()))
    }

    /// Shows every entry, bucket by bucket.
    pub fn each(&self, bucket: usize, now: u64, mut look: impl FnMut(u16, &Held<S>)) -> bool {
        let Some(bucket) = self.buckets.get(bucket) else { return false };
        for (key, held) in bucket.lock().iter().filter(|(_, held)| !held.is_over(now)) {
            look(key.0, held);
        }
        true
    }

    /// Claims of nobody.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use proptest::prelude::*;

    const ANY: Scope = Scope::V4(Ipv4Addr::UNSPECIFIED);

    fn claim(scope: Scope) -> Claim {
        Claim {
            scope,
            reuse: false,
            reuse_port: false,
            uid: 0,
            listening: false,
            remote: None,
            by_connect: false,
        }
    }
    fn at(last: u8) -> Scope {
        Scope::V4(Ipv4Addr::new(127, 0, 0, last))
    }
    fn far(port: u16) -> Endpoint {
        Endpoint { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port }
    }

    #[test]
    fn a_port_is_one_sockets_unless_both_share() {
        let table: Table<u32> = Table::new(Rules::Streams);
        let first = table.claim(80, claim(at(1)), 1, 0).unwrap();
        assert_eq!(table.claim(80, claim(ANY), 2, 0), Err(Errno::EADDRINUSE));
        table.claim(80, claim(at(2)), 3, 0).unwrap();
        table.release(first);
        table.claim(80, claim(at(1)), 4, 0).unwrap();
        let shared = Claim { reuse: true, ..claim(ANY) };
        let a = table.claim(81, shared, 5, 0).unwrap();
        let b = table.claim(81, shared, 6, 0).unwrap();
        table.listen(a, true).unwrap();
        assert_eq!(table.listen(b, true), Err(Errno::EADDRINUSE));
        assert_eq!(table.claim(81, shared, 7, 0), Err(Errno::EADDRINUSE));
        let ported = Claim { reuse_port: true, ..claim(ANY) };
        let a = table.claim(82, ported, 8, 0).unwrap();
        table.listen(a, true).unwrap();
        let b = table.claim(82, ported, 9, 0).unwrap();
        table.listen(b, true).unwrap();
        let other = Claim { uid: 1000, ..ported };
        assert_eq!(table.claim(82, other, 10, 0), Err(Errno::EADDRINUSE));
        let mark = |held: &Held<u32>| held.claim.listening.then_some(1);
        assert_eq!(table.find(82, 0, mark), Some(8));
        assert_eq!(table.find(82, 1, mark), Some(9));
        assert_eq!(table.find(83, 1, mark), None);
    }

    #[test]
    fn an_ended_connection_keeps_its_port_for_a_while() {
        let table: Table<u32> = Table::new(Rules::Streams);
        let ticket = table.claim(80, claim(at(1)), 1, 0).unwrap();
        table.retire(ticket, 0, 0);
        assert_eq!(table.waiting(), 1);
        assert_eq!(table.claim(80, claim(ANY), 2, TIME_WAIT - 1), Err(Errno::EADDRINUSE));
        assert_eq!(table.find(80, 0, |_| Some(1)), None);
        table.claim(80, claim(ANY), 2, TIME_WAIT).unwrap();
        assert_eq!(table.waiting(), 0);
        let shared = Claim { reuse: true, ..claim(ANY) };
        let ticket = table.claim(90, shared, 1, 0).unwrap();
        table.retire(ticket, 0, 0);
        table.claim(90, shared, 2, 1).unwrap();
    }

    #[test]
    fn connections_share_ports_where_they_go_to_different_places() {
        let table: Table<u32> = Table::new(Rules::Streams);
        let to = |port| Claim { by_connect: true, remote: Some(far(port)), ..claim(at(1)) };
        let a = table.choose(7, to(1), 1, 0).unwrap();
        let b = table.choose(7, to(2), 2, 0).unwrap();
        let c = table.choose(7, to(1), 3, 0).unwrap();
        assert_eq!((a.port, b.port, c.port), (32_775, 32_775, 32_776));
        let fixed = Claim { reuse: true, ..claim(at(1)) };
        let a = table.claim(99, fixed, 1, 0).unwrap();
        let b = table.claim(99, fixed, 2, 0).unwrap();
        table.connect(a, at(1), far(5), 0).unwrap();
        assert_eq!(table.connect(b, at(1), far(5), 0), Err(Errno::EADDRNOTAVAIL));
        table.connect(b, at(1), far(6), 0).unwrap();
    }

    #[test]
    fn when_all_ports_are_taken_there_is_none() {
        let table: Table<u32> = Table::new(Rules::Streams);
        let to = Claim { by_connect: true, remote: Some(far(1)), ..claim(at(1)) };
        let mut ports = alloc::collections::BTreeSet::new();
        for n in 0..EPHEMERAL.len() as u32 {
            ports.insert(table.choose(n * 7919, to, 1, 0).unwrap().port);
        }
        assert_eq!(ports.len(), EPHEMERAL.len());
        assert_eq!(table.choose(0, to, 1, 0), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(table.choose(0, claim(at(1)), 1, 0), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn nobodys_claims_have_an_end_and_a_limit() {
        let table: Table<u32> = Table::new(Rules::Streams);
        let shared = Claim { reuse: true, ..claim(ANY) };
        for n in 0..MOST_WAITING as u64 + 10 {
            let ticket = table.share(80, shared, 1).unwrap();
            table.retire(ticket, 0, n);
        }
        assert_eq!(table.waiting(), MOST_WAITING);
        let ticket = table.share(81, shared, 1).unwrap();
        table.retire(ticket, 0, 2 * TIME_WAIT);
        assert_eq!(table.waiting(), 1);
    }

    proptest! {
        /// Whatever is taken and given back: of two strangers that share nothing, one is refused.
        #[test]
        fn no_two_strangers_have_one_port(steps in proptest::collection::vec((0u16..3, 0u8..3, any::<bool>(), any::<bool>()), 1..60)) {
            let table: Table<usize> = Table::new(Rules::Datagrams);
            let mut held: std::vec::Vec<(Ticket, Claim)> = std::vec::Vec::new();
            for (n, (port, last, reuse, give_back)) in steps.into_iter().enumerate() {
                if give_back && !held.is_empty() {
                    let (ticket, _) = held.swap_remove(n % held.len());
                    table.release(ticket);
                    continue;
                }
                let scope = if last == 0 { ANY } else { at(last) };
                let new = Claim { reuse, ..claim(scope) };
                let refused = held.iter().any(|(ticket, old)| {
                    ticket.port == port && old.scope.overlaps(scope) && !(old.reuse && reuse)
                });
                let got = table.claim(port, new, n, 0);
                prop_assert_eq!(got.is_err(), refused);
                if let Ok(ticket) = got {
                    held.push((ticket, new));
                }
            }
        }
    }
}
