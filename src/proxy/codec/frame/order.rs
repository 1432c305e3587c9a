//! That the frames of a header block come one after the other (RFC 9113 §4.3, §6.10).

use super::{ErrorCode, FrameError, FrameHead, flag, kind};

/// Follows the frames of one direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameOrder {
    /// The stream whose header block is under way.
    open: Option<u32>,
}

impl FrameOrder {
    /// Takes the next frame's head.
    ///
    /// # Errors
    /// PROTOCOL_ERROR of the connection for a CONTINUATION that continues nothing, and for anything else within a block.
    #[inline]
    pub(crate) fn take(&mut self, head: &FrameHead) -> Result<(), FrameError> {
        match self.open {
            None if head.kind == kind::CONTINUATION => return Err(FrameError::Connection(ErrorCode::PROTOCOL_ERROR)),
            None if head.kind != kind::HEADERS => return Ok(()),
            None => {}
            Some(stream) if head.kind == kind::CONTINUATION && head.stream == stream => {}
            Some(_) => return Err(FrameError::Connection(ErrorCode::PROTOCOL_ERROR)),
        }
        self.open = if head.has(flag::END_HEADERS) { None } else { Some(head.stream) };
        Ok(())
    }

    /// Whether a header block is under way.
    #[cfg(test)]
    pub(crate) fn in_block(&self) -> bool {
        self.open.is_some()
    }
}
