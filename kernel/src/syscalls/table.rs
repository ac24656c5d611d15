//! The dispatch table, assembled from the areas' parts at compile time.

use super::Ctx;
use abi::Result;

/// One system call.
pub struct Entry {
    pub number: usize,
    pub name: &'static str,
    /// Arguments with their types, as declared.
    pub args: &'static str,
    pub call: fn(&mut Ctx<'_>) -> Result<u64>,
}

/// Declares a part of the table: `number name(arg: type, ...) => function;`. The function gets the
/// call's context and the typed arguments.
#[macro_export]
macro_rules! syscalls {
    ($($number:literal $name:ident($($arg:ident: $ty:ty),* $(,)?) => $function:path;)*) => {
        /// This area's part of the table.
        pub const TABLE: &[$crate::syscalls::Entry] = &[$(
            $crate::syscalls::Entry {
                number: $number,
                name: stringify!($name),
                args: stringify!($($arg: $ty),*),
                call: {
                    #[allow(unused_mut, unused_variables, unused_assignments,
                            reason = "calls without arguments leave the counter unused")]
                    fn call(ctx: &mut $crate::syscalls::Ctx<'_>) -> abi::Result<u64> {
                        let mut next = 0;
                        $(
                            let $arg: $ty = <$ty as $crate::syscalls::FromReg>::from_reg(ctx.arg(next));
                            next += 1;
                        )*
                        $function(ctx $(, $arg)*).map($crate::syscalls::IntoRet::into_ret)
                    }
                    call
                },
            },
        )*];
    };
}

/// The areas' parts.
const PARTS: &[&[Entry]] = &[
    super::affinity::TABLE,
    super::attributes::TABLE,
    super::creds::TABLE,
    super::epoll::TABLE,
    super::fcntl::TABLE,
    super::fds::TABLE,
    super::futex::TABLE,
    super::ids::TABLE,
    super::io::TABLE,
    super::ipc::TABLE,
    super::limits::TABLE,
    super::memory::TABLE,
    super::misc::TABLE,
    super::mount::TABLE,
    super::numa::TABLE,
    super::paths::TABLE,
    super::pidfd::TABLE,
    super::poll::TABLE,
    super::prctl::TABLE,
    super::process::TABLE,
    super::ptrace::TABLE,
    super::random::TABLE,
    super::sched::TABLE,
    super::signal::TABLE,
    super::socket::TABLE,
    super::syslog::TABLE,
    super::system::TABLE,
    super::time::TABLE,
    super::transfer::TABLE,
    super::xattr::TABLE,
    crate::perf::open::TABLE,
];

/// Numbers that the table has room for.
const SIZE: usize = 512;

/// The table by number.
static BY_NUMBER: [Option<&'static Entry>; SIZE] = {
    let mut table: [Option<&'static Entry>; SIZE] = [None; SIZE];
    let mut part = 0;
    while part < PARTS.len() {
        let mut i = 0;
        while i < PARTS[part].len() {
            let entry = &PARTS[part][i];
            assert!(table[entry.number].is_none(), "a system call stands twice in the table");
            table[entry.number] = Some(entry);
            i += 1;
        }
        part += 1;
    }
    table
};

/// The call with this number.
#[inline(always)]
pub fn find(number: u64) -> Option<&'static Entry> {
    *BY_NUMBER.get(number as usize)?
}

/// All calls, by number.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    BY_NUMBER.iter().flatten().copied()
}
