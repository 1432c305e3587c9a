//! HTTP/2 frames (RFC 9113 §4, §6): read with every rule about a frame alone, and written.
//!
//! What depends on a connection's state is not here: which streams are open, windows, who may send what when. Only that
//! nothing comes within a header block is ([`FrameOrder`]).

mod order;
mod read;
mod write;

pub(crate) use self::order::FrameOrder;
pub(crate) use self::read::{Frame, SettingsEntries};
pub(crate) use self::write::{
    data, data_head, go_away, header_frames, ping, reset, settings, settings_ack, window_update,
};

/// The nine bytes in front of a frame's payload (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Of the payload.
    pub(crate) length: usize,
    /// One of [`kind`], or one that is not known.
    pub(crate) kind: u8,
    /// Some of [`flag`].
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// Types of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

/// Flags of frames.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    /// Of SETTINGS and PING.
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

/// The first bytes of a client's connection (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest window, and the largest increment of one (RFC 9113 §6.9).
pub(crate) const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// The size of a frame's payload that needs no setting, and is the least that a setting can allow (RFC 9113 §6.5.2).
pub(crate) const DEFAULT_MAX_FRAME: usize = 16 * 1024;

/// Why a frame is an error, and whether of its stream only (RFC 9113 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    Connection(ErrorCode),
    Stream(ErrorCode),
}

/// What GOAWAY and RST_STREAM say (RFC 9113 §7): any number, and those that we say or know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCode(pub(crate) u32);

impl ErrorCode {
    pub(crate) const NO_ERROR: Self = Self(0x0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x1);
    pub(crate) const INTERNAL_ERROR: Self = Self(0x2);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub(crate) const STREAM_CLOSED: Self = Self(0x5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub(crate) const REFUSED_STREAM: Self = Self(0x7);
    pub(crate) const CANCEL: Self = Self(0x8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(0x9);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(0xB);
}

impl FrameHead {
    /// How many bytes it has.
    pub(crate) const SIZE: usize = 9;

    /// Reads what `bytes` begin with; none if that is not all of it.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<{ Self::SIZE }>()?;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & LARGEST_WINDOW })
    }

    /// Writes it.
    #[inline]
    pub(crate) fn bytes(self) -> [u8; Self::SIZE] {
        let [_, a, b, c] = u32::try_from(self.length).unwrap_or_default().to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether a flag is set.
    #[inline]
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Refuses a payload that is larger than we allow, before it is read.
    ///
    /// # Errors
    /// FRAME_SIZE_ERROR of the connection for every type of frame: for some it has to be (RFC 9113 §4.2), for others it
    /// may be, and their payload would have to be read.
    pub(crate) fn check(self, max_frame: usize) -> Result<(), FrameError> {
        if self.length <= max_frame { Ok(()) } else { Err(FrameError::Connection(ErrorCode::FRAME_SIZE_ERROR)) }
    }
}

#[cfg(test)]
mod tests;
