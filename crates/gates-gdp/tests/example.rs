//! The example does what it says.
#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "its main is called")]
#[path = "../examples/candle.rs"]
mod candle;

#[test]
fn a_candle_user_gets_a_smaller_network() {
    candle::main().unwrap_or_else(|error| panic!("{error}"));
}
