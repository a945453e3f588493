//! Opening files and standard input: gzip by its first bytes, progress, and the hash of a content.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use xxhash_rust::xxh3::Xxh3;

use super::error::ReadError;

/// Size of read buffers, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const UTF8_BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// Where rows are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Input {
    /// Reads an argument: `-` is standard input, all else a path.
    #[must_use]
    pub fn from_argument(text: &str) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(PathBuf::from(text)) }
    }

    /// The path, unless it is standard input.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdin => None,
            Self::File(path) => Some(path),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How many bytes of an input have been read, as stored (compressed ones where it is compressed).
/// Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// The XXH3-128 hash of a file's bytes as stored, in 32 hexadecimal digits, and its size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentHash {
    /// The hash.
    pub hex: String,
    /// The file's size, in bytes.
    pub bytes: u64,
}

/// Hashes the content of a file. Reads it through once.
///
/// # Errors
/// [`ReadError::Open`] when it cannot be read.
pub fn hash_content(path: &Path) -> Result<ContentHash, ReadError> {
    let failed = |source| ReadError::Open { input: path.display().to_string(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(ContentHash { hex: format!("{:032x}", hasher.digest128()), bytes })
}

/// Opens a file whose size matters and that is read from its end.
pub(crate) fn open_file(path: &Path) -> Result<File, ReadError> {
    let failed = |source| ReadError::Open { input: path.display().to_string(), source };
    let file = File::open(path).map_err(failed)?;
    match file.metadata().map_err(failed)?.is_dir() {
        true => Err(failed(io::ErrorKind::IsADirectory.into())),
        false => Ok(file),
    }
}

/// Opens a text input: unpacks gzip, drops a byte order mark.
pub(crate) fn open_text(
    input: &Input,
    progress: &Progress,
) -> Result<Box<dyn BufRead + Send>, ReadError> {
    let raw: Box<dyn Read + Send> = match input {
        Input::Stdin => Box::new(io::stdin()),
        Input::File(path) => Box::new(open_file(path)?),
    };
    let raw =
        BufReader::with_capacity(BUFFER_BYTES, Counted { inner: raw, progress: progress.clone() });
    unpack(raw).map_err(|source| ReadError::Open { input: input.to_string(), source })
}

fn unpack(raw: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let (start, raw) = split_start(raw, GZIP_MAGIC.len())?;
    let gzip = start == GZIP_MAGIC;
    let raw = Cursor::new(start).chain(raw);
    if gzip {
        without_mark(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)))
    } else {
        without_mark(raw)
    }
}

fn without_mark(text: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let (mut start, rest) = split_start(text, UTF8_BOM.len())?;
    if start == UTF8_BOM {
        start.clear();
    }
    Ok(Box::new(Cursor::new(start).chain(rest)))
}

/// Takes the first `n` bytes off, fewer at the end.
fn split_start<R: Read>(mut reader: R, n: usize) -> io::Result<(Vec<u8>, R)> {
    let mut start = Vec::with_capacity(n);
    (&mut reader).take(n as u64).read_to_end(&mut start)?;
    Ok((start, reader))
}

/// The bytes at hand, read anew when there are none; empty at the end.
pub(crate) fn fill<R: BufRead + ?Sized>(reader: &mut R) -> io::Result<&[u8]> {
    while let Err(e) = reader.fill_buf() {
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
    reader.fill_buf()
}

struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.progress.add(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn read_all(bytes: &[u8]) -> String {
        let mut text = String::new();
        unpack(Cursor::new(bytes.to_vec())).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn gzip_is_unpacked_and_a_byte_order_mark_dropped() {
        let gzip = |text: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(read_all(b"a,b\n"), "a,b\n");
        assert_eq!(read_all(b"\xef\xbb\xbfa,b\n"), "a,b\n");
        assert_eq!(read_all(&gzip(b"\xef\xbb\xbfa,b\n")), "a,b\n");
        // Several members in one file, as `cat a.gz b.gz` makes them.
        assert_eq!(read_all(&[gzip(b"a,b\n"), gzip(b"1,2\n")].concat()), "a,b\n1,2\n");
        assert_eq!(read_all(b""), "");
        assert_eq!(read_all(b"x"), "x");
    }

    #[test]
    fn a_content_hash_never_changes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a,b\n1,2\n").unwrap();
        let hash = hash_content(file.path()).unwrap();
        assert_eq!(hash.bytes, 8);
        assert_eq!(hash.hex, "16d51c327d7d2547a793f8d7bbc4457a");
    }
}
