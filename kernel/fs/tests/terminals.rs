//! The line discipline, job control, pseudo terminals.

mod common;

use abi::Errno;
use abi::raw::ioctl as i;
use common::{World, err, get, put};
use fs::oflag::*;
use fs::stat::DevId;
use fs::tty::{self, Job, Termios, Tty, TtyDriver, TtyHooks};
use fs::{File, PollMask};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

const ALL: PollMask = PollMask::all();

/// A line whose output is kept.
#[derive(Default)]
struct Line(Mutex<Vec<u8>>);

impl TtyDriver for Line {
    fn write(&self, data: &[u8]) -> usize {
        self.0.lock().unwrap().extend_from_slice(data);
        data.len()
    }
}

/// What the kernel's processes would be; one test at a time uses them.
#[derive(Default)]
struct Processes {
    current: Mutex<Job>,
    ignoring: Mutex<bool>,
    orphaned: Mutex<bool>,
    signals: Mutex<Vec<(u32, u32)>>,
}

static PROCESSES: Processes = Processes {
    current: Mutex::new(Job { session: 0, group: 0, leader: false }),
    ignoring: Mutex::new(false),
    orphaned: Mutex::new(false),
    signals: Mutex::new(Vec::new()),
};
static TURN: Mutex<()> = Mutex::new(());

impl TtyHooks for Processes {
    fn current(&self) -> Job {
        *self.current.lock().unwrap()
    }
    fn signal_group(&self, group: u32, signal: u32) {
        self.signals.lock().unwrap().push((group, signal));
    }
    fn signal_leader(&self, session: u32, signal: u32) {
        self.signals.lock().unwrap().push((session + 1_000_000, signal));
    }
    fn is_orphaned(&self, _group: u32) -> bool {
        *self.orphaned.lock().unwrap()
    }
    fn ignores(&self, _signal: u32) -> bool {
        *self.ignoring.lock().unwrap()
    }
    fn session_of(&self, group: u32) -> Option<u32> {
        (group < 1000).then_some(group / 10 * 10)
    }
    fn defer(&self, tty: &Arc<Tty>) {
        tty.process_input();
    }
}

fn become_job(session: u32, group: u32) {
    *PROCESSES.current.lock().unwrap() = Job { session, group, leader: session == group };
}
fn signals() -> Vec<(u32, u32)> {
    std::mem::take(&mut *PROCESSES.signals.lock().unwrap())
}

struct Setup {
    tty: Arc<Tty>,
    line: Arc<Line>,
    file: Arc<File>,
    world: World,
    _turn: MutexGuard<'static, ()>,
}

impl Setup {
    fn new(minor: u32) -> Self {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        tty::register_hooks(&PROCESSES);
        become_job(0, 0);
        *PROCESSES.ignoring.lock().unwrap() = false;
        *PROCESSES.orphaned.lock().unwrap() = false;
        signals();
        let line = Arc::new(Line::default());
        let device = DevId::new(4, 64 + minor);
        let tty = Tty::new(device, "ttyS0".into(), line.clone()).unwrap();
        tty::register_char_devices(vec![tty.clone()]);
        let world = World::new();
        let at = fs::context::At::Cwd;
        world.caller().mknod(at, b"/tty", 0o20666, device).unwrap();
        let file = world.open("/tty", O_RDWR | O_NONBLOCK | O_NOCTTY).unwrap();
        Self { tty, line, file, world, _turn: turn }
    }

    fn typed(&self, text: &[u8]) {
        self.tty.receive(text);
    }
    fn shown(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.line.0.lock().unwrap())).unwrap()
    }
    fn read(&self) -> abi::Result<String> {
        get(&self.file, 4096).map(|bytes| String::from_utf8(bytes).unwrap())
    }
    fn settings(&self, change: impl Fn(&mut Termios)) {
        let mut t = self.tty.termios();
        change(&mut t);
        let bytes = t.bytes();
        self.file.ioctl(i::TCSETS, bytes.as_ptr() as u64).unwrap();
    }
}

const ICANON: u32 = 2;
const ECHO: u32 = 8;
const ISIG: u32 = 1;

#[test]
fn lines_are_edited_echoed_and_delivered_whole() {
    let s = Setup::new(0);
    s.typed(b"helo");
    assert_eq!(err(s.read()), Errno::EAGAIN);
    assert!(!s.file.poll(ALL, None).contains(PollMask::IN));
    s.typed(b"\x7flo\r");
    assert_eq!(s.read().unwrap(), "hello\n");
    assert_eq!(s.shown(), "helo\x08 \x08lo\r\n");
    s.typed(b"one two  \x17three\n");
    assert_eq!(s.read().unwrap(), "one three\n");
    s.shown();
    s.typed(b"gone\x15kept\n");
    assert_eq!(s.read().unwrap(), "kept\n");
    assert_eq!(s.shown(), "gone\x08 \x08\x08 \x08\x08 \x08\x08 \x08kept\r\n");
    // A control character takes two columns; ^V takes the next one as it is.
    s.typed(b"a\x01\x7f\x16\x03b\n");
    assert_eq!(s.read().unwrap(), "a\x03b\n");
    assert_eq!(s.shown(), "a^A\x08 \x08\x08 \x08^\x08^Cb\r\n");
    // Two lines are read one by one, a short read leaves the rest.
    s.typed(b"first\nsecond\n");
    assert_eq!(get(&s.file, 3).unwrap(), b"fir");
    assert_eq!(s.read().unwrap(), "st\n");
    assert_eq!(s.read().unwrap(), "second\n");
    assert_eq!(err(s.read()), Errno::EAGAIN);
}

#[test]
fn the_end_of_file_character_ends_a_line_or_the_file() {
    let s = Setup::new(0);
    s.typed(b"part\x04");
    assert_eq!(s.read().unwrap(), "part");
    s.typed(b"\x04");
    assert!(s.file.poll(ALL, None).contains(PollMask::IN));
    assert_eq!(s.read().unwrap(), "");
    assert_eq!(err(s.read()), Errno::EAGAIN);
    // A line that is read exactly to its end-of-file mark gives no extra end of file.
    s.typed(b"abc\x04");
    assert_eq!(get(&s.file, 3).unwrap(), b"abc");
    assert_eq!(err(s.read()), Errno::EAGAIN);
}

#[test]
fn raw_mode_is_exact_to_the_byte() {
    let s = Setup::new(0);
    s.settings(|t| *t = Termios::raw());
    let all: Vec<u8> = (0..=255).collect();
    s.typed(&all);
    assert_eq!(get(&s.file, 999).unwrap(), all);
    put(&s.file, &all).unwrap();
    assert_eq!(*s.line.0.lock().unwrap(), all);
    let mut waiting = 0i32;
    s.typed(b"xyz");
    s.file.ioctl(i::FIONREAD, &raw mut waiting as u64).unwrap();
    assert_eq!(waiting, 3);
    // What was typed before stays readable when canonical mode comes back.
    s.settings(|t| t.lflag |= ICANON);
    assert_eq!(s.read().unwrap(), "xyz");
}

#[test]
fn minimum_and_time_govern_raw_reads() {
    let s = Setup::new(0);
    s.settings(|t| t.lflag &= !(ICANON | ECHO));
    s.settings(|t| (t.cc[6], t.cc[5]) = (0, 0));
    let file = s.world.open("/tty", O_RDONLY | O_NOCTTY).unwrap();
    assert_eq!(get(&file, 10).unwrap(), b"");
    s.settings(|t| (t.cc[6], t.cc[5]) = (0, 1));
    let before = sync::hooks::now();
    assert_eq!(get(&file, 10).unwrap(), b"");
    assert!(sync::hooks::now() - before >= 100_000_000);
    s.settings(|t| (t.cc[6], t.cc[5]) = (4, 0));
    let other = file.clone();
    let reader = thread::spawn(move || get(&other, 10).unwrap());
    for piece in ["a", "b", "c", "d"] {
        s.typed(piece.as_bytes());
    }
    assert_eq!(reader.join().unwrap(), b"abcd");
    // Between bytes the clock runs: two are delivered though four were wanted.
    s.settings(|t| (t.cc[6], t.cc[5]) = (4, 1));
    s.typed(b"ef");
    assert_eq!(get(&file, 10).unwrap(), b"ef");
}

#[test]
fn output_is_processed_as_asked() {
    let s = Setup::new(0);
    put(&s.file, b"a\nb\tc\r\n").unwrap();
    assert_eq!(s.shown(), "a\r\nb\tc\r\r\n");
    s.settings(|t| t.oflag |= 0o14000);
    put(&s.file, b"ab\tc\n").unwrap();
    assert_eq!(s.shown(), "ab      c\r\n");
    s.settings(|t| t.oflag = 0);
    put(&s.file, b"x\n").unwrap();
    assert_eq!(s.shown(), "x\n");
}

#[test]
fn stopping_and_starting_output() {
    let s = Setup::new(0);
    s.typed(b"\x13");
    assert_eq!(err(put(&s.file, b"x")), Errno::EAGAIN);
    assert!(!s.file.poll(ALL, None).contains(PollMask::OUT));
    s.typed(b"\x11");
    assert_eq!(put(&s.file, b"x"), Ok(1));
}

#[test]
fn special_characters_signal_the_foreground() {
    let s = Setup::new(0);
    become_job(10, 10);
    s.file.ioctl(i::TIOCSCTTY, 0).unwrap();
    assert_eq!(tty::controlling(10).unwrap().device(), s.tty.device());
    s.typed(b"lost\x03");
    assert_eq!(signals(), [(10, 2)]);
    assert_eq!(s.shown(), "lost^C");
    s.typed(b"\x1c\x1a");
    assert_eq!(signals(), [(10, 3), (10, 20)]);
    assert_eq!(err(s.read()), Errno::EAGAIN);
    let group = 11i32;
    s.file.ioctl(i::TIOCSPGRP, &raw const group as u64).unwrap();
    s.typed(b"\x03");
    assert_eq!(signals(), [(11, 2)]);
    let mut shown = 0i32;
    become_job(10, 11);
    s.file.ioctl(i::TIOCGPGRP, &raw mut shown as u64).unwrap();
    assert_eq!(shown, 11);
    // Without ISIG they are plain bytes.
    s.settings(|t| t.lflag &= !(ISIG | ICANON));
    s.typed(b"\x03");
    assert_eq!((s.read().unwrap().as_str(), signals()), ("\x03", vec![]));
    let size = [24u16, 80, 0, 0];
    s.file.ioctl(i::TIOCSWINSZ, size.as_ptr() as u64).unwrap();
    assert_eq!(signals(), [(11, 28)]);
    let mut back = [0u16; 4];
    s.file.ioctl(i::TIOCGWINSZ, back.as_mut_ptr() as u64).unwrap();
    assert_eq!(back, size);
    become_job(10, 10);
    tty::session_ended(10);
    assert_eq!(signals(), [(11, 1), (11, 18)]);
    assert!(tty::controlling(10).is_none());
    assert_eq!(s.tty.session(), 0);
}

#[test]
fn the_background_is_kept_from_the_terminal() {
    let s = Setup::new(0);
    become_job(20, 20);
    s.file.ioctl(i::TIOCSCTTY, 0).unwrap();
    become_job(20, 21);
    s.typed(b"text\n");
    assert_eq!(err(s.read()), Errno::ERESTARTSYS);
    assert_eq!(signals(), [(21, 21)]);
    // Writing is allowed until TOSTOP forbids it.
    assert_eq!(put(&s.file, b"x"), Ok(1));
    become_job(20, 20);
    s.settings(|t| t.lflag |= 0o400);
    become_job(20, 21);
    assert_eq!(err(put(&s.file, b"x")), Errno::ERESTARTSYS);
    assert_eq!(signals(), [(21, 22)]);
    *PROCESSES.ignoring.lock().unwrap() = true;
    assert_eq!(put(&s.file, b"x"), Ok(1));
    assert_eq!(err(s.read()), Errno::EIO);
    *PROCESSES.ignoring.lock().unwrap() = false;
    *PROCESSES.orphaned.lock().unwrap() = true;
    assert_eq!(err(s.read()), Errno::EIO);
    assert_eq!(signals(), []);
    *PROCESSES.orphaned.lock().unwrap() = false;
    let group = 21i32;
    assert_eq!(err(s.file.ioctl(i::TIOCSPGRP, &raw const group as u64)), Errno::ERESTARTSYS);
    signals();
    become_job(20, 20);
    for (group, error) in [(31, Errno::EPERM), (5000, Errno::ESRCH), (-1, Errno::EINVAL)] {
        assert_eq!(err(s.file.ioctl(i::TIOCSPGRP, &raw const group as u64)), error);
    }
    // Another session cannot take the terminal, nor see its group.
    become_job(30, 30);
    assert_eq!(err(s.file.ioctl(i::TIOCSCTTY, 0)), Errno::EPERM);
    let mut shown = 0i32;
    assert_eq!(err(s.file.ioctl(i::TIOCGPGRP, &raw mut shown as u64)), Errno::ENOTTY);
    become_job(20, 20);
    tty::session_ended(20);
    signals();
}

#[test]
fn opening_a_free_terminal_takes_it() {
    let s = Setup::new(0);
    become_job(40, 40);
    let at = fs::context::At::Cwd;
    s.world.caller().mknod(at, b"/mytty", 0o20666, DevId::new(5, 0)).unwrap();
    assert_eq!(err(s.world.open("/mytty", O_RDWR)), Errno::ENXIO);
    let opened = s.world.open("/tty", O_RDWR).unwrap();
    assert_eq!(s.tty.session(), 40);
    let again = s.world.open("/mytty", O_RDWR).unwrap();
    put(&again, b"via").unwrap();
    assert_eq!(s.shown(), "via");
    opened.ioctl(i::TIOCNOTTY, 0).unwrap();
    assert_eq!(err(s.world.open("/mytty", O_RDWR)), Errno::ENXIO);
    signals();
    // A hang-up ends everything.
    let opened = s.world.open("/tty", O_RDWR).unwrap();
    s.tty.hang_up();
    assert_eq!(signals(), [(1_000_040, 1), (1_000_040, 18), (40, 1), (40, 18)]);
    assert_eq!(get(&opened, 9).unwrap(), b"");
    assert_eq!(err(put(&opened, b"x")), Errno::EIO);
    assert!(opened.poll(ALL, None).contains(PollMask::HUP));
    assert_eq!(err(s.world.open("/tty", O_RDWR)), Errno::EIO);
}

#[test]
fn a_full_buffer_keeps_input_waiting_and_loses_nothing() {
    let s = Setup::new(0);
    s.settings(|t| *t = Termios::raw());
    let data: Vec<u8> = (0..8000u32).map(|n| n as u8).collect();
    s.typed(&data);
    let mut back = Vec::new();
    while let Ok(piece) = get(&s.file, 1000) {
        back.extend(piece);
    }
    assert!(back == data);
}

#[test]
fn pseudo_terminals_connect_their_two_sides() {
    let s = Setup::new(0);
    let at = fs::context::At::Cwd;
    fs::mount::register("devpts", Box::new(|_, o| tty::devpts(o)));
    s.world.mkdir("/pts").unwrap();
    s.world.caller().mount(b"none", b"/pts", "devpts", 0, "gid=5,mode=620").unwrap();
    s.world.caller().mknod(at, b"/ptmx", 0o20666, DevId::new(5, 2)).unwrap();
    let master = s.world.open("/ptmx", O_RDWR | O_NOCTTY).unwrap();
    let mut number = 99u32;
    master.ioctl(i::TIOCGPTN, &raw mut number as u64).unwrap();
    let path = format!("/pts/{number}");
    assert!(s.world.list("/pts").contains(&number.to_string()));
    assert_eq!(err(s.world.open(&path, O_RDWR)), Errno::EIO);
    let unlock = 0i32;
    master.ioctl(i::TIOCSPTLCK, &raw const unlock as u64).unwrap();
    let meta = s.world.stat(&path).unwrap();
    assert_eq!((meta.mode, meta.gid, meta.rdev), (0o20620, 5, DevId::new(136, number)));
    let slave = s.world.open(&path, O_RDWR).unwrap();
    assert_eq!(slave.path().unwrap().text(None).unwrap(), path.as_bytes());
    put(&master, b"typed\n").unwrap();
    assert_eq!(get(&slave, 99).unwrap(), b"typed\n");
    assert_eq!(get(&master, 99).unwrap(), b"typed\r\n");
    put(&slave, b"out\n").unwrap();
    assert!(master.poll(ALL, None).contains(PollMask::IN));
    assert_eq!(get(&master, 99).unwrap(), b"out\r\n");
    // The slave's output is limited by what the master reads.
    let writer = {
        let slave = slave.clone();
        thread::spawn(move || put(&slave, &[b'z'; 100_000]).unwrap())
    };
    let mut seen = 0;
    while seen < 100_000 {
        seen += get(&master, 5000).unwrap().len();
    }
    assert_eq!(writer.join().unwrap(), 100_000);
    // Input waits for its reader, too.
    slave.ioctl(i::TCSETS, Termios::raw().bytes().as_ptr() as u64).unwrap();
    let writer = {
        let master = master.clone();
        thread::spawn(move || put(&master, &[b'y'; 50_000]).unwrap())
    };
    let mut seen = 0;
    while seen < 50_000 {
        seen += get(&slave, 3000).unwrap().len();
    }
    assert_eq!(writer.join().unwrap(), 50_000);
    drop(slave);
    assert_eq!(err(get(&master, 9)), Errno::EIO);
    assert!(master.poll(ALL, None).contains(PollMask::HUP));
    let slave = s.world.open(&path, O_RDWR).unwrap();
    drop(master);
    assert_eq!(get(&slave, 9).unwrap(), b"");
    assert_eq!(err(put(&slave, b"x")), Errno::EIO);
    assert_eq!(err(s.world.stat(&path)), Errno::ENOENT);
}
