//! Instructions by which a kernel flushes the TLB: what the plugin knows of pages ends with it.

/// Whether an instruction is a write to a control register, INVLPG or INVPCID (Intel's manual,
/// volume 3, "Invalidation of TLBs").
pub fn flushes(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65, tail @ ..] =
        rest
    {
        rest = tail;
    }
    if let [0x40..=0x4f, tail @ ..] = rest {
        rest = tail;
    }
    match rest {
        [0x0f, 0x22, ..] => true,
        // INVLPG is the form of this group with a memory operand.
        [0x0f, 0x01, modrm, ..] => modrm >> 3 & 7 == 7 && modrm >> 6 != 3,
        [0x0f, 0x38, 0x82, ..] => true,
        _ => false,
    }
}
