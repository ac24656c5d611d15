//! Pipes and FIFOs.

use libc::*;

use super::scratch;
use crate::child::{join, run, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, open, pipe, pipe_with, read, sys, write};

pub const TESTS: &[Test] = tests![
    bytes_come_out_in_order,
    the_end_of_all_writers_is_the_end_of_the_file,
    a_reader_waits_for_bytes,
    a_writer_waits_for_room,
    sixty_four_kib_fit,
    without_waiting_an_empty_pipe_is_eagain,
    small_writes_are_not_torn_apart,
    writing_without_readers_is_epipe,
    a_waiting_writer_is_told_when_the_reader_goes,
    the_number_of_bytes_is_told,
    a_fifo_joins_those_who_open_it,
    a_pipe_carries_megabytes_between_cpus,
];

fn bytes_come_out_in_order() {
    let (reader, writer) = pipe().unwrap();
    assert_eq!(write(writer, b"hello"), Ok(5));
    assert_eq!(write(writer, b"world"), Ok(5));
    let mut bytes = [0; 7];
    assert_eq!((read(reader, &mut bytes), &bytes), (Ok(7), b"hellowo"));
    assert_eq!(read(reader, &mut bytes), Ok(3));
}

fn the_end_of_all_writers_is_the_end_of_the_file() {
    let (reader, writer) = pipe().unwrap();
    let child = spawn(|| {
        sys::close(reader);
        write(writer, b"x").unwrap();
    });
    sys::close(writer);
    assert_eq!(read(reader, &mut [0]), Ok(1));
    assert_eq!(join(child), 0);
    assert_eq!(read(reader, &mut [0]), Ok(0));
}

fn a_reader_waits_for_bytes() {
    let (reader, writer) = pipe().unwrap();
    let child = spawn(|| {
        let mut byte = [0];
        assert_eq!((read(reader, &mut byte), byte), (Ok(1), [7]));
    });
    until_asleep(child);
    write(writer, &[7]).unwrap();
    assert_eq!(join(child), 0);
}

fn a_writer_waits_for_room() {
    let (reader, writer) = pipe().unwrap();
    let big = vec![1u8; 200_000];
    let child = spawn(|| assert_eq!(write(writer, &big), Ok(200_000)));
    until_asleep(child);
    let (mut buffer, mut total) = (vec![0u8; 30_000], 0);
    while total < 200_000 {
        total += read(reader, &mut buffer).unwrap();
    }
    assert_eq!(join(child), 0);
}

fn sixty_four_kib_fit() {
    let (_reader, writer) = pipe_with(O_NONBLOCK).unwrap();
    assert_eq!(write(writer, &[0u8; 70_000]), Ok(65536));
    fails(write(writer, b"x"), EAGAIN);
    assert_eq!(sys!(SYS_fcntl, writer, F_GETPIPE_SZ), Ok(65536));
    let (reader, writer) = pipe_with(O_NONBLOCK).unwrap();
    assert_eq!(sys!(SYS_fcntl, reader, F_SETPIPE_SZ, 10_000), Ok(16384));
    assert_eq!(write(writer, &[0u8; 70_000]), Ok(16384));
}

fn without_waiting_an_empty_pipe_is_eagain() {
    let (reader, writer) = pipe_with(O_NONBLOCK | O_CLOEXEC).unwrap();
    fails(read(reader, &mut [0]), EAGAIN);
    write(writer, b"x").unwrap();
    assert_eq!(read(reader, &mut [0]), Ok(1));
    assert_eq!(sys!(SYS_fcntl, reader, F_GETFD), Ok(1));
}

fn small_writes_are_not_torn_apart() {
    // Up to 4096 bytes a write is atomic, or not done at all.
    let (reader, writer) = pipe().unwrap();
    let children: Vec<i32> = (1..=4u8)
        .map(|n| {
            spawn(|| {
                for _ in 0..50 {
                    assert_eq!(write(writer, &[n; 1000]), Ok(1000));
                }
            })
        })
        .collect();
    sys::close(writer);
    let mut all = Vec::new();
    let mut buffer = vec![0u8; 5000];
    loop {
        let length = read(reader, &mut buffer).unwrap();
        if length == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(all.len(), 200_000);
    assert!(all.chunks(1000).all(|chunk| chunk.iter().all(|byte| *byte == chunk[0])));
    for child in children {
        assert_eq!(join(child), 0);
    }
    let (_reader, writer) = pipe_with(O_NONBLOCK).unwrap();
    assert_eq!(write(writer, &[0; 62_000]), Ok(62_000));
    fails(write(writer, &[0; 4096]), EAGAIN);
}

fn writing_without_readers_is_epipe() {
    let (reader, writer) = pipe().unwrap();
    sys::close(reader);
    crate::signal::ignore(SIGPIPE);
    fails(write(writer, b"x"), EPIPE);
}

fn a_waiting_writer_is_told_when_the_reader_goes() {
    let (reader, writer) = pipe().unwrap();
    let child = spawn(|| {
        sys::close(reader);
        crate::signal::ignore(SIGPIPE);
        let result = write(writer, &[0; 100_000]);
        assert!(result == Ok(65536), "{result:?}");
        fails(write(writer, b"x"), EPIPE);
    });
    until_asleep(child);
    sys::close(reader);
    assert_eq!(join(child), 0);
}

fn the_number_of_bytes_is_told() {
    let (reader, writer) = pipe().unwrap();
    write(writer, b"hello").unwrap();
    let mut count = 0i32;
    sys!(SYS_ioctl, reader, FIONREAD, &raw mut count).unwrap();
    assert_eq!(count, 5);
    fails(sys!(SYS_lseek, reader, 0, SEEK_SET), ESPIPE);
    fails(sys!(SYS_pread64, reader, &raw mut count, 1, 0), ESPIPE);
    fails(pipe_with(0x40), EINVAL);
}

fn a_fifo_joins_those_who_open_it() {
    let path = scratch() + "/fifo";
    let name = sys::c(&path);
    sys!(SYS_mknod, name.as_ptr(), S_IFIFO | 0o600, 0).unwrap();
    fails(open(&path, O_WRONLY | O_NONBLOCK, 0), ENXIO);
    let child = spawn(|| {
        let writer = open(&path, O_WRONLY, 0).unwrap();
        write(writer, b"through").unwrap();
    });
    let reader = open(&path, O_RDONLY, 0).unwrap();
    let mut bytes = [0; 10];
    assert_eq!(read(reader, &mut bytes), Ok(7));
    assert_eq!(join(child), 0);
    assert_eq!(read(reader, &mut bytes), Ok(0));
    let waiting = open(&path, O_RDONLY | O_NONBLOCK, 0).unwrap();
    assert_eq!(read(waiting, &mut bytes), Ok(0));
}

fn a_pipe_carries_megabytes_between_cpus() {
    let (reader, writer) = pipe().unwrap();
    let cpus = crate::child::affinity(0);
    const TOTAL: usize = 4 << 20;
    let child = spawn(|| {
        crate::child::pin(*cpus.last().unwrap());
        let mut sent = 0usize;
        while sent < TOTAL {
            let chunk: Vec<u8> = (sent..sent + 4096).map(|i| (i / 7) as u8).collect();
            sent += write(writer, &chunk).unwrap();
        }
    });
    run(|| {
        crate::child::pin(cpus[0]);
        let (mut buffer, mut got) = (vec![0u8; 10_000], 0);
        while got < TOTAL {
            let length = read(reader, &mut buffer).unwrap();
            for byte in &buffer[..length] {
                assert_eq!(*byte, (got / 7) as u8, "byte {got}");
                got += 1;
            }
        }
    });
    assert_eq!(join(child), 0);
}
