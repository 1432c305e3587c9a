//! Why there is no connection to an endpoint.

use std::io;
use std::sync::Arc;

use crate::model::Address;
use crate::telemetry::EndpointFailure;

/// Why there is no connection to an endpoint. Cheap to clone: several requests may have waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nothing can be asked there.
    #[error("no socket can have this address")]
    BadAddress,
    /// This machine lacks what a connection needs: descriptors, ports, memory, permission. No endpoint was asked.
    #[error("this machine cannot make the connection: {0}")]
    NoResources(Arc<io::Error>),
    /// Nobody asked the endpoint.
    #[error("its version has as many connections as it may have")]
    Full,
    #[error("the endpoint refuses connections")]
    Refused,
    #[error("there is no way to the endpoint")]
    Unreachable,
    /// `timeouts.connect`, or the kernel's own.
    #[error("no connection in time")]
    TimedOut,
    #[error("connecting failed: {0}")]
    Io(Arc<io::Error>),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS, and the endpoint did not choose `h2`.
    #[error("the endpoint does not offer HTTP/2 over TLS (ALPN)")]
    NoHttp2,
}

/// Why there is no TLS with an endpoint.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the system's certificate authorities cannot be read: {0}")]
    SystemAuthorities(Arc<io::Error>),
    #[error("an authority of the service cannot be used: {0}")]
    Authority(rustls::Error),
    #[error("the client certificate cannot be used: {0}")]
    ClientCertificate(rustls::Error),
    #[error("the key of the client certificate cannot be used: {0}")]
    ClientKey(&'static str),
    #[error("{0:?} is not the name of a server")]
    ServerName(Box<str>),
    /// *ring* and rustls have no version of TLS in common, which is a fault of the build.
    #[error("TLS cannot be spoken: {0}")]
    Unsupported(rustls::Error),
    #[error("the TLS handshake failed: {0}")]
    Handshake(Arc<io::Error>),
}

impl ConnectError {
    /// What speaks against the endpoint; none if it is not to blame, or nobody asked it.
    pub(crate) fn blames_endpoint(&self) -> Option<EndpointFailure> {
        match self {
            Self::BadAddress | Self::NoResources(_) | Self::Full => None,
            Self::Refused => Some(EndpointFailure::Refused),
            Self::Unreachable => Some(EndpointFailure::NoRoute),
            Self::TimedOut => Some(EndpointFailure::ConnectTimeout),
            Self::Io(_) => Some(EndpointFailure::Connect),
            Self::Tls(TlsError::Handshake(_)) => Some(EndpointFailure::Tls),
            // The file's or this machine's fault.
            Self::Tls(_) => None,
            Self::NoHttp2 => Some(EndpointFailure::Protocol),
        }
    }

    /// What the system's answer to a `connect` means.
    pub(super) fn of_system(address: &Address, error: io::Error) -> Self {
        if lacks_resources(address, &error) {
            return Self::NoResources(Arc::new(error));
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// Whether this machine could not even ask the endpoint. What a path does not allow is the endpoint's affair.
fn lacks_resources(address: &Address, error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    let forbidden = [Errno::ACCESS, Errno::PERM];
    Errno::from_io_error(error).is_some_and(|errno| {
        lacking.contains(&errno) || (matches!(address, Address::Inet(_)) && forbidden.contains(&errno))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_an_endpoint_does() {
        let inet: Address = "127.0.0.1:1".parse().unwrap();
        let unix: Address = "unix:/run/v1.sock".parse().unwrap();
        for (errno, of_inet, of_unix) in [
            ("EMFILE 24", "NoResources", "NoResources"),
            ("ENFILE 23", "NoResources", "NoResources"),
            ("ENOMEM 12", "NoResources", "NoResources"),
            ("ENOBUFS 105", "NoResources", "NoResources"),
            ("EADDRNOTAVAIL 99", "NoResources", "NoResources"),
            // A socket in the file system that does not let Weir in is a fault of whoever made it.
            ("EPERM 1", "NoResources", "Io"),
            ("EACCES 13", "NoResources", "Io"),
            ("ENOENT 2", "Io", "Io"),
            ("ECONNRESET 104", "Io", "Io"),
            ("ECONNREFUSED 111", "Refused", "Refused"),
            ("EHOSTUNREACH 113", "Unreachable", "Unreachable"),
            ("ENETUNREACH 101", "Unreachable", "Unreachable"),
            ("ETIMEDOUT 110", "TimedOut", "TimedOut"),
        ] {
            let number: i32 = errno.rsplit(' ').next().unwrap().parse().unwrap();
            for (address, expected) in [(&inet, of_inet), (&unix, of_unix)] {
                let error = ConnectError::of_system(address, io::Error::from_raw_os_error(number));
                assert!(format!("{error:?}").starts_with(expected), "{errno} at {address}: {error:?}");
            }
        }
    }
}
