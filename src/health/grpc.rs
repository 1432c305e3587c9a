//! gRPC's health checking protocol as bytes: `grpc.health.v1.Health/Check`.
//!
//! Written by hand, because it is one field each way, and protobuf's compiler would be the build's only one.

/// Where the call goes.
pub(crate) const PATH: &str = "/grpc.health.v1.Health/Check";
/// An answer is no longer than this; one field of one byte is what it has.
pub(crate) const MAX_ANSWER: usize = 4 * 1_024;

/// `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;
/// The names of the other statuses, by number.
const NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// The message that asks about `service`, with its prefix (gRPC over HTTP/2, "Length-Prefixed-Message").
pub(crate) fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 3);
    if !service.is_empty() {
        // Field 1, a string.
        message.push(0x0a);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.append(&mut message);
    framed
}

/// Whether the server serves, by its answer's body.
///
/// # Errors
/// What it says instead.
pub(crate) fn is_serving(body: &[u8]) -> Result<(), String> {
    let message = unframed(body).ok_or("the answer is no gRPC message")?;
    match status(message).ok_or("the answer is no HealthCheckResponse")? {
        SERVING => Ok(()),
        other => {
            let known = usize::try_from(other).ok().and_then(|at| NAMES.get(at));
            Err(known.map_or_else(|| format!("status {other}"), |name| (*name).to_owned()))
        }
    }
}

/// The one message of a body, if it is not compressed.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(5)?;
    let &[0, a, b, c, d] = prefix else { return None };
    message.get(..usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?)
}

/// Field 1 of the message, a number; 0 if it has none. Other fields are passed over.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_question_is_that_of_protobuf() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("shop"), [0, 0, 0, 0, 6, 0x0a, 4, b's', b'h', b'o', b'p']);
        assert_eq!(question(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_passes() {
        assert_eq!(is_serving(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert_eq!(is_serving(&[0, 0, 0, 0, 2, 8, 2]), Err("NOT_SERVING".to_owned()));
        assert_eq!(is_serving(&[0, 0, 0, 0, 2, 8, 9]), Err("status 9".to_owned()));
        assert_eq!(is_serving(&[0, 0, 0, 0, 0]), Err("UNKNOWN".to_owned()), "0 is not written");
        assert_eq!(is_serving(&[0, 0, 0, 0, 5, 0x12, 1, 7, 8, 1]), Ok(()), "other fields are passed over");
        assert!(is_serving(&[1, 0, 0, 0, 2, 8, 1]).is_err(), "compressed");
        assert!(is_serving(&[0, 0, 0, 0, 3, 8, 1]).is_err(), "cut");
        assert!(is_serving(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(body in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(is_serving(&body));
        }

        #[test]
        fn numbers_come_back(value in any::<u64>()) {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            let mut rest = &*bytes;
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
