//! Control messages (cmsg(3)): SCM_RIGHTS and SCM_CREDENTIALS, and those of families and protocols.

use super::{Control, Message, Received, msg};
use crate::creds::{Cap, Creds};
use crate::env::{self, Ucred};
use crate::fdtable::FdTable;
use abi::{Errno, Result};
use alloc::vec::Vec;
use frames::fallible::{TryVec, copied};

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// `struct cmsghdr`: length, level, type.
const HEADER: usize = 16;
/// Descriptors in one message at most.
const MAX_FILES: usize = 253;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Parses the control data of a sendmsg(2). EINVAL for malformed data, EBADF for a bad
/// descriptor, EPERM for credentials that the caller may not claim.
pub fn parse(bytes: &[u8], files: &FdTable, creds: &Creds) -> Result<Control> {
    let mut control = Control::default();
    let mut rest = bytes;
    while rest.len() >= HEADER {
        let len = u64::from_le_bytes(rest[..8].try_into().map_err(|_| Errno::EINVAL)?);
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        if len < HEADER || len > rest.len() {
            return Err(Errno::EINVAL);
        }
        let (level, kind) = (u32_at(rest, 8), u32_at(rest, 12));
        let data = &rest[HEADER..len];
        if level == SOL_SOCKET {
            match kind {
                SCM_RIGHTS => {
                    if control.files.len() + data.len() / 4 > MAX_FILES {
                        return Err(Errno::EINVAL);
                    }
                    for fd in data.chunks_exact(4) {
                        let file = files.get(u32_at(fd, 0) as i32)?;
                        control.files.try_push(file)?;
                    }
                }
                SCM_CREDENTIALS => {
                    if data.len() != 12 {
                        return Err(Errno::EINVAL);
                    }
                    let claim =
                        Ucred { pid: u32_at(data, 0), uid: u32_at(data, 4), gid: u32_at(data, 8) };
                    check_claim(claim, creds)?;
                    control.creds = Some(claim);
                }
                _ => return Err(Errno::EINVAL),
            }
        } else {
            control.others.try_push(Message { level, kind, data: copied(data)? })?;
        }
        let step = len.next_multiple_of(8);
        rest = rest.get(step..).unwrap_or(&[]);
    }
    Ok(control)
}

fn check_claim(claim: Ucred, creds: &Creds) -> Result<()> {
    let own = env::env().ucred();
    let pid_ok = claim.pid == own.pid || creds.has(Cap::SysAdmin);
    let uid_ok = claim.uid == own.uid || claim.uid == creds.uid || creds.has(Cap::Setuid);
    let gid_ok = claim.gid == own.gid || claim.gid == creds.gid || creds.has(Cap::Setgid);
    if !(pid_ok && uid_ok && gid_ok) {
        return Err(Errno::EPERM);
    }
    // Nobody speaks for a process that is not there.
    if claim.pid == own.pid || env::env().is_process(claim.pid) {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// Adds a message, or what of it fits: true when that is all.
fn push(out: &mut Vec<u8>, room: usize, level: u32, kind: u32, data: &[u8]) -> bool {
    let left = room - out.len();
    if left < HEADER {
        return false;
    }
    let fits = data.len().min(left - HEADER);
    out.extend_from_slice(&((HEADER + fits) as u64).to_le_bytes());
    out.extend_from_slice(&level.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&data[..fits]);
    // The padding may be cut off by the end of the buffer.
    out.resize(out.len().next_multiple_of(8).min(room), 0);
    fits == data.len()
}

/// Builds the control data of a recvmsg(2) in at most `room` bytes: installs the files in `files`
/// (below `limit`) and sets MSG_CTRUNC in `received.flags` for what does not fit.
pub fn build(
    received: &mut Received,
    files: &FdTable,
    limit: u64,
    room: usize,
    cloexec: bool,
) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(creds) = received.creds {
        let mut data = [0; 12];
        data[..4].copy_from_slice(&creds.pid.to_le_bytes());
        data[4..8].copy_from_slice(&creds.uid.to_le_bytes());
        data[8..].copy_from_slice(&creds.gid.to_le_bytes());
        if !push(&mut out, room, SOL_SOCKET, SCM_CREDENTIALS, &data) {
            received.flags |= msg::CTRUNC;
        }
    }
    for message in &received.control {
        if !push(&mut out, room, message.level, message.kind, &message.data) {
            received.flags |= msg::CTRUNC;
            break;
        }
    }
    let passed = core::mem::take(&mut received.files);
    if !passed.is_empty() {
        let fit = room.saturating_sub(out.len() + HEADER) / 4;
        let mut data = Vec::new();
        for file in passed.iter().take(fit) {
            match files.insert(file.clone(), cloexec, limit) {
                Ok(fd) => data.extend_from_slice(&fd.to_le_bytes()),
                Err(_) => break,
            }
        }
        if data.len() / 4 < passed.len() {
            received.flags |= msg::CTRUNC;
        }
        if !data.is_empty() {
            push(&mut out, room, SOL_SOCKET, SCM_RIGHTS, &data);
        }
    }
    out
}
