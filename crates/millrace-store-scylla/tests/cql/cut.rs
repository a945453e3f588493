//! A connection that breaks in the middle of an answer, by a forwarder of bytes: a proxy of whole
//! frames cannot do it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use millrace_store::{LogStore, NodeId, StoreError, until_known};
use millrace_store_scylla::CqlConfig;
use millrace_types::{Position, SlotId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::forged::{RUN, chunk, chunks, epoch, first_two};
use super::open;
use super::proxied::{Repeats, fresh, keyspace};

const HEAD: usize = 9;

/// The bytes of the request whose answer is cut next.
type Armed = Arc<Mutex<Option<Vec<u8>>>>;

/// Forwards connections to `real`, each until it breaks; gives its own address.
async fn forwarder(real: SocketAddr, armed: Armed) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((driver, _)) = listener.accept().await {
            let server = TcpStream::connect(real).await.unwrap();
            tokio::spawn(forward(driver, server, Arc::clone(&armed)));
        }
    });
    address
}

async fn forward(driver: TcpStream, server: TcpStream, armed: Armed) {
    let (mut from_driver, mut to_driver) = driver.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let met = AtomicBool::new(false);
    let requests = async {
        while let Some(frame) = frame(&mut from_driver).await {
            let mut armed = armed
                .lock()
                .unwrap()
                .take_if(|bytes| frame.windows(bytes.len()).any(|window| window == bytes));
            if armed.take().is_some() {
                met.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        while let Some(frame) = frame(&mut from_server).await {
            if met.load(Ordering::SeqCst) {
                // The head and a part of the body; then the end of the connection.
                let _ = to_driver.write_all(&frame[..HEAD + 2]).await;
                return;
            }
            if to_driver.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = requests => {}, () = answers => {} }
}

/// The next frame, head and body.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame).await.ok()?;
    let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
    frame.resize(HEAD + length as usize, 0);
    from.read_exact(&mut frame[HEAD..]).await.ok()?;
    Some(frame)
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let config = keyspace().await;
    let direct = open(config).await.unwrap();
    let armed = Armed::default();
    let cut_next = |bytes: &[u8]| *armed.lock().unwrap() = Some(bytes.to_vec());
    let address = forwarder(config.nodes[0].parse().unwrap(), Arc::clone(&armed)).await;
    let nodes = vec![address.to_string()];
    let store = open(&CqlConfig { nodes, ..config.clone() }).await.unwrap();
    let slot = SlotId(fresh());
    let row = epoch(1, &NodeId(format!("join-{}", slot.0)), RUN, 0);

    cut_next(row.node.0.as_bytes());
    let outcome = store.insert_epoch(slot, row.clone()).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    assert_eq!(direct.last_epoch(slot).await, Ok(Some(row.clone())), "it was done");
    let read = || store.last_epoch(slot);
    assert_eq!(until_known(&mut Repeats::new(), read).await, Ok(Some(row)));

    store.append(vec![chunk(slot, 1)]).await.unwrap();
    cut_next(b"chunk 2");
    let outcome = store.append(vec![chunk(slot, 2)]).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    let append = || store.append(vec![chunk(slot, 2)]);
    until_known(&mut Repeats::new(), append).await.unwrap();

    // A read that gives rows.
    cut_next(&slot.0.to_be_bytes());
    let outcome = store.read_log(slot, Position::START, Position::END, usize::MAX).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    assert_eq!(chunks(&store, slot).await, first_two());
    assert_eq!(chunks(&direct, slot).await, first_two());
}
