//! The example does what it says.
#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "its main is called")]
#[path = "../examples/candle.rs"]
mod candle;

#[test]
fn a_candle_user_has_a_teacher() {
    candle::main().unwrap_or_else(|error| panic!("{error}"));
}
