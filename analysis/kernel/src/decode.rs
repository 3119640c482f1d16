//! From a frame to its innermost packet: link layers, IP, tunnels, and the headers of TCP, UDP, SCTP and ICMP.
//!
//! Lengths are those of the IP header, never those of what was captured: frames are padded, and cut by a snaplen.

use crate::bytes::{u128, u16, u32, Order};
use crate::icmp::{icmp, Quote};
use crate::tunnels::{self, Settings};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
const DEPTH: u8 = 16; // of headers in headers: tags, labels, tunnels

/// Why a packet is in no connection. The order is that of `kernel.SKIPPED` in Python.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    NotIp,
    CutShort,
    Malformed,
    LinkType,
    OtherProtocol,
    Fragment,
    Record,
    Connections,
}

/// What carries an inner packet. The order is that of `kernel.TUNNELS` in Python.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    None,
    Vxlan,
    Geneve,
    Gre,
    Ipip,
    SixInFour,
    Gtp,
    Teredo,
}

#[derive(Clone, Copy, Default)]
pub struct Address {
    pub number: u128,
    pub is_v6: bool,
}

#[derive(Clone, Copy, Default)]
pub struct Tunnel {
    pub kind: Kind,
    pub id: u32, // VXLAN's and Geneve's network, GRE's key, GTP's endpoint
    pub src: Address,
    pub dst: Address,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Fragment {
    #[default]
    Whole,
    First,
    Later,
}

#[derive(Clone, Copy, Default)]
pub struct Packet<'a> {
    pub is_v6: bool,
    pub src: u128,
    pub dst: u128,
    pub proto: u8,
    pub src_port: u16, // ICMP: the type
    pub dst_port: u16, // ICMP: the type of the answer, or the code
    pub code: u16,     // ICMP's
    pub bytes: u32,    // by the IP header
    pub payload: u32,  // above the transport's header, by the IP header
    pub ip_id: u32,
    pub ttl: u8,
    pub fragment: Fragment,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub window_scale: Option<u8>,
    pub is_sound: bool, // its TCP header's own length can be
    pub mtu: u32,       // what an ICMP error says of it
    pub quote: Option<Quote>,
    pub vlan: Option<u16>,
    pub tunnel: Tunnel,
    pub ip: &'a [u8],   // what was captured of it, from the IP header on
    pub data: &'a [u8], // what was captured of the payload
}

/// A frame's parts between the link and the innermost packet.
#[derive(Clone, Copy)]
pub struct Way<'s> {
    pub settings: &'s Settings,
    pub lost: usize, // bytes that were on the wire and not captured
    pub vlan: Option<u16>,
    pub tunnel: Tunnel,
    pub depth: u8,
}

pub type Decoded<'a> = Result<Packet<'a>, Skip>;

/// Decode a frame of a link type of www.tcpdump.org/linktypes.html.
pub fn frame<'a>(link: u16, data: &'a [u8], wire: usize, settings: &Settings) -> Decoded<'a> {
    let way = Way { settings, lost: wire - data.len(), vlan: None, tunnel: Tunnel::default(), depth: 0 };
    match link {
        192 => per_packet(data, way),
        _ => linked(link, data, way),
    }
}

/// CACE's per-packet information: a header that says how long it is, and what follows.
fn per_packet<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    let size = Order::Little.u16(data, 2).ok_or(Skip::CutShort)?;
    let link = Order::Little.u32(data, 4).ok_or(Skip::CutShort)?;
    linked(link as u16, data.get(usize::from(size)..).ok_or(Skip::CutShort)?, way)
}

fn linked<'a>(link: u16, data: &'a [u8], way: Way) -> Decoded<'a> {
    match link {
        1 => ethernet(data, way),
        0 | 108 => match (data.first(), data.get(3)) {
            // BSD's address family, in the byte order of the machine that captured
            (Some(first), Some(last)) => match first | last {
                2 => ipv4(&data[4..], way),
                10 | 24 | 28 | 30 => ipv6(&data[4..], way),
                _ => Err(Skip::NotIp),
            },
            _ => Err(Skip::CutShort),
        },
        9 | 50 => ppp(data, way),
        51 => pppoe(data, way),
        12 | 14 | 101 => ip(data, way),
        104 => network(u16(data, 2), data, 4, way), // Cisco's HDLC
        113 => network(u16(data, 14), data, 16, way),
        228 => ipv4(data, way),
        229 => ipv6(data, way),
        242 => network(u16(data, 40), data, 44, way), // IP over InfiniBand, RFC 4391
        276 => network(u16(data, 0), data, 20, way),
        _ => Err(Skip::LinkType),
    }
}

pub fn ethernet<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    network(u16(data, 12), data, 14, way)
}

/// What follows an EtherType (www.iana.org/assignments/ieee-802-numbers).
pub fn network<'a>(ethertype: Option<u16>, data: &'a [u8], at: usize, mut way: Way) -> Decoded<'a> {
    let rest = data.get(at..).ok_or(Skip::CutShort)?;
    way.depth += 1;
    if way.depth > DEPTH {
        return Err(Skip::Malformed);
    }
    match ethertype.ok_or(Skip::CutShort)? {
        0x0800 => ipv4(rest, way),
        0x86dd => ipv6(rest, way),
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
            way.vlan = u16(rest, 0).map(|tag| tag & 0x0fff);
            network(u16(rest, 2), rest, 4, way)
        }
        0x8847 | 0x8848 => mpls(rest, way),
        0x8864 => pppoe(rest, way),
        0x880b => ppp(rest, way),
        length if length < 0x0600 => match rest.get(..8) {
            Some([0xaa, 0xaa, 3, 0, 0, 0, ..]) => network(u16(rest, 6), rest, 8, way), // IEEE 802.2 SNAP
            _ => Err(Skip::NotIp),
        },
        _ => Err(Skip::NotIp),
    }
}

/// Labels up to the one that says it is the last (RFC 3032); what follows has no name: its first bits tell.
pub fn mpls<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    let mut at = 0;
    while data.get(at + 2).ok_or(Skip::CutShort)? & 1 == 0 {
        at += 4;
    }
    let rest = data.get(at + 4..).ok_or(Skip::CutShort)?;
    match rest.first().ok_or(Skip::CutShort)? >> 4 {
        4 => ipv4(rest, way),
        6 => ipv6(rest, way),
        0 => ethernet(rest.get(4..).ok_or(Skip::CutShort)?, way), // a control word, RFC 4385
        _ => Err(Skip::NotIp),
    }
}

/// A session's data, RFC 2516.
fn pppoe<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    ppp(data.get(6..).ok_or(Skip::CutShort)?, way)
}

/// RFC 1661: the protocol's number may be compressed to a byte, and address and control may be left away.
pub fn ppp<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    let data = if data.starts_with(&[0xff, 3]) { &data[2..] } else { data };
    match data {
        [0x21, rest @ ..] | [0, 0x21, rest @ ..] => ipv4(rest, way),
        [0x57, rest @ ..] | [0, 0x57, rest @ ..] => ipv6(rest, way),
        [] => Err(Skip::CutShort),
        _ => Err(Skip::NotIp),
    }
}

pub fn ip<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    match data.first().ok_or(Skip::CutShort)? >> 4 {
        4 => ipv4(data, way),
        6 => ipv6(data, way),
        _ => Err(Skip::NotIp),
    }
}

pub fn ipv4<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    let first = *data.first().ok_or(Skip::CutShort)?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < 20 {
        return Err(Skip::Malformed);
    }
    let fixed = data.get(..20).ok_or(Skip::CutShort)?;
    let length = match u16(fixed, 2).unwrap_or(0) {
        0 => data.len() + way.lost, // longer than the field can say: the network card cuts it into segments
        length => usize::from(length),
    };
    if length < header {
        return Err(Skip::Malformed);
    }
    let fragment = u16(fixed, 6).unwrap_or(0);
    let packet = Packet {
        src: u128::from(u32(fixed, 12).unwrap_or(0)),
        dst: u128::from(u32(fixed, 16).unwrap_or(0)),
        proto: fixed[9],
        ttl: fixed[8],
        ip_id: u32::from(u16(fixed, 4).unwrap_or(0)),
        fragment: kind_of_fragment(fragment & 0x1fff, fragment & 0x2000 != 0),
        bytes: length as u32,
        ip: &data[..length.min(data.len())],
        ..Packet::default()
    };
    transport(packet, header, length - header, way)
}

pub fn ipv6<'a>(data: &'a [u8], way: Way) -> Decoded<'a> {
    if data.first().ok_or(Skip::CutShort)? >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let fixed = data.get(..40).ok_or(Skip::CutShort)?;
    let length = match u16(fixed, 4).unwrap_or(0) {
        0 => data.len() + way.lost,
        length => usize::from(length) + 40,
    };
    let mut packet = Packet {
        is_v6: true,
        src: u128(fixed, 8).unwrap_or(0),
        dst: u128(fixed, 24).unwrap_or(0),
        proto: fixed[6],
        ttl: fixed[7],
        bytes: length as u32,
        ip: &data[..length.min(data.len())],
        ..Packet::default()
    };
    let mut at = 40;
    while let 0 | 43 | 44 | 60 | 135 = packet.proto {
        // extension headers, RFC 8200
        let extension = packet.ip.get(at..at + 8).ok_or(Skip::CutShort)?;
        if packet.proto == 44 {
            let offset = u16(extension, 2).unwrap_or(0);
            packet.fragment = kind_of_fragment(offset >> 3, offset & 1 != 0);
            packet.ip_id = u32(extension, 4).unwrap_or(0);
            at += 8;
        } else {
            at += 8 + usize::from(extension[1]) * 8;
        }
        packet.proto = extension[0];
        if packet.fragment == Fragment::Later {
            break;
        }
    }
    let left = length.checked_sub(at).ok_or(Skip::Malformed)?;
    transport(packet, at, left, way)
}

fn kind_of_fragment(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Read the header at `at` of an IP packet, which has `length` bytes of the packet from there on.
fn transport<'a>(mut packet: Packet<'a>, at: usize, length: usize, way: Way) -> Decoded<'a> {
    packet.vlan = way.vlan;
    packet.tunnel = way.tunnel;
    if packet.fragment == Fragment::Later {
        packet.payload = length as u32;
        return Ok(packet);
    }
    let body = packet.ip.get(at..).ok_or(Skip::CutShort)?;
    if way.depth < DEPTH {
        if let Some(inner) = tunnels::inner(&packet, body, way) {
            return inner;
        }
    }
    match packet.proto {
        TCP => tcp(packet, body, length),
        UDP => udp(packet, body, length),
        SCTP => {
            packet.src_port = u16(body, 0).ok_or(Skip::CutShort)?;
            packet.dst_port = u16(body, 2).ok_or(Skip::CutShort)?;
            packet.payload = length.saturating_sub(12) as u32;
            Ok(packet)
        }
        ICMP if !packet.is_v6 => icmp(packet, body, length),
        ICMPV6 if packet.is_v6 => icmp(packet, body, length),
        51 if way.depth < DEPTH => {
            // an authentication header, RFC 4302
            let header = body.get(..2).ok_or(Skip::CutShort)?;
            let size = (usize::from(header[1]) + 2) * 4;
            packet.proto = header[0];
            let left = length.checked_sub(size).ok_or(Skip::Malformed)?;
            let inner = transport(packet, at + size, left, Way { depth: way.depth + 1, ..way })?;
            Ok(Packet { data: &[], ..inner }) // counted, not dissected
        }
        _ => Err(Skip::OtherProtocol),
    }
}

fn tcp<'a>(mut packet: Packet<'a>, body: &'a [u8], length: usize) -> Decoded<'a> {
    let fixed = body.get(..20).ok_or(if length < 20 { Skip::Malformed } else { Skip::CutShort })?;
    packet.src_port = u16(fixed, 0).unwrap_or(0);
    packet.dst_port = u16(fixed, 2).unwrap_or(0);
    packet.seq = u32(fixed, 4).unwrap_or(0);
    packet.ack = u32(fixed, 8).unwrap_or(0);
    packet.flags = fixed[13];
    packet.window = u16(fixed, 14).unwrap_or(0);
    let header = usize::from(fixed[12] >> 4) * 4;
    packet.is_sound = (20..=length).contains(&header);
    if packet.is_sound {
        packet.payload = (length - header) as u32;
        packet.data = body.get(header..).unwrap_or(&[]);
        packet.window_scale = window_scale(&body[20..header.min(body.len())]);
    }
    Ok(packet)
}

/// RFC 7323: a shift of at most 14.
fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        options = match options {
            [3, 3, shift, ..] => return Some((*shift).min(14)),
            [1, rest @ ..] => rest,
            [0, ..] | [] | [_] => return None,
            [_, length, ..] => options.get(usize::from(*length).max(2)..)?,
        }
    }
}

fn udp<'a>(mut packet: Packet<'a>, body: &'a [u8], length: usize) -> Decoded<'a> {
    let fixed = body.get(..8).ok_or(if length < 8 { Skip::Malformed } else { Skip::CutShort })?;
    packet.src_port = u16(fixed, 0).unwrap_or(0);
    packet.dst_port = u16(fixed, 2).unwrap_or(0);
    let said = usize::from(u16(fixed, 4).unwrap_or(0));
    let whole = packet.fragment == Fragment::Whole && (8..=length).contains(&said);
    let size = if whole { said } else { length };
    packet.payload = (size - 8) as u32;
    packet.data = &body[8..size.min(body.len())];
    Ok(packet)
}
