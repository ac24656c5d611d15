//! The serial ports as terminals: ttyS0 to ttyS3.
//!
//! Input loses nothing: when a terminal's ring is full its port's interrupt is switched off, the
//! port's own FIFO fills, and the other end waits.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use fs::stat::DevId;
use fs::tty::{Tty, TtyDriver};
use hal::serial::Uart;
use sync::{IrqLock, Once};

/// Major number of serial terminals.
const MAJOR: u32 = 4;
/// Minor number of ttyS0.
const FIRST_MINOR: u32 = 64;
/// Looks at a busy port before another task may run.
const SPINS: u32 = 256;

struct Line {
    uart: Uart,
    sender: &'static IrqLock<Uart>,
    /// The terminal has no room: the port does not interrupt.
    throttled: AtomicBool,
}

impl Line {
    /// Waits for `done`, letting others run when it takes long.
    fn wait(mut done: impl FnMut() -> bool) {
        let mut spins = 0;
        while !done() {
            spins += 1;
            if spins % SPINS == 0 {
                crate::sched::yield_now();
            }
            core::hint::spin_loop();
        }
    }

    /// Moves what the port has received to the terminal; false when there was nothing.
    fn receive(&self, tty: &Tty) -> bool {
        let mut any = false;
        let mut bytes = [0u8; 64];
        while !self.throttled.load(Ordering::SeqCst) {
            let room = tty.input_room().min(bytes.len());
            if room == 0 {
                self.throttle(tty);
                continue;
            }
            let mut len = 0;
            while len < room
                && let Some(byte) = self.uart.receive()
            {
                bytes[len] = byte;
                len += 1;
            }
            if len == 0 {
                break;
            }
            any = true;
            tty.receive(&bytes[..len]);
        }
        any
    }

    fn throttle(&self, tty: &Tty) {
        self.uart.disable_receive_interrupt();
        self.throttled.store(true, Ordering::SeqCst);
        // The reader may have made room before it could see the mark.
        if tty.input_room() > 0 {
            self.unthrottle();
        }
    }
}

impl TtyDriver for Line {
    fn write(&self, data: &[u8]) -> usize {
        // In pieces, so that interrupts do not wait for a long write.
        let mut done = 0;
        Self::wait(|| {
            done += self.sender.lock().try_send(&data[done..]);
            done == data.len()
        });
        done
    }
    fn drain(&self) {
        Self::wait(|| self.sender.lock().is_idle());
    }
    fn closed(&self) {
        self.drain();
    }
    fn unthrottle(&self) {
        if self.throttled.swap(false, Ordering::SeqCst) {
            // What waits in the FIFO raises an interrupt at once.
            self.uart.enable_receive_interrupt();
        }
    }
}

struct Port {
    line: Arc<Line>,
    tty: Arc<Tty>,
}

static PORTS: Once<Vec<Port>> = Once::new();

/// The ports that are there.
pub fn names() -> impl Iterator<Item = &'static str> {
    PORTS.get().into_iter().flatten().map(|port| port.tty.name())
}

/// Finds the ports, makes their terminals and their nodes in /dev.
pub fn init(devtmpfs: &Arc<fs::mount::Super>) {
    let ports = PORTS.get_or_init(|| {
        (0..4)
            .map(|i| (i, Uart::port(i)))
            .filter(|(_, uart)| uart.present())
            .map(|(i, uart)| {
                if i != 0 && i != crate::console::port() {
                    uart.init();
                }
                let device = DevId::new(MAJOR, FIRST_MINOR + i as u32);
                let name = ["ttyS", &i.to_string()].concat();
                let sender = crate::console::line(i);
                let line = Arc::new(Line { uart, sender, throttled: AtomicBool::new(false) });
                Port {
                    line: line.clone(),
                    tty: Tty::new(device, name, line).expect("no memory at boot"),
                }
            })
            .collect()
    });
    fs::tty::register_char_devices(ports.iter().map(|p| p.tty.clone()).collect());
    for port in ports {
        let mode = abi::raw::general::S_IFCHR | 0o660;
        if let Err(error) = fs::boot::add_node(devtmpfs, port.tty.name(), mode, port.tty.device()) {
            log::warn!("/dev/{}: {error}", port.tty.name());
        }
    }
    let minor = FIRST_MINOR + crate::console::port() as u32;
    let console = ports.iter().find(|p| p.tty.device().minor == minor).or(ports.first());
    if let Some(console) = console {
        fs::tty::set_console(console.tty.clone());
    }
    for irq in [3, 4] {
        crate::interrupts::register(irq, receive);
    }
    for port in ports {
        port.line.uart.enable_receive_interrupt();
    }
}

/// Takes what the ports have received (interrupt context). Ports share their interrupts, which
/// tell only of changes: it is over when a look at all of them found nothing.
fn receive() {
    let Some(ports) = PORTS.get() else { return };
    let mut any = true;
    while any {
        any = false;
        for port in ports {
            any |= port.line.receive(&port.tty);
        }
    }
}
