//! Large bodies pass without being held.

use crate::harness::{H1, H2, Origin, Request, Target, Weir, shop};

const LARGE: usize = 100 * 1024 * 1024;
/// What buffers, windows and the allocator may take beyond the idle process.
const FLAT: u64 = 40 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_up_and_down_leave_memory_flat() {
    let v1 = Origin::start("v1").await;
    let weir = Weir::start(&shop(&[(&v1, 100.0)])).await;
    let web = Target::from(weir.address("web").await);
    H1::connect(&web).await.get("/").await.expect(200);
    let idle = weir.rss_bytes();
    let body = bytes::Bytes::from(vec![7_u8; LARGE]);
    let down = format!("/bytes/{LARGE}");
    let h2 = H2::connect(&web).await;
    let flat = |what: &str| {
        let now = weir.peak_rss_bytes();
        assert!(now < idle + FLAT, "{what}: {idle} bytes idle, {now} at the most");
    };
    H1::connect(&web).await.send(&Request::post("/sink", body.clone())).await.expect(200);
    flat("upload over HTTP/1");
    assert_eq!(H1::connect(&web).await.get(&down).await.expect(200).body.len(), LARGE);
    flat("download over HTTP/1");
    h2.send(&Request::post("/sink", body)).await.expect(200);
    flat("upload over HTTP/2");
    assert_eq!(h2.get(&down).await.expect(200).body.len(), LARGE);
    flat("download over HTTP/2");
    weir.stop().await;
}
