//! Tunnels: the packet in the packet, where there is one that can be read.

use crate::bytes::{u16, u32};
use crate::decode::{
    ethernet, ip, ipv4, ipv6, mpls, network, ppp, Address, Decoded, Kind, Packet, Skip, Tunnel, Way, UDP,
};

/// What the user says of the network.
pub struct Settings {
    pub vxlan_ports: Vec<u16>,
}

const GENEVE: u16 = 6081; // RFC 8926
const GRE: u16 = 4754; // RFC 8086
const GTP: u16 = 2152; // 3GPP TS 29.281
const TEREDO: u16 = 3544; // RFC 4380
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// The innermost packet of a tunnel; `None` where this is no tunnel, and the packet is what it is.
pub fn inner<'a>(packet: &Packet<'a>, body: &'a [u8], way: Way) -> Option<Decoded<'a>> {
    let kind = match packet.proto {
        4 => Kind::Ipip,
        41 => Kind::SixInFour,
        47 => Kind::Gre,
        UDP => of_ports(u16(body, 0)?, u16(body, 2)?, way.settings)?,
        _ => return None,
    };
    let end = |number| Address { number, is_v6: packet.is_v6 };
    let tunnel = Tunnel { kind, id: 0, src: end(packet.src), dst: end(packet.dst) };
    let way = Way { tunnel, depth: way.depth + 1, ..way };
    let found = match kind {
        Kind::Ipip => ipv4(body, way),
        Kind::SixInFour => ipv6(body, way),
        Kind::Gre if packet.proto == 47 => gre(body, way),
        _ => {
            let data = body.get(8..)?;
            match kind {
                Kind::Vxlan => vxlan(data, way),
                Kind::Geneve => geneve(data, way),
                Kind::Gre => gre(data, way),
                Kind::Gtp => gtp(data, way),
                _ => teredo(data, way),
            }
        }
    };
    match found {
        Err(Skip::CutShort) => Some(found), // it may have been any connection's
        Err(_) if packet.proto == UDP => None,
        _ => Some(found),
    }
}

fn of_ports(src: u16, dst: u16, settings: &Settings) -> Option<Kind> {
    match dst {
        GENEVE => Some(Kind::Geneve),
        GRE => Some(Kind::Gre),
        GTP => Some(Kind::Gtp),
        _ if settings.vxlan_ports.contains(&dst) => Some(Kind::Vxlan),
        _ if src == TEREDO || dst == TEREDO => Some(Kind::Teredo),
        _ => None,
    }
}

/// RFC 7348: the flag says that there is a network identifier.
fn vxlan<'a>(data: &'a [u8], mut way: Way) -> Decoded<'a> {
    if data.first().ok_or(Skip::CutShort)? & 0x08 == 0 {
        return Err(Skip::NotIp);
    }
    way.tunnel.id = u32(data, 4).ok_or(Skip::CutShort)? >> 8;
    ethernet(data.get(8..).ok_or(Skip::CutShort)?, way)
}

fn geneve<'a>(data: &'a [u8], mut way: Way) -> Decoded<'a> {
    let fixed = data.get(..8).ok_or(Skip::CutShort)?;
    if fixed[0] >> 6 != 0 {
        return Err(Skip::NotIp);
    }
    way.tunnel.id = u32(fixed, 4).unwrap_or(0) >> 8;
    let at = 8 + usize::from(fixed[0] & 0x3f) * 4;
    by_protocol(u16(fixed, 2), data, at, way)
}

/// RFC 2784, RFC 2890; version 1 is PPTP's (RFC 2637); and what mirrors traffic, ERSPAN.
fn gre<'a>(data: &'a [u8], mut way: Way) -> Decoded<'a> {
    let flags = u16(data, 0).ok_or(Skip::CutShort)?;
    let protocol = u16(data, 2);
    let mut at = 4 + if flags & 0x8000 != 0 { 4 } else { 0 };
    if flags & 0x2000 != 0 {
        way.tunnel.id = u32(data, at).ok_or(Skip::CutShort)?;
        at += 4;
    }
    at += if flags & 0x1000 != 0 { 4 } else { 0 };
    at += if flags & 0x0080 != 0 { 4 } else { 0 };
    match protocol {
        Some(0x88be) if flags & 0x1000 != 0 => ethernet(data.get(at + 8..).ok_or(Skip::CutShort)?, way),
        Some(0x88be) => ethernet(data.get(at..).ok_or(Skip::CutShort)?, way),
        _ => by_protocol(protocol, data, at, way),
    }
}

fn by_protocol<'a>(protocol: Option<u16>, data: &'a [u8], at: usize, way: Way) -> Decoded<'a> {
    let rest = data.get(at..).ok_or(Skip::CutShort)?;
    match protocol.ok_or(Skip::CutShort)? {
        TRANSPARENT_ETHERNET => ethernet(rest, way),
        0x8847 | 0x8848 => mpls(rest, way),
        0x880b => ppp(rest, way),
        0x0800 | 0x86dd => network(protocol, data, at, way),
        _ => Err(Skip::OtherProtocol),
    }
}

fn gtp<'a>(data: &'a [u8], mut way: Way) -> Decoded<'a> {
    let fixed = data.get(..8).ok_or(Skip::CutShort)?;
    if fixed[0] >> 4 != 0b0011 || fixed[1] != 255 {
        return Err(Skip::NotIp); // not version 1, or a message of the tunnel's own
    }
    way.tunnel.id = u32(fixed, 4).unwrap_or(0);
    let mut at = 8;
    if fixed[0] & 7 != 0 {
        let mut next = *data.get(11).ok_or(Skip::CutShort)?;
        at = 12;
        while fixed[0] & 4 != 0 && next != 0 {
            let size = usize::from(*data.get(at).ok_or(Skip::CutShort)?) * 4;
            if size == 0 {
                return Err(Skip::Malformed);
            }
            next = *data.get(at + size - 1).ok_or(Skip::CutShort)?;
            at += size;
        }
    }
    ip(data.get(at..).ok_or(Skip::CutShort)?, way)
}

/// RFC 4380: an authentication header and an origin may come before the packet.
fn teredo<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    let mut rest = data;
    if let [0, 1, id, auth, ..] = rest {
        rest = rest.get(13 + usize::from(*id) + usize::from(*auth)..).ok_or(Skip::CutShort)?;
    }
    if let [0, 0, ..] = rest {
        rest = rest.get(8..).ok_or(Skip::CutShort)?;
    }
    ipv6(rest, way)
}
