//! What System V objects and a program's own layout are told as.

use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![system_v_objects_are_listed, a_program_says_where_its_parts_are,];

fn listed(name: &str, id: usize) -> (String, Vec<u64>) {
    let text = std::fs::read_to_string(format!("/proc/sysvipc/{name}")).unwrap();
    let mut lines = text.lines();
    let head = lines.next().unwrap().to_string();
    let line = lines
        .find(|line| line.split_whitespace().nth(1) == Some(&id.to_string()))
        .unwrap_or_else(|| panic!("no {id} in {text}"));
    assert_eq!(line.len(), head.len().max(line.len()), "{head:?} {line:?}");
    (head, line.split_whitespace().map(|word| word.parse().unwrap()).collect())
}

fn system_v_objects_are_listed() {
    const MODE: usize = 0o640;
    let own = sys::getpid() as u64;
    let shm = sys!(libc::SYS_shmget, 77, 5000, libc::IPC_CREAT as usize | MODE).unwrap();
    let at = sys!(libc::SYS_shmat, shm, 0, 0).unwrap();
    crate::memory::put(at, 1);
    let (head, row) = listed("shm", shm);
    assert_eq!(
        head,
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  \
         cgid      atime      dtime      ctime                   rss                  swap"
    );
    assert_eq!(row[..7], [77, shm as u64, 640, 5000, own, own, 1]);
    assert_eq!(row[7..11], [0; 4]);
    assert!(row[11] > 0 && row[12] == 0 && row[13] > 0, "{row:?}");
    assert_eq!(row[14..], [4096, 0]);
    sys!(libc::SYS_shmctl, shm, libc::IPC_RMID, 0).unwrap();
    assert_eq!(listed("shm", shm).1[2], 1640, "it goes with its mapping");

    let sem = sys!(libc::SYS_semget, 78, 3, libc::IPC_CREAT as usize | MODE).unwrap();
    let up = [1u16, 2, 0];
    sys!(libc::SYS_semop, sem, up.as_ptr(), 1).unwrap();
    let (head, row) = listed("sem", sem);
    assert_eq!(
        head,
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime"
    );
    assert_eq!(row[..8], [78, sem as u64, 640, 3, 0, 0, 0, 0]);
    assert!(row[8] > 0 && row[9] > 0, "{row:?}");
    sys!(libc::SYS_semctl, sem, 0, libc::IPC_RMID, 0).unwrap();

    let msg = sys!(libc::SYS_msgget, 79, libc::IPC_CREAT as usize | MODE).unwrap();
    let message = [1u64, 2, 3];
    sys!(libc::SYS_msgsnd, msg, message.as_ptr(), 12, 0).unwrap();
    let (head, row) = listed("msg", msg);
    assert_eq!(
        head,
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      \
         stime      rtime      ctime"
    );
    assert_eq!(row[..7], [79, msg as u64, 640, 12, 1, own, 0]);
    assert!(row[11] > 0 && row[12] == 0 && row[13] > 0, "{row:?}");
    sys!(libc::SYS_msgctl, msg, libc::IPC_RMID, 0).unwrap();
}

/// Numbers of prctl(2).
const SET_MM: i32 = 35;
const START_CODE: i32 = 1;
const END_CODE: i32 = 2;
const START_STACK: i32 = 5;
const START_BRK: i32 = 6;
const BRK: i32 = 7;
const ARG_START: i32 = 8;
const ARG_END: i32 = 9;

fn a_program_says_where_its_parts_are() {
    let set = |option: i32, addr: usize| sys!(libc::SYS_prctl, SET_MM, option, addr, 0, 0);
    // Fields of proc(5), counted from 1 after the name's end, which is the second.
    let field = |n: usize| -> usize {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let rest = text[text.rfind(')').unwrap() + 2..].to_string();
        rest.split_whitespace().nth(n - 3).unwrap().parse().unwrap()
    };
    let at = crate::memory::map(2);
    crate::memory::touch(at, 2);
    let (start, end) = (field(26), field(27));
    set(START_CODE, start - 4096).unwrap();
    set(END_CODE, end + 4096).unwrap();
    assert_eq!((field(26), field(27)), (start - 4096, end + 4096));
    fails(set(END_CODE, start - 4096), libc::EINVAL);
    set(START_STACK, at).unwrap();
    assert_eq!(field(28), at);

    // What cmdline shows.
    let words = *b"one\0two\0";
    let memory = sys::open("/proc/self/mem", libc::O_RDWR, 0).unwrap();
    assert_eq!(sys!(libc::SYS_pwrite64, memory, words.as_ptr(), words.len(), at), Ok(8));
    if set(ARG_START, at).is_err() {
        // The order must hold at each step.
        set(ARG_END, at + 8).unwrap();
        set(ARG_START, at).unwrap();
    } else {
        set(ARG_END, at + 8).unwrap();
    }
    assert_eq!(std::fs::read("/proc/self/cmdline").unwrap(), b"one\0two\0");
    assert_eq!((field(48), field(49)), (at, at + 8));

    // The heap's end is where brk(2) says, and its start where it may go back to.
    let brk = sys!(libc::SYS_brk, 0).unwrap();
    let heap = field(47);
    fails(set(START_BRK, brk + 4096), libc::EINVAL);
    set(BRK, brk + 16).unwrap();
    assert_eq!(sys!(libc::SYS_brk, 0), Ok(brk + 16));
    set(BRK, brk).unwrap();
    set(START_BRK, heap).unwrap();

    for (option, addr, errno) in [
        (0, at, libc::EINVAL),
        (16, at, libc::EINVAL),
        (START_STACK, 4096, libc::EINVAL),
        (START_STACK, 0x7fff_ffff_f000, libc::EINVAL),
        (START_STACK, usize::MAX, libc::EINVAL),
    ] {
        fails(set(option, addr), errno);
    }
    fails(sys!(libc::SYS_prctl, SET_MM, BRK, brk, 1, 0), libc::EINVAL);
    fails(sys!(libc::SYS_prctl, SET_MM, BRK, brk, 0, 1), libc::EINVAL);
}
