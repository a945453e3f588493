//! Where servers listen.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be taken: as many as a server has open. What the system does by itself is 128,
/// and whoever comes while that is full waits for a second or more, however idle the server is.
const BACKLOG: u32 = 1_024;

/// Listens at this address; again at once after a process that did is gone.
///
/// # Errors
/// What the system says, such as that the address is in use.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::try_join_all;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// More than the system would let wait.
    #[tokio::test]
    async fn a_crowd_connects_before_anybody_is_taken() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let crowd = try_join_all((0..200).map(|_| TcpStream::connect(address)));
        let crowd = timeout(Duration::from_secs(20), crowd).await.expect("they wait").unwrap();
        assert_eq!(crowd.len(), 200);
        drop((crowd, listener));
        listen(address).unwrap();
    }
}
