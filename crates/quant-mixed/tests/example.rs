//! The example does what it says.
#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "its main is called")]
#[path = "../examples/candle.rs"]
mod candle;

#[test]
fn two_bits_are_trained_by_a_candle_user() {
    candle::main().unwrap_or_else(|error| panic!("{error}"));
}
