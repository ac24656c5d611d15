//! execve(2), execveat(2), scripts: what the new program gets, what goes, what is refused.

use libc::{E2BIG, EACCES, EFAULT, ELOOP, ENOENT, ENOEXEC, ENOTDIR};

use crate::child::{end_of, run};
use crate::harness::{Test, tests};
use crate::helper;
use crate::memory::*;
use crate::signal;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    arguments_arrive,
    the_environment_arrives,
    many_and_long_arguments_arrive,
    the_pid_stays,
    descriptors_stay_open_but_those_marked,
    ignored_signals_stay_ignored_and_handlers_go,
    blocked_signals_stay_blocked,
    the_name_becomes_the_files,
    other_threads_end,
    a_thread_that_executes_becomes_the_process,
    old_memory_is_gone_and_shared_memory_stays_for_others,
    what_is_not_there_is_not_executed,
    what_is_not_executable_is_not_executed,
    damaged_headers_are_refused_or_run_but_do_no_harm,
    a_refused_program_leaves_the_old_one_running,
    wild_pointers_are_refused,
    too_long_an_argument_is_refused,
    too_many_arguments_are_refused,
    a_script_runs_its_interpreter_with_its_argument_and_path,
    a_script_with_spaces_before_its_interpreter_runs,
    a_script_without_its_interpreter_is_enoent,
    scripts_of_scripts_have_an_end,
    execveat_runs_a_descriptor,
    execveat_runs_a_path_below_a_directory,
    a_memfd_is_executed,
    a_program_that_runs_is_not_written,
    the_auxiliary_vector_tells_the_truth,
    cmdline_and_exe_in_proc_show_the_program,
];

/// execve with no arguments but the path; returns when refused.
fn refused(path: &str) -> sys::Result<usize> {
    let (path, end) = (sys::c(path), 0usize);
    sys!(libc::SYS_execve, path.as_ptr(), &raw const end, &raw const end)
}

fn file(name: &str, bytes: &[u8], mode: u32) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = format!("/tmp/tests-exec-{name}");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn own_path() -> String {
    std::fs::read_link("/proc/self/exe").unwrap().to_str().unwrap().to_string()
}

fn arguments_arrive() {
    assert_eq!(helper::call(&["arguments", "one", "", "three words here"]), 0);
}

fn the_environment_arrives() {
    let end = end_of(|| panic!("execve: {}", helper::exec_with(&["environment"], &["A=b=c"])));
    assert_eq!(end, 0);
}

fn many_and_long_arguments_arrive() {
    let long = "x".repeat(100_000);
    let mut args = vec!["count"];
    args.extend((0..1000).map(|_| "y"));
    args.push(&long);
    assert_eq!(helper::call(&args), (1 + 1000 + 1) % 256);
}

fn the_pid_stays() {
    let end = end_of(|| {
        let pid = sys::getpid().to_string();
        panic!("execve: {}", helper::exec(&["pid", &pid]))
    });
    assert_eq!(end, 0);
}

fn descriptors_stay_open_but_those_marked() {
    let kept = memfd_with(1, 0);
    let marked = memfd_with(1, libc::MFD_CLOEXEC);
    assert_eq!(helper::call(&["fd-open", &kept.to_string()]), 0);
    assert_eq!(helper::call(&["fd-open", &marked.to_string()]), 1);
    sys!(libc::SYS_fcntl, kept, libc::F_SETFD, libc::FD_CLOEXEC).unwrap();
    assert_eq!(helper::call(&["fd-open", &kept.to_string()]), 1);
}

fn ignored_signals_stay_ignored_and_handlers_go() {
    signal::ignore(libc::SIGUSR1);
    signal::catch(libc::SIGUSR2, 0);
    assert_eq!(helper::call(&["ignored", &libc::SIGUSR1.to_string()]), 0);
    assert_eq!(helper::call(&["ignored", &libc::SIGUSR2.to_string()]), 1);
}

fn blocked_signals_stay_blocked() {
    signal::block(&[libc::SIGUSR1]);
    assert_eq!(helper::call(&["blocked", &libc::SIGUSR1.to_string()]), 0);
    assert_eq!(helper::call(&["blocked", &libc::SIGUSR2.to_string()]), 1);
}

fn the_name_becomes_the_files() {
    sys!(libc::SYS_prctl, libc::PR_SET_NAME, c"other".as_ptr(), 0, 0, 0).unwrap();
    assert_eq!(helper::call(&["name", "exe"]), 0);
}

fn other_threads_end() {
    let end = end_of(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        panic!("execve: {}", helper::exec(&["threads"]))
    });
    assert_eq!(end, 0);
}

fn a_thread_that_executes_becomes_the_process() {
    let end = end_of(|| {
        let pid = sys::getpid().to_string();
        std::thread::spawn(move || {
            assert_ne!(sys::gettid().to_string(), pid);
            panic!("execve: {}", helper::exec(&["pid", &pid]))
        });
        loop {
            let _ = sys!(libc::SYS_pause);
        }
    });
    assert_eq!(end, 0);
}

fn old_memory_is_gone_and_shared_memory_stays_for_others() {
    let at = map_shared(1);
    put(at, 5);
    assert_eq!(helper::call(&["exit", "3"]), 3);
    assert_eq!(get(at), 5);
}

fn what_is_not_there_is_not_executed() {
    fails(refused("/tmp/no-such-file"), ENOENT);
    fails(refused(""), ENOENT);
    let path = file("plain", b"x", 0o755);
    fails(refused(&format!("{path}/below")), ENOTDIR);
}

fn what_is_not_executable_is_not_executed() {
    fails(refused(&file("mode", b"#!/bin/sh\n", 0o644)), EACCES);
    fails(refused("/tmp"), EACCES);
    fails(refused(&file("garbage", b"neither program nor script", 0o755)), ENOEXEC);
    fails(refused(&file("empty", b"", 0o755)), ENOEXEC);
    fails(refused(&file("cut", b"\x7fELF\x02\x01\x01", 0o755)), ENOEXEC);
}

/// Bytes of the ELF and program headers are overwritten at random. Such a program is refused with
/// an errno that says so, or replaces the child and ends in whatever way, within a second of its
/// time; the undamaged program runs between.
fn damaged_headers_are_refused_or_run_but_do_no_harm() {
    const STARTED: [i32; 5] = [ENOEXEC, libc::EINVAL, libc::ENOMEM, libc::EIO, libc::ELIBBAD];
    let whole = std::fs::read("/proc/self/exe").unwrap();
    let path = file("damaged", &whole, 0o755);
    let name = sys::c(&path);
    let words = [
        c"tests".as_ptr(),
        c"--helper".as_ptr(),
        c"exit".as_ptr(),
        c"23".as_ptr(),
        std::ptr::null(),
    ];
    let start = || {
        end_of(|| {
            // SAFETY: sets a timer; its signal ends a program that runs in circles.
            unsafe { libc::alarm(1) };
            let refused = sys!(libc::SYS_execve, name.as_ptr(), words.as_ptr(), 0);
            let errno = refused.unwrap_err().0;
            sys::exit_group(if STARTED.contains(&errno) { 100 } else { 101 })
        })
    };
    let mut random = crate::random::Random::new(7);
    let mut refusals = 0;
    for _ in 0..40 {
        let mut damaged = whole[..1024].to_vec();
        for _ in 0..1 + random.below(3) {
            // The identification is looked at first of all: mostly leave it.
            let at = if random.below(8) == 0 { random.below(16) } else { 16 + random.below(500) };
            damaged[at] = random.below(256) as u8;
        }
        let head = |bytes: &[u8]| {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..1024], 0).unwrap();
        };
        head(&damaged);
        let end = start();
        assert_ne!(end, 101, "refused with an errno that does not tell");
        refusals += usize::from(end == 100);
        head(&whole);
        assert_eq!(start(), 23);
    }
    assert!(refusals > 0, "nothing was refused");
}

fn a_refused_program_leaves_the_old_one_running() {
    let at = map(4);
    fill(at, 4, 1);
    signal::catch(libc::SIGUSR1, 0);
    fails(refused("/tmp/no-such-file"), ENOENT);
    verify(at, 4, 1);
    sys::kill(sys::getpid(), libc::SIGUSR1).unwrap();
    signal::until_noted(1);
}

fn wild_pointers_are_refused() {
    let path = c"/proc/self/exe";
    fails(sys!(libc::SYS_execve, 8, 0, 0), EFAULT);
    fails(sys!(libc::SYS_execve, path.as_ptr(), 8, 0), EFAULT);
    let wild = [8usize, 0];
    fails(sys!(libc::SYS_execve, path.as_ptr(), wild.as_ptr(), 0), EFAULT);
}

fn too_long_an_argument_is_refused() {
    let long = "x".repeat(32 * PAGE);
    let words = [sys::c("tests"), sys::c(&long)];
    let argv = [words[0].as_ptr(), words[1].as_ptr(), std::ptr::null()];
    let result = sys!(libc::SYS_execve, c"/proc/self/exe".as_ptr(), argv.as_ptr(), 0);
    fails(result, E2BIG);
}

fn too_many_arguments_are_refused() {
    // A quarter of the stack's limit at most.
    let word = sys::c(&"x".repeat(100_000));
    let mut argv = vec![word.as_ptr(); 100];
    argv.push(std::ptr::null());
    fails(sys!(libc::SYS_execve, c"/proc/self/exe".as_ptr(), argv.as_ptr(), 0), E2BIG);
}

fn a_script_runs_its_interpreter_with_its_argument_and_path() {
    let script = file("script", format!("#!{} --helper\n", own_path()).as_bytes(), 0o755);
    // The interpreter sees: --helper, the script's path, and then what the caller gave.
    let status = std::process::Command::new(&script).args(["exit", "33"]).status().unwrap();
    assert_eq!(status.code(), Some(33));
}

fn a_script_with_spaces_before_its_interpreter_runs() {
    let text = format!("#!  {}   --helper  \nrest", own_path());
    let script = file("spaces", text.as_bytes(), 0o755);
    let status = std::process::Command::new(&script).args(["exit", "34"]).status().unwrap();
    assert_eq!(status.code(), Some(34));
}

fn a_script_without_its_interpreter_is_enoent() {
    fails(refused(&file("lost", b"#!/no/such/interpreter\n", 0o755)), ENOENT);
}

fn scripts_of_scripts_have_an_end() {
    let mut path = own_path();
    for depth in 0..7 {
        let text = format!("#!{path}\n");
        path = file(&format!("depth{depth}"), text.as_bytes(), 0o755);
    }
    fails(refused(&path), ELOOP);
}

fn execveat_runs_a_descriptor() {
    let fd = sys::open(&own_path(), libc::O_PATH | libc::O_CLOEXEC, 0).unwrap();
    let words = ["tests", "--helper", "exit", "21"].map(sys::c);
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(std::ptr::null());
    let end = end_of(|| {
        let (empty, flags) = (c"", libc::AT_EMPTY_PATH);
        let nr = libc::SYS_execveat;
        let _ = sys!(nr, fd, empty.as_ptr(), argv.as_ptr(), 0, flags);
    });
    assert_eq!(end, 21);
    fails(sys!(libc::SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), 0, 0), ENOENT);
}

fn execveat_runs_a_path_below_a_directory() {
    let path = own_path();
    let (directory, name) = path.rsplit_once('/').unwrap();
    let fd = sys::open(&format!("{directory}/"), libc::O_DIRECTORY, 0).unwrap();
    let words = ["tests", "--helper", "exit", "22"].map(sys::c);
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(std::ptr::null());
    let name = sys::c(name);
    let end = end_of(|| {
        let _ = sys!(libc::SYS_execveat, fd, name.as_ptr(), argv.as_ptr(), 0, 0);
    });
    assert_eq!(end, 22);
}

fn a_memfd_is_executed() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let fd = memfd_with(0, 0);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        rest = &rest[sys::write(fd, rest).unwrap()..];
    }
    let status = std::process::Command::new(format!("/proc/self/fd/{fd}"))
        .args(["--helper", "exit", "23"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(23));
}

fn a_program_that_runs_is_not_written() {
    let fd = sys::open(&own_path(), libc::O_RDWR, 0);
    fails(fd, libc::ETXTBSY);
}

fn the_auxiliary_vector_tells_the_truth() {
    // SAFETY: looks numbers up in the vector that the kernel gave at the start.
    let value = |kind| unsafe { libc::getauxval(kind) } as usize;
    assert_eq!(value(libc::AT_PAGESZ), PAGE);
    assert_eq!(value(libc::AT_UID), 0);
    assert_eq!(value(libc::AT_SECURE), 0);
    assert_eq!(value(libc::AT_CLKTCK), 100);
    assert_ne!(value(libc::AT_ENTRY), 0);
    let random = value(libc::AT_RANDOM);
    assert_ne!((get64(random & !7), get64((random & !7) + 8)), (0, 0));
    run(|| assert_ne!(value(libc::AT_PHDR), 0));
}

fn cmdline_and_exe_in_proc_show_the_program() {
    let cmdline = std::fs::read("/proc/self/cmdline").unwrap();
    assert!(cmdline.ends_with(b"\0"));
    let args: Vec<u8> =
        std::env::args().flat_map(|arg| arg.into_bytes().into_iter().chain([0])).collect();
    assert_eq!(cmdline, args);
    assert!(own_path().starts_with('/'));
}
