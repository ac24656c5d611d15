//! Terminal settings (termios(3)) and their layouts for user space.

/// Input flags.
pub(super) const ISTRIP: u32 = 0o40;
pub(super) const INLCR: u32 = 0o100;
pub(super) const IGNCR: u32 = 0o200;
pub(super) const ICRNL: u32 = 0o400;
pub(super) const IUCLC: u32 = 0o1000;
pub(super) const IXON: u32 = 0o2000;
pub(super) const IXANY: u32 = 0o4000;
pub(super) const IMAXBEL: u32 = 0o20000;
pub(super) const IUTF8: u32 = 0o40000;
/// Output flags.
pub(super) const OPOST: u32 = 0o1;
pub(super) const OLCUC: u32 = 0o2;
pub(super) const ONLCR: u32 = 0o4;
pub(super) const OCRNL: u32 = 0o10;
pub(super) const ONOCR: u32 = 0o20;
pub(super) const ONLRET: u32 = 0o40;
pub(super) const TAB3: u32 = 0o14000;
/// Control flags: 38400 baud, 8 bits, reading, hang up on close.
const B38400: u32 = 0o17;
const CS8: u32 = 0o60;
const CREAD: u32 = 0o200;
pub(super) const HUPCL: u32 = 0o2000;
pub(super) const CLOCAL: u32 = 0o4000;
/// Local flags.
pub(super) const ISIG: u32 = 0o1;
pub(super) const ICANON: u32 = 0o2;
pub(super) const ECHO: u32 = 0o10;
pub(super) const ECHOE: u32 = 0o20;
pub(super) const ECHOK: u32 = 0o40;
pub(super) const ECHONL: u32 = 0o100;
pub(super) const NOFLSH: u32 = 0o200;
pub(super) const TOSTOP: u32 = 0o400;
pub(super) const ECHOCTL: u32 = 0o1000;
pub(super) const ECHOPRT: u32 = 0o2000;
pub(super) const ECHOKE: u32 = 0o4000;
pub(super) const IEXTEN: u32 = 0o100000;
pub(super) const EXTPROC: u32 = 0o200000;

/// Indices of special characters.
pub(super) const VINTR: usize = 0;
pub(super) const VQUIT: usize = 1;
pub(super) const VERASE: usize = 2;
pub(super) const VKILL: usize = 3;
pub(super) const VEOF: usize = 4;
pub(super) const VTIME: usize = 5;
pub(super) const VMIN: usize = 6;
pub(super) const VSTART: usize = 8;
pub(super) const VSTOP: usize = 9;
pub(super) const VSUSP: usize = 10;
pub(super) const VEOL: usize = 11;
pub(super) const VREPRINT: usize = 12;
pub(super) const VWERASE: usize = 14;
pub(super) const VLNEXT: usize = 15;
pub(super) const VEOL2: usize = 16;

/// Special characters.
pub const NCCS: usize = 19;

/// A terminal's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; NCCS],
    /// Speeds in baud.
    pub ispeed: u32,
    pub ospeed: u32,
}

impl Default for Termios {
    /// Linux's settings of a fresh terminal.
    fn default() -> Self {
        let mut cc = [0; NCCS];
        for (index, byte) in [
            (VINTR, 3),
            (VQUIT, 28),
            (VERASE, 127),
            (VKILL, 21),
            (VEOF, 4),
            (VMIN, 1),
            (VSTART, 17),
            (VSTOP, 19),
            (VSUSP, 26),
            (VREPRINT, 18),
            (13, 15),
            (VWERASE, 23),
            (VLNEXT, 22),
        ] {
            cc[index] = byte;
        }
        Self {
            iflag: ICRNL | IXON,
            oflag: OPOST | ONLCR,
            cflag: B38400 | CS8 | CREAD | HUPCL,
            lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

/// Speeds of the `B*` codes 0..=15 and 0o10001.. on.
const SPEEDS: [u32; 16] =
    [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
const HIGH_SPEEDS: [u32; 15] = [
    57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
    2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

fn speed(cflag: u32) -> Option<u32> {
    /// Speed bits, and the one that marks the high speeds (alone: a free speed).
    const BITS: u32 = 0o10017;
    const HIGH: u32 = 0o10000;
    let code = cflag & BITS;
    match code.checked_sub(HIGH) {
        None => SPEEDS.get(code as usize).copied(),
        Some(0) => None,
        Some(high) => HIGH_SPEEDS.get(high as usize - 1).copied(),
    }
}

impl Termios {
    /// Bytes of `struct termios` as the kernel knows it.
    pub const SIZE: usize = 36;
    /// Bytes of System V's `struct termio`.
    pub(super) const OLD_SIZE: usize = 18;
    /// Bytes of `struct termios2`.
    pub const SIZE2: usize = 44;

    /// Canonical mode.
    pub fn canonical(&self) -> bool {
        self.lflag & ICANON != 0
    }

    pub(super) fn local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    /// Locks that lock nothing.
    pub(super) fn unlocked() -> Self {
        Self {
            iflag: 0,
            oflag: 0,
            cflag: 0,
            lflag: 0,
            line: 0,
            cc: [0; NCCS],
            ispeed: 0,
            ospeed: 0,
        }
    }

    /// Takes back from `old` what is set in `locks`.
    pub(super) fn keep_locked(&mut self, old: &Self, locks: &Self) {
        for (new, old, lock) in [
            (&mut self.iflag, old.iflag, locks.iflag),
            (&mut self.oflag, old.oflag, locks.oflag),
            (&mut self.cflag, old.cflag, locks.cflag),
            (&mut self.lflag, old.lflag, locks.lflag),
        ] {
            *new = *new & !lock | old & lock;
        }
        if locks.line != 0 {
            self.line = old.line;
        }
        for ((new, old), lock) in self.cc.iter_mut().zip(old.cc).zip(locks.cc) {
            if lock != 0 {
                *new = old;
            }
        }
    }

    /// `struct termio`: the low halves of the flags, the first characters.
    pub(super) fn old_bytes(&self) -> [u8; Self::OLD_SIZE] {
        let mut out = [0; Self::OLD_SIZE];
        for (index, word) in [self.iflag, self.oflag, self.cflag, self.lflag].iter().enumerate() {
            out[index * 2..index * 2 + 2].copy_from_slice(&(*word as u16).to_le_bytes());
        }
        out[8] = self.line;
        out[9..17].copy_from_slice(&self.cc[..8]);
        out
    }

    /// As set by `struct termio`; what that does not have stays.
    pub(super) fn with_old_bytes(&self, bytes: &[u8; Self::OLD_SIZE]) -> Self {
        let mut all = self.bytes();
        for index in 0..4 {
            all[index * 4..index * 4 + 2].copy_from_slice(&bytes[index * 2..index * 2 + 2]);
        }
        all[16..25].copy_from_slice(&bytes[8..17]);
        Self::from_bytes2(&all)
    }

    /// `struct termios2`; its first 36 bytes are `struct termios`.
    pub fn bytes(&self) -> [u8; Self::SIZE2] {
        let mut out = [0; Self::SIZE2];
        for (index, word) in [self.iflag, self.oflag, self.cflag, self.lflag].iter().enumerate() {
            out[index * 4..index * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        out[16] = self.line;
        out[17..36].copy_from_slice(&self.cc);
        out[36..40].copy_from_slice(&self.ispeed.to_le_bytes());
        out[40..].copy_from_slice(&self.ospeed.to_le_bytes());
        out
    }

    /// From `struct termios`.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let cflag = word(8);
        let baud = speed(cflag).unwrap_or(38400);
        let mut cc = [0; NCCS];
        cc.copy_from_slice(&bytes[17..36]);
        Self {
            iflag: word(0),
            oflag: word(4),
            cflag,
            lflag: word(12),
            line: bytes[16],
            cc,
            ispeed: baud,
            ospeed: baud,
        }
    }

    /// From `struct termios2`.
    pub fn from_bytes2(bytes: &[u8; Self::SIZE2]) -> Self {
        let mut first = [0; Self::SIZE];
        first.copy_from_slice(&bytes[..Self::SIZE]);
        let mut out = Self::from_bytes(&first);
        if speed(out.cflag).is_none() {
            let word = |at: usize| {
                u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            };
            (out.ispeed, out.ospeed) = (word(36), word(40));
        }
        out
    }

    /// Byte-exact in both directions, no echo, no signals (cfmakeraw(3)).
    pub fn raw() -> Self {
        let cooked = Self::default();
        Self { iflag: 0, oflag: 0, lflag: 0, ..cooked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_layout() {
        let mut t = Termios { cflag: CS8 | 0o10002, ..Termios::default() };
        t.cc[VMIN] = 7;
        let bytes = t.bytes();
        let back = Termios::from_bytes2(&bytes);
        assert_eq!(back.ospeed, 115_200);
        assert_eq!((back.cc, back.lflag, back.cflag), (t.cc, t.lflag, t.cflag));
        // A free speed comes from the words behind.
        let free = Termios { cflag: CS8 | 0o10000, ospeed: 250_000, ispeed: 250_000, ..t };
        assert_eq!(Termios::from_bytes2(&free.bytes()).ospeed, 250_000);
    }
}
