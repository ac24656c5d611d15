//! gzip (RFC 1952), one member at a time.

use super::UnpackError;
use alloc::boxed::Box;
use alloc::vec;
use miniz_oxide::inflate::stream::{InflateState, inflate as step};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
/// CRC32 and length of the contents; Linux does not look at them either.
const TRAILER: usize = 8;
/// Bytes inflated at a time.
const CHUNK: usize = 64 * 1024;

/// Length of the member's header.
fn header(data: &[u8]) -> Option<usize> {
    let flags = *data.get(3)?;
    if *data.get(2)? != 8 || flags & 0xe0 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & FEXTRA != 0 {
        let len = u16::from_le_bytes([*data.get(at)?, *data.get(at + 1)?]);
        at += 2 + len as usize;
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            at += data.get(at..)?.iter().position(|&b| b == 0)? + 1;
        }
    }
    if flags & FHCRC != 0 {
        at += 2;
    }
    (at <= data.len()).then_some(at)
}

/// Inflates the member at the start of `data` into `out`; bytes that it occupied.
pub(super) fn inflate(
    data: &[u8],
    out: &mut dyn FnMut(&[u8]) -> Result<(), UnpackError>,
) -> Result<usize, UnpackError> {
    let mut at = header(data).ok_or(UnpackError::Damaged)?;
    let mut state: Box<InflateState> = InflateState::new_boxed(DataFormat::Raw);
    let mut chunk = vec![0; CHUNK];
    loop {
        let result = step(&mut state, &data[at..], &mut chunk, MZFlush::None);
        at += result.bytes_consumed;
        if result.bytes_written > 0 {
            out(&chunk[..result.bytes_written])?;
        }
        match result.status {
            Ok(MZStatus::StreamEnd) => return Ok((at + TRAILER).min(data.len())),
            Ok(_) if result.bytes_written > 0 || result.bytes_consumed > 0 => {}
            // No progress: the input has ended too early.
            Ok(_) | Err(MZError::Buf) => return Err(UnpackError::Damaged),
            Err(_) => return Err(UnpackError::Damaged),
        }
    }
}
