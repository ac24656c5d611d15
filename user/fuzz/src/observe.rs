//! What is looked at after an operation: the policies that hold and where the pages are, by calls
//! that change neither.

use crate::arena::{self, PAGE};
use crate::sys::{failed, sys};
use crate::trace::{Errno, Line};

/// Pages looked at, at most; of longer ranges every second, third and so on.
const MOST: usize = 256;
/// More bits than any kernel has nodes.
pub const MAXNODE: u64 = 1025;
pub const F_NODE: i32 = 1;
pub const F_ADDR: i32 = 2;

/// Mode and first word of the mask, as get_mempolicy(2) tells them.
fn policy(flags: i32, at: u64) -> Result<(i32, u64), i64> {
    let mut mode = -1i32;
    let mut mask = [0u64; 16];
    let result =
        sys!(libc::SYS_get_mempolicy, &raw mut mode, mask.as_mut_ptr(), MAXNODE, at, flags);
    if failed(result) { Err(result) } else { Ok((mode, mask[0])) }
}

fn put_policy(line: &mut Line, name: &str, policy: Result<(i32, u64), i64>) {
    match policy {
        Ok((0, 0)) => line.put(format_args!(" {name}=0")),
        Ok((mode, mask)) => line.put(format_args!(" {name}={mode:x}:{mask:x}")),
        Err(error) => line.put(format_args!(" {name}={}", Errno(error))),
    }
}

/// The task's policy and the CPUs it may use.
pub fn own(line: &mut Line) {
    put_policy(line, "task", policy(0, 0));
    affinity(line, 0);
}

pub fn affinity(line: &mut Line, tid: i32) {
    let mut mask = [0u64; 16];
    let bytes = size_of_val(&mask);
    let result = sys!(libc::SYS_sched_getaffinity, tid, bytes, mask.as_mut_ptr());
    if failed(result) {
        line.put(format_args!(" cpus={}", Errno(result)));
    } else {
        line.put(format_args!(" cpus={:x}", mask[0]));
    }
}

/// The part of a range that lies in the arena: the policies of its first and last page, and the
/// node of each page.
pub fn range(line: &mut Line, at: u64, bytes: u64) {
    let Some((start, pages)) = arena::clip(at, bytes) else { return };
    put_policy(line, "first", policy(F_ADDR, start));
    if pages > 1 {
        put_policy(line, "last", policy(F_ADDR, start + (pages - 1) * PAGE));
    }
    nodes(line, start, pages);
}

/// The node of each page, or minus an errno, by a question of move_pages(2).
pub fn nodes(line: &mut Line, start: u64, pages: u64) {
    let stride = pages.div_ceil(MOST as u64);
    let count = (pages.div_ceil(stride) as usize).min(MOST);
    let mut addresses = [0u64; MOST];
    for (page, address) in addresses[..count].iter_mut().enumerate() {
        *address = start + page as u64 * stride * PAGE;
    }
    let mut status = [-9999i32; MOST];
    let (from, to) = (addresses.as_ptr(), status.as_mut_ptr());
    let result = sys!(libc::SYS_move_pages, 0, count, from, 0, to, 0);
    line.put(format_args!(" on="));
    if failed(result) {
        line.put(format_args!("{}", Errno(result)));
    } else {
        line.runs(&status[..count]);
    }
}

/// The beginning of every region, after what may have reached all of them.
pub fn everything(line: &mut Line) {
    for region in 0..arena::REGIONS {
        let start = arena::at(region, 0);
        if policy(F_ADDR, start).is_ok() {
            line.put(format_args!(" r{region}"));
            put_policy(line, "", policy(F_ADDR, start));
            nodes(line, start, 64);
        }
    }
}

/// The arena's lines of /proc/self/maps: start, pages, access, offset of what has one.
pub fn maps(line: &mut Line) {
    let mut text = [0u8; 16 << 10];
    let path = c"/proc/self/maps";
    let fd = sys!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0);
    let mut length = 0;
    loop {
        let room = &mut text[length..];
        let got = sys!(libc::SYS_read, fd, room.as_mut_ptr(), room.len());
        if got <= 0 {
            break;
        }
        length += got as usize;
    }
    sys!(libc::SYS_close, fd);
    for row in text[..length].split(|byte| *byte == b'\n') {
        let Ok(row) = std::str::from_utf8(row) else { continue };
        let mut words = row.split(' ');
        let Some((start, end)) = words.next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let number = |word: &str| u64::from_str_radix(word, 16).unwrap_or(0);
        let (start, end) = (number(start), number(end));
        if !arena::holds(start) {
            continue;
        }
        let rights = words.next().unwrap_or("");
        let offset = number(words.next().unwrap_or("")) / PAGE;
        let pages = (end - start) / PAGE;
        line.put(format_args!(" {}:{pages}{rights}{offset}", crate::ops::Shown(start)));
    }
}
