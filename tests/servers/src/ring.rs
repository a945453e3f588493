//! Several Cassandras that make one database, each on a loopback address of its own.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::cassandra::{Cassandra, CassandraOptions};
use crate::process::{ServerError, free_port};

/// How long nodes may take to know each other once all are up. It takes a second or two.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Somebody else may take a port first.
const TRIES: usize = 3;

/// The nodes of one database on 127.0.0.1, 127.0.0.2 and so on, which take clients at the same port.
#[derive(Debug)]
pub struct Ring {
    nodes: Vec<Cassandra>,
}

impl Ring {
    /// Starts `count` nodes side by side, and waits until each knows all others.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(count: u8, options: &CassandraOptions) -> Result<Self, ServerError> {
        let mut tries = 1;
        let ring = loop {
            match Self::start_once(count, options) {
                Err(ServerError::Ended { .. }) if tries < TRIES => tries += 1,
                outcome => break outcome?,
            }
        };
        let deadline = Instant::now() + KNOWN_WITHIN;
        for node in &ring.nodes {
            while peers(&node.address()).ok() != Some(u64::from(count) - 1) {
                if Instant::now() >= deadline {
                    let what = format!("see {count} nodes at {}", node.address());
                    return Err(ServerError::Io { what, source: io::ErrorKind::TimedOut.into() });
                }
                // A node tells nobody what it learned: it is asked again, within the limit.
                thread::sleep(ASK_EVERY);
            }
        }
        Ok(ring)
    }

    fn start_once(count: u8, options: &CassandraOptions) -> Result<Self, ServerError> {
        let (storage_port, client_port) = (free_port()?, free_port()?);
        let addresses = (1..=count).map(|number| format!("127.0.0.{number}"));
        let addresses: Vec<String> = addresses.collect();
        // Seeds join without streaming what is not there yet.
        let seeds: Vec<String> =
            addresses.iter().map(|address| format!("{address}:{storage_port}")).collect();
        let starting = addresses.into_iter().map(|address| {
            let options = CassandraOptions {
                address,
                seed: Some(seeds.join(",")),
                storage_port: Some(storage_port),
                client_port: Some(client_port),
                ..options.clone()
            };
            thread::spawn(move || Cassandra::start(options))
        });
        let starting: Vec<_> = starting.collect();
        let gone = |_| ServerError::Io {
            what: "start a node".to_owned(),
            source: io::Error::other("its thread panicked"),
        };
        let started: Result<Vec<_>, _> =
            starting.into_iter().map(|node| node.join().map_err(gone)).collect();
        Ok(Self { nodes: started?.into_iter().collect::<Result<_, _>>()? })
    }

    /// Where clients connect, of each node: `ADDRESS:PORT`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Cassandra::address).collect()
    }

    /// One of the nodes, from 0 on: to kill it, freeze it or start it again.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn node(&mut self, number: usize) -> &mut Cassandra {
        &mut self.nodes[number]
    }
}

/// How many others a node knows as members.
fn peers(address: &str) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    let mut startup = vec![0, 1];
    for text in ["CQL_VERSION", "3.0.0"] {
        startup.extend_from_slice(&(text.len() as u16).to_be_bytes());
        startup.extend_from_slice(text.as_bytes());
    }
    ask(&mut stream, 0x01, &startup)?;
    let cql = "SELECT COUNT(tokens) FROM system.peers";
    let mut query = (cql.len() as u32).to_be_bytes().to_vec();
    query.extend_from_slice(cql.as_bytes());
    query.extend_from_slice(&[0, 1, 0]); // consistency ONE, no flags
    let answer = ask(&mut stream, 0x07, &query)?;
    // One row of one bigint ends a result.
    match answer.last_chunk::<8>() {
        Some(count) => Ok(u64::from_be_bytes(*count)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends a frame of version 4 and gives the body of the answer, if it is no error.
fn ask(stream: &mut TcpStream, operation: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = vec![0x04, 0, 0, 0, operation];
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    stream.write_all(&frame)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    match head[4] {
        0x00 => Err(io::Error::other("the node answers an error")),
        _ => Ok(answer),
    }
}
