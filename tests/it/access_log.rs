//! What the access log says of requests, whatever lane carries them.

use tokio::io::AsyncWriteExt;

use crate::harness::{H1, H2, Request};
use crate::hostile::raw;
use crate::http1::{lines, on_both_lanes};

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_answers_of_its_own_count() {
    on_both_lanes("", async |weir, web, _| {
        let mut sent = Vec::new();
        // Refused, broken by the endpoint, and without an endpoint.
        for (path, status) in [("/..;/x", 400), ("/reset-before", 502), ("/", 503)] {
            if status == 503 {
                assert_eq!(weir.cli(&["maint", "shop/v1"]).await.status.code(), Some(0));
            }
            for request in [Request::get(path), Request::new("HEAD", path)] {
                let (mut h1, h2) = (H1::connect(web).await, H2::connect(web).await);
                for response in [h1.send(&request).await, h2.send(&request).await] {
                    assert_eq!(response.status, status, "{path}: {response:?}");
                    assert_eq!(response.body.is_empty(), request.method == "HEAD", "{response:?}");
                    sent.push(response.body.len() as u64);
                    let logged = lines(weir, sent.len()).await;
                    let line = logged.last().unwrap();
                    assert_eq!(
                        (line["status"].as_u64(), line["bytes_out"].as_u64()),
                        (Some(status.into()), sent.last().copied()),
                        "{line}"
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_bytes_in_time_has_not_left() {
    on_both_lanes("limits: { write_timeout: 1s }\n", async |weir, web, _| {
        for (at, path) in ["/bytes/50000000", "/chunked/50000000"].into_iter().enumerate() {
            let mut socket = raw::connect(web).await;
            socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            let h2 = H2::connect(web).await;
            let mut stream = h2.open(&Request::get(path)).await;
            assert_eq!(stream.head().await.status, 200);
            let logged = lines(weir, 2 * (at + 1)).await;
            for line in &logged {
                let told = (line["status"].as_str(), line["cause"].as_str());
                assert_eq!(told, (Some("client_closed"), Some("write_timeout")), "{line}");
            }
        }
        // Who leaves is nobody's fault.
        let mut socket = raw::connect(web).await;
        socket.write_all(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        socket.set_zero_linger().unwrap();
        drop(socket);
        let logged = lines(weir, 5).await;
        let line = logged.last().unwrap();
        assert_eq!(
            (line["status"].as_str(), &line["cause"]),
            (Some("client_closed"), &serde_json::Value::Null),
            "{line}"
        );
    })
    .await;
}
