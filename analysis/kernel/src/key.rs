//! What tells connections apart: addresses and ports, whichever way a packet goes; and a hash of them.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Addresses and ports in an order of their own, the protocol, and the version of IP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub low: u128,
    pub high: u128,
    pub low_port: u16,
    pub high_port: u16,
    pub proto: u8,
    pub is_v6: bool,
}

impl Key {
    /// The key of what goes from one end to another, and whether it goes from the high one to the low one.
    pub fn of(src: (u128, u16), dst: (u128, u16), proto: u8, is_v6: bool) -> (Key, usize) {
        let (low, high, side) = if src <= dst { (src, dst, 0) } else { (dst, src, 1) };
        (Key { low: low.0, high: high.0, low_port: low.1, high_port: high.1, proto, is_v6 }, side)
    }
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for number in [self.low, self.high] {
            state.write_u64((number >> 64) as u64);
            state.write_u64(number as u64);
        }
        let ports = u64::from(self.low_port) << 32 | u64::from(self.high_port) << 16;
        state.write_u64(ports | u64::from(self.proto) << 8 | u64::from(self.is_v6));
    }
}

/// A number of a capture's own, so that nobody can choose packets whose keys collide.
pub struct Seed(u64);

impl Default for Seed {
    fn default() -> Seed {
        Seed(RandomState::new().build_hasher().finish())
    }
}

impl BuildHasher for Seed {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

/// Multiply and fold.
pub struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let wide = u128::from(self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (wide as u64) ^ ((wide >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
