//! Energy of operations and of moved bits.
//!
//! Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figures for 45 nm at
//! 0.9 V, quoted from memory: an 8-bit multiplication 0.2 pJ, a 32-bit addition 0.1 pJ, reading 64 bits
//! from 32 KiB of SRAM 20 pJ, and from DRAM 1.3 to 2.6 nJ, of which the lower end is taken. That a
//! product of fewer bits takes as much less as it has fewer one-bit products is our own assumption.

/// Picojoules of an 8-bit multiply-accumulate.
pub(super) const MAC_PJ: f64 = 0.3;
/// Picojoules of a bit that is read from SRAM.
pub(super) const SRAM_PJ_PER_BIT: f64 = 20.0 / 64.0;
/// Picojoules of a bit that is moved from or to DRAM.
pub(super) const DRAM_PJ_PER_BIT: f64 = 1300.0 / 64.0;

/// One-bit products of a multiply-accumulate at 8 bits.
pub(super) const FULL_PRODUCTS: f64 = 64.0;
