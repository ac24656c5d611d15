//! Many at once: connects, accepts and closes that meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use libc::*;

use super::{
    ONE, accept, bind, connect, listener, own_address, pair, receive, send, send_to, socket, tcp,
    v4,
};
use crate::harness::{Test, tests};
use crate::sys;

pub const TESTS: &[Test] = tests![
    every_connection_is_accepted_once,
    connects_race_with_the_listeners_end,
    both_ends_close_at_once,
    writers_and_a_reader_that_leaves,
    bytes_of_many_writers_all_arrive,
    datagrams_race_with_a_close,
    ports_come_back,
    a_new_connection_has_nothing_of_the_old_one,
    clients_that_leave_a_full_backlog_end,
];

fn every_connection_is_accepted_once() {
    const EACH: usize = 150;
    let (server, address) = listener(4);
    let accepted = Arc::new(AtomicUsize::new(0));
    let acceptors: Vec<_> = (0..2)
        .map(|_| {
            let accepted = accepted.clone();
            thread::spawn(move || {
                while accepted.fetch_add(1, SeqCst) < 3 * EACH {
                    let fd = accept(server).unwrap();
                    let byte = receive(fd, 1, 0).unwrap();
                    assert_eq!(send(fd, &byte, 0), Ok(1));
                    sys::close(fd);
                }
            })
        })
        .collect();
    let clients: Vec<_> = (0..3u8)
        .map(|n| {
            let address = address.clone();
            thread::spawn(move || {
                for round in 0..EACH {
                    let fd = tcp();
                    connect(fd, &address).unwrap();
                    let byte = [n.wrapping_mul(85) ^ round as u8];
                    send(fd, &byte, 0).unwrap();
                    assert_eq!(receive(fd, 2, 0).unwrap(), byte);
                    sys::close(fd);
                }
            })
        })
        .collect();
    for thread in clients.into_iter().chain(acceptors) {
        thread.join().unwrap();
    }
}

fn connects_race_with_the_listeners_end() {
    for _ in 0..60 {
        let (server, address) = listener(2);
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let address = address.clone();
                thread::spawn(move || {
                    let fd = tcp();
                    match connect(fd, &address) {
                        // Accepted by nobody: reset. On Linux only by what is sent, if the
                        // listener was closed while the connection was being made.
                        Ok(_) => match send(fd, b"x", 0).and_then(|_| receive(fd, 1, 0)) {
                            Ok(bytes) => assert!(bytes.is_empty(), "{bytes:?}"),
                            Err(error) => assert_eq!(error.0, ECONNRESET),
                        },
                        Err(error) => {
                            assert!([ECONNREFUSED, ECONNRESET].contains(&error.0), "{error}");
                        }
                    }
                    sys::close(fd);
                })
            })
            .collect();
        thread::yield_now();
        sys::close(server);
        for client in clients {
            client.join().unwrap();
        }
    }
}

fn both_ends_close_at_once() {
    for round in 0..200 {
        let (client, server) = pair();
        if round % 2 == 1 {
            send(client, b"x", 0).unwrap();
        }
        let other = thread::spawn(move || sys::close(server));
        sys::close(client);
        other.join().unwrap();
    }
}

fn writers_and_a_reader_that_leaves() {
    for _ in 0..40 {
        let (client, server) = pair();
        let writer = thread::spawn(move || {
            let data = [7; 3000];
            loop {
                match send(client, &data, 0) {
                    Ok(_) => {}
                    Err(error) => {
                        assert!([EPIPE, ECONNRESET].contains(&error.0), "{error}");
                        break;
                    }
                }
            }
            sys::close(client);
        });
        receive(server, 10_000, 0).unwrap();
        sys::close(server);
        writer.join().unwrap();
    }
}

fn bytes_of_many_writers_all_arrive() {
    const EACH: usize = 60_000;
    let (client, server) = pair();
    let writers: Vec<_> = (0..4u8)
        .map(|n| {
            thread::spawn(move || {
                let mut left = EACH;
                while left > 0 {
                    left -= send(client, &vec![n; left.min(777)], 0).unwrap();
                }
            })
        })
        .collect();
    let counts = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let counts = counts.clone();
            thread::spawn(move || {
                loop {
                    let some = receive(server, 5000, 0).unwrap();
                    if some.is_empty() {
                        return;
                    }
                    for byte in some {
                        counts[usize::from(byte)].fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    sys::close(client);
    for reader in readers {
        reader.join().unwrap();
    }
    for count in counts.iter() {
        assert_eq!(count.load(SeqCst), EACH);
    }
}

fn datagrams_race_with_a_close() {
    let stop = Arc::new(AtomicBool::new(false));
    let first = socket(AF_INET, SOCK_DGRAM);
    bind(first, &v4(ONE, 0)).unwrap();
    let address = own_address(first);
    sys::close(first);
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let (stop, address) = (stop.clone(), address.clone());
            thread::spawn(move || {
                let fd = socket(AF_INET, SOCK_DGRAM);
                while !stop.load(SeqCst) {
                    send_to(fd, &[1; 2000], &address).unwrap();
                }
                sys::close(fd);
            })
        })
        .collect();
    for _ in 0..200 {
        let fd = socket(AF_INET, SOCK_DGRAM);
        bind(fd, &address).unwrap();
        let _ = receive(fd, 4000, MSG_DONTWAIT);
        sys::close(fd);
    }
    stop.store(true, SeqCst);
    for sender in senders {
        sender.join().unwrap();
    }
}

fn ports_come_back() {
    let (server, address) = listener(5);
    // The client ends first, so that its ports wait; then there is another one.
    for _ in 0..2000 {
        let client = tcp();
        connect(client, &address).unwrap();
        let accepted = accept(server).unwrap();
        sys::close(client);
        assert_eq!(receive(accepted, 1, 0).unwrap(), b"");
        sys::close(accepted);
    }
}

/// connect(2) with AF_UNSPEC.
fn dissolve(fd: i32) {
    let none = [0u8; 16];
    // What the old connection ended with may be told by this.
    let _told = connect(fd, &none);
}

fn a_new_connection_has_nothing_of_the_old_one() {
    let (first, first_address) = listener(5);
    let (second, second_address) = listener(5);
    for round in 0..120 {
        let client = tcp();
        connect(client, &first_address).unwrap();
        let old = accept(first).unwrap();
        let other = thread::spawn(move || {
            // Bytes until it hears of the end; or, every other time, an end.
            while round % 2 == 0 && send(old, b"old", 0).is_ok() {}
            sys::close(old);
        });
        dissolve(client);
        connect(client, &second_address).unwrap();
        let new = accept(second).unwrap();
        other.join().unwrap();
        let found = receive(client, 9, MSG_DONTWAIT);
        assert_eq!(found, Err(sys::Errno(EAGAIN)), "round {round}");
        send(new, b"new", 0).unwrap();
        assert_eq!(receive(client, 9, 0).unwrap(), b"new");
        sys::close(client);
        sys::close(new);
    }
}

fn clients_that_leave_a_full_backlog_end() {
    let (server, address) = listener(0);
    super::nonblocking(server);
    let ended = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (address, ended) = (address.clone(), ended.clone());
            thread::spawn(move || {
                while !ended.load(SeqCst) {
                    let client = tcp();
                    super::nonblocking(client);
                    let _begun = connect(client, &address);
                    sys::close(client);
                }
            })
        })
        .collect();
    let mut accepted = 0;
    while accepted < 400 {
        let Ok(fd) = accept(server) else { continue };
        accepted += 1;
        assert_ne!(super::ready_within(fd, POLLIN, 5000), 0, "the {accepted}th has no end");
        sys::close(fd);
    }
    ended.store(true, SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    sys::close(server);
}
