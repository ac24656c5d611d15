//! The doorbell's other end: pieces become messages ([`abi::doorbell`]).

use abi::doorbell::{Kind, MOST_ARGUMENTS, PIECE_BITS};

/// A message that has arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub command: Kind,
    /// Arguments that were not sent are 0.
    pub arguments: [u64; MOST_ARGUMENTS],
}

/// What has arrived of a message.
#[derive(Default)]
pub struct Decoder {
    word: u64,
    arguments: [u64; MOST_ARGUMENTS],
    count: usize,
}

impl Decoder {
    /// Takes a ring at an address whose low bits are `value`.
    pub fn take(&mut self, kind: Kind, value: u64) -> Option<Message> {
        let piece = value & ((1 << PIECE_BITS) - 1);
        match kind {
            Kind::PIECE => self.word = self.word << PIECE_BITS | piece,
            Kind::ARGUMENT => {
                let word = std::mem::take(&mut self.word) << PIECE_BITS | piece;
                // More than fit are a program's own invention.
                if let Some(slot) = self.arguments.get_mut(self.count) {
                    *slot = word;
                    self.count += 1;
                }
            }
            command => {
                let arguments = std::mem::take(self).arguments;
                return Some(Message { command, arguments });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_arrive_as_they_were_sent(words in prop::collection::vec(any::<u64>(), 0..5)) {
            let mut decoder = Decoder::default();
            for _ in 0..2 {
                let mut got = None;
                abi::doorbell::send(Kind::SWITCH, &words, &mut |kind, value| {
                    assert!(got.is_none());
                    got = decoder.take(kind, 0xdead_b000 | u64::from(value));
                });
                let message = got.unwrap();
                let mut want = [0; MOST_ARGUMENTS];
                want[..words.len().min(4)].copy_from_slice(&words[..words.len().min(4)]);
                prop_assert_eq!(message, Message { command: Kind::SWITCH, arguments: want });
            }
        }
    }

    #[test]
    fn rings_are_told_from_other_instructions() {
        let mut bytes = abi::doorbell::OPCODE.to_vec();
        bytes.extend(Kind::START.displacement().to_le_bytes());
        assert_eq!(Kind::of(&bytes), Some(Kind::START));
        assert_eq!(Kind::of(&bytes[..6]), None);
        bytes[6] ^= 1;
        assert_eq!(Kind::of(&bytes), None);
    }
}
