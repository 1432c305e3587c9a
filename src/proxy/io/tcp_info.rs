//! What the kernel knows of a TCP connection (`TCP_INFO`, tcp(7)).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;

/// The socket option.
#[derive(Clone, Copy)]
struct TcpInfoOption;

nix::getsockopt_impl!(TcpInfoOption, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfo, GetStruct<TcpInfo>);

/// The beginning of the kernel's `struct tcp_info`, which every Linux since 4.6 has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TcpInfo {
    _state_to_options: [u8; 8],
    _rto_to_rcv_mss: [u32; 4],
    unacked: u32,
    _sacked_to_fackets: [u32; 4],
    /// Milliseconds since the last data was sent.
    last_data_sent: u32,
    _last_ack_sent_to_rcv_ssthresh: [u32; 5],
    /// Microseconds.
    rtt: u32,
    _rttvar_to_total_retrans: [u32; 8],
    _pacing_rate_to_bytes_acked: [u64; 3],
    bytes_received: u64,
    _segs_out_and_in: [u32; 2],
    notsent_bytes: u32,
    /// Microseconds.
    min_rtt: u32,
}

/// Half a tick of the kernel's slowest clock and what it rounds: how exact its times are.
const CLOCK: Duration = Duration::from_millis(10);

impl TcpInfo {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If the socket is not one of TCP.
    pub(crate) fn of(socket: &impl AsFd) -> io::Result<Self> {
        Ok(getsockopt(socket, TcpInfoOption)?)
    }

    /// Bytes that the peer sent since the connection was made, read or not.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Whether the peer acknowledged all that was written.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.unacked == 0 && self.notsent_bytes == 0
    }

    /// Whether a response whose first byte is here can only be one to the whole request: the last byte was acknowledged,
    /// and one more round trip passed. When it was acknowledged the kernel does not tell, but when it left; the way there
    /// and back takes as long as it did lately.
    pub(crate) fn is_answered_late(&self) -> bool {
        let micros = |micros: u32| Duration::from_micros(micros.into());
        let known = !matches!(self.min_rtt, 0 | u32::MAX);
        let acknowledged = micros(self.rtt.max(self.min_rtt));
        known
            && self.is_acknowledged()
            && Duration::from_millis(self.last_data_sent.into()) > acknowledged + micros(self.min_rtt) + CLOCK
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_answer_is_late_after_two_round_trips_without_data() {
        let late = |last_data_sent: u32, rtt: u32, min_rtt: u32, unacked: u32| {
            TcpInfo { last_data_sent, rtt, min_rtt, unacked, ..TcpInfo::default() }.is_answered_late()
        };
        assert!(late(11, 100, 50, 0));
        assert!(!late(10, 100, 50, 0), "the clock is coarse");
        assert!(late(131, 60_000, 60_000, 0));
        assert!(!late(130, 60_000, 60_000, 0));
        assert!(!late(200, 60_000, 60_000, 1), "not all of it arrived");
        assert!(!late(200, 0, 0, 0) && !late(200, 100, u32::MAX, 0), "nobody knows how far it is");
    }

    #[test]
    fn the_kernel_fills_the_fields_that_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        far.write_all(b"12345").unwrap();
        near.read_exact(&mut [0; 5]).unwrap();
        let info = TcpInfo::of(&near).unwrap();
        assert_eq!((info.bytes_received(), info.is_acknowledged()), (5, true), "{info:?}");
        // The handshake was measured; the smallest time is not above the average of it on a machine of one's own.
        assert!(info.min_rtt > 0 && info.min_rtt <= info.rtt && info.rtt < 10_000_000, "{info:?}");
        // More than the kernel holds for a peer that does not read.
        near.set_nonblocking(true).unwrap();
        while near.write(&[0; 65_536]).is_ok() {}
        assert!(!TcpInfo::of(&near).unwrap().is_acknowledged());
        assert!(TcpInfo::of(&UnixStream::pair().unwrap().0).is_err());
    }
}
