//! Which packets are worth dissecting: DNS by its port, TLS and HTTP by their first bytes. They become a small pcap of
//! bare IP packets, so that whoever dissects them meets neither tunnels nor link layers.

use crate::connections::Seen;
use crate::decode::{Packet, TCP, UDP};

pub const DNS: u8 = 1;
pub const TLS: u8 = 2;
pub const HTTP1: u8 = 3;
pub const HTTP2: u8 = 4;

const TLS_BYTES: u32 = 16 << 10; // of each direction: a handshake with its certificates
const TLS_DATA: u8 = 4; // segments of each direction that begin with encrypted data
const HEAD_BYTES: u32 = 16 << 10; // of an HTTP/1 head that goes on in further segments
const HTTP2_BYTES: u32 = 256 << 10; // of each direction
const METHODS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ", b"HTTP/1."];
const PREFACE: &[u8] = b"PRI * HTTP/2.0"; // RFC 9113

/// What was taken of one connection.
#[derive(Default)]
pub struct Selection {
    pub application: u8, // 0 until it is known
    taken: [u32; 2],
    encrypted: [u8; 2],
    is_head_open: [bool; 2],
}

impl Selection {
    /// Say for which application a packet is worth dissecting; 0 for none.
    pub fn wants(&mut self, packet: &Packet, side: usize) -> u8 {
        let data = packet.data;
        if data.is_empty() {
            return 0;
        }
        if is_dns(packet) {
            self.application = DNS;
            return DNS;
        }
        if packet.proto != TCP {
            return 0;
        }
        if self.application == 0 {
            self.application = sniff(data);
        }
        let is_wanted = match self.application {
            TLS => self.wants_tls(data, side),
            HTTP1 => self.wants_head(data, side),
            HTTP2 => self.taken[side] < HTTP2_BYTES,
            _ => false,
        };
        if !is_wanted {
            return 0;
        }
        self.taken[side] = self.taken[side].saturating_add(data.len() as u32);
        self.application
    }

    fn wants_tls(&mut self, data: &[u8], side: usize) -> bool {
        if data[0] == 23 {
            self.encrypted[side] = self.encrypted[side].saturating_add(1);
        }
        let is_alert = matches!(data, [21, 3, ..]);
        is_alert || (self.taken[side] < TLS_BYTES && self.encrypted[side] <= TLS_DATA)
    }

    fn wants_head(&mut self, data: &[u8], side: usize) -> bool {
        let begins = METHODS.iter().any(|word| data.starts_with(word));
        if begins {
            self.taken[side] = 0;
        }
        let is_head = begins || (self.is_head_open[side] && self.taken[side] < HEAD_BYTES);
        if is_head {
            self.is_head_open[side] = !data.windows(4).any(|four| four == b"\r\n\r\n");
        }
        if data.starts_with(PREFACE) {
            self.application = HTTP2; // an upgrade
        }
        is_head
    }
}

fn is_dns(packet: &Packet) -> bool {
    let is_multicast = if packet.is_v6 { packet.dst >> 120 == 0xff } else { packet.dst >> 28 == 0xe };
    let (src, dst) = (packet.src_port, packet.dst_port);
    let is_port = src == 53 || dst == 53 || ((src == 5353 || dst == 5353) && !is_multicast);
    is_port && matches!(packet.proto, TCP | UDP)
}

fn sniff(data: &[u8]) -> u8 {
    match data {
        [22, 3, 0..=4, _, _, 1 | 2, ..] => TLS, // a handshake record that holds a hello
        _ if data.starts_with(PREFACE) => HTTP2,
        _ if METHODS.iter().any(|word| data.starts_with(word)) => HTTP1,
        _ => 0,
    }
}

/// The packets that were selected, as records of a pcap file (little-endian, nanoseconds), and what they are.
#[derive(Default)]
pub struct Selected {
    pub records: Vec<u8>,
    pub frames: Vec<i64>,
    pub connections: Vec<u32>,
    pub applications: Vec<u8>,
    pub is_orig: Vec<u8>,
}

impl Selected {
    pub fn take(&mut self, packet: &Packet, seen: Seen, connection: usize, application: u8, is_orig: bool) {
        let captured = packet.ip.len() as u32;
        let (seconds, fraction) = (seen.time.div_euclid(1_000_000_000), seen.time.rem_euclid(1_000_000_000));
        for number in [seconds as u32, fraction as u32, captured, packet.bytes.max(captured)] {
            self.records.extend_from_slice(&number.to_le_bytes());
        }
        self.records.extend_from_slice(packet.ip);
        self.frames.push(seen.frame);
        self.connections.push(connection as u32);
        self.applications.push(application);
        self.is_orig.push(u8::from(is_orig));
    }
}
