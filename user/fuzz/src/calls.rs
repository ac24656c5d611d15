pub fn main(_: &[&str]) -> Result<(), String> {
    Err("none".into())
}
