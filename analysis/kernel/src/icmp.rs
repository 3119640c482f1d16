//! ICMP and ICMPv6 (RFC 792, RFC 4443): messages as Zeek has them, and the packets that errors quote.

use crate::bytes::{u128, u16, u32};
use crate::decode::{Decoded, Packet, Skip, ICMP, ICMPV6};

/// The packet that an ICMP error answers: its addresses are in the direction in which it was sent.
#[derive(Clone, Copy, Default)]
pub struct Quote {
    pub src: u128,
    pub dst: u128,
    pub proto: u8,
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
}

pub fn icmp<'a>(mut packet: Packet<'a>, body: &'a [u8], length: usize) -> Decoded<'a> {
    let fixed = body.get(..4).ok_or(if length < 4 { Skip::Malformed } else { Skip::CutShort })?;
    let (kind, code) = (u16::from(fixed[0]), u16::from(fixed[1]));
    (packet.src_port, packet.dst_port) = ports(packet.proto, kind, code);
    packet.code = code;
    packet.payload = length.saturating_sub(8) as u32;
    packet.mtu = match (packet.is_v6, kind, code) {
        (false, 3, 4) => u32::from(u16(body, 6).unwrap_or(0)), // RFC 1191
        (true, 2, _) => u32(body, 4).unwrap_or(0),             // RFC 4443
        _ => 0,
    };
    if is_error(packet.proto, kind) {
        packet.quote = body.get(8..).and_then(|quoted| quote(quoted, packet.is_v6));
    }
    Ok(packet)
}

/// What Zeek has instead of ports: the type, and the type of its answer or the code.
fn ports(proto: u8, kind: u16, code: u16) -> (u16, u16) {
    let answer = match (proto, kind) {
        (ICMP, 8) => 0,
        (ICMP, 0) => 8,
        (ICMP, 9) | (ICMP, 13 | 15 | 17) | (ICMPV6, 128 | 133 | 135) => kind + 1,
        (ICMP, 10) | (ICMP, 14 | 16 | 18) | (ICMPV6, 129 | 134 | 136) => kind - 1,
        _ => code,
    };
    (kind, answer)
}

fn is_error(proto: u8, kind: u16) -> bool {
    match proto {
        ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        _ => kind < 128,
    }
}

/// RFC 792 quotes a header and 8 bytes, enough for ports and TCP's sequence number.
fn quote(data: &[u8], is_v6: bool) -> Option<Quote> {
    let (at, proto, src, dst) = if is_v6 {
        let (mut at, mut proto) = (40, *data.get(6)?);
        while let 0 | 43 | 44 | 60 | 135 = proto {
            let size = if proto == 44 { 8 } else { 8 + usize::from(*data.get(at + 1)?) * 8 };
            proto = *data.get(at)?;
            at += size;
        }
        (at, proto, u128(data, 8)?, u128(data, 24)?)
    } else {
        (usize::from(*data.first()? & 15) * 4, *data.get(9)?, u32(data, 12)?.into(), u32(data, 16)?.into())
    };
    let (first, second) = (u16(data, at)?, u16(data, at + 2)?);
    let (src_port, dst_port) = match proto {
        ICMP | ICMPV6 => ports(proto, first >> 8, first & 0xff),
        _ => (first, second),
    };
    Some(Quote { src, dst, proto, src_port, dst_port, seq: u32(data, at + 4)? })
}

impl Packet<'_> {
    /// Whether it is the answer to a message of the other end.
    pub fn is_icmp_answer(&self) -> bool {
        match self.proto {
            ICMP => matches!(self.src_port, 0 | 10 | 14 | 16 | 18),
            _ => matches!(self.src_port, 129 | 134 | 136),
        }
    }

    /// Whether it says that the quoted packet's destination cannot be reached.
    pub fn is_unreachable(&self) -> bool {
        matches!((self.proto, self.src_port), (ICMP, 3) | (ICMPV6, 1)) && !self.is_too_big()
    }

    pub fn is_too_big(&self) -> bool {
        matches!((self.proto, self.src_port, self.code), (ICMP, 3, 4) | (ICMPV6, 2, _))
    }
}
