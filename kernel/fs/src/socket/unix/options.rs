//! Socket options of level SOL_SOCKET.

use super::{BUFFER, Phase, UnixSocket};
use crate::{Cap, env};
use abi::{Errno, Result};
use alloc::vec::Vec;

const SOL_SOCKET: u32 = 1;
const DEBUG: u32 = 1;
const REUSEADDR: u32 = 2;
const TYPE: u32 = 3;
const ERROR: u32 = 4;
const DONTROUTE: u32 = 5;
const BROADCAST: u32 = 6;
const SNDBUF: u32 = 7;
const RCVBUF: u32 = 8;
const KEEPALIVE: u32 = 9;
const OOBINLINE: u32 = 10;
const NO_CHECK: u32 = 11;
const PRIORITY: u32 = 12;
const LINGER: u32 = 13;
const BSDCOMPAT: u32 = 14;
const REUSEPORT: u32 = 15;
const PASSCRED: u32 = 16;
const PEERCRED: u32 = 17;
const RCVLOWAT: u32 = 18;
const SNDLOWAT: u32 = 19;
const RCVTIMEO: u32 = 20;
const SNDTIMEO: u32 = 21;
const TIMESTAMP: u32 = 29;
const ACCEPTCONN: u32 = 30;
const SNDBUFFORCE: u32 = 32;
const RCVBUFFORCE: u32 = 33;
const PASSSEC: u32 = 34;
const PROTOCOL: u32 = 38;
const DOMAIN: u32 = 39;
const RXQ_OVFL: u32 = 40;
const SELECT_ERR_QUEUE: u32 = 45;

/// Options that are numbers without an effect on AF_UNIX sockets, on Linux as here: they are kept
/// and read back.
const KEPT: [u32; 13] = [
    DEBUG,
    REUSEADDR,
    DONTROUTE,
    BROADCAST,
    KEEPALIVE,
    OOBINLINE,
    NO_CHECK,
    PRIORITY,
    RCVLOWAT,
    TIMESTAMP,
    PASSSEC,
    RXQ_OVFL,
    SELECT_ERR_QUEUE,
];

/// Option values.
pub(super) struct Options {
    pub(super) pass_creds: bool,
    /// ns; None waits for ever.
    pub(super) receive_timeout: Option<u64>,
    pub(super) send_timeout: Option<u64>,
    /// SO_RCVBUF, which limits nothing: what waits is charged to its sender.
    receive_buffer: u32,
    linger: [i32; 2],
    kept: [i32; KEPT.len()],
}

impl Default for Options {
    fn default() -> Self {
        let mut kept = [0; KEPT.len()];
        // SO_RCVLOWAT starts at 1.
        if let Some(at) = KEPT.iter().position(|&name| name == RCVLOWAT) {
            kept[at] = 1;
        }
        Self {
            pass_creds: false,
            receive_timeout: None,
            send_timeout: None,
            receive_buffer: BUFFER as u32,
            linger: [0; 2],
            kept,
        }
    }
}

fn int(value: &[u8]) -> Result<i32> {
    match value {
        [a, b, c, d, ..] => Ok(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => Err(Errno::EINVAL),
    }
}

fn long(value: &[u8], at: usize) -> Result<i64> {
    let bytes = value.get(at..at + 8).ok_or(Errno::EINVAL)?;
    Ok(i64::from_le_bytes(bytes.try_into().map_err(|_| Errno::EINVAL)?))
}

/// `struct timeval` to nanoseconds; zero is no limit.
fn timeout(value: &[u8]) -> Result<Option<u64>> {
    let (sec, usec) = (long(value, 0)?, long(value, 8)?);
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        // Linux: a limit in the past.
        return Ok(Some(0));
    }
    let ns = (sec as u64).saturating_mul(1_000_000_000).saturating_add(usec as u64 * 1000);
    Ok((ns > 0).then_some(ns))
}

fn timeval(ns: Option<u64>) -> Vec<u8> {
    let ns = ns.unwrap_or(0);
    let mut out = (ns / 1_000_000_000).to_le_bytes().to_vec();
    out.extend_from_slice(&(ns % 1_000_000_000 / 1000).to_le_bytes());
    out
}

/// The least that buffers have (SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF).
const MIN_SEND: u32 = 4608;
const MIN_RECEIVE: u32 = 2304;

/// Linux doubles what is asked for, within bounds, beyond which only who is allowed to may go.
fn buffer(value: i32, forced: bool, least: u32) -> u32 {
    let bytes = if forced {
        value.clamp(0, i32::MAX / 2) as u32
    } else {
        // A negative number is a huge one.
        (value as u32).min(BUFFER as u32)
    };
    (bytes * 2).max(least)
}

impl UnixSocket {
    pub(super) fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let word = |value: u32| Ok(value.to_le_bytes().to_vec());
        if name == ERROR {
            let error = self.state.lock().error.take();
            return word(error.map_or(0, |error| error.code() as u32));
        }
        if name == PEERCRED {
            let creds = {
                let state = self.state.lock();
                match &state.phase {
                    Phase::Connected(_) | Phase::Orphaned(_) => state.peer_creds,
                    Phase::Listening { creds, .. } => *creds,
                    _ => {
                        let nobody = u32::MAX;
                        crate::env::Ucred { pid: 0, uid: nobody, gid: nobody }
                    }
                }
            };
            let words = [creds.pid, creds.uid, creds.gid];
            return Ok(words.into_iter().flat_map(u32::to_le_bytes).collect());
        }
        if name == ACCEPTCONN {
            let listening = matches!(self.state.lock().phase, Phase::Listening { .. });
            return word(u32::from(listening));
        }
        let options = self.options.lock();
        match name {
            TYPE => word(self.kind.number()),
            PROTOCOL => word(0),
            DOMAIN => word(super::super::AF_UNIX),
            SNDBUF => word(self.space.limit() as u32),
            RCVBUF => word(options.receive_buffer),
            PASSCRED => word(u32::from(options.pass_creds)),
            SNDLOWAT => word(1),
            BSDCOMPAT | REUSEPORT => word(0),
            RCVTIMEO => Ok(timeval(options.receive_timeout)),
            SNDTIMEO => Ok(timeval(options.send_timeout)),
            LINGER => Ok(options.linger.into_iter().flat_map(i32::to_le_bytes).collect()),
            _ => match KEPT.iter().position(|&known| known == name) {
                Some(at) => Ok(options.kept[at].to_le_bytes().to_vec()),
                None => Err(Errno::ENOPROTOOPT),
            },
        }
    }

    pub(super) fn put_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let number = int(value)?;
        let capable = |cap| env::env().capable(cap);
        let permitted = match name {
            SNDBUFFORCE | RCVBUFFORCE => capable(Cap::NetAdmin),
            PRIORITY => (0..=6).contains(&number) || capable(Cap::NetRaw) || capable(Cap::NetAdmin),
            _ => true,
        };
        if !permitted {
            return Err(Errno::EPERM);
        }
        let mut options = self.options.lock();
        match name {
            PASSCRED => options.pass_creds = number != 0,
            BSDCOMPAT => {}
            REUSEPORT if number == 0 => {}
            REUSEPORT => return Err(Errno::EOPNOTSUPP),
            SNDBUF | SNDBUFFORCE => {
                self.space.set_limit(buffer(number, name == SNDBUFFORCE, MIN_SEND) as usize);
            }
            RCVBUF | RCVBUFFORCE => {
                options.receive_buffer = buffer(number, name == RCVBUFFORCE, MIN_RECEIVE);
            }
            RCVTIMEO => options.receive_timeout = timeout(value)?,
            SNDTIMEO => options.send_timeout = timeout(value)?,
            LINGER => {
                let seconds = int(value.get(4..).unwrap_or(&[]))?;
                options.linger = [i32::from(number != 0), seconds];
            }
            PRIORITY => {
                if let Some(at) = KEPT.iter().position(|&known| known == name) {
                    options.kept[at] = number;
                }
            }
            RCVLOWAT => {
                if let Some(at) = KEPT.iter().position(|&known| known == name) {
                    options.kept[at] = if number < 0 { i32::MAX } else { number.max(1) };
                }
            }
            _ => match KEPT.iter().position(|&known| known == name) {
                Some(at) => options.kept[at] = i32::from(number != 0),
                None => return Err(Errno::ENOPROTOOPT),
            },
        }
        Ok(())
    }
}
