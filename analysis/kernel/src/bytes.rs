//! Numbers out of bytes. Nothing is read past an end: what is not there is `None`.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    pub fn u16(self, data: &[u8], at: usize) -> Option<u16> {
        let bytes = [*data.get(at)?, *data.get(at + 1)?];
        Some(match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        })
    }

    pub fn u32(self, data: &[u8], at: usize) -> Option<u32> {
        let bytes = data.get(at..at + 4)?.try_into().ok()?;
        Some(match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        })
    }
}

/// Of the network's order, which is big.
pub fn u16(data: &[u8], at: usize) -> Option<u16> {
    Order::Big.u16(data, at)
}

pub fn u32(data: &[u8], at: usize) -> Option<u32> {
    Order::Big.u32(data, at)
}

pub fn u128(data: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_be_bytes(data.get(at..at + 16)?.try_into().ok()?))
}
