//! The floor: one upstream connection for each client connection, and bytes moved between them. What a proxy costs
//! above this is what it does with HTTP.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// In each direction; what HAProxy and nginx use.
const BUFFER: usize = 16 * 1024;

/// Relays until killed.
pub(crate) async fn serve(listen: SocketAddr, to: SocketAddr) -> Result<(), Failure> {
    crate::process::die_with_parent();
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("relay: {listen}: {error}"))?;
    loop {
        let (mut client, _) = listener.accept().await.map_err(|error| format!("relay: {error}"))?;
        tokio::spawn(async move {
            let Ok(mut origin) = TcpStream::connect(to).await else { return };
            let nodelay = client.set_nodelay(true).and_then(|()| origin.set_nodelay(true));
            if nodelay.is_ok() {
                // Its end, by whichever side, is seen by the client of the benchmark.
                let _moved = copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER, BUFFER).await;
            }
        });
    }
}
