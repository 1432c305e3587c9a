//! A request's head that was read from bytes and still lies there, as the traffic stages see it.

use std::net::IpAddr;

use super::admit::RequestHead;
use crate::traffic::{HttpVersion, Request};

/// A request's head of HTTP/1, borrowed from the bytes that arrived.
#[derive(Debug)]
pub(crate) struct ParsedHead<'b, 'f> {
    pub(crate) version: HttpVersion,
    pub(crate) method: &'b str,
    pub(crate) target: &'b str,
    pub(crate) fields: &'f [httparse::Header<'b>],
    /// As the socket or a trusted proxy has it.
    pub(crate) client: Option<IpAddr>,
}

impl RequestHead for ParsedHead<'_, '_> {
    #[inline]
    fn set_client(&mut self, client: Option<IpAddr>) {
        self.client = client;
    }
}

impl Request for ParsedHead<'_, '_> {
    #[inline]
    fn version(&self) -> HttpVersion {
        self.version
    }

    fn method(&self) -> &str {
        self.method
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn authority(&self) -> Option<&[u8]> {
        None
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        for field in self.fields {
            visit(field.name.as_bytes(), field.value);
        }
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }
}
