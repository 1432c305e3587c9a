//! The ways by which a request gets to an origin: what holds on one of them has to hold on all.

use serde_json::Value;

use crate::harness::Fixture as _;
use crate::harness::client::Response;
use crate::harness::{H1, H2, Origin, Request, Target, shop};

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// Over the express lane, unless the stories are told over the general one.
    Http11,
    Http10,
    /// With an offer to upgrade, which is not taken.
    Upgrade,
    Http2,
}

/// All of them.
pub(super) const WAYS: [Way; 4] = [Way::Http11, Way::Http10, Way::Upgrade, Way::Http2];

impl Way {
    /// What `Via` says of it.
    pub(super) fn via(self) -> &'static str {
        match self {
            Self::Http10 => "1.0 weir",
            Self::Http11 | Self::Upgrade => "1.1 weir",
            Self::Http2 => "2.0 weir",
        }
    }

    /// Sends a request on a connection of its own.
    pub(super) async fn send(self, web: &Target, request: Request) -> Response {
        let request = match self {
            Self::Http10 => request.http10(),
            Self::Upgrade => request.header("connection", "upgrade").header("upgrade", "websocket"),
            Self::Http11 | Self::Http2 => request,
        };
        match self {
            Self::Http2 => H2::connect(web).await.send(&request).await,
            _ => H1::connect(web).await.send(&request).await,
        }
    }

    /// The fields that an origin gets of a request to `/headers`, their names in lower case.
    pub(super) async fn seen(self, web: &Target, request: Request) -> Vec<(String, String)> {
        let seen: Value = self.send(web, request).await.expect(200).json();
        let fields: Vec<(String, String)> = serde_json::from_value(seen["headers"].clone()).unwrap();
        fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
    }
}

/// All values of a field.
pub(super) fn all<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    fields.iter().filter(|(own, _)| own == name).map(|(_, value)| &**value).collect()
}

/// A service whose endpoint speaks HTTP/1, or HTTP/2, with these sections at the top of the file.
pub(super) fn yaml(origin: &Origin, http2: bool, sections: &str) -> String {
    let yaml = shop(&[(origin, 100.0)]).changed_first("\nservices:", &format!("\n{sections}\nservices:"));
    if http2 { yaml.changed("    split:", "    protocol: h2\n    split:") } else { yaml }
}
