//! The example does what it says.
#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "its main is called")]
#[path = "../examples/gradual.rs"]
mod gradual;

#[test]
fn a_candle_user_gets_a_sparse_network() {
    gradual::main().unwrap_or_else(|error| panic!("{error}"));
}
