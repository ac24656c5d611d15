//! The clock's frequency: boot measures it in a moment, a second measurement a second later is
//! better by as much as it is longer (what Linux calls refined TSC calibration).

use alloc::sync::Arc;
use sync::Notify;

/// When the second measurement ends, in nanoseconds: ACPI's timer counts this to a millionth.
const AFTER: u64 = 1_000_000_000;

struct Refine;

impl Notify for Refine {
    fn notify(&self) {
        let better = {
            let _quiet = hal::irq::IrqOff::new();
            hal::time::refine()
        };
        if let Some(better) = better {
            crate::vdso::change_clock(|| hal::time::go_on_by(better));
            log::info!("TSC: {} kHz", hal::time::tsc_hz() / 1000);
        }
    }
}

/// Has it done in a second, where there is a clock to measure by.
pub fn start() {
    if hal::time::can_refine() {
        core::mem::forget(super::arm(hal::time::now() + AFTER, Arc::new(Refine)));
    }
}
