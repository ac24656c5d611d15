//! 16550 serial ports, COM1 to COM4, polled output and interrupt-driven input.

use x86_64::instructions::port::Port;

/// I/O base and ISA interrupt of each port.
const PORTS: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// One UART. Callers serialize writers among themselves.
#[derive(Clone, Copy, Debug)]
pub struct Uart {
    base: u16,
    /// ISA interrupt line.
    pub irq: u8,
}

impl Uart {
    /// Port `index` (0 = COM1), without looking whether it is there.
    pub const fn port(index: usize) -> Self {
        Self { base: PORTS[index].0, irq: PORTS[index].1 }
    }

    fn read(self, reg: u16) -> u8 {
        // SAFETY: reads a register of a UART (or an empty port, which reads 0xff).
        unsafe { Port::new(self.base + reg).read() }
    }

    fn write(self, reg: u16, value: u8) {
        // SAFETY: writes a register of a UART; no memory is involved.
        unsafe { Port::new(self.base + reg).write(value) }
    }

    /// True when a UART answers (its scratch register holds a value).
    pub fn present(self) -> bool {
        self.write(7, 0x5a);
        self.read(7) == 0x5a
    }

    /// 115200 8N1, FIFOs on, no interrupts.
    pub fn init(self) {
        self.write(1, 0);
        self.write(3, 0x80);
        self.write(0, 1);
        self.write(1, 0);
        self.write(3, 0x03);
        self.write(2, 0xc7);
        self.write(4, 0x0b);
    }

    /// Interrupts on received data.
    pub fn enable_receive_interrupt(self) {
        self.write(1, 0x01);
    }

    /// No interrupts on received data.
    pub fn disable_receive_interrupt(self) {
        self.write(1, 0);
    }

    /// Sends bytes, waiting for room once per FIFO of 16.
    pub fn send(self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.try_send(bytes) {
                0 => core::hint::spin_loop(),
                sent => bytes = &bytes[sent..],
            }
        }
    }

    /// Sends up to a FIFO (16 bytes) if it is empty; how many.
    pub fn try_send(self, bytes: &[u8]) -> usize {
        if self.read(5) & 0x20 == 0 {
            return 0;
        }
        let n = bytes.len().min(16);
        for &byte in &bytes[..n] {
            self.write(0, byte);
        }
        n
    }

    /// Everything that was sent has left the port.
    pub fn is_idle(self) -> bool {
        self.read(5) & 0x40 != 0
    }

    /// A received byte, if there is one.
    pub fn receive(self) -> Option<u8> {
        (self.read(5) & 1 != 0).then(|| self.read(0))
    }
}
