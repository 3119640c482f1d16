//! The state of each end of a TCP connection, as Zeek's TCP analyzer has it: conn_state follows from the last ones.

use crate::tcp::{ACK, FIN, RST, SYN};

/// The order is that of `connections.STATES` in Python.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Inactive,
    SynSent,
    Established,
    Partial, // it sent something, and its SYN was not seen
    Closed,
    Reset,
}

#[derive(Clone, Copy)]
pub struct End {
    pub state: State,
    before: State,
}

impl Default for End {
    fn default() -> End {
        End { state: State::Inactive, before: State::Inactive }
    }
}

impl End {
    fn enter(&mut self, state: State) {
        self.before = self.state;
        self.state = state;
    }

    /// Follow a segment that this end sent.
    pub fn send(&mut self, peer: &mut End, is_orig: bool, flags: u8, payload: u32) {
        let (syn, fin, rst) = (flags & SYN != 0, flags & FIN != 0, flags & RST != 0);
        match self.state {
            State::Inactive => self.begin(peer, is_orig, flags, payload),
            State::SynSent if rst => self.enter(State::Reset),
            State::SynSent if fin => self.enter(State::Closed),
            State::Established | State::Partial if rst => self.enter(State::Reset),
            State::Established | State::Partial if fin => {
                self.enter(State::Closed);
                if peer.state == State::Reset && peer.before == State::Closed {
                    peer.enter(State::Closed); // a RST after its own FIN: a close like any other
                }
            }
            State::Partial if syn && flags & ACK == 0 && peer.state == State::Inactive => self.enter(State::SynSent),
            State::Closed if rst && peer.state != State::Closed => self.enter(State::Reset),
            _ => {}
        }
    }

    fn begin(&mut self, peer: &mut End, is_orig: bool, flags: u8, payload: u32) {
        let (syn, fin, rst) = (flags & SYN != 0, flags & FIN != 0, flags & RST != 0);
        if syn && !is_orig && peer.state == State::SynSent {
            peer.enter(State::Established);
        }
        let acknowledges_syn = !is_orig && payload == 0 && peer.state == State::SynSent; // without answering it
        let follows = flags & ACK != 0 && peer.state == State::Established;
        self.enter(match (rst, fin, syn) {
            (true, ..) => State::Reset,
            (_, true, _) => State::Closed,
            (.., true) if is_orig && peer.state != State::Established => State::SynSent,
            (.., true) => State::Established,
            _ if acknowledges_syn => State::Inactive,
            _ if follows => State::Established,
            _ => State::Partial,
        });
    }
}
