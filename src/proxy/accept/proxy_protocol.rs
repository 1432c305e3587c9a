//! The PROXY protocol, versions 1 and 2: who the client is, said by a load balancer before the client's bytes.
//!
//! A pure parser of the bytes read so far, after HAProxy's `doc/proxy-protocol.txt` (sections 2.1 and 2.2).
//! Whether the peer may say such a thing is decided before this is asked: without that, anyone could be anyone.
//! TLVs are skipped, the CRC32c among them: the header comes from a trusted peer over TCP, which has its own sum.
//!
//! Reading without taking a byte too many, since what follows may be a TLS handshake:
//!
//! ```text
//! peek ─► parse ─┬ Incomplete   every byte is the header's: read them all, peek again
//!                ├ Header       read up to `consumed`; what follows is the client's
//!                └ Invalid      close; an answer would be to a peer that speaks another protocol
//! ```
//!
//! Invariant: every proper prefix of a header is [`Parsed::Incomplete`], and no input of [`MAX_V2`] bytes, the longest, is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1 with its line end, by the specification.
pub(crate) const MAX_V1: usize = 107;

/// The longest header of version 2 that is read. The specification allows 16 + 65 535; addresses and the TLVs
/// of cloud load balancers need some hundred.
pub(crate) const MAX_V2: usize = V2_FIXED + 2048;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Parsed {
    /// The beginning of a header; every byte of it belongs to the header.
    Incomplete,
    /// A whole header.
    Header(Header),
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The client. `None` if the sender does not know (`UNKNOWN`, `UNSPEC`), speaks for itself (`LOCAL`, as in
    /// health checks) or took the connection from a unix socket: then the connection's own address counts.
    pub(crate) source: Option<SocketAddr>,
    /// The address that the client connected to; `None` together with the source.
    pub(crate) destination: Option<SocketAddr>,
    /// The bytes of the header. The client's own begin after them.
    pub(crate) consumed: usize,
}

/// Why the bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Invalid {
    /// They begin like neither version.
    #[error("the connection does not begin with a PROXY protocol header")]
    Signature,
    /// No end within the bound.
    #[error("the PROXY protocol header is longer than {MAX_V1} bytes in version 1 or {MAX_V2} in version 2")]
    TooLong,
    /// Version 1: a line that is not printable ASCII ended by CR LF.
    #[error("the PROXY protocol line is not printable ASCII that ends with CR LF")]
    Line,
    /// Version 1: too few or too many words, or spaces.
    #[error("the PROXY protocol line does not have two addresses and two ports, one space between them")]
    Fields,
    /// A family or transport that the specification does not have.
    #[error("the PROXY protocol header names an address family that does not exist")]
    Family,
    /// An address that is not one of the named family.
    #[error("the PROXY protocol header has an address that is not of its family")]
    Address,
    /// A port that is not a number from 0 to 65535.
    #[error("the PROXY protocol header has a port that is not a number from 0 to 65535")]
    Port,
    /// Version 2: neither LOCAL nor PROXY.
    #[error("the PROXY protocol header has a version or command that does not exist")]
    Command,
    /// Version 2: too short for the addresses of its family.
    #[error("the PROXY protocol header is too short for its addresses")]
    Short,
}

/// Reads a header from the bytes that a connection begins with.
///
/// # Errors
/// [`Invalid`] as soon as the bytes cannot become a header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    if begins(bytes, V2_SIGNATURE) {
        v2(bytes)
    } else if begins(bytes, V1_SIGNATURE) {
        v1(bytes)
    } else {
        Err(Invalid::Signature)
    }
}

/// Whether the bytes begin with the signature, as far as either goes.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

fn v1(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let within = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if bytes.len() >= MAX_V1 { Err(Invalid::TooLong) } else { Ok(Parsed::Incomplete) };
    };
    let (line, tail) = within.split_at(end);
    match tail {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if bytes.len() < MAX_V1 => return Ok(Parsed::Incomplete),
        [b'\r'] => return Err(Invalid::TooLong),
        _ => return Err(Invalid::Line),
    }
    let line = std::str::from_utf8(line).map_err(|_| Invalid::Line)?;
    let (source, destination) = v1_addresses(line)?.unzip();
    Ok(Parsed::Header(Header { source, destination, consumed: end + LINE_END }))
}

fn v1_addresses(line: &str) -> Result<Option<(SocketAddr, SocketAddr)>, Invalid> {
    let mut words = line.split(' ').skip(1);
    let address: fn(&str) -> Option<IpAddr> = match words.next() {
        Some("TCP4") => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        Some("UNKNOWN") => return Ok(None),
        _ => return Err(Invalid::Family),
    };
    let mut word = || words.next().filter(|word| !word.is_empty()).ok_or(Invalid::Fields);
    let (source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Invalid::Fields);
    }
    let at = |ip, port_word| Ok(SocketAddr::new(address(ip).ok_or(Invalid::Address)?, port(port_word)?));
    Ok(Some((at(source, source_port)?, at(destination, destination_port)?)))
}

/// A decimal without sign and leading zeros, as the specification writes it.
fn port(word: &str) -> Result<u16, Invalid> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if plain { word.parse().map_err(|_| Invalid::Port) } else { Err(Invalid::Port) }
}

fn v2(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let Some((&[.., command, family, high, low], rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return match bytes.get(V2_SIGNATURE.len()) {
            Some(command) if !COMMANDS.contains(command) => Err(Invalid::Command),
            _ => Ok(Parsed::Incomplete),
        };
    };
    if !COMMANDS.contains(&command) {
        return Err(Invalid::Command);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let consumed = V2_FIXED + length;
    if consumed > MAX_V2 {
        return Err(Invalid::TooLong);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    let addresses = if command == COMMAND_LOCAL { None } else { v2_addresses(family, body)? };
    let (source, destination) = addresses.unzip();
    Ok(Parsed::Header(Header { source, destination, consumed }))
}

/// The addresses at the beginning of the body. Datagram and stream are not told apart: the sender may have
/// taken the client's bytes from QUIC, and the client is who it is.
fn v2_addresses(family: u8, body: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, Invalid> {
    match family {
        0x00 => Ok(None),
        0x11 | 0x12 => {
            let (source, rest) = take::<4>(body)?;
            let (destination, rest) = take::<4>(rest)?;
            ports(source.into(), destination.into(), rest)
        }
        0x21 | 0x22 => {
            let (source, rest) = take::<16>(body)?;
            let (destination, rest) = take::<16>(rest)?;
            ports(source.into(), destination.into(), rest)
        }
        0x31 | 0x32 => take::<V2_UNIX>(body).map(|_| None),
        _ => Err(Invalid::Family),
    }
}

fn ports(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, Invalid> {
    let (source_port, rest) = take::<2>(rest)?;
    let (destination_port, _) = take::<2>(rest)?;
    let at = |ip, port: [u8; 2]| SocketAddr::new(ip, u16::from_be_bytes(port));
    Ok(Some((at(source, source_port), at(destination, destination_port))))
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Invalid> {
    bytes.split_first_chunk::<N>().map(|(taken, rest)| (*taken, rest)).ok_or(Invalid::Short)
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE_END: usize = 2;

/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;

/// Two paths of 108 bytes.
const V2_UNIX: usize = 216;

const COMMAND_LOCAL: u8 = 0x20;
const COMMANDS: [u8; 2] = [COMMAND_LOCAL, 0x21];

#[cfg(test)]
mod tests;
