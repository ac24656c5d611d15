//! TCP over the loopback device: a byte there and back, and a mebibyte one way.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::{Op, op};
use crate::clock::{Samples, samples};
use crate::place::{machine, thread};
use crate::sys::{Error, Result, wrong};

const ROUNDS: usize = 200;
const BULK_ROUNDS: usize = 20;
const MEBIBYTE: usize = 1 << 20;

pub const OPS: &[Op] = &[
    op("net/tcp_round_trip_one_cpu", || round_trip(machine().home)),
    op("net/tcp_round_trip_two_cpus", || round_trip(machine().away)),
    op("net/tcp_mebibyte_two_cpus", || mebibyte(machine().away)),
];

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error { what, errno: error.raw_os_error().unwrap_or(0) }
}

/// Two ends of a connection, which wait for nothing before they send.
fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("bind"))?;
    let address = listener.local_addr().map_err(failed("getsockname"))?;
    let client = TcpStream::connect(address).map_err(failed("connect"))?;
    let (server, _) = listener.accept().map_err(failed("accept"))?;
    for end in [&client, &server] {
        end.set_nodelay(true).map_err(failed("setsockopt"))?;
    }
    Ok((client, server))
}

fn round_trip(cpu: usize) -> Result<Samples> {
    let (mut client, mut server) = pair()?;
    let peer = thread(cpu, move || {
        let mut byte = [0];
        while server.read(&mut byte).map_err(failed("read"))? == 1 {
            server.write_all(&byte).map_err(failed("write"))?;
        }
        Ok(())
    })?;
    let mut byte = [1];
    let result = samples(ROUNDS, 1, |clock| {
        clock.start();
        client.write_all(&byte).map_err(failed("write"))?;
        client.read_exact(&mut byte).map_err(failed("read"))?;
        clock.stop();
        Ok(())
    });
    drop(client);
    let _ = peer.join();
    result
}

/// The peer reads on another CPU, and answers with a byte when it has everything.
fn mebibyte(cpu: usize) -> Result<Samples> {
    let (mut client, mut server) = pair()?;
    let peer = thread(cpu, move || {
        let mut room = vec![0; 64 * 1024];
        let mut got = 0;
        loop {
            match server.read(&mut room).map_err(failed("read"))? {
                0 => return Ok(()),
                n => got += n,
            }
            if got == MEBIBYTE {
                got = 0;
                server.write_all(&[1]).map_err(failed("write"))?;
            }
            if got > MEBIBYTE {
                return wrong("more bytes than were sent");
            }
        }
    })?;
    let data = vec![7; 64 * 1024];
    let result = samples(BULK_ROUNDS, 1, |clock| {
        clock.start();
        for _ in 0..MEBIBYTE / data.len() {
            client.write_all(&data).map_err(failed("write"))?;
        }
        client.read_exact(&mut [0]).map_err(failed("read"))?;
        clock.stop();
        Ok(())
    });
    drop(client);
    let _ = peer.join();
    result
}
