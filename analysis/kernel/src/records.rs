//! Records of capture files: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).
//!
//! A file's bytes come in blocks; a record that is not there as a whole waits for the next block. Lengths in the file
//! are compared with what is there before they are used.

use crate::bytes::Order;

const LARGEST_PACKET: usize = 262_144; // libpcap's MAXIMUM_SNAPLEN, Wireshark's WTAP_MAX_PACKET_SIZE_STANDARD
const LARGEST_BLOCK: usize = 16 << 20; // Wireshark's limit of a pcapng block
const MOST_INTERFACES: usize = 1 << 16; // of a section; a real file has a few
const NANOSECONDS: i128 = 1_000_000_000;
const LATEST: i128 = 1 << 62; // the year 2116

/// One packet as it was captured: `data` may be shorter than it was on the wire.
pub struct Record<'a> {
    pub time: i64, // ns since the epoch
    pub link: u16, // LINKTYPE_, www.tcpdump.org/linktypes.html
    pub wire: usize,
    pub data: &'a [u8],
}

pub enum Step<'a> {
    Packet(Record<'a>),
    /// Wireshark numbers it as a frame, and it is no packet: a journal entry, a system call.
    Event,
    /// A block that describes something else.
    Other,
    /// A packet of which the record cannot be understood.
    Damaged,
    /// The record is not there as a whole.
    More,
    /// Nothing after this can be read.
    Lost(&'static str),
}

#[derive(Clone, Copy)]
struct Interface {
    link: u16,
    snaplen: usize,
    resolution: u8, // if_tsresol: 10^-n, or 2^-n where the highest bit is set
    offset: i64,    // if_tsoffset, seconds
}

/// What a pcap file's header says of its records.
#[derive(Clone, Copy)]
struct Pcap {
    order: Order,
    scale: i64, // nanoseconds of a fraction's unit
    header: usize,
    link: u16,
    minor: u16, // of version 2: before 2.4, a packet's two lengths were written in another order
}

enum Format {
    Unknown,
    Pcap(Pcap),
    Pcapng { order: Order, interfaces: Vec<Interface> },
}

pub struct Reader {
    format: Format,
    time: i64, // of the last packet: simple packet blocks have none
    pub link: Option<u16>,
}

impl Reader {
    pub fn new() -> Reader {
        Reader { format: Format::Unknown, time: 0, link: None }
    }

    /// Take one record from the front of `data`: how many bytes it has, and what it is.
    pub fn next<'a>(&mut self, data: &'a [u8]) -> (usize, Step<'a>) {
        let step = match self.format {
            Format::Unknown => self.begin(data),
            Format::Pcap(pcap) => pcap.record(data),
            Format::Pcapng { .. } => self.block(data),
        };
        let (used, step) = step.unwrap_or((0, Step::More));
        if let Step::Packet(record) = &step {
            self.time = record.time;
            self.link.get_or_insert(record.link);
        }
        (used, step)
    }

    fn begin<'a>(&mut self, data: &'a [u8]) -> Option<(usize, Step<'a>)> {
        let (order, scale, header) = match data.get(..4)? {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1000, 16),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1000, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1, 16),
            [0x34, 0xcd, 0xb2, 0xa1] => (Order::Little, 1000, 24), // Kuznetsov's "modified" pcap
            [0xa1, 0xb2, 0xcd, 0x34] => (Order::Big, 1000, 24),
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                self.format = Format::Pcapng { order: Order::Little, interfaces: Vec::new() };
                return Some((0, Step::Other));
            }
            _ => return Some((0, Step::Lost("it is neither pcap nor pcapng"))),
        };
        let link = order.u32(data, 20)? as u16; // the upper half holds other things, as the length of a checksum
        let minor = order.u16(data, 6)?;
        self.format = Format::Pcap(Pcap { order, scale, header, link, minor });
        self.link = Some(link);
        Some((24, Step::Other))
    }

    fn block<'a>(&mut self, data: &'a [u8]) -> Option<(usize, Step<'a>)> {
        let (order, interfaces) = match &mut self.format {
            Format::Pcapng { order, interfaces } => (order, interfaces),
            _ => return None,
        };
        if data.get(..4)? == [0x0a, 0x0d, 0x0d, 0x0a] {
            *order = match data.get(8..12)? {
                [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
                [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
                _ => return Some((0, Step::Lost("a section of it has no byte-order magic"))),
            };
            interfaces.clear();
        }
        let (kind, length) = (order.u32(data, 0)?, order.u32(data, 4)? as usize);
        if !(12..=LARGEST_BLOCK).contains(&length) || length % 4 != 0 {
            return Some((0, Step::Lost("a block of it has a length that cannot be")));
        }
        let block = data.get(..length)?;
        if order.u32(block, length - 4)? as usize != length {
            return Some((0, Step::Lost("the two lengths of a block of it differ")));
        }
        let body = &block[8..length - 4];
        let step = match kind {
            1 if interfaces.len() < MOST_INTERFACES => interface(body, *order).map(|found| {
                interfaces.push(found);
                Step::Other
            }),
            2 => packet(body, *order, interfaces, order.u16(body, 0).map(usize::from)),
            6 => packet(body, *order, interfaces, order.u32(body, 0).map(|number| number as usize)),
            3 => simple_packet(body, *order, interfaces, self.time),
            // systemd's journal, custom blocks, sysdig's events
            9 | 0xbad | 0x4000_0bad | 0x204..=0x208 | 0x210..=0x223 => Some(Step::Event),
            _ => Some(Step::Other),
        };
        Some((length, step.unwrap_or(Step::Damaged)))
    }
}

impl Pcap {
    fn record<'a>(&self, data: &'a [u8]) -> Option<(usize, Step<'a>)> {
        let order = self.order;
        let (seconds, fraction) = (order.u32(data, 0)?, order.u32(data, 4)?);
        let (mut captured, mut wire) = (order.u32(data, 8)? as usize, order.u32(data, 12)? as usize);
        if self.minor < 3 || (self.minor == 3 && captured > wire) {
            std::mem::swap(&mut captured, &mut wire);
        }
        if captured > LARGEST_PACKET {
            return Some((0, Step::Lost("a packet of it has a length that cannot be")));
        }
        let packet = data.get(self.header..self.header + captured)?;
        let time = i64::from(seconds) * NANOSECONDS as i64 + i64::from(fraction) * self.scale;
        let record = Record { time, link: self.link, wire: wire.max(captured), data: packet };
        Some((self.header + captured, Step::Packet(record)))
    }
}

fn interface(body: &[u8], order: Order) -> Option<Interface> {
    let (link, snaplen) = (order.u16(body, 0)?, order.u32(body, 4)? as usize);
    let mut found = Interface { link, snaplen, resolution: 6, offset: 0 };
    let mut at = 8;
    while let (Some(code), Some(length)) = (order.u16(body, at), order.u16(body, at + 2)) {
        let length = usize::from(length);
        let value = match body.get(at + 4..at + 4 + length) {
            Some(value) => value,
            None => break,
        };
        match (code, value) {
            (0, _) => break,
            (9, [resolution]) => found.resolution = *resolution,
            (14, value) if length == 8 => {
                let halves = (order.u32(value, 0)?, order.u32(value, 4)?);
                let (low, high) = if order == Order::Little { halves } else { (halves.1, halves.0) };
                found.offset = (u64::from(high) << 32 | u64::from(low)) as i64;
            }
            _ => {}
        }
        at += 4 + ((length + 3) & !3);
    }
    Some(found)
}

/// An enhanced packet block, or an obsolete packet block: their first four bytes differ, and name the interface.
fn packet<'a>(body: &'a [u8], order: Order, interfaces: &[Interface], number: Option<usize>) -> Option<Step<'a>> {
    let interface = interfaces.get(number?)?;
    let ticks = u64::from(order.u32(body, 4)?) << 32 | u64::from(order.u32(body, 8)?);
    let (captured, wire) = (order.u32(body, 12)? as usize, order.u32(body, 16)? as usize);
    if captured > LARGEST_PACKET {
        return None;
    }
    let data = body.get(20..20 + captured)?;
    let time = nanoseconds(ticks, interface.resolution, interface.offset)?;
    Some(Step::Packet(Record { time, link: interface.link, wire: wire.max(captured), data }))
}

fn simple_packet<'a>(body: &'a [u8], order: Order, interfaces: &[Interface], time: i64) -> Option<Step<'a>> {
    let (interface, wire) = (interfaces.first()?, order.u32(body, 0)? as usize);
    let limit = if interface.snaplen > 0 { interface.snaplen } else { LARGEST_PACKET };
    let data = body.get(4..4 + wire.min(limit))?;
    Some(Step::Packet(Record { time, link: interface.link, wire, data }))
}

/// A time in an interface's units since the epoch, in nanoseconds; none that differences of 64 bits could not hold.
fn nanoseconds(ticks: u64, resolution: u8, offset: i64) -> Option<i64> {
    let (ticks, exponent) = (i128::from(ticks), u32::from(resolution & 0x7f));
    let time = match (resolution & 0x80 != 0, exponent) {
        (false, 0..=9) => ticks * 10_i128.pow(9 - exponent),
        (false, 10..=28) => ticks / 10_i128.pow(exponent - 9),
        (true, 0..=63) => (ticks * NANOSECONDS) >> exponent,
        _ => 0, // finer than any 64 bits reach
    };
    let time = time + i128::from(offset) * NANOSECONDS;
    (0..LATEST).contains(&time).then_some(time as i64)
}
