//! TCP as Wireshark analyses it, in one pass: what a segment is, seen beside all before it.
//!
//! The rules are those of "TCP Analysis" in Wireshark's User's Guide, with the thresholds of its TCP dissector.

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

const OUT_OF_ORDER_WITHIN: u64 = 3_000_000; // ns, where no round trip is known
const FAST_WITHIN: u64 = 20_000_000; // ns after the last duplicate acknowledgement
const MOST_UNACKED: usize = 1000; // segments remembered per direction
const KEPT_UNACKED: usize = 16; // of them, room is kept for so many

/// What a segment is. Several may hold; the order is that of `kernel.KINDS` in Python.
pub const KINDS: usize = 9;
pub const RETRANSMISSION: u16 = 1;
pub const FAST_RETRANSMISSION: u16 = 1 << 1;
pub const SPURIOUS_RETRANSMISSION: u16 = 1 << 2;
pub const OUT_OF_ORDER: u16 = 1 << 3;
pub const LOST_SEGMENT: u16 = 1 << 4;
pub const KEEP_ALIVE: u16 = 1 << 5;
pub const DUPLICATE_ACK: u16 = 1 << 6;
pub const ZERO_WINDOW: u16 = 1 << 7;
pub const WINDOW_FULL: u16 = 1 << 8;
const ZERO_WINDOW_PROBE: u16 = 1 << 9;
pub const RETRANSMISSIONS: u16 = RETRANSMISSION | FAST_RETRANSMISSION | SPURIOUS_RETRANSMISSION;

#[derive(Clone, Copy)]
pub struct Segment {
    pub time: i64,
    pub frame: i64,
    pub seq: u32,
    pub ack: u32,
    pub payload: u32,
    pub flags: u8,
    pub window: u16,
    pub window_scale: Option<u8>,
}

impl Segment {
    fn takes_number(&self) -> bool {
        self.flags & (SYN | FIN) != 0
    }

    fn next(&self) -> u32 {
        self.seq.wrapping_add(self.payload).wrapping_add(u32::from(self.takes_number()))
    }
}

/// A segment with payload that was not acknowledged yet.
struct Unacked {
    seq: u32,
    next: u32,
    time: i64,
    frame: i64,
    tries: u32,
}

/// Round trips of segments: how many were measured, their sum and the longest, ns.
#[derive(Default, Clone, Copy)]
pub struct RoundTrips {
    pub count: u32,
    pub sum: i64,
    pub longest: i64,
}

/// What one end sent, and what the other said of it. Zero is "none" for numbers of which Wireshark says so.
#[derive(Default)]
pub struct Direction {
    pub base: Option<u32>,
    next: u32,
    next_time: i64,
    last_ack: u32,
    last_ack_time: i64,
    window: u32,
    shift: Option<u8>,
    last_window: Option<u16>,
    duplicates: u32,
    max_to_be_acked: u32,
    last_kinds: u16,
    unacked: Vec<Unacked>,
    pub kinds: [u32; KINDS],
    pub round_trips: RoundTrips,
    pub largest_acked: u32,
}

fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

fn since(now: i64, then: i64) -> u64 {
    now.wrapping_sub(then) as u64 // before it: a very long time after it
}

/// Say what a segment is, and remember it. `first_rtt`: ns from the last SYN to the first ACK after it, 0 if unknown.
pub fn analyse(fwd: &mut Direction, rev: &mut Direction, segment: &Segment, first_rtt: i64) -> u16 {
    let s = segment;
    if fwd.base.is_none() {
        fwd.base = Some(if s.flags & SYN != 0 { s.seq } else { s.seq.wrapping_sub(1) });
    }
    if rev.base.is_none() && s.flags & ACK != 0 {
        rev.base = Some(s.ack.wrapping_sub(1));
    }
    if s.flags & SYN != 0 {
        fwd.shift = Some(s.window_scale.unwrap_or(0));
        if s.window_scale.is_none() {
            rev.shift = Some(0); // scaling needs both ends, RFC 7323
        }
    }
    let mut kinds = window_and_order(fwd, rev, s);
    if s.ack != fwd.last_ack {
        fwd.duplicates = 0;
    }
    if rev.max_to_be_acked != 0 && after(s.ack, rev.max_to_be_acked) && s.flags & ACK != 0 {
        if after(rev.next, rev.max_to_be_acked) {
            rev.max_to_be_acked = rev.next;
        } else {
            rev.duplicates = u32::MAX;
        }
    }
    if (s.payload > 0 || s.takes_number()) && kinds & KEEP_ALIVE == 0 {
        kinds |= again(fwd, rev, s, first_rtt);
    }
    remember(fwd, s, kinds);
    acknowledge(rev, s);
    for (bit, count) in fwd.kinds.iter_mut().enumerate() {
        *count += u32::from(kinds >> bit & 1);
    }
    kinds
}

/// Everything but retransmissions.
fn window_and_order(fwd: &mut Direction, rev: &Direction, s: &Segment) -> u16 {
    let special = s.flags & (SYN | FIN | RST) != 0;
    if s.payload == 1 && s.seq == fwd.next && rev.last_window == Some(0) {
        return ZERO_WINDOW_PROBE;
    }
    let mut kinds = 0;
    if s.window == 0 && !special {
        kinds |= ZERO_WINDOW;
    }
    if fwd.next != 0 && after(s.seq, fwd.next) && s.flags & RST == 0 {
        kinds |= LOST_SEGMENT;
    }
    if s.payload <= 1 && s.seq == fwd.next.wrapping_sub(1) && !special {
        kinds |= KEEP_ALIVE;
    }
    let edge = rev.last_ack.wrapping_add(rev.window);
    if s.payload > 0 && rev.shift.is_some() && s.seq.wrapping_add(s.payload) == edge && !special {
        kinds |= WINDOW_FULL;
    }
    let repeats =
        s.payload == 0 && Some(s.window) == fwd.last_window && s.seq == fwd.next && s.ack == fwd.last_ack && !special;
    let answers_probe = rev.last_kinds & KEEP_ALIVE != 0 && s.window > 0;
    if repeats && s.window > 0 && !answers_probe {
        fwd.duplicates = if fwd.duplicates == u32::MAX { 1 } else { fwd.duplicates + 1 };
        kinds |= DUPLICATE_ACK;
    }
    kinds
}

/// What a segment is that takes numbers, where these were taken before.
fn again(fwd: &Direction, rev: &Direction, s: &Segment, first_rtt: i64) -> u16 {
    if s.payload > 0 && rev.last_ack != 0 && !after(s.seq.wrapping_add(s.payload), rev.last_ack) {
        return SPURIOUS_RETRANSMISSION;
    }
    let adds_to_probe = s.payload > 1 && s.seq == fwd.next.wrapping_sub(1);
    if fwd.next == 0 || !after(fwd.next, s.seq) || adds_to_probe {
        return 0;
    }
    if rev.duplicates >= 2 && rev.last_ack == s.seq && since(s.time, rev.last_ack_time) < FAST_WITHIN {
        return FAST_RETRANSMISSION;
    }
    let within = if first_rtt == 0 { OUT_OF_ORDER_WITHIN } else { first_rtt as u64 };
    if since(s.time, fwd.next_time) < within && fwd.next != s.next() {
        return OUT_OF_ORDER;
    }
    RETRANSMISSION
}

fn remember(fwd: &mut Direction, s: &Segment, kinds: u16) {
    if s.payload > 0 && kinds & (KEEP_ALIVE | SPURIOUS_RETRANSMISSION) == 0 {
        track(fwd, s, kinds & RETRANSMISSIONS != 0);
    }
    if kinds & ZERO_WINDOW_PROBE == 0 && (fwd.next == 0 || after(s.next(), fwd.next)) {
        fwd.next = s.next();
        fwd.next_time = s.time;
    }
    if (s.seq == fwd.max_to_be_acked || fwd.max_to_be_acked == 0) && kinds & ZERO_WINDOW_PROBE == 0 {
        fwd.max_to_be_acked = fwd.next;
    }
    let shift = if s.flags & SYN != 0 { 0 } else { fwd.shift.unwrap_or(0) };
    fwd.window = u32::from(s.window) << shift;
    fwd.last_window = Some(s.window);
    fwd.last_ack = s.ack;
    fwd.last_ack_time = s.time;
    fwd.last_kinds = kinds;
}

/// Keep a segment until it is acknowledged; of numbers that were sent before, no round trip can be told (Karn).
fn track(fwd: &mut Direction, s: &Segment, is_again: bool) {
    let end = s.seq.wrapping_add(s.payload);
    let mut is_known = false;
    if is_again {
        for known in &mut fwd.unacked {
            if after(end, known.seq) && after(known.next, s.seq) {
                known.tries += 1;
                is_known = true;
            }
        }
    }
    if !is_known && fwd.unacked.len() < MOST_UNACKED {
        let tries = if is_again { 2 } else { 1 };
        fwd.unacked.push(Unacked { seq: s.seq, next: end, time: s.time, frame: s.frame, tries });
    }
}

fn acknowledge(rev: &mut Direction, s: &Segment) {
    if s.flags & ACK == 0 || rev.unacked.is_empty() {
        return;
    }
    let (trips, largest) = (&mut rev.round_trips, &mut rev.largest_acked);
    rev.unacked.retain_mut(|known| {
        if after(known.next, s.ack) {
            if after(s.ack, known.seq) {
                known.seq = s.ack;
            }
            return true;
        }
        *largest = (*largest).max(known.next.wrapping_sub(known.seq));
        if known.tries == 1 {
            let trip = s.time.saturating_sub(known.time);
            trips.count += 1;
            trips.sum = trips.sum.saturating_add(trip);
            trips.longest = trips.longest.max(trip);
        }
        false
    });
    if rev.unacked.is_empty() && (rev.unacked.capacity() > KEPT_UNACKED || s.flags & (FIN | RST) != 0) {
        rev.unacked = Vec::new();
    }
}

impl Direction {
    /// The oldest segment that nobody acknowledged: its payload in bytes, how often it was sent, its first frame.
    pub fn stuck(&self) -> (u32, u32, i64) {
        let oldest = self.unacked.iter().reduce(|a, b| if after(a.seq, b.seq) { b } else { a });
        oldest.map_or((0, 0, 0), |known| (known.next.wrapping_sub(known.seq), known.tries, known.frame))
    }
}
