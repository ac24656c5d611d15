//! Pipes and FIFOs.

mod common;

use abi::Errno;
use abi::raw::general as g;
use common::{World, err, get, put};
use fs::context::At;
use fs::oflag::*;
use fs::pipe::{Pipe, PipeEnd};
use fs::{DevId, File, PollMask};
use hal::user::{KernelSink, KernelSource};
use std::sync::Arc;
use std::thread;

const BOTH: PollMask = PollMask::all();

#[test]
fn bytes_come_out_in_order_and_ends_are_noticed() {
    let (r, w) = Pipe::pair(0).unwrap();
    assert_eq!(put(&w, b"hello "), Ok(6));
    assert_eq!(put(&w, b"world"), Ok(5));
    assert_eq!(get(&r, 8).unwrap(), b"hello wo");
    assert_eq!(get(&r, 100).unwrap(), b"rld");
    assert_eq!(err(put(&r, b"x")), Errno::EBADF);
    assert_eq!(err(get(&w, 1)), Errno::EBADF);
    assert_eq!(err(r.seek(0, fs::Whence::Set)), Errno::ESPIPE);
    assert_eq!(err(r.read_at(&mut KernelSink::new(&mut [0; 4]), 0)), Errno::ESPIPE);
    put(&w, b"last").unwrap();
    drop(w);
    assert_eq!(r.poll(BOTH, None), PollMask::READABLE | PollMask::HUP);
    assert_eq!(get(&r, 100).unwrap(), b"last");
    assert_eq!(get(&r, 100).unwrap(), b"");
    let (r, w) = Pipe::pair(0).unwrap();
    drop(r);
    assert_eq!(err(put(&w, b"x")), Errno::EPIPE);
    assert_eq!(w.poll(BOTH, None), PollMask::WRITABLE | PollMask::ERR);
    assert_eq!(err(Pipe::pair(O_APPEND)), Errno::EINVAL);
}

#[test]
fn a_full_pipe_takes_no_more_and_capacity_can_change() {
    let (r, w) = Pipe::pair(O_NONBLOCK).unwrap();
    assert_eq!(err(get(&r, 1)), Errno::EAGAIN);
    assert_eq!(put(&w, &[7; 100_000]), Ok(65_536));
    assert_eq!(err(put(&w, b"x")), Errno::EAGAIN);
    assert_eq!(w.poll(BOTH, None), PollMask::empty());
    let end = w.ops_as::<PipeEnd>().unwrap();
    assert_eq!(end.capacity(), 65_536);
    assert_eq!(end.set_capacity(4096, true), Err(Errno::EBUSY));
    assert_eq!(end.set_capacity(100_000, false), Ok(131_072));
    assert_eq!(end.set_capacity(2 << 20, false), Err(Errno::EPERM));
    assert_eq!(put(&w, &[8; 100_000]), Ok(65_536));
    assert_eq!(get(&r, 1 << 20).unwrap().len(), 131_072);
    // One byte less than a page may not be joined by two.
    put(&w, &[1; 4095]).unwrap();
    put(&w, &[2; 2]).unwrap();
    assert_eq!(get(&r, 5000).unwrap().len(), 4097);
}

#[test]
fn packets_keep_their_bounds() {
    let (r, w) = Pipe::pair(O_DIRECT).unwrap();
    put(&w, b"one").unwrap();
    put(&w, b"second").unwrap();
    assert_eq!(get(&r, 100).unwrap(), b"one");
    assert_eq!(get(&r, 3).unwrap(), b"sec");
    put(&w, b"third").unwrap();
    assert_eq!(get(&r, 100).unwrap(), b"third");
}

/// Reads exactly `len` bytes.
fn exactly(file: &File, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < len {
        let piece = get(file, len - out.len()).unwrap();
        assert!(!piece.is_empty());
        out.extend(piece);
    }
    out
}

#[test]
fn small_writes_of_many_threads_never_mix() {
    const WRITERS: usize = 4;
    const MESSAGES: usize = 3000;
    const LEN: usize = 100;
    let (r, w) = Pipe::pair(0).unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| {
            let w = w.clone();
            thread::spawn(move || {
                for _ in 0..MESSAGES {
                    assert_eq!(put(&w, &[id as u8; LEN]), Ok(LEN));
                }
            })
        })
        .collect();
    drop(w);
    let mut counts = [0; WRITERS];
    for _ in 0..WRITERS * MESSAGES {
        let message = exactly(&r, LEN);
        assert!(message.iter().all(|&b| b == message[0]), "a torn write");
        counts[message[0] as usize] += 1;
    }
    assert_eq!(counts, [MESSAGES; WRITERS]);
    assert_eq!(get(&r, 1).unwrap(), b"");
    for writer in writers {
        writer.join().unwrap();
    }
}

#[test]
fn many_readers_get_every_byte_once() {
    const TOTAL: u64 = 300_000;
    let (r, w) = Pipe::pair(0).unwrap();
    let readers: Vec<_> = (0..3)
        .map(|id| {
            let r = r.clone();
            thread::spawn(move || {
                let mut sum = (0u64, 0u64);
                loop {
                    let piece = get(&r, 1000 + id * 777).unwrap();
                    if piece.is_empty() {
                        return sum;
                    }
                    sum.0 += piece.len() as u64;
                    sum.1 += piece.iter().map(|&b| b as u64).sum::<u64>();
                }
            })
        })
        .collect();
    let data: Vec<u8> = (0..TOTAL).map(|n| (n % 251) as u8).collect();
    for piece in data.chunks(9_000) {
        assert_eq!(put(&w, piece), Ok(piece.len()));
    }
    drop(w);
    let sums = readers.into_iter().map(|reader| reader.join().unwrap());
    let total = sums.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert_eq!(total, (TOTAL, data.iter().map(|&b| b as u64).sum::<u64>()));
}

#[test]
fn two_threads_play_ping_pong() {
    let (r1, w1) = Pipe::pair(0).unwrap();
    let (r2, w2) = Pipe::pair(0).unwrap();
    let other = thread::spawn(move || {
        while let [n] = get(&r1, 1).unwrap()[..] {
            put(&w2, &[n + 1]).unwrap();
        }
    });
    for n in 0..200 {
        put(&w1, &[n]).unwrap();
        assert_eq!(get(&r2, 1).unwrap(), [n + 1]);
    }
    drop(w1);
    other.join().unwrap();
}

fn fifo(w: &World) {
    let caller = w.caller();
    caller.mknod(At::Cwd, b"/fifo", g::S_IFIFO | 0o644, DevId::default()).unwrap();
}

#[test]
fn fifos_bring_their_two_sides_together() {
    let w = Arc::new(World::new());
    fifo(&w);
    assert_eq!(err(w.open("/fifo", O_WRONLY | O_NONBLOCK)), Errno::ENXIO);
    let other = w.clone();
    let writer = thread::spawn(move || {
        let file = other.open("/fifo", O_WRONLY).unwrap();
        put(&file, b"through").unwrap();
    });
    let reader = w.open("/fifo", O_RDONLY).unwrap();
    assert_eq!(exactly(&reader, 7), b"through");
    writer.join().unwrap();
    assert_eq!(get(&reader, 1).unwrap(), b"");
    assert!(reader.poll(BOTH, None).contains(PollMask::HUP));
    drop(reader);
    // Without a writer since it was opened, a reader is not hung up.
    let fresh = w.open("/fifo", O_RDONLY | O_NONBLOCK).unwrap();
    assert_eq!(fresh.poll(BOTH, None), PollMask::empty());
    let both = w.open("/fifo", O_RDWR).unwrap();
    put(&both, b"x").unwrap();
    assert_eq!(get(&fresh, 5).unwrap(), b"x");
    assert_eq!(err(fresh.write(&mut KernelSource(b"x"))), Errno::EBADF);
}
