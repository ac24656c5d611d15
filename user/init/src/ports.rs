//! The serial ports: opened without becoming a controlling terminal, and put into raw mode so that
//! bytes pass as they are.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    tcgetattr, tcsetattr,
};

/// The three ports that are init's; ttyS0 belongs to the kernel.
pub struct Ports {
    pub out: File,
    pub err: File,
    pub control: File,
}

pub const OUT: &str = "/dev/ttyS1";
const ERR: &str = "/dev/ttyS2";
const CONTROL: &str = "/dev/ttyS3";

impl Ports {
    /// None when a port is missing: the machine was not started by the host tool.
    pub fn open() -> Option<Self> {
        Some(Self {
            out: open_raw(OUT).ok()?,
            err: open_raw(ERR).ok()?,
            control: open_raw(CONTROL).ok()?,
        })
    }
}

fn open_raw(path: &str) -> io::Result<File> {
    let file =
        File::from(open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?);
    let mut termios = tcgetattr(&file)?;
    termios.make_raw();
    without_flow_control(&mut termios);
    tcsetattr(&file, OptionalActions::Now, &termios)?;
    Ok(file)
}

fn without_flow_control(termios: &mut Termios) {
    // CRTSCTS has no name of its own in rustix: the bit is Linux's, include/uapi/asm-generic.
    const CRTSCTS: u32 = 0o20_000_000_000;
    termios.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    termios.control_modes.remove(ControlModes::from_bits_retain(CRTSCTS));
}

/// What a login shell finds: lines, echo, signals, CR and LF as on any terminal.
pub fn set_terminal_mode(tty: &File) -> io::Result<()> {
    let mut termios = tcgetattr(tty)?;
    termios.input_modes = InputModes::ICRNL | InputModes::IXON | InputModes::IUTF8;
    termios.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
    termios.local_modes = LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ECHOCTL
        | LocalModes::ECHOKE
        | LocalModes::IEXTEN;
    without_flow_control(&mut termios);
    for (index, value) in [
        (SpecialCodeIndex::VINTR, 0x03),
        (SpecialCodeIndex::VQUIT, 0x1c),
        (SpecialCodeIndex::VERASE, 0x7f),
        (SpecialCodeIndex::VKILL, 0x15),
        (SpecialCodeIndex::VEOF, 0x04),
        (SpecialCodeIndex::VSUSP, 0x1a),
        (SpecialCodeIndex::VMIN, 1),
        (SpecialCodeIndex::VTIME, 0),
    ] {
        termios.special_codes[index] = value;
    }
    tcsetattr(tty, OptionalActions::Now, &termios)?;
    Ok(())
}
