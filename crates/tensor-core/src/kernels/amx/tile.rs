//! The tile registers: detection, permission, configuration and the product of blocks.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};

/// Rows of a tile of sums, and of one of left operands.
pub(super) const ROWS: usize = 16;

/// Columns of a tile of sums.
pub(super) const COLUMNS: usize = 16;

/// Most terms that one product of tiles sums.
pub(super) const DEPTH: usize = 32;

/// Does the processor have tiles, bfloat16 in them, and the conversions from `f32`?
pub(super) fn detected() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    let leaves = __cpuid(0).eax;
    leaves >= 7
        && __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Asks Linux to let this process use the tile registers.
pub(super) fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let status: i64;
    // SAFETY: this system call reads no memory of the process; it clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => status,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    status == 0
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    column_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The configured tiles of this thread, until dropped: four of sums, two of left operands and two
/// of right operands.
pub(super) struct Tiles(());

impl Tiles {
    /// Configures tiles for products of `depth` terms, even and at most [`DEPTH`].
    ///
    /// # Safety
    /// The processor must have tiles and the process the permission to use them.
    pub(super) unsafe fn configure(depth: usize) -> Self {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            column_bytes: [0; 16],
            rows: [0; 16],
        };
        let line = (4 * COLUMNS) as u16;
        configuration.column_bytes[..4].fill(line);
        configuration.rows[..4].fill(ROWS as u8);
        configuration.column_bytes[4..6].fill((2 * depth) as u16);
        configuration.rows[4..6].fill(ROWS as u8);
        configuration.column_bytes[6..8].fill(line);
        configuration.rows[6..8].fill((depth / 2) as u8);
        // SAFETY: 64 bytes of a valid configuration.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const configuration,
                options(nostack, preserves_flags, readonly),
            );
        }
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: tiles were configured, so the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

/// Where the tiles of a product lie; steps in bytes.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    /// Rows of left terms, for each of up to two blocks of rows.
    pub(super) left: [*const u8; 2],
    /// From one row of left terms to the next.
    pub(super) left_row: usize,
    /// Pairs of right terms, column by column.
    pub(super) right: *const u8,
    /// From one block of columns to the next.
    pub(super) right_block: usize,
    /// From one pair of terms to the next.
    pub(super) right_row: usize,
    /// Sums.
    pub(super) sums: *mut u8,
    /// From one block of rows to the next.
    pub(super) sums_rows: usize,
    /// From one block of columns to the next.
    pub(super) sums_columns: usize,
    /// From one row of sums to the next.
    pub(super) sums_row: usize,
}

macro_rules! load {
    ($tile:tt, $from:expr, $row:expr) => {
        asm!(
            concat!("tileloadd ", $tile, ", [{from} + {row}*1]"),
            from = in(reg) $from,
            row = in(reg) $row,
            out($tile) _,
            options(nostack, preserves_flags, readonly),
        )
    };
}

macro_rules! store {
    ($tile:tt, $to:expr, $row:expr) => {
        asm!(
            concat!("tilestored [{to} + {row}*1], ", $tile),
            to = in(reg) $to,
            row = in(reg) $row,
            options(nostack, preserves_flags),
        )
    };
}

macro_rules! zero {
    ($tile:tt) => {
        asm!(
            concat!("tilezero ", $tile),
            out($tile) _,
            options(nostack, preserves_flags, nomem),
        )
    };
}

macro_rules! add_product {
    ($sums:tt, $left:tt, $right:tt) => {
        asm!(
            concat!("tdpbf16ps ", $sums, ", ", $left, ", ", $right),
            out($sums) _,
            options(nostack, preserves_flags, nomem),
        )
    };
}

/// Sums of `Q` blocks of rows and `P` blocks of columns over steps at the given offsets of left
/// and right terms, in bytes; adds to what the sums hold if `ADD`.
///
/// # Safety
/// This thread's tiles must be configured, and all tiles be readable, and writable for sums.
#[inline(always)]
pub(super) unsafe fn multiply<const Q: usize, const P: usize, const ADD: bool>(
    at: Blocks,
    steps: &[(usize, usize)],
) {
    const { assert!(Q == 1 && P >= 1 && P <= 4 || Q == 2 && (P == 1 || P == 2)) }
    let Blocks { left, left_row, right, right_block, right_row, sums, .. } = at;
    let sums = |q: usize, p: usize| sums.wrapping_add(q * at.sums_rows + p * at.sums_columns);
    let row = at.sums_row;
    // SAFETY: the caller vouches for the configuration and the memory; the compiler knows nothing
    // of tiles, whose contents last from one statement to the next.
    unsafe {
        macro_rules! each_sum {
            ($do:ident) => {
                $do!(0, 0, "tmm0");
                match (Q, P) {
                    (1, 2) => {
                        $do!(0, 1, "tmm1");
                    }
                    (1, 3) => {
                        $do!(0, 1, "tmm1");
                        $do!(0, 2, "tmm2");
                    }
                    (1, 4) => {
                        $do!(0, 1, "tmm1");
                        $do!(0, 2, "tmm2");
                        $do!(0, 3, "tmm3");
                    }
                    (2, 1) => {
                        $do!(1, 0, "tmm2");
                    }
                    (2, 2) => {
                        $do!(0, 1, "tmm1");
                        $do!(1, 0, "tmm2");
                        $do!(1, 1, "tmm3");
                    }
                    _ => {}
                }
            };
        }
        macro_rules! begin {
            ($q:tt, $p:tt, $tile:tt) => {
                if ADD { load!($tile, sums($q, $p), row) } else { zero!($tile) }
            };
        }
        macro_rules! end {
            ($q:tt, $p:tt, $tile:tt) => {
                store!($tile, sums($q, $p), row)
            };
        }
        each_sum!(begin);
        for &(left_offset, right_offset) in steps {
            let right = right.wrapping_add(right_offset);
            load!("tmm4", left[0].wrapping_add(left_offset), left_row);
            load!("tmm6", right, right_row);
            add_product!("tmm0", "tmm4", "tmm6");
            if Q == 2 {
                load!("tmm5", left[1].wrapping_add(left_offset), left_row);
                add_product!("tmm2", "tmm5", "tmm6");
            }
            if P >= 2 {
                load!("tmm7", right.wrapping_add(right_block), right_row);
                add_product!("tmm1", "tmm4", "tmm7");
                if Q == 2 {
                    add_product!("tmm3", "tmm5", "tmm7");
                }
            }
            if P >= 3 {
                load!("tmm6", right.wrapping_add(2 * right_block), right_row);
                add_product!("tmm2", "tmm4", "tmm6");
            }
            if P >= 4 {
                load!("tmm7", right.wrapping_add(3 * right_block), right_row);
                add_product!("tmm3", "tmm4", "tmm7");
            }
        }
        each_sum!(end);
    }
}
