//! The drivers against the model of each unit's registers.

use super::model::{self, Kind};
use super::*;
use crate::attr::{Attr, kind};
use abi::Errno;
use proptest::prelude::*;
use std::cell::RefCell;

/// A model that can be shared, as registers are.
struct Model(RefCell<model::Model>);

impl Model {
    fn new(kind: Kind) -> Self {
        Self(RefCell::new(model::Model::new(kind)))
    }
    fn cpuid(&self, leaf: u32, sub: u32) -> [u32; 4] {
        self.0.borrow().cpuid(leaf, sub)
    }
    fn happen(&self, code: u64, n: u64, user: bool) {
        self.0.borrow_mut().happen(code, n, user);
    }
    fn interrupts(&self) -> u64 {
        self.0.borrow().interrupts()
    }
}

impl Registers for Model {
    fn read(&self, msr: u32) -> u64 {
        self.0.borrow().read(msr)
    }
    fn write(&self, msr: u32, value: u64) {
        self.0.borrow_mut().write(msr, value);
    }
}

const INTEL: Kind = Kind::Intel { version: 4, general: 4, width: 48, fixed: 3, full: true };
const INTEL_OLD: Kind = Kind::Intel { version: 2, general: 2, width: 40, fixed: 3, full: false };
const UNITS: [Kind; 5] =
    [INTEL, INTEL_OLD, Kind::AmdLegacy, Kind::AmdCore, Kind::AmdV2 { general: 6 }];
const MISSES: u64 = 0x412e;

fn unit(kind: Kind) -> (Pmu, Model) {
    let model = Model::new(kind);
    let pmu = Pmu::detect(|l, s| model.cpuid(l, s)).expect("a unit");
    pmu.reset(&model);
    (pmu, model)
}

fn both(code: u64) -> Config {
    Config { code, user: true, kernel: true }
}

#[test]
fn units_are_found_by_cpuid() {
    let shape = |kind| unit(kind).0.shape();
    assert_eq!(shape(INTEL), Shape { general: 4, width: 48, fixed: 3, fixed_width: 48 });
    assert_eq!((shape(INTEL_OLD).general, shape(INTEL_OLD).width), (2, 40));
    assert_eq!(shape(Kind::AmdLegacy).general, 4);
    assert_eq!(shape(Kind::AmdCore).general, 6);
    assert_eq!(shape(Kind::AmdV2 { general: 8 }).general, 8);
    let old = Model::new(Kind::Intel { version: 1, general: 2, width: 40, fixed: 0, full: false });
    assert_eq!(Pmu::detect(|l, s| old.cpuid(l, s)), None);
    let none = Model::new(Kind::None);
    assert_eq!(Pmu::detect(|l, s| none.cpuid(l, s)), None);
}

#[test]
fn a_unit_that_does_not_count_is_none() {
    for kind in UNITS {
        let (pmu, model) = unit(kind);
        assert!(pmu.works(&model, || model.happen(0x00c0, 100, false)), "{kind:?}");
        assert!(!pmu.works(&model, || {}), "{kind:?}");
        assert!(!pmu.works(&Model::new(Kind::None), || {}), "{kind:?}: writes are dropped");
        assert_eq!(model.0.borrow().until_overflow(), None, "{kind:?}: nothing goes on counting");
    }
}

#[test]
fn a_period_beyond_what_can_be_written_overflows_early_and_is_counted() {
    for kind in UNITS {
        let (pmu, model) = unit(kind);
        pmu.start(&model, 0, &both(MISSES), u64::MAX);
        let left = model.0.borrow().until_overflow().expect("it counts");
        assert_eq!(left, pmu.longest(&model, 0), "{kind:?}");
        assert!(left >= (1 << 31) - 1, "{kind:?}");
        let before = pmu.value(&model, 0);
        model.happen(MISSES, left, true);
        assert_eq!(pmu.overflowed(&model, 1), 1, "{kind:?}");
        assert_eq!(pmu.passed(0, before, pmu.value(&model, 0)), left, "{kind:?}");
    }
}

#[test]
fn what_is_too_much_for_the_counters_does_not_fit() {
    let (intel, _) = unit(INTEL);
    let (cycles, instructions, reference) = (0x3c, 0xc0, 0x300);
    // Four general counters, and three that count one thing each.
    let most = [MISSES, 0xc4, 0xc5, MISSES, instructions, cycles, reference];
    assert!(intel.fits(most.into_iter()));
    assert!(!intel.fits(most.into_iter().chain([MISSES])));
    assert!(intel.fits([cycles, cycles, cycles, cycles, cycles].into_iter()));
    assert!(!intel.fits([reference, reference].into_iter()), "no general counter knows it");
    let (amd, _) = unit(Kind::AmdLegacy);
    assert!(amd.fits([0x76; 4].into_iter()) && !amd.fits([0x76; 5].into_iter()));
}

#[test]
fn named_events_have_the_codes_of_the_generic_ones() {
    let of = |vendor, name: &str| named(vendor).find(|event| event.0 == name).map(|e| (e.1, e.2));
    assert_eq!(of(Vendor::Intel, "cpu-cycles"), Some((0x3c, 0)));
    assert_eq!(of(Vendor::Intel, "cache-misses"), Some((0x2e, 0x41)));
    assert_eq!(of(Vendor::Intel, "stalled-cycles-backend"), None);
    assert_eq!(of(Vendor::Amd, "ref-cycles"), Some((0x120, 1)));
    assert_eq!(of(Vendor::Amd, "bus-cycles"), None);
}

#[test]
fn counters_count_what_and_where_they_should() {
    for kind in UNITS {
        let (pmu, model) = unit(kind);
        let user = Config { code: MISSES, user: true, kernel: false };
        let index = pmu.choose(user.code, 0).expect("free");
        pmu.start(&model, index, &user, 1 << 30);
        let before = pmu.value(&model, index);
        model.happen(MISSES, 1000, true);
        model.happen(MISSES, 500, false);
        model.happen(0x00c4, 77, true);
        assert_eq!(pmu.passed(index, before, pmu.value(&model, index)), 1000, "{kind:?}");
        pmu.stop(&model, index);
        model.happen(MISSES, 9, true);
        assert_eq!(pmu.passed(index, before, pmu.value(&model, index)), 1000, "{kind:?}");
    }
}

#[test]
fn an_overflow_interrupts_after_the_period_and_is_told_once() {
    for kind in UNITS {
        let (pmu, model) = unit(kind);
        let used = 1;
        pmu.start(&model, 0, &both(MISSES), 100);
        model.happen(MISSES, 99, true);
        assert_eq!(model.interrupts(), 0, "{kind:?}");
        assert_eq!(pmu.overflowed(&model, used), 0);
        model.happen(MISSES, 1, false);
        assert_eq!(model.interrupts(), 1, "{kind:?}");
        pmu.freeze(&model);
        model.happen(MISSES, 50, true);
        assert_eq!(pmu.value(&model, 0), 0, "{kind:?}: frozen");
        assert_eq!(pmu.overflowed(&model, used), 1, "{kind:?}");
        pmu.start(&model, 0, &both(MISSES), 100);
        pmu.thaw(&model);
        assert_eq!(pmu.overflowed(&model, used), 0, "{kind:?}");
        model.happen(MISSES, 100, true);
        assert_eq!(model.interrupts(), 2, "{kind:?}");
    }
}

#[test]
fn several_counters_overflow_by_themselves() {
    for kind in UNITS {
        let (pmu, model) = unit(kind);
        pmu.start(&model, 0, &both(MISSES), 10);
        pmu.start(&model, 1, &both(0x00c4), 1000);
        model.happen(MISSES, 10, true);
        model.happen(0x00c4, 999, true);
        assert_eq!(pmu.overflowed(&model, 3), 1, "{kind:?}");
        pmu.start(&model, 0, &both(MISSES), 10);
        model.happen(0x00c4, 1, true);
        assert_eq!(pmu.overflowed(&model, 3), 2, "{kind:?}");
    }
}

#[test]
fn fixed_counters_serve_what_they_can() {
    let (pmu, model) = unit(INTEL);
    let instructions = both(0x00c0);
    let first = pmu.choose(instructions.code, 0).expect("free");
    assert_eq!(first, FIXED);
    assert_eq!(pmu.choose(instructions.code, 1 << FIXED), Some(0));
    assert_eq!(pmu.choose(MISSES, 0xf), None);
    pmu.start(&model, first, &Config { user: true, kernel: false, ..instructions }, 64);
    let before = pmu.value(&model, first);
    model.happen(0x00c0, 63, true);
    model.happen(0x00c0, 5, false);
    assert_eq!(pmu.passed(first, before, pmu.value(&model, first)), 63);
    model.happen(0x00c0, 1, true);
    assert_eq!(pmu.overflowed(&model, 1 << FIXED), 1 << FIXED);
    pmu.stop(&model, first);
    assert_eq!(model.read(0x38d), 0);
}

#[test]
fn codes_are_the_vendors() {
    let hw = |config| Attr { kind: kind::HARDWARE, config, ..Attr::default() };
    assert_eq!(code(Vendor::Intel, &hw(0)), Ok(0x3c));
    assert_eq!(code(Vendor::Amd, &hw(0)), Ok(0x76));
    assert_eq!(code(Vendor::Intel, &hw(7)), Err(Errno::ENOENT));
    assert_eq!(code(Vendor::Intel, &hw(99)), Err(Errno::EINVAL));
    let cache = |config| Attr { kind: kind::HW_CACHE, config, ..Attr::default() };
    assert_eq!(code(Vendor::Intel, &cache(0x1_0002)), Ok(0x412e));
    assert_eq!(code(Vendor::Intel, &cache(0x1_0106)), Err(Errno::ENOENT));
    for wrong in [7, 3 << 8, 2 << 16, 1 << 24] {
        assert_eq!(code(Vendor::Intel, &cache(wrong)), Err(Errno::EINVAL));
    }
    let raw = |config| Attr { kind: kind::RAW, config, ..Attr::default() };
    assert_eq!(code(Vendor::Intel, &raw(0x412e)), Ok(0x412e));
    // Enabling, interrupts and modes are the kernel's bits: what is asked of them has no effect.
    for bit in [16, 17, 20, 22] {
        assert_eq!(code(Vendor::Intel, &raw(0x2e | 1 << bit)), Ok(0x2e));
        assert_eq!(code(Vendor::Amd, &raw(0x2e | 1 << bit)), Ok(0x2e));
    }
}

proptest! {
    #[test]
    fn counts_are_exact_over_any_run(
        which in 0usize..UNITS.len(),
        period in 1u64..5000,
        steps in proptest::collection::vec((1u64..400, any::<bool>()), 1..100),
    ) {
        let (pmu, model) = unit(UNITS[which]);
        let config = both(MISSES);
        let (mut count, mut truth, mut samples) = (0u64, 0u64, 0u64);
        pmu.start(&model, 0, &config, period);
        let mut before = pmu.value(&model, 0);
        let mut left = period;
        for (n, user) in steps {
            model.happen(MISSES, n, user);
            truth += n;
            if pmu.overflowed(&model, 1) != 0 {
                pmu.freeze(&model);
                let now = pmu.value(&model, 0);
                let passed = pmu.passed(0, before, now);
                count += passed;
                prop_assert!(passed >= left);
                samples += 1;
                left = period;
                pmu.start(&model, 0, &config, period);
                before = pmu.value(&model, 0);
                pmu.thaw(&model);
            }
        }
        count += pmu.passed(0, before, pmu.value(&model, 0));
        prop_assert_eq!(count, truth);
        prop_assert!(samples <= truth / period);
        prop_assert_eq!(model.interrupts(), samples);
    }
}
