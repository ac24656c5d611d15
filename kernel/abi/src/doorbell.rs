//! How a guest tells the traffic plugin something: by loads that the emulator sees.
//!
//! A ring is one instruction, `movzbl disp32(%rcx), %eax`, whose displacement is [`MAGIC`] plus a
//! [`Kind`]. The plugin finds it when code is translated, so that nothing else becomes slower; on
//! hardware it is a load like any other. The emulator's plugins see addresses and no values: the
//! low 12 bits of the address are the message, and any readable page will do.
//!
//! A message is a list of arguments, each sent in pieces of 12 bits, most significant first: all
//! pieces but the last by [`Kind::PIECE`], the last by [`Kind::ARGUMENT`]; then a command. A CPU
//! must not be taken away in the middle of a message.

/// The displacement's upper bits.
pub const MAGIC: u32 = 0x5072_6f00;
/// The instruction's first bytes; the displacement follows, little-endian.
pub const OPCODE: [u8; 3] = [0x0f, 0xb6, 0x81];
/// Bits in a piece.
pub const PIECE_BITS: u32 = 12;
/// Arguments in a message, at most.
pub const MOST_ARGUMENTS: usize = 4;

/// What a ring says: the displacement's low byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// 12 bits of an argument.
    pub const PIECE: Self = Self(0);
    /// The last 12 bits of an argument.
    pub const ARGUMENT: Self = Self(1);

    // From the kernel, about the CPU it runs on.
    /// The CPU runs (task, process, address space) from now on; task 0 is nobody.
    pub const SWITCH: Self = Self(16);
    /// The running task made (task).
    pub const CLONE: Self = Self(17);
    /// The running task has ended.
    pub const EXIT: Self = Self(18);
    /// (task)'s name: two words of eight bytes each.
    pub const NAME: Self = Self(19);
    /// The time since boot is (nanoseconds): comes before a [`Kind::SWITCH`].
    pub const TIME: Self = Self(20);
    /// The next 32 bytes of a path, zeros after its end.
    pub const PATH: Self = Self(21);
    /// (address space) has code from (address) on, (bytes) long, from (offset) of the file whose path
    /// has been told; without a path it is no file's.
    pub const MAP: Self = Self(22);
    /// (address space) begins as a copy of (address space).
    pub const FORK: Self = Self(23);

    // From init.
    /// The next [`Kind::TOUCH`] is at (guest-physical address) on (node).
    pub const LEARN: Self = Self(32);
    /// A load of the page that was announced: its address is no message.
    pub const TOUCH: Self = Self(33);
    /// The running task begins to be measured, with all that it will make.
    pub const START: Self = Self(34);
    /// Nothing is measured any more.
    pub const END: Self = Self(35);

    /// The displacement that says so.
    pub const fn displacement(self) -> u32 {
        MAGIC | self.0 as u32
    }

    /// What an instruction's bytes say; None for any other instruction.
    pub fn of(instruction: &[u8]) -> Option<Self> {
        let rest = instruction.strip_prefix(&OPCODE)?;
        let displacement = u32::from_le_bytes(rest.try_into().ok()?);
        (displacement & !0xff == MAGIC).then_some(Self(displacement as u8))
    }
}

/// Sends one message through `ring`, which gets each piece with its kind.
pub fn send(command: Kind, arguments: &[u64], ring: &mut dyn FnMut(Kind, u16)) {
    for &argument in arguments {
        let used = u64::BITS - argument.leading_zeros();
        let pieces = used.div_ceil(PIECE_BITS).max(1);
        for piece in (0..pieces).rev() {
            let value = argument >> (piece * PIECE_BITS) & ((1 << PIECE_BITS) - 1);
            ring(if piece == 0 { Kind::ARGUMENT } else { Kind::PIECE }, value as u16);
        }
    }
    ring(command, 0);
}
