//! AF_UNIX sockets.

mod common;

use abi::Errno;
use common::{World, err, get, put};
use fs::env::Ucred;
use fs::oflag::*;
use fs::pipe::Pipe;
use fs::socket::{self, Control, Received, Shutdown, cmsg, msg};
use fs::{FdTable, File, PollMask};
use hal::user::{KernelSink, KernelSource};
use std::sync::Arc;
use std::thread;

const UNIX: u32 = 1;
const STREAM: u32 = 1;
const DGRAM: u32 = 2;
const SEQPACKET: u32 = 5;
const ALL: PollMask = PollMask::all();

fn pair(kind: u32) -> (Arc<File>, Arc<File>) {
    socket::pair(UNIX, kind, 0).unwrap()
}
fn new(kind: u32) -> Arc<File> {
    socket::create(UNIX, kind, 0).unwrap()
}
fn address(name: &str) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend_from_slice(name.as_bytes());
    out
}
fn receive(file: &File, room: usize, flags: u32) -> abi::Result<(Vec<u8>, Received)> {
    let mut buf = vec![0; room];
    let got = socket::of(file)?.receive(file, &mut KernelSink::new(&mut buf), flags)?;
    buf.truncate(got.len.min(room));
    Ok((buf, got))
}
fn send(file: &File, data: &[u8], control: Control, flags: u32) -> abi::Result<usize> {
    socket::of(file)?.send(file, &mut KernelSource(data), None, control, flags)
}

#[test]
fn other_families_and_odd_requests_are_refused() {
    assert_eq!(err(socket::create(2, STREAM, 0)), Errno::EAFNOSUPPORT);
    assert_eq!(err(socket::create(16, 3, 0)), Errno::EAFNOSUPPORT);
    assert_eq!(err(socket::create(UNIX, 77, 0)), Errno::EINVAL);
    assert_eq!(err(socket::create(UNIX, 4, 0)), Errno::ESOCKTNOSUPPORT);
    assert_eq!(err(socket::create(UNIX, STREAM, 6)), Errno::EPROTONOSUPPORT);
    let s = new(STREAM);
    assert_eq!(err(put(&s, b"x")), Errno::ENOTCONN);
    assert_eq!(err(get(&s, 1)), Errno::EINVAL);
    assert_eq!(err(socket::of(&s).unwrap().listen(1)), Errno::EINVAL);
    let pipe = Pipe::pair(0).unwrap().0;
    assert_eq!(err(socket::of(&pipe).map(|_| ())), Errno::ENOTSOCK);
}

#[test]
fn streams_carry_bytes_both_ways_until_they_end() {
    let (a, b) = pair(STREAM);
    put(&a, b"hello ").unwrap();
    put(&a, b"world").unwrap();
    assert_eq!(receive(&b, 5, msg::PEEK).unwrap().0, b"hello");
    assert_eq!(receive(&b, 100, msg::PEEK).unwrap().0, b"hello world");
    assert_eq!(get(&b, 100).unwrap(), b"hello world");
    assert_eq!(err(receive(&b, 9, msg::DONTWAIT)), Errno::EAGAIN);
    put(&b, b"back").unwrap();
    assert_eq!(get(&a, 2).unwrap(), b"ba");
    assert_eq!(a.poll(ALL, None) & PollMask::IN, PollMask::IN);
    assert_eq!(get(&a, 9).unwrap(), b"ck");
    put(&a, b"last").unwrap();
    socket::of(&a).unwrap().shutdown(Shutdown { read: false, write: true }).unwrap();
    assert_eq!(err(put(&a, b"x")), Errno::EPIPE);
    assert_eq!(get(&b, 9).unwrap(), b"last");
    assert_eq!(get(&b, 9).unwrap(), b"");
    assert!(b.poll(ALL, None).contains(PollMask::RDHUP | PollMask::IN));
    put(&b, b"half open").unwrap();
    assert_eq!(get(&a, 99).unwrap(), b"half open");
    drop(b);
    assert_eq!(get(&a, 9).unwrap(), b"");
    assert!(a.poll(ALL, None).contains(PollMask::HUP));
    // Unread data at the peer's close is a reset.
    let (a, b) = pair(STREAM);
    put(&a, b"unread").unwrap();
    drop(b);
    assert_eq!(err(get(&a, 9)), Errno::ECONNRESET);
    assert_eq!(get(&a, 9).unwrap(), b"");
    assert_eq!(err(put(&a, b"x")), Errno::EPIPE);
}

#[test]
fn a_slow_reader_stops_the_writer_and_frees_it_again() {
    let (a, b) = pair(STREAM);
    a.set_flags(O_NONBLOCK).unwrap();
    let mut sent = 0;
    while let Ok(n) = put(&a, &[5; 10_000]) {
        sent += n;
    }
    assert!(sent > 100_000);
    assert_eq!(err(put(&a, b"x")), Errno::EAGAIN);
    assert!(!a.poll(ALL, None).contains(PollMask::OUT));
    a.set_flags(0).unwrap();
    let writer = thread::spawn(move || {
        let big = vec![6; 1_000_000];
        assert_eq!(put(&a, &big), Ok(big.len()));
        a
    });
    let mut total = 0;
    while total < sent + 1_000_000 {
        total += get(&b, 70_000).unwrap().len();
    }
    let a = writer.join().unwrap();
    assert!(a.poll(ALL, None).contains(PollMask::OUT));
    drop(a);
    assert_eq!(get(&b, 9).unwrap(), b"");
}

#[test]
fn waitall_waits_for_all() {
    let (a, b) = pair(STREAM);
    let reader = thread::spawn(move || receive(&b, 6, msg::WAITALL).unwrap().0);
    put(&a, b"abc").unwrap();
    put(&a, b"def").unwrap();
    assert_eq!(reader.join().unwrap(), b"abcdef");
}

#[test]
fn datagrams_and_packets_keep_their_bounds() {
    for kind in [DGRAM, SEQPACKET] {
        let (a, b) = pair(kind);
        put(&a, b"first").unwrap();
        put(&a, b"").unwrap();
        put(&a, b"third").unwrap();
        let (data, got) = receive(&b, 3, 0).unwrap();
        assert_eq!((&data[..], got.flags & msg::TRUNC), (b"fir" as &[u8], msg::TRUNC));
        assert_eq!(receive(&b, 10, 0).unwrap().1.len, 0);
        assert_eq!(receive(&b, 2, msg::TRUNC | msg::PEEK).unwrap().1.len, 5);
        assert_eq!(receive(&b, 9, 0).unwrap().0, b"third");
        assert_eq!(err(put(&a, &vec![0; 300_000])), Errno::EMSGSIZE);
    }
}

#[test]
fn servers_and_clients_meet_at_a_path() {
    let w = World::new();
    let caller = w.caller();
    let server = new(STREAM);
    let listener = socket::of(&server).unwrap();
    let name = address("/sock");
    let client = new(STREAM);
    assert_eq!(err(socket::of(&client).unwrap().connect(&client, &caller, &name)), Errno::ENOENT);
    listener.bind(&caller, &name).unwrap();
    assert_eq!(err(listener.bind(&caller, &name)), Errno::EINVAL);
    assert_eq!(err(socket::of(&new(STREAM)).unwrap().bind(&caller, &name)), Errno::EADDRINUSE);
    assert_eq!(w.stat("/sock").unwrap().file_type(), fs::FileType::Socket);
    assert_eq!(err(w.open("/sock", O_RDWR)), Errno::ENXIO);
    assert_eq!(
        err(socket::of(&client).unwrap().connect(&client, &caller, &name)),
        Errno::ECONNREFUSED
    );
    listener.listen(1).unwrap();
    let packet = new(SEQPACKET);
    assert_eq!(
        err(socket::of(&packet).unwrap().connect(&packet, &caller, &name)),
        Errno::EPROTOTYPE
    );
    assert!(!server.poll(ALL, None).contains(PollMask::IN));
    let c = socket::of(&client).unwrap();
    c.connect(&client, &caller, &name).unwrap();
    assert_eq!(err(c.connect(&client, &caller, &name)), Errno::EISCONN);
    put(&client, b"early").unwrap();
    assert!(server.poll(ALL, None).contains(PollMask::IN));
    let conn = listener.accept(&server, O_NONBLOCK).unwrap();
    assert!(conn.nonblocking());
    assert_eq!(get(&conn, 9).unwrap(), b"early");
    assert_eq!(err(get(&conn, 9)), Errno::EAGAIN);
    let full_name = [&name[..], &[0]].concat();
    assert_eq!(c.peer_address().unwrap(), full_name);
    assert_eq!(socket::of(&conn).unwrap().local_address(), full_name);
    assert_eq!(c.local_address(), [1, 0]);
    let creds = socket::of(&conn).unwrap().option(1, 17).unwrap();
    assert_eq!(creds[..4], std::process::id().to_le_bytes());
    server.set_flags(O_NONBLOCK).unwrap();
    assert_eq!(err(listener.accept(&server, 0).map(|_| ())), Errno::EAGAIN);
    // A full backlog refuses those who will not wait; the close of the listener resets the rest.
    let mut waiting = Vec::new();
    loop {
        let s = socket::create(UNIX, STREAM | O_NONBLOCK, 0).unwrap();
        match socket::of(&s).unwrap().connect(&s, &caller, &name) {
            Ok(()) => waiting.push(s),
            Err(error) => break assert_eq!(error, Errno::EAGAIN),
        }
    }
    assert_eq!(waiting.len(), 2);
    drop(server);
    assert_eq!(err(get(&waiting[0], 1)), Errno::ECONNRESET);
    put(&client, b"still there").unwrap();
    assert_eq!(get(&conn, 99).unwrap(), b"still there");
    w.unlink("/sock").unwrap();
    assert_eq!(err(c.connect(&client, &caller, &name)), Errno::ENOENT);
}

#[test]
fn abstract_names_live_as_long_as_their_socket() {
    let w = World::new();
    let caller = w.caller();
    let name = address("\0only here");
    let s = new(DGRAM);
    socket::of(&s).unwrap().bind(&caller, &name).unwrap();
    assert_eq!(socket::of(&s).unwrap().local_address(), name);
    let t = new(DGRAM);
    assert_eq!(err(socket::of(&t).unwrap().bind(&caller, &name)), Errno::EADDRINUSE);
    let to = Some((&caller, &name[..]));
    let sent =
        socket::of(&t).unwrap().send(&t, &mut KernelSource(b"hi"), to, Control::default(), 0);
    assert_eq!(sent, Ok(2));
    let (data, got) = receive(&s, 9, 0).unwrap();
    assert_eq!((data, got.from), (b"hi".to_vec(), vec![]));
    // Binding to nothing gives a name.
    socket::of(&t).unwrap().bind(&caller, &[1, 0]).unwrap();
    assert_eq!(socket::of(&t).unwrap().local_address().len(), 2 + 1 + 5);
    socket::of(&t).unwrap().connect(&t, &caller, &name).unwrap();
    put(&t, b"again").unwrap();
    let reply_to = receive(&s, 9, 0).unwrap().1.from;
    assert_eq!(reply_to, socket::of(&t).unwrap().local_address());
    drop(s);
    assert_eq!(err(put(&t, b"x")), Errno::ECONNREFUSED);
    assert_eq!(err(socket::of(&t).unwrap().connect(&t, &caller, &name)), Errno::ECONNREFUSED);
    let again = new(DGRAM);
    socket::of(&again).unwrap().bind(&caller, &name).unwrap();
}

#[test]
fn files_travel_with_their_bytes() {
    let (a, b) = pair(STREAM);
    let (r, w) = Pipe::pair(0).unwrap();
    put(&a, b"before").unwrap();
    send(&a, b"with", Control { files: vec![w], ..Control::default() }, 0).unwrap();
    put(&a, b"after").unwrap();
    let (data, mut got) = receive(&b, 100, 0).unwrap();
    assert_eq!(data, b"beforewith");
    let table = FdTable::new();
    let control = cmsg::build(&mut got, &table, 100, 64, true);
    // Length 20, SOL_SOCKET, SCM_RIGHTS, descriptor 0, padding.
    assert_eq!(control[..20], [20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(table.cloexec(0), Ok(true));
    put(&table.get(0).unwrap(), b"through").unwrap();
    assert_eq!(get(&r, 9).unwrap(), b"through");
    assert_eq!(get(&b, 9).unwrap(), b"after");
    // Without room for them they are closed, and the flag tells.
    let w = table.get(0).unwrap();
    table.close(0).unwrap();
    send(&a, b"x", Control { files: vec![w], ..Control::default() }, 0).unwrap();
    let (_, mut got) = receive(&b, 9, 0).unwrap();
    assert_eq!(cmsg::build(&mut got, &table, 100, 0, false), []);
    assert_eq!(got.flags & msg::CTRUNC, msg::CTRUNC);
    drop(got);
    assert_eq!(get(&r, 1).unwrap(), b"", "the writing end is closed");
    // Closing a socket closes what is in flight to it.
    let (r, w) = Pipe::pair(0).unwrap();
    send(&a, b"x", Control { files: vec![w], ..Control::default() }, 0).unwrap();
    drop(b);
    assert_eq!(get(&r, 1).unwrap(), b"");
}

#[test]
fn control_data_is_parsed_with_care() {
    let table = FdTable::new();
    table.insert(Pipe::pair(0).unwrap().0, false, 9).unwrap();
    let creds = fs::Creds::user(1000, 1000);
    let head = |len: u64, kind: u32, data: &[u8]| {
        let mut out = len.to_le_bytes().to_vec();
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(data);
        out
    };
    assert_eq!(cmsg::parse(&head(20, 1, &[0; 4]), &table, &creds).unwrap().files.len(), 1);
    assert_eq!(
        err(cmsg::parse(&head(20, 1, &[9, 0, 0, 0]), &table, &creds).map(|_| ())),
        Errno::EBADF
    );
    assert_eq!(err(cmsg::parse(&head(99, 1, &[0; 4]), &table, &creds).map(|_| ())), Errno::EINVAL);
    assert_eq!(err(cmsg::parse(&head(3, 1, &[0; 4]), &table, &creds).map(|_| ())), Errno::EINVAL);
    assert_eq!(err(cmsg::parse(&head(20, 9, &[0; 4]), &table, &creds).map(|_| ())), Errno::EINVAL);
    let claim = [std::process::id().to_le_bytes(), 5u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    assert_eq!(err(cmsg::parse(&head(28, 2, &claim), &table, &creds).map(|_| ())), Errno::EPERM);
    let root = fs::Creds::root();
    let parsed = cmsg::parse(&head(28, 2, &claim), &table, &root).unwrap();
    assert_eq!(parsed.creds.map(|c| c.uid), Some(5));
}

#[test]
fn credentials_are_told_to_those_who_ask() {
    let (a, b) = pair(STREAM);
    put(&a, b"x").unwrap();
    assert_eq!(receive(&b, 1, 0).unwrap().1.creds, None);
    socket::of(&b).unwrap().set_option(1, 16, &1u32.to_le_bytes()).unwrap();
    put(&a, b"one").unwrap();
    let claimed = Ucred { pid: 4, uid: 5, gid: 6 };
    send(&a, b"two", Control { creds: Some(claimed), ..Control::default() }, 0).unwrap();
    let (data, got) = receive(&b, 99, 0).unwrap();
    assert_eq!((data, got.creds.unwrap().pid), (b"one".to_vec(), std::process::id()));
    assert_eq!(receive(&b, 99, 0).unwrap().1.creds, Some(claimed));
    let o = socket::of(&b).unwrap();
    assert_eq!(o.option(1, 3).unwrap(), 1u32.to_le_bytes());
    assert_eq!(o.option(1, 16).unwrap(), 1u32.to_le_bytes());
    assert_eq!(err(o.option(1, 9999)), Errno::ENOPROTOOPT);
    assert_eq!(err(o.option(6, 1)), Errno::EOPNOTSUPP);
    // A receive timeout ends the wait.
    let timeout = [0u64.to_le_bytes(), 2000u64.to_le_bytes()].concat();
    o.set_option(1, 20, &timeout).unwrap();
    assert_eq!(o.option(1, 20).unwrap(), timeout);
    let before = sync::hooks::now();
    assert_eq!(err(get(&b, 1)), Errno::EAGAIN);
    assert!(sync::hooks::now() - before >= 2_000_000);
}

#[test]
fn strangers_queue_few_datagrams() {
    let w = World::new();
    let caller = w.caller();
    let s = new(DGRAM);
    let name = address("\0queue");
    socket::of(&s).unwrap().bind(&caller, &name).unwrap();
    let t = socket::create(UNIX, DGRAM | O_NONBLOCK, 0).unwrap();
    socket::of(&t).unwrap().connect(&t, &caller, &name).unwrap();
    let mut sent = 0;
    while put(&t, b"x").is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 11);
    assert!(!t.poll(ALL, None).contains(PollMask::OUT));
    let ep = fs::epoll::create(0).unwrap();
    let add = fs::epoll::Control::Add { events: 4, data: 1 };
    fs::epoll::control(&ep, 0, &t, add).unwrap();
    let mut buf = [0; 12];
    let now = fs::pollwait::Timeout::Now;
    assert_eq!(fs::epoll::wait(&ep, &mut KernelSink::new(&mut buf), 1, now), Ok(0));
    receive(&s, 9, 0).unwrap();
    assert_eq!(fs::epoll::wait(&ep, &mut KernelSink::new(&mut buf), 1, now), Ok(1));
    assert_eq!(put(&t, b"x"), Ok(1));
}

#[test]
fn sender_and_receiver_threads_agree_on_every_byte() {
    let (a, b) = pair(STREAM);
    let data: Vec<u8> = (0..2_000_000u32).map(|n| (n % 253) as u8).collect();
    let copy = data.clone();
    let sender = thread::spawn(move || {
        for piece in copy.chunks(12_345) {
            assert_eq!(put(&a, piece), Ok(piece.len()));
        }
    });
    let mut got = Vec::new();
    loop {
        let piece = get(&b, 7_777).unwrap();
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
    }
    sender.join().unwrap();
    assert!(got == data);
}
