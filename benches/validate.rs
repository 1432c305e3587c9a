//! What validation costs a request: one as a browser sends it, and one whose path has to be rewritten.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::traffic::validate::{Limits, validate};
use weir::traffic::{HttpVersion, Request};

struct Browser {
    target: &'static str,
}

const HEADERS: [(&str, &str); 15] = [
    ("Host", "shop.example.com"),
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", "\"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\""),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; consent=1"),
];

impl Request for Browser {
    fn version(&self) -> HttpVersion {
        HttpVersion::Http11
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }
    fn authority(&self) -> Option<&[u8]> {
        None
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        HEADERS.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
    fn for_each_header(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        HEADERS.iter().for_each(|(name, value)| visit(name.as_bytes(), value.as_bytes()));
    }
    fn client(&self) -> Option<IpAddr> {
        None
    }
}

fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for (name, target) in [
        ("browser", "/checkout/cart?item=4711&quantity=2"),
        ("rewritten_path", "/checkout/./x/../%63art?item=4711&quantity=2"),
    ] {
        let request = Browser { target };
        group.bench_function(name, |bencher| bencher.iter(|| validate(black_box(&request), &Limits::default())));
    }
    group.finish();
}

criterion_group!(benches, validation);
criterion_main!(benches);
