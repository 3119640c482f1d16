//! The pass: records in, one after the other, each into its connection; counts, selected packets and columns out.

use crate::columns::{self, bytes, column, Column};
use crate::connections::{Connections, Placed, Seen};
use crate::decode::{self, Packet, Skip};
use crate::key::Key;
use crate::records::{Reader, Record, Step};
use crate::select::Selected;
use crate::tunnels::Settings;

const SKIPS: usize = 8;
const MOST_BYTES: usize = 128 << 20; // of selected packets
const HASHED: usize = 48; // bytes of a payload that tell packets apart

pub enum Wanted {
    Totals,
    Connections,
    Selected,
    Packets,
}

/// What is counted of a file; of a capture, over all its files.
struct Totals {
    frames: u64,
    packets: u64,
    bytes: u64,
    first: i64,
    last: i64,
    is_cut: bool,
    lost: &'static str,
}

impl Totals {
    fn none() -> Totals {
        Totals { frames: 0, packets: 0, bytes: 0, first: i64::MAX, last: i64::MIN, is_cut: false, lost: "" }
    }
}

pub struct Pass {
    reader: Reader,
    settings: Settings,
    connections: Connections,
    frame: i64, // of the capture
    file: Totals,
    skipped: [u64; SKIPS],
    follow: Vec<Key>,
    selected: Selected,
    selectable: u64,
    limit: u64, // of selected packets
    taken: u64,
    taken_bytes: usize,
    packets: Option<Packets>,
}

impl Pass {
    pub fn new(vxlan_ports: Vec<u16>, limit: u64, packets: bool) -> Pass {
        Pass {
            reader: Reader::new(),
            settings: Settings { vxlan_ports },
            connections: Connections::default(),
            frame: 0,
            file: Totals::none(),
            skipped: [0; SKIPS],
            follow: Vec::new(),
            selected: Selected::default(),
            selectable: 0,
            limit,
            taken: 0,
            taken_bytes: 0,
            packets: packets.then(Packets::default),
        }
    }

    pub fn follow(&mut self, key: Key) {
        self.follow.push(key);
    }

    /// A new file of the same capture.
    pub fn begin(&mut self) {
        self.reader = Reader::new();
        self.file = Totals::none();
    }

    pub fn feed(&mut self, data: &[u8], is_last: bool) -> usize {
        let mut at = 0;
        while self.file.lost.is_empty() {
            let (used, step) = self.reader.next(&data[at..]);
            at += used;
            match step {
                Step::Packet(record) => self.packet(&record),
                Step::Event => self.number(),
                Step::Other => {}
                Step::Damaged => {
                    self.number();
                    self.file.packets += 1;
                    self.skipped[Skip::Record as usize] += 1;
                }
                Step::Lost(why) => self.file.lost = why,
                Step::More => {
                    self.file.is_cut = is_last && at < data.len();
                    return at;
                }
            }
        }
        data.len() // the rest says nothing
    }

    fn number(&mut self) {
        self.frame += 1;
        self.file.frames += 1;
    }

    fn packet(&mut self, record: &Record) {
        self.number();
        let seen = Seen { frame: self.frame, time: record.time };
        self.file.packets += 1;
        self.file.bytes += record.wire as u64;
        self.file.first = self.file.first.min(record.time);
        self.file.last = self.file.last.max(record.time);
        let decoded = decode::frame(record.link, record.data, record.wire, &self.settings);
        let placed = decoded.and_then(|packet| Ok((self.connections.add(&packet, seen)?, packet)));
        match placed {
            Ok((placed, packet)) => self.select(&packet, seen, placed),
            Err(reason) => self.skipped[reason as usize] += 1,
        }
    }

    fn select(&mut self, packet: &Packet, seen: Seen, placed: Placed) {
        let connection = &mut self.connections.all[placed.connection];
        let application = connection.selection.wants(packet, placed.side);
        let is_followed = self.follow.contains(&connection.key);
        let is_orig = placed.side == connection.originator;
        if is_followed || (application != 0 && self.follow.is_empty()) {
            self.selectable += 1;
            if self.taken < self.limit && self.taken_bytes < MOST_BYTES {
                self.taken += 1;
                self.taken_bytes += packet.ip.len();
                self.selected.take(packet, seen, placed.connection, application, is_orig);
            }
        }
        if let Some(packets) = &mut self.packets {
            packets.add(packet, seen, placed, is_orig);
        }
    }

    pub fn columns(&mut self, wanted: Wanted) -> Vec<Column> {
        match wanted {
            Wanted::Totals => self.totals(),
            Wanted::Connections => columns::connections(&std::mem::take(&mut self.connections).all),
            Wanted::Selected => columns::selected(std::mem::take(&mut self.selected)),
            Wanted::Packets => self.packets.replace(Packets::default()).unwrap_or_default().columns(),
        }
    }

    /// Of the file: frames, packets, bytes, first, last, whether it is cut; of the capture: the rest.
    fn totals(&self) -> Vec<Column> {
        let f = &self.file;
        let link = self.reader.link.map_or(-1, i64::from);
        let counts = [f.frames as i64, f.packets as i64, f.bytes as i64, f.first, f.last, f.is_cut.into(), link];
        vec![
            column("file", counts.into_iter()),
            bytes("lost", "u1", f.lost.as_bytes().to_vec()),
            column("skipped", self.skipped.iter().copied()),
            column("selectable", [self.selectable].into_iter()),
        ]
    }
}

/// Columns of packets, for whoever compares captures packet by packet.
#[derive(Default)]
struct Packets {
    rows: Vec<Row>,
}

struct Row {
    seen: Seen,
    connection: u32,
    is_orig: bool,
    kinds: u16,
    ip_id: u32,
    ttl: u8,
    bytes: u32,
    payload: u32,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    payload_hash: u64,
}

impl Packets {
    fn add(&mut self, packet: &Packet, seen: Seen, placed: Placed, is_orig: bool) {
        self.rows.push(Row {
            seen,
            connection: placed.connection as u32,
            is_orig,
            kinds: placed.kinds,
            ip_id: packet.ip_id,
            ttl: packet.ttl,
            bytes: packet.bytes,
            payload: packet.payload,
            flags: packet.flags,
            seq: packet.seq,
            ack: packet.ack,
            window: packet.window,
            payload_hash: fnv(&packet.data[..packet.data.len().min(HASHED)]),
        });
    }

    fn columns(self) -> Vec<Column> {
        let rows = &self.rows;
        vec![
            column("time", rows.iter().map(|row| row.seen.time)),
            column("frame", rows.iter().map(|row| row.seen.frame)),
            column("connection", rows.iter().map(|row| row.connection)),
            column("is_orig", rows.iter().map(|row| u8::from(row.is_orig))),
            column("bytes", rows.iter().map(|row| row.bytes)),
            column("payload_bytes", rows.iter().map(|row| row.payload)),
            column("ip_id", rows.iter().map(|row| row.ip_id)),
            column("ttl", rows.iter().map(|row| row.ttl)),
            column("flags", rows.iter().map(|row| row.flags)),
            column("seq", rows.iter().map(|row| row.seq)),
            column("ack", rows.iter().map(|row| row.ack)),
            column("window", rows.iter().map(|row| row.window)),
            column("analysis", rows.iter().map(|row| row.kinds & 0x1ff)),
            column("payload_hash", rows.iter().map(|row| row.payload_hash)),
        ]
    }
}

/// FNV-1a, 64 bits: the same in every capture; 0 where there is no payload.
fn fnv(data: &[u8]) -> u64 {
    if data.is_empty() {
        return 0;
    }
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
