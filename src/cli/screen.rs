//! A text that is shown again and again: redrawn in place on a terminal, written one after the other elsewhere.
//!
//! Invariant: whatever ends the command, the terminal is left as it was found ([`Screen`] restores on drop).

use std::io::{self, IsTerminal};

use super::failure::Failure;
use super::{emit, notify};

/// Where the text is shown.
pub(super) struct Screen {
    terminal: bool,
    last: String,
}

/// The alternate screen, without a cursor and without wrapping: a line that is too long must not push others.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// To the top left.
const HOME: &str = "\x1b[H";
/// What is right of the cursor, and what is below it, is of the text before.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Rows of a terminal that does not say.
const ROWS: usize = 24;

impl Screen {
    /// A screen on stdout.
    pub(super) fn open() -> Result<Self, Failure> {
        let terminal = io::stdout().is_terminal();
        if terminal {
            emit(ENTER)?;
        }
        Ok(Self { terminal, last: String::new() })
    }

    /// Whether a person looks at it.
    pub(super) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows `text` instead of, or elsewhere than on a terminal after, the text before. Whether anybody still
    /// looks.
    pub(super) fn show(&mut self, text: &str) -> Result<bool, Failure> {
        if !self.terminal {
            return emit(&format!("{text}\n"));
        }
        text.clone_into(&mut self.last);
        emit(&frame(text, rows()))
    }

    /// Shows what went wrong without losing the text before.
    pub(super) fn complain(&mut self, failure: &Failure) -> Result<bool, Failure> {
        if self.terminal {
            return emit(&frame(&format!("{failure}\n{}", self.last), rows()));
        }
        notify(failure.to_string().trim_end());
        Ok(true)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            // What was seen last stays readable after the alternate screen is gone.
            drop(emit(&format!("{LEAVE}{}", self.last)));
        }
    }
}

/// `text` drawn over the frame before; what has no room is left out at the end, and said so.
fn frame(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() > rows { rows.saturating_sub(1) } else { lines.len() };
    let mut frame = String::from(HOME);
    for (at, line) in lines.iter().take(shown).enumerate() {
        let feed = if at > 0 { "\r\n" } else { "" };
        frame.push_str(&format!("{feed}{line}{CLEAR_LINE}"));
    }
    if shown < lines.len() {
        frame.push_str(&format!("\r\n… {} more lines{CLEAR_LINE}", lines.len() - shown));
    }
    frame + CLEAR_BELOW
}

fn rows() -> usize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 => usize::from(size.ws_row),
        _ => ROWS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_has_more_lines_than_the_terminal() {
        let plain = |frame: String| anstream::adapter::strip_str(&frame).to_string();
        assert_eq!(plain(frame("a\nb\n", 2)), "a\r\nb");
        assert_eq!(plain(frame("a\nb\nc\n", 2)), "a\r\n… 2 more lines");
        assert_eq!(plain(frame("", 2)), "");
    }
}
