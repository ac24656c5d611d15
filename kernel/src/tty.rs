//! The serial ports as terminals: ttyS0 to ttyS3.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use fs::stat::DevId;
use fs::tty::{Tty, TtyDriver};
use hal::serial::Uart;
use sync::{IrqLock, Once};

/// Major number of serial terminals.
const MAJOR: u32 = 4;
/// Minor number of ttyS0.
const FIRST_MINOR: u32 = 64;

struct Line {
    uart: IrqLock<Uart>,
}

impl TtyDriver for Line {
    fn write(&self, data: &[u8]) -> usize {
        // In pieces, so that interrupts do not wait for a long write.
        let mut done = 0;
        for chunk in data.chunks(16) {
            self.uart.lock().send(chunk);
            done += chunk.len();
        }
        done
    }
}

struct Port {
    uart: Uart,
    tty: Arc<Tty>,
}

static PORTS: Once<Vec<Port>> = Once::new();

/// Finds the ports, makes their terminals and their nodes in /dev.
pub fn init(devtmpfs: &Arc<fs::mount::Super>) {
    let ports = PORTS.call_once(|| {
        (0..4)
            .map(|i| (i, Uart::port(i)))
            .filter(|(_, uart)| uart.present())
            .map(|(i, uart)| {
                if i != 0 {
                    uart.init();
                }
                let device = DevId::new(MAJOR, FIRST_MINOR + i as u32);
                let name = ["ttyS", &i.to_string()].concat();
                let driver = Arc::new(Line { uart: IrqLock::new(uart) });
                Port { uart, tty: Tty::new(device, &name, driver) }
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
    if let Some(console) = ports.get(crate::console::port()).or(ports.first()) {
        fs::tty::set_console(console.tty.clone());
    }
    for irq in [3, 4] {
        crate::interrupts::register(irq, receive);
    }
    for port in ports {
        port.uart.enable_receive_interrupt();
    }
}

/// Takes what the ports have received (interrupt context).
fn receive() {
    let Some(ports) = PORTS.get() else { return };
    for port in ports {
        let mut bytes = [0u8; 64];
        loop {
            let mut len = 0;
            while len < bytes.len()
                && let Some(byte) = port.uart.receive()
            {
                bytes[len] = byte;
                len += 1;
            }
            if len == 0 {
                break;
            }
            port.tty.receive(&bytes[..len]);
        }
    }
}
