//! Whatever the bytes, unpacking gives an error or a file that packs and unpacks to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensor_core::pack;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = pack::unpack(bytes) else { return };
    let Ok(packed) = pack::pack(&model) else { return };
    assert_eq!(pack::unpack(&packed.bytes).ok(), Some(model));
});
