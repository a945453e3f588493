//! The bytes of a Parquet file, which end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use bytes::Bytes;
use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};

/// A file whose readers fail once they were told of its end and ask for more. The library that reads
/// Parquet skips what a damaged header says is there without looking whether anything was read, two
/// thousand million times if it says so.
#[derive(Debug)]
pub(super) struct Bounded(pub(super) File);

impl Length for Bounded {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for Bounded {
    type T = EndsOnce<BufReader<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(EndsOnce { inner: self.0.get_read(start)?, has_ended: false })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Tells of its end once.
#[derive(Debug)]
pub(super) struct EndsOnce<R> {
    inner: R,
    has_ended: bool,
}

impl<R: Read> Read for EndsOnce<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file ends before that"));
        }
        Ok(0)
    }
}

impl<R: BufRead> EndsOnce<R> {
    /// What is read next, as far as it is at hand.
    pub(super) fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
}
