//! Columns out: arrays of one type each, as NumPy takes them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::connections::{Connection, Sent, Tcp, SYN_TIMES};
use crate::decode::Address;
use crate::select::Selected;
use crate::tcp::{Direction, KINDS};

/// A name, NumPy's word for the type of the numbers, and the numbers.
pub struct Column {
    pub name: &'static str,
    pub dtype: &'static str,
    pub data: Vec<u8>,
}

pub trait Number {
    const DTYPE: &'static str;
    fn put(self, data: &mut Vec<u8>);
}

macro_rules! number {
    ($($kind:ty, $dtype:literal;)*) => {$(
        impl Number for $kind {
            const DTYPE: &'static str = $dtype;
            fn put(self, data: &mut Vec<u8>) {
                data.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}

number! { u8, "u1"; u16, "u2"; u32, "u4"; i32, "i4"; u64, "u8"; i64, "i8"; f64, "f8"; }

pub fn column<N: Number>(name: &'static str, numbers: impl Iterator<Item = N>) -> Column {
    let mut data = Vec::with_capacity(numbers.size_hint().0 * std::mem::size_of::<N>());
    numbers.for_each(|number| number.put(&mut data));
    Column { name, dtype: N::DTYPE, data }
}

pub fn bytes(name: &'static str, dtype: &'static str, data: Vec<u8>) -> Column {
    Column { name, dtype, data }
}

pub fn selected(found: Selected) -> Vec<Column> {
    vec![
        bytes("records", "u1", found.records),
        column("frame", found.frames.into_iter()),
        column("connection", found.connections.into_iter()),
        column("application", found.applications.into_iter()),
        column("is_orig", found.is_orig.into_iter()),
    ]
}

/// Addresses as text, each once; others name them by their place.
#[derive(Default)]
struct Addresses {
    places: HashMap<(u128, bool), i32>,
    text: Vec<u8>,
    ends: Vec<i32>,
    packed: Vec<u8>,
    is_v6: Vec<u8>,
}

impl Addresses {
    fn place(&mut self, address: Address) -> i32 {
        let (text, ends) = (&mut self.text, &mut self.ends);
        let (packed, is_v6) = (&mut self.packed, &mut self.is_v6);
        *self.places.entry((address.number, address.is_v6)).or_insert_with(|| {
            let written = if address.is_v6 {
                Ipv6Addr::from(address.number).to_string()
            } else {
                Ipv4Addr::from(address.number as u32).to_string()
            };
            text.extend_from_slice(written.as_bytes());
            ends.push(text.len() as i32);
            packed.extend_from_slice(&address.number.to_be_bytes());
            is_v6.push(u8::from(address.is_v6));
            ends.len() as i32 - 1
        })
    }
}

/// One row per connection, the originator's columns before the responder's.
pub fn connections(all: &[Connection]) -> Vec<Column> {
    let mut out = ends(all);
    out.extend(both_sides(all));
    out.extend(handshakes(all));
    out.extend(analysis(all));
    out
}

fn ends(all: &[Connection]) -> Vec<Column> {
    let mut addresses = Addresses::default();
    let (mut src, mut dst, mut outer_src, mut outer_dst) = (vec![], vec![], vec![], vec![]);
    for c in all {
        let low = addresses.place(Address { number: c.key.low, is_v6: c.key.is_v6 });
        let high = addresses.place(Address { number: c.key.high, is_v6: c.key.is_v6 });
        src.push(if c.originator == 0 { low } else { high });
        dst.push(if c.originator == 0 { high } else { low });
        let is_inner = c.tunnel.kind as u8 != 0;
        let (from, to) = (c.tunnel.src, c.tunnel.dst);
        let (from, to) = if c.originator == c.first_sender { (from, to) } else { (to, from) };
        outer_src.push(if is_inner { addresses.place(from) } else { -1 });
        outer_dst.push(if is_inner { addresses.place(to) } else { -1 });
    }
    let ports = |c: &Connection, side: usize| if side == 0 { c.key.low_port } else { c.key.high_port };
    vec![
        column("src", src.into_iter()),
        column("dst", dst.into_iter()),
        column("outer_src", outer_src.into_iter()),
        column("outer_dst", outer_dst.into_iter()),
        bytes("addresses", "u1", addresses.text),
        column("address_ends", addresses.ends.into_iter()),
        bytes("address_packed", "S16", addresses.packed),
        bytes("address_is_v6", "u1", addresses.is_v6),
        column("originator", all.iter().map(|c| c.originator as u8)),
        column("src_port", all.iter().map(|c| ports(c, c.originator))),
        column("dst_port", all.iter().map(|c| ports(c, 1 - c.originator))),
        column("protocol", all.iter().map(|c| c.key.proto)),
        column("is_flipped", all.iter().map(|c| u8::from(c.originator != c.first_sender))),
        column("frame", all.iter().map(|c| c.first.frame)),
        column("start", all.iter().map(|c| c.first.time)),
        column("last", all.iter().map(|c| c.last)),
        bytes("history", "S24", all.iter().flat_map(history).collect()),
        column("fragments", all.iter().map(|c| c.fragments)),
        column("vlan", all.iter().map(|c| c.vlan.map_or(-1, i32::from))),
        column("tunnel", all.iter().map(|c| c.tunnel.kind as u8)),
        column("tunnel_id", all.iter().map(|c| c.tunnel.id)),
        column("unreachable_frame", all.iter().map(|c| c.unreachable.frame)),
        column("unreachable_code", all.iter().map(|c| c.unreachable_code)),
        column("too_big", all.iter().map(|c| c.too_big)),
        column("too_big_frame", all.iter().map(|c| c.first_too_big.frame)),
        column("mtu", all.iter().map(|c| c.mtu)),
        column("application", all.iter().map(|c| c.selection.application)),
    ]
}

/// The originator's letters are capitals.
fn history(c: &Connection) -> [u8; 24] {
    let flip = if c.originator == 0 { 0 } else { 0x20 };
    c.history.map(|letter| if letter == 0 { 0 } else { letter ^ flip })
}

fn both_sides(all: &[Connection]) -> Vec<Column> {
    fn side<N: Number>(all: &[Connection], names: [&'static str; 2], of: impl Fn(&Sent) -> N) -> [Column; 2] {
        [
            column(names[0], all.iter().map(|c| of(&c.sent[c.originator]))),
            column(names[1], all.iter().map(|c| of(&c.sent[1 - c.originator]))),
        ]
    }
    let mut out = Vec::new();
    out.extend(side(all, ["orig_packets", "resp_packets"], |sent| sent.packets));
    out.extend(side(all, ["orig_bytes", "resp_bytes"], |sent| sent.bytes));
    out.extend(side(all, ["orig_payload_bytes", "resp_payload_bytes"], |sent| sent.payload));
    out
}

/// Of each connection, what `of` says of its TCP and its originator's side; `none` of other protocols.
fn tcp<'c, N: Number + Copy + 'c>(
    name: &'static str,
    all: &'c [Connection],
    none: N,
    of: impl Fn(&Tcp, usize) -> N + 'c,
) -> Column {
    column(name, all.iter().map(move |c| c.tcp.as_ref().map_or(none, |tcp| of(tcp, c.originator))))
}

fn handshakes(all: &[Connection]) -> Vec<Column> {
    let number = |number: Option<u32>| number.map_or(-1, i64::from);
    vec![
        tcp("isn", all, -1, move |t, _| number(t.isn)),
        tcp("resp_isn", all, -1, move |t, _| number(t.answer_isn)),
        tcp("syn_count", all, 0, |t, _| t.syns),
        tcp("syns_before_answer", all, 0, |t, _| t.syns_before_answer),
        bytes("syn_times", "u4", all.iter().flat_map(syn_times).collect()),
        tcp("syn_frame", all, 0, |t, _| t.syn.frame),
        tcp("syn_time", all, 0, |t, _| t.syn.time),
        tcp("last_syn_frame", all, 0, |t, _| t.last_syn.frame),
        tcp("last_syn_time", all, 0, |t, _| t.last_syn.time),
        tcp("synack_count", all, 0, |t, _| t.answers),
        tcp("synack_frame", all, 0, |t, _| t.answer.frame),
        tcp("synack_time", all, 0, |t, _| t.answer.time),
        tcp("last_synack_time", all, 0, |t, _| t.last_answer.time),
        tcp("ack_frame", all, 0, |t, _| t.answered.frame),
        tcp("ack_time", all, 0, |t, _| t.answered.time),
        tcp("orig_data_frame", all, 0, |t, o| t.data[o].frame),
        tcp("orig_data_time", all, 0, |t, o| t.data[o].time),
        tcp("resp_data_frame", all, 0, |t, o| t.data[1 - o].frame),
        tcp("resp_data_time", all, 0, |t, o| t.data[1 - o].time),
        tcp("orig_state", all, 0, |t, o| t.ends[o].state as u8),
        tcp("resp_state", all, 0, |t, o| t.ends[1 - o].state as u8),
        tcp("reset_frame", all, 0, |t, _| t.reset.frame),
        tcp("reset_by_orig", all, 0, |t, o| u8::from(t.reset.is() && t.reset_side == o)),
    ]
}

fn syn_times(c: &Connection) -> Vec<u8> {
    let times = c.tcp.as_ref().map_or([0; SYN_TIMES], |tcp| tcp.syn_times);
    times.iter().flat_map(|time| time.to_ne_bytes()).collect()
}

fn analysis(all: &[Connection]) -> Vec<Column> {
    let mut out = vec![
        tcp("retransmission_frame", all, 0, |t, _| t.retransmission.frame),
        tcp("zero_window_frame", all, 0, |t, _| t.zero_window.frame),
        tcp("window_full_frame", all, 0, |t, _| t.window_full.frame),
    ];
    let kinds = |d: &Direction| -> Vec<u8> { d.kinds.iter().flat_map(|count| count.to_ne_bytes()).collect() };
    for (name, is_resp) in [("orig_kinds", false), ("resp_kinds", true)] {
        let side = |c: &Connection| if is_resp { 1 - c.originator } else { c.originator };
        let counts = |c: &Connection| c.tcp.as_ref().map_or(vec![0; 4 * KINDS], |tcp| kinds(&tcp.sides[side(c)]));
        out.push(bytes(name, "u4", all.iter().flat_map(counts).collect()));
    }
    macro_rules! sides {
        ($($orig:literal, $resp:literal, $none:expr, $of:expr;)*) => {$(
            out.push(tcp($orig, all, $none, |t, o| $of(&t.sides[o])));
            out.push(tcp($resp, all, $none, |t, o| $of(&t.sides[1 - o])));
        )*};
    }
    sides! {
        "orig_data_rtts", "resp_data_rtts", 0, |d: &Direction| d.round_trips.count;
        "orig_data_rtt_sum", "resp_data_rtt_sum", 0, |d: &Direction| d.round_trips.sum;
        "orig_data_rtt_max", "resp_data_rtt_max", 0, |d: &Direction| d.round_trips.longest;
        "orig_largest_acked", "resp_largest_acked", 0, |d: &Direction| d.largest_acked;
        "orig_stuck_bytes", "resp_stuck_bytes", 0, |d: &Direction| d.stuck().0;
        "orig_stuck_tries", "resp_stuck_tries", 0, |d: &Direction| d.stuck().1;
        "orig_stuck_frame", "resp_stuck_frame", 0, |d: &Direction| d.stuck().2;
    }
    out
}
