//! A guest: which kernel ([`kernel`]), which machine ([`machine`]), and the running thing itself
//! with its four serial lines ([`session`]).

pub mod console;
pub mod kernel;
pub mod linux;
pub mod machine;
pub mod session;
pub mod share;
pub mod shared;
pub mod stdin;
pub mod terminal;
pub mod watch;
