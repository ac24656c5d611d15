//! How large the modelled caches are: sets of ways of lines of 64 bytes.

/// Bytes in a line, and its logarithm.
pub const LINE: u64 = 64;
pub const LINE_SHIFT: u32 = 6;

/// One cache. No ways: it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    pub sets: u32,
    pub ways: u32,
}

impl Geometry {
    pub const NONE: Self = Self { sets: 0, ways: 0 };

    /// A cache of `bytes` with `ways` ways; the sets must be a power of two.
    pub fn new(bytes: u64, ways: u32) -> Result<Self, String> {
        if bytes == 0 {
            return Ok(Self::NONE);
        }
        if ways == 0 || ways > 64 {
            return Err(format!("{ways} ways: a cache has 1 to 64"));
        }
        let lines = bytes / LINE;
        let sets = lines / u64::from(ways);
        if !bytes.is_multiple_of(LINE) || !lines.is_multiple_of(u64::from(ways)) {
            return Err(format!("{bytes} bytes are no whole number of {ways}-way sets of lines"));
        }
        if !sets.is_power_of_two() || sets > 1 << 24 {
            return Err(format!("{bytes} bytes in {ways} ways make {sets} sets: no power of two"));
        }
        Ok(Self { sets: sets as u32, ways })
    }

    pub fn bytes(self) -> u64 {
        u64::from(self.sets) * u64::from(self.ways) * LINE
    }
}

/// The caches of a machine: `l1` and `l2` of each CPU, `l3` of each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    pub l1: Geometry,
    pub l2: Geometry,
    pub l3: Geometry,
}

/// What is modelled when nobody says: the sizes of a server core of the 2020s, and an L3 that is
/// small, as the programs run on emulated machines are.
pub const DEFAULT: &str = "server";

/// Names of [`named`], with what they are.
pub const NAMES: &[(&str, &str)] = &[
    ("server", "L1d 32 KiB 8-way, L2 1 MiB 16-way, L3 8 MiB 16-way a node"),
    ("desktop", "L1d 48 KiB 12-way, L2 512 KiB 8-way, L3 16 MiB 16-way a node"),
    ("small", "L1d 16 KiB 4-way, L2 128 KiB 8-way, L3 1 MiB 16-way a node"),
];

/// Caches by name.
pub fn named(name: &str) -> Option<Caches> {
    let make = |l1: (u64, u32), l2: (u64, u32), l3: (u64, u32)| {
        let one = |(kib, ways): (u64, u32)| Geometry::new(kib << 10, ways).ok();
        Some(Caches { l1: one(l1)?, l2: one(l2)?, l3: one(l3)? })
    };
    match name {
        "server" => make((32, 8), (1 << 10, 16), (8 << 10, 16)),
        "desktop" => make((48, 12), (512, 8), (16 << 10, 16)),
        "small" => make((16, 4), (128, 8), (1 << 10, 16)),
        _ => None,
    }
}

impl Caches {
    /// `SETS:WAYS` of each level, with commas between: how the host tool hands them over.
    pub fn text(&self) -> String {
        let one = |g: Geometry| format!("{}:{}", g.sets, g.ways);
        format!("{}/{}/{}", one(self.l1), one(self.l2), one(self.l3))
    }

    /// Reads [`Self::text`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(|part| {
            let (sets, ways) = part.split_once(':')?;
            let geometry = Geometry { sets: sets.parse().ok()?, ways: ways.parse().ok()? };
            (geometry.ways == 0 || geometry.sets.is_power_of_two()).then_some(geometry)
        });
        let caches = Self { l1: parts.next()??, l2: parts.next()??, l3: parts.next()?? };
        parts.next().is_none().then_some(caches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_cache_has_are_refused() {
        assert_eq!(Geometry::new(32 << 10, 8), Ok(Geometry { sets: 64, ways: 8 }));
        assert_eq!(Geometry::new(0, 8), Ok(Geometry::NONE));
        for (bytes, ways) in [(100, 1), (48 << 10, 8), (64, 0), (64 * 65, 65)] {
            assert!(Geometry::new(bytes, ways).is_err(), "{bytes} {ways}");
        }
    }

    #[test]
    fn every_name_is_a_machine_and_survives_the_way_to_the_plugin() {
        for (name, _) in NAMES {
            let caches = named(name).unwrap();
            assert_eq!(Caches::parse(&caches.text()), Some(caches));
        }
        assert!(named("none").is_none());
        for wrong in ["", "64:8", "3:8/1:1/1:1", "64:8/1:1/1:1/1:1"] {
            assert_eq!(Caches::parse(wrong), None, "{wrong}");
        }
    }
}
