//! `proxima test`.
use crate::error::{Fail, Result};
#[derive(clap::Args)]
pub struct TestOptions {
    pub suites: Vec<String>,
}
pub fn test(_: &TestOptions) -> Result<u8> {
    Err(Fail::broken("not there yet"))
}
