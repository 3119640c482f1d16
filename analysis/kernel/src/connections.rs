//! Which connection a packet belongs to, and what is known of each connection: the facts, without a judgement.

use std::collections::HashMap;

use crate::decode::{Fragment, Packet, Skip, Tunnel, ICMP, ICMPV6, TCP};
use crate::icmp::Quote;
use crate::key::{Key, Seed};
use crate::select::Selection;
use crate::states::End;
use crate::tcp::{self, Direction, Segment, ACK, FIN, RST, SYN};

const EPHEMERAL: u16 = 32768; // where Linux's client ports begin (net.ipv4.ip_local_port_range)
const MOST: usize = 1_000_000; // connections of a capture: a gigabyte
const FRAGMENTS: usize = 1024; // datagrams whose later fragments are waited for
pub const SYN_TIMES: usize = 7; // of SYNs sent again, in the table
const LETTERS: usize = 24; // of a history: twelve for each end

/// A frame, and when it was seen; frame 0 is none.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    pub frame: i64,
    pub time: i64,
}

impl Seen {
    pub fn is(&self) -> bool {
        self.frame > 0
    }

    fn first(&mut self, other: Seen) {
        if !self.is() {
            *self = other;
        }
    }
}

/// What one end sent: bytes by the IP headers.
#[derive(Default, Clone, Copy)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
    pub payload: u64,
}

/// What only TCP has.
#[derive(Default)]
pub struct Tcp {
    pub sides: [Direction; 2],
    pub data: [Seen; 2],
    pub fin: [bool; 2],
    pub ends: [End; 2],
    pub syn: Seen,
    pub last_syn: Seen,
    pub syns: u32,
    pub syns_before_answer: u32,
    pub syn_times: [u32; SYN_TIMES], // microseconds after the first
    pub isn: Option<u32>,
    pub answer: Seen,
    pub last_answer: Seen,
    pub answers: u32,
    pub answer_isn: Option<u32>,
    pub answered: Seen, // the originator's first ACK of the answer
    pub reset: Seen,
    pub reset_side: usize,
    pub retransmission: Seen,
    pub zero_window: Seen,
    pub window_full: Seen,
    latest_syn: i64,
    first_rtt: i64,
}

pub struct Connection {
    pub key: Key,
    pub originator: usize, // its side: 0 is the low end
    pub first_sender: usize,
    pub first: Seen,
    pub last: i64,
    pub sent: [Sent; 2],
    pub history: [u8; LETTERS],
    pub fragments: u32,
    pub vlan: Option<u16>,
    pub tunnel: Tunnel,
    pub unreachable: Seen,
    pub unreachable_code: u16,
    pub too_big: u32,
    pub first_too_big: Seen,
    pub mtu: u32,
    pub selection: Selection,
    pub tcp: Option<Box<Tcp>>,
}

/// Where the later fragments of a datagram belong.
#[derive(Clone, Copy, Default)]
struct Datagram {
    ends: (u128, u128),
    id: u32,
    proto: u8,
    connection: Option<u32>,
}

#[derive(Default)]
pub struct Connections {
    pub all: Vec<Connection>,
    latest: HashMap<Key, u32, Seed>,
    datagrams: Vec<Datagram>,
}

/// What became of a packet: its connection, the side that sent it, and what TCP analysis says of it.
#[derive(Clone, Copy)]
pub struct Placed {
    pub connection: usize,
    pub side: usize,
    pub kinds: u16,
}

impl Connections {
    pub fn add(&mut self, packet: &Packet, seen: Seen) -> Result<Placed, Skip> {
        if packet.fragment == Fragment::Later {
            return self.add_fragment(packet, seen);
        }
        let (src, dst) = ((packet.src, packet.src_port), (packet.dst, packet.dst_port));
        let (key, side) = Key::of(src, dst, packet.proto, packet.is_v6);
        let index = self.place(key, side, packet, seen).ok_or(Skip::Connections)?;
        if packet.fragment == Fragment::First {
            self.expect_fragments(packet, index);
            self.all[index].fragments += 1;
        }
        if let Some(quote) = &packet.quote {
            self.blame(quote, packet, seen);
        }
        let kinds = self.all[index].count(side, packet, seen);
        Ok(Placed { connection: index, side, kinds })
    }

    /// The connection of these ends; a SYN with another initial sequence number begins a new one.
    fn place(&mut self, key: Key, side: usize, packet: &Packet, seen: Seen) -> Option<usize> {
        if let Some(index) = self.latest.get(&key) {
            let index = *index as usize;
            if !self.all[index].is_reopened_by(side, packet) {
                return Some(index);
            }
        }
        let next = self.all.len();
        if next >= MOST {
            return None;
        }
        self.latest.insert(key, next as u32);
        self.all.push(Connection::new(key, side, packet, seen));
        Some(next)
    }

    fn slot(&mut self, packet: &Packet) -> &mut Datagram {
        if self.datagrams.is_empty() {
            self.datagrams = vec![Datagram::default(); FRAGMENTS];
        }
        let mixed = (packet.src ^ packet.dst.rotate_left(7)) as usize ^ packet.ip_id as usize;
        &mut self.datagrams[mixed % FRAGMENTS]
    }

    fn expect_fragments(&mut self, packet: &Packet, index: usize) {
        *self.slot(packet) = Datagram {
            ends: (packet.src, packet.dst),
            id: packet.ip_id,
            proto: packet.proto,
            connection: Some(index as u32),
        };
    }

    fn add_fragment(&mut self, packet: &Packet, seen: Seen) -> Result<Placed, Skip> {
        let slot = *self.slot(packet);
        let is_its = slot.ends == (packet.src, packet.dst) && slot.id == packet.ip_id && slot.proto == packet.proto;
        let index = slot.connection.filter(|_| is_its).ok_or(Skip::Fragment)? as usize;
        let connection = &mut self.all[index];
        let side = usize::from(connection.key.low != packet.src);
        connection.fragments += 1;
        connection.last = connection.last.max(seen.time);
        connection.sent[side].add(packet);
        Ok(Placed { connection: index, side, kinds: 0 })
    }

    /// An ICMP error: note it at the connection that it is about; of TCP, only where it answers the SYN.
    fn blame(&mut self, quote: &Quote, packet: &Packet, seen: Seen) {
        let (src, dst) = ((quote.src, quote.src_port), (quote.dst, quote.dst_port));
        let (key, side) = Key::of(src, dst, quote.proto, packet.is_v6);
        let connection = match self.latest.get(&key) {
            Some(index) => &mut self.all[*index as usize],
            None => return,
        };
        if packet.is_too_big() {
            connection.too_big += 1;
            connection.first_too_big.first(seen);
            if packet.mtu > 0 && (connection.mtu == 0 || packet.mtu < connection.mtu) {
                connection.mtu = packet.mtu;
            }
        } else if packet.is_unreachable() && connection.was_begun_by(side, quote.seq) && !connection.unreachable.is() {
            connection.unreachable = seen;
            connection.unreachable_code = packet.code;
        }
    }
}

fn is_answer(packet: &Packet) -> bool {
    match packet.proto {
        ICMP | ICMPV6 => packet.is_icmp_answer(),
        TCP if packet.flags & SYN != 0 => packet.flags & ACK != 0,
        _ => packet.src_port < EPHEMERAL && packet.dst_port >= EPHEMERAL,
    }
}

impl Sent {
    fn add(&mut self, packet: &Packet) {
        self.packets += 1;
        self.bytes += u64::from(packet.bytes);
        self.payload += u64::from(packet.payload);
    }
}

impl Connection {
    fn new(key: Key, side: usize, packet: &Packet, seen: Seen) -> Connection {
        Connection {
            key,
            originator: if is_answer(packet) { 1 - side } else { side },
            first_sender: side,
            first: seen,
            last: seen.time,
            sent: [Sent::default(); 2],
            history: [0; LETTERS],
            fragments: 0,
            vlan: packet.vlan,
            tunnel: packet.tunnel,
            unreachable: Seen::default(),
            unreachable_code: 0,
            too_big: 0,
            first_too_big: Seen::default(),
            mtu: 0,
            selection: Selection::default(),
            tcp: (packet.proto == TCP).then(Box::default),
        }
    }

    fn is_reopened_by(&self, side: usize, packet: &Packet) -> bool {
        let base = self.tcp.as_ref().and_then(|tcp| tcp.sides[side].base);
        packet.flags & (SYN | ACK) == SYN && base.map_or(false, |base| base != packet.seq)
    }

    fn was_begun_by(&self, side: usize, seq: u32) -> bool {
        match &self.tcp {
            Some(tcp) => self.originator == side && tcp.isn == Some(seq) && !tcp.answer.is(),
            None => self.originator == side,
        }
    }

    fn count(&mut self, side: usize, packet: &Packet, seen: Seen) -> u16 {
        self.sent[side].add(packet);
        self.last = self.last.max(seen.time);
        if self.tcp.is_none() {
            if packet.payload > 0 {
                self.write(b'D', side);
            }
            return 0;
        }
        let kinds = self.analyse(side, packet, seen);
        self.handshake(side, packet, seen);
        self.tell(side, packet, kinds);
        kinds
    }

    fn analyse(&mut self, side: usize, packet: &Packet, seen: Seen) -> u16 {
        let tcp = match &mut self.tcp {
            Some(tcp) => tcp,
            None => return 0,
        };
        let segment = Segment {
            time: seen.time,
            frame: seen.frame,
            seq: packet.seq,
            ack: packet.ack,
            payload: packet.payload,
            flags: packet.flags,
            window: packet.window,
            window_scale: packet.window_scale,
        };
        let mut kinds = 0;
        if packet.is_sound && packet.fragment == Fragment::Whole {
            let [low, high] = &mut tcp.sides;
            let (fwd, rev) = if side == 0 { (low, high) } else { (high, low) };
            kinds = tcp::analyse(fwd, rev, &segment, tcp.first_rtt);
        }
        match packet.flags & (SYN | ACK) {
            SYN => tcp.latest_syn = seen.time,
            ACK if tcp.latest_syn != 0 && tcp.first_rtt == 0 => {
                tcp.first_rtt = seen.time.saturating_sub(tcp.latest_syn)
            }
            _ => {}
        }
        if kinds & tcp::RETRANSMISSIONS != 0 {
            tcp.retransmission.first(seen);
        }
        if kinds & tcp::ZERO_WINDOW != 0 {
            tcp.zero_window.first(seen);
        }
        if kinds & tcp::WINDOW_FULL != 0 {
            tcp.window_full.first(seen);
        }
        kinds
    }

    /// Who opened it, and how that went.
    fn handshake(&mut self, side: usize, packet: &Packet, seen: Seen) {
        let tcp = match &mut self.tcp {
            Some(tcp) => tcp,
            None => return,
        };
        match packet.flags & (SYN | ACK) {
            SYN if !tcp.syn.is() || side == self.originator => {
                self.originator = side;
                tcp.syn.first(seen);
                tcp.last_syn = seen;
                tcp.isn = tcp.isn.or(Some(packet.seq));
                if let Some(slot) = (tcp.syns as usize).checked_sub(1).and_then(|n| tcp.syn_times.get_mut(n)) {
                    let after = (seen.time.saturating_sub(tcp.syn.time)) / 1000;
                    *slot = after.clamp(1, i64::from(u32::MAX)) as u32;
                }
                tcp.syns += 1;
                tcp.syns_before_answer += u32::from(!tcp.answer.is());
            }
            both if both == SYN | ACK => {
                if !tcp.syn.is() && !tcp.answer.is() {
                    self.originator = 1 - side;
                }
                if side != self.originator {
                    tcp.answer.first(seen);
                    tcp.last_answer = seen;
                    tcp.answers += 1;
                    tcp.isn = tcp.isn.or(Some(packet.ack.wrapping_sub(1)));
                    tcp.answer_isn = tcp.answer_isn.or(Some(packet.seq));
                }
            }
            ACK if tcp.answer.is() && side == self.originator && packet.flags & RST == 0 => tcp.answered.first(seen),
            _ => {}
        }
        if packet.payload > 0 {
            tcp.data[side].first(seen);
        }
        if packet.flags & RST != 0 && !tcp.reset.is() && !(tcp.fin[0] && tcp.fin[1]) {
            tcp.reset = seen;
            tcp.reset_side = side;
        }
        tcp.fin[side] |= packet.flags & FIN != 0;
        let [low, high] = &mut tcp.ends;
        let (end, peer) = if side == 0 { (low, high) } else { (high, low) };
        end.send(peer, side == self.originator, packet.flags, packet.payload);
    }

    /// Add to the history, in Zeek's letters: what an end did, when it did so for the first time.
    fn tell(&mut self, side: usize, packet: &Packet, kinds: u16) {
        if kinds & tcp::RETRANSMISSIONS != 0 && packet.payload > 0 {
            self.write(b'T', side);
        }
        if kinds & tcp::ZERO_WINDOW != 0 {
            self.write(b'W', side);
        }
        let flags = packet.flags & (SYN | FIN | RST);
        let letter = match flags {
            0 if packet.payload > 0 => b'D',
            0 if packet.flags & ACK != 0 => b'A',
            0 => return,
            SYN if packet.flags & ACK != 0 => b'H',
            SYN => b'S',
            FIN => b'F',
            RST => b'R',
            _ if flags & SYN != 0 => b'Q',
            _ => b'I',
        };
        let also = if packet.payload > 0 { b'D' } else { letter };
        let both = if flags & SYN != 0 { [letter, also] } else { [also, letter] };
        both.iter().for_each(|letter| self.write(*letter, side));
    }

    /// Letters of the low end are capitals until it is known who opened the connection.
    fn write(&mut self, letter: u8, side: usize) {
        let letter = letter | if side == 0 { 0 } else { 0x20 };
        for slot in &mut self.history {
            if *slot == letter {
                return;
            }
            if *slot == 0 {
                *slot = letter;
                return;
            }
        }
    }
}
