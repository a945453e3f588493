//! The way from one service to another, which a test can cut.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Bytes get through.
    Open,
    /// They stand, and nothing gets through until the way is open again: a cable that is pulled.
    Silent,
    /// They break, and so does each new one.
    Broken,
}

/// A port in front of another one of this machine. Dropped, it breaks every connection and takes no more.
#[derive(Debug)]
pub struct Forwarder {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    way: Mutex<Way>,
    changed: Condvar,
    /// Both ends of every connection so far.
    ends: Mutex<Vec<TcpStream>>,
    is_dropped: Mutex<bool>,
    carried: AtomicU64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// An open way to this port.
    ///
    /// # Errors
    ///
    /// What the system says when it gives no port.
    pub fn to(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let own = listener.local_addr()?.port();
        let state = Arc::new(State {
            way: Mutex::new(Way::Open),
            changed: Condvar::new(),
            ends: Mutex::default(),
            is_dropped: Mutex::default(),
            carried: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                if *lock(&shared.is_dropped) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.connect(caller, port));
            }
        });
        Ok(Self { port: own, state })
    }

    /// Where callers connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that got through so far, both ways together.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::Relaxed)
    }

    /// Breaks all connections, and each new one until the way is mended.
    pub fn cut(&self) {
        self.state.set(Way::Broken);
    }

    /// Lets nothing through and breaks nothing until the way is mended.
    pub fn silence(&self) {
        self.state.set(Way::Silent);
    }

    /// Lets everything through again, what was held back first.
    pub fn mend(&self) {
        self.state.set(Way::Open);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        *lock(&self.state.is_dropped) = true;
        self.state.set(Way::Broken);
        // It wakes who waits for callers. Where that fails nobody waits any more.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl State {
    fn set(&self, way: Way) {
        *lock(&self.way) = way;
        self.changed.notify_all();
        if way == Way::Broken {
            for end in lock(&self.ends).drain(..) {
                // It may have ended by itself.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    /// Waits while nothing gets through; gives whether the way is open then.
    fn is_open(&self) -> bool {
        let way = self.changed.wait_while(lock(&self.way), |way| *way == Way::Silent);
        *way.unwrap_or_else(PoisonError::into_inner) == Way::Open
    }

    fn connect(self: Arc<Self>, caller: TcpStream, port: u16) {
        if !self.is_open() {
            return;
        }
        let Ok(called) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        for end in [&caller, &called] {
            let Ok(kept) = end.try_clone() else { return };
            // Frames that wait for others would make calls slower than they are.
            let _ = end.set_nodelay(true);
            lock(&self.ends).push(kept);
        }
        let (Ok(answers_from), Ok(answers_to)) = (called.try_clone(), caller.try_clone()) else {
            return;
        };
        let shared = Arc::clone(&self);
        thread::spawn(move || shared.copy(answers_from, answers_to));
        self.copy(caller, called);
    }

    /// Until either end goes, or the way is cut.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !self.is_open() || to.write_all(&buffer[..read]).is_err() {
                break;
            }
            self.carried.fetch_add(read as u64, Ordering::Relaxed);
        }
        for end in [&from, &to] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        port
    }

    fn connect(forwarder: &Forwarder) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, forwarder.port()));
        let stream = stream.expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        stream
    }

    fn answers(mut stream: &TcpStream, word: [u8; 2]) -> bool {
        let mut answer = [0; 2];
        stream.write_all(&word).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == word
    }

    #[test]
    fn what_is_cut_breaks_and_what_is_silent_goes_on() {
        let forwarder = Forwarder::to(echo()).expect("a port");
        let first = connect(&forwarder);
        assert!(answers(&first, *b"ab"));
        assert!(forwarder.carried() >= 2);

        forwarder.silence();
        (&first).write_all(b"cd").expect("nobody noticed");
        let second = connect(&forwarder);
        let mut answer = [0; 2];
        first.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        assert!((&first).read_exact(&mut answer).is_err(), "nothing gets through");
        forwarder.mend();
        first.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        (&first).read_exact(&mut answer).expect("what was held back");
        assert_eq!(&answer, b"cd");
        assert!(answers(&second, *b"ef"));

        forwarder.cut();
        assert!(!answers(&first, *b"gh"));
        assert!(!answers(&connect(&forwarder), *b"gh"));
        forwarder.mend();
        assert!(answers(&connect(&forwarder), *b"gh"));
    }
}
